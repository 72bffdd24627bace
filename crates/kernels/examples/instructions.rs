//! Runs one kernel once, for `cargo xtask bench-check` to count its instructions under callgrind.
//!
//! Without a name it prints every name and its multiply-accumulates. Only `measured` is counted.

use kernels::dispatch::{Kernel, Path};
use kernels::epilogue::{Accumulators, Requantize};
use kernels::ternary::{self, Form, Packed};
use kernels::{Conv2d, Padding};

/// Form, and the sizes of a convolution's image, channels and outputs; one pixel is a single row of a matrix.
const WORKS: [(&str, Form, usize, usize, usize); 7] = [
    ("panel8-conv", Form::Panel8, 16, 32, 32),
    ("panel8-first", Form::Panel8, 32, 3, 32),
    ("panel8-row", Form::Panel8, 1, 2048, 16),
    ("lut2-conv", Form::Lut2, 16, 32, 32),
    ("lut1-conv", Form::Lut1, 16, 32, 32),
    ("packed2-row", Form::Packed2, 1, 2048, 512),
    ("rows-row", Form::Rows, 1, 2048, 10),
];

fn main() {
    let wanted = std::env::args().nth(1);
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

/// The path the record is for, whatever else the CPU can do.
fn avx2() -> Kernel {
    Kernel::new(Path::Avx2).expect("a CPU with AVX2")
}

/// What is counted.
#[inline(never)]
fn measured(g: &Conv2d, x: &[u8], w: &Packed, epilogue: &Requantize, y: &mut [u8]) {
    ternary::conv2d(avx2(), g, (x, 0), w, epilogue, y).expect("shapes");
}
