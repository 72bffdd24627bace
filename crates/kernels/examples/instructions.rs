//! Runs one kernel once, for `cargo xtask bench-check` to count its instructions under callgrind.
//!
//! Without a name it prints every name and its multiply-accumulates. Only `measured` is counted.

use kernels::dispatch::{Kernel, Path};
use kernels::epilogue::{Accumulators, Requantize};
use kernels::gemm::{MatRef, gemm};
use kernels::ternary::{self, Form, Packed, float};
use kernels::{Conv2d, Padding, conv2d};

/// Form, and the sizes of a convolution's image, channels and outputs; one pixel is a single row of a matrix.
const WORKS: [(&str, Form, usize, usize, usize); 8] = [
    ("panel8-conv", Form::Panel8, 16, 32, 32),
    ("panel8-first", Form::Panel8, 32, 3, 32),
    ("panel8-row", Form::Panel8, 1, 2048, 16),
    ("lut2-conv", Form::Lut2, 16, 32, 32),
    ("lut1-conv", Form::Lut1, 16, 32, 32),
    ("packed2-row", Form::Packed2, 1, 2048, 512),
    ("pairs-row", Form::Pairs, 1, 2048, 512),
    ("rows-row", Form::Rows, 1, 2048, 10),
];

/// What is done in f32, and the sizes as above; a product has the patches of that convolution.
const FLOATS: [(&str, Float, usize, usize, usize); 6] = [
    ("f32-gemm", Float::Gemm, 8, 64, 128),
    ("f32-conv", Float::Forward, 16, 32, 32),
    ("f32-input-grad", Float::InputGrad, 16, 32, 32),
    ("f32-input-grad-first", Float::InputGrad, 16, 3, 32),
    ("f32-weight-grad", Float::WeightGrad, 16, 32, 32),
    ("f32-sums3", Float::Sums3, 8, 16, 128),
];

#[derive(Clone, Copy)]
enum Float {
    Gemm,
    Forward,
    InputGrad,
    WeightGrad,
    Sums3,
}

fn main() {
    let wanted = std::env::args().nth(1);
    for (name, what, side, ci, co) in FLOATS {
        let g = Conv2d::new([1, side, side, ci], [3, 3, ci, co], [1, 1], Padding::Same).expect("geometry");
        match wanted.as_deref() {
            None => println!("{name} {}", g.macs()),
            Some(wanted) if wanted == name => run_float(what, &g),
            Some(_) => {}
        }
    }
    for (name, form, side, ci, co) in WORKS {
        let size = if side == 1 { 1 } else { 3 };
        let g =
            Conv2d::new([1, side, side, ci], [size, size, ci, co], [1, 1], Padding::Same).expect("geometry");
        match wanted.as_deref() {
            None => println!("{name} {}", g.macs()),
            Some(wanted) if wanted == name => run(form, &g),
            Some(_) => {}
        }
    }
}

fn run(form: Form, g: &Conv2d) {
    let mixed = |i: usize| (i as u32).wrapping_add(1).wrapping_mul(2_654_435_761) >> 16;
    let x: Vec<u8> = (0..g.input_len()).map(|i| mixed(i) as u8 & (u8::MAX >> (8 - form.bits()))).collect();
    let w: Vec<i8> = (0..g.kernel_len()).map(|i| [0, 1, 0, -1][mixed(i) as usize & 3]).collect();
    let packed = Packed::conv2d(form, g, &w).expect("trits");
    let (multiplier, shift) = Requantize::factor(0.01).expect("below one");
    let n = g.out_c;
    let epilogue =
        Requantize::new(&vec![0; n], &vec![multiplier; n], &vec![shift; n], 0, (0, 255)).expect("parameters");
    // Once to make what is made once, uncounted.
    let mut acc = vec![0; g.output_len()];
    ternary::conv2d(avx2(), g, (&x, 0), &packed, &Accumulators, &mut acc).expect("shapes");
    let mut y = vec![0; g.output_len()];
    measured(g, &x, &packed, &epilogue, &mut y);
    // The codes leave the process, so that no compiler drops the work.
    println!("{}", y.iter().map(|&code| u64::from(code)).sum::<u64>());
}

fn run_float(what: Float, g: &Conv2d) {
    let values = |len: usize| (0..len).map(|i| (i % 17) as f32 / 16.0 - 0.5).collect::<Vec<_>>();
    let (mut x, mut w, mut y) = (values(g.input_len()), values(g.kernel_len()), values(g.output_len()));
    let (m, n, k) = (g.out_h * g.out_w, g.out_c, g.kernel_len() / g.out_c);
    let trits: Vec<i8> = (0..k * n).map(|i| [0, 1, 0, -1][i * 7 / 3 % 4]).collect();
    let packed = float::Packed::conv2d(float::Form::Sums3, g, &trits, &vec![0.5; n]).expect("trits");
    let patches = values(m * k);
    let mut call = || match what {
        Float::Gemm => gemm((m, n, k), MatRef::rows(&patches, k), MatRef::rows(&w, n), 0.0, &mut y),
        Float::Forward => conv2d::forward(g, &x, &w, &mut y),
        Float::InputGrad => conv2d::input_grad(g, &y, &w, &mut x),
        Float::WeightGrad => conv2d::weight_grad(g, &x, &y, &mut w),
        Float::Sums3 => float::conv2d(g, &x, &packed, &mut y),
    };
    // Once to grow the scratch memory, uncounted.
    call().expect("shapes");
    measured_float(&mut || call().expect("shapes"));
    println!("{}", x.iter().chain(&w).chain(&y).sum::<f32>());
}

/// What is counted.
#[inline(never)]
fn measured_float(call: &mut dyn FnMut()) {
    call();
}

/// The path the record is for, whatever else the CPU can do.
fn avx2() -> Kernel {
    Kernel::new(Path::Avx2).expect("a CPU with AVX2")
}

/// What is counted.
#[inline(never)]
fn measured(g: &Conv2d, x: &[u8], w: &Packed, epilogue: &Requantize, y: &mut [u8]) {
    ternary::conv2d(avx2(), g, (x, 0), w, epilogue, y).expect("shapes");
}
