//! Integer operations against their scalar definitions, bit for bit, on every path this CPU can run: random shapes
//! (empty, one, off-tile), extremes of codes and weights, and the worst case of every accumulator.

mod common;

use common::*;
use kernels::codes::AddCodes;
use kernels::dispatch::{Kernel, Path, knobs};
use kernels::epilogue::{Accumulators, Epilogue, Requantize, Scale};
use kernels::int8::Panel16;
use kernels::ternary::{Panel8, storage};
use kernels::{Conv2d, KernelError, Padding, codes, int8, reference, ternary};
use proptest::prelude::*;

/// Every path this CPU can run.
fn kernels() -> impl Iterator<Item = Kernel> {
    Path::ALL.into_iter().filter_map(Kernel::new)
}

/// Weights over the full range of `i8`.
fn bytes(seed: u64, len: usize) -> Vec<i8> {
    codes(seed, len).into_iter().map(|c| c as i8).collect()
}

use common::codes as random_codes;

/// Per-channel parameters of a requantisation, wild on purpose.
fn requantization(n: usize, seed: u64) -> (Vec<i32>, Vec<i32>, Vec<u8>) {
    let bias = bits(seed).take(n).map(|b| (b as i32) >> 12).collect();
    let multiplier = bits(seed + 1).take(n).map(|b| (b >> 33) as i32).collect();
    let shift = bits(seed + 2).take(n).map(|b| 31 + (b >> 40) as u8 % 32).collect();
    (bias, multiplier, shift)
}

/// Runs `op` with each epilogue on each path and compares with the reference accumulators.
fn every_epilogue(n: usize, acc: &[i32], op: &dyn Op) -> Result<(), TestCaseError> {
    let (scale, shift): (Vec<f32>, Vec<f32>) = (values(7, n), values(8, n));
    let (bias, multiplier, shifts) = requantization(n, 9);
    let range = (3, 250);
    let requantize = Requantize::new(&bias, &multiplier, &shifts, 17, range).expect("parameters");
    for kernel in kernels() {
        let mut got = vec![i32::MIN; acc.len()];
        op.accumulators(kernel, &mut got);
        prop_assert_eq!(&got, acc, "{}", kernel.path());

        let mut got = vec![f32::NAN; acc.len()];
        op.scale(kernel, &Scale { scale: &scale, bias: &shift }, &mut got);
        for (i, (&got, &acc)) in got.iter().zip(acc).enumerate() {
            let want = reference::integer::scale(acc, scale[i % n], shift[i % n]);
            prop_assert_eq!(got.to_bits(), want.to_bits());
        }

        let mut got = vec![0; acc.len()];
        op.requantize(kernel, &requantize, &mut got);
        for (i, (&got, &acc)) in got.iter().zip(acc).enumerate() {
            let (b, m, s) = (bias[i % n], multiplier[i % n], shifts[i % n]);
            prop_assert_eq!(got, reference::integer::requantize(acc, b, m, s, 17, range));
        }
    }
    Ok(())
}

/// An operation with its inputs, for any epilogue.
trait Op {
    fn accumulators(&self, kernel: Kernel, out: &mut [i32]);
    fn scale(&self, kernel: Kernel, epilogue: &Scale<'_>, out: &mut [f32]);
    fn requantize(&self, kernel: Kernel, epilogue: &Requantize, out: &mut [u8]);
}

/// What an operation multiplies with.
enum Weights {
    Trits(Panel8),
    Bytes(Panel16),
    Depthwise(Vec<i8>),
}

/// A convolution, or a GEMM without a geometry.
struct Case<'a> {
    g: Option<&'a Conv2d>,
    x: &'a [u8],
    pad: u8,
    w: Weights,
}

impl Case<'_> {
    fn run<E: Epilogue>(&self, kernel: Kernel, e: &E, out: &mut [E::Out]) -> Result<(), KernelError> {
        match (&self.w, self.g) {
            (Weights::Trits(w), Some(g)) => ternary::conv2d(kernel, g, (self.x, self.pad), w, e, out),
            (Weights::Trits(w), None) => ternary::gemm(kernel, self.x, w, e, out),
            (Weights::Bytes(w), Some(g)) => int8::conv2d(kernel, g, (self.x, self.pad), w, e, out),
            (Weights::Bytes(w), None) => int8::gemm(kernel, self.x, w, e, out),
            (Weights::Depthwise(w), Some(g)) => int8::depthwise(kernel, g, (self.x, self.pad), w, e, out),
            (Weights::Depthwise(_), None) => unreachable!("depthwise has a geometry"),
        }
    }
}

impl Op for Case<'_> {
    fn accumulators(&self, kernel: Kernel, out: &mut [i32]) {
        self.run(kernel, &Accumulators, out).expect("shapes");
    }
    fn scale(&self, kernel: Kernel, epilogue: &Scale<'_>, out: &mut [f32]) {
        self.run(kernel, epilogue, out).expect("shapes");
    }
    fn requantize(&self, kernel: Kernel, epilogue: &Requantize, out: &mut [u8]) {
        self.run(kernel, epilogue, out).expect("shapes");
    }
}

/// Compares a convolution on all paths and epilogues with its definition.
fn convolution(g: &Conv2d, x: &[u8], pad: u8, w: &[i8], packed: Weights) -> Result<(), TestCaseError> {
    let mut acc = vec![0; g.output_len()];
    reference::integer::conv2d(g, (x, pad), w, &mut acc);
    every_epilogue(g.out_c, &acc, &Case { g: Some(g), x, pad, w: packed })
}

/// As [`convolution`], GEMM.
fn product(mnk: (usize, usize, usize), a: &[u8], w: &[i8], packed: Weights) -> Result<(), TestCaseError> {
    let mut acc = vec![0; mnk.0 * mnk.1];
    reference::integer::gemm(mnk, a, w, &mut acc);
    every_epilogue(mnk.1, &acc, &Case { g: None, x: a, pad: 0, w: packed })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ternary_conv2d_is_exact(g in conv2d(), seed: u64, pad: u8) {
        let (x, w) = (random_codes(seed, g.input_len()), trits(seed ^ 1, g.kernel_len()));
        let packed = Panel8::conv2d(&g, &w).expect("trits");
        convolution(&g, &x, pad, &w, Weights::Trits(packed))?;
    }

    #[test]
    fn int8_conv2d_is_exact(g in conv2d(), seed: u64, pad: u8) {
        let (x, w) = (random_codes(seed, g.input_len()), bytes(seed ^ 1, g.kernel_len()));
        let packed = Panel16::conv2d(&g, &w).expect("bytes");
        convolution(&g, &x, pad, &w, Weights::Bytes(packed))?;
    }

    #[test]
    fn depthwise_is_exact(g in depthwise(), seed: u64, pad: u8) {
        let (x, w) = (random_codes(seed, g.input_len()), bytes(seed ^ 1, g.kernel_len()));
        convolution(&g, &x, pad, &w, Weights::Depthwise(w.clone()))?;
    }

    #[test]
    fn gemm_is_exact(m in 0..40_usize, n in 1..70_usize, k in 1..600_usize, seed: u64) {
        let a = random_codes(seed, m * k);
        let w = trits(seed ^ 1, k * n);
        product((m, n, k), &a, &w, Weights::Trits(Panel8::gemm(k, n, &w).expect("trits")))?;
        let w = bytes(seed ^ 1, k * n);
        product((m, n, k), &a, &w, Weights::Bytes(Panel16::gemm(k, n, &w).expect("bytes")))?;
    }

    #[test]
    fn packing_again_is_packing_anew(g in conv2d(), seed: u64) {
        let (old, new) = (trits(seed, g.kernel_len()), trits(seed ^ 1, g.kernel_len()));
        let mut packed = Panel8::conv2d(&g, &old).expect("trits");
        packed.repack(&new).expect("trits");
        prop_assert!(packed == Panel8::conv2d(&g, &new).expect("trits"));
    }

    #[test]
    fn pools_of_codes_are_exact(g in pool2d(), seed: u64) {
        let x = random_codes(seed, g.input_len());
        let (mut got, mut want) = (vec![0; g.output_len()], vec![1; g.output_len()]);
        codes::max_pool(&g, &x, &mut got).expect("shapes");
        reference::integer::max_pool(&g, &x, &mut want);
        prop_assert_eq!(&got, &want);
        codes::avg_pool(&g, &x, &mut got).expect("shapes");
        reference::integer::avg_pool(&g, &x, &mut want);
        prop_assert_eq!(&got, &want);
    }

    #[test]
    fn residual_additions_are_exact(
        len in 0..200_usize, seed: u64, zeros: [u8; 3], m in 0..=1_i32 << 21, n in 0..=1_i32 << 21, shift in 1..=29_u8
    ) {
        let p = AddCodes::new([zeros[0], zeros[1]], [m, n], shift, zeros[2], (0, 240)).expect("parameters");
        let (a, b) = (random_codes(seed, len), random_codes(seed ^ 1, len));
        let (mut got, mut want) = (vec![0; len], vec![1; len]);
        codes::add(&p, &a, &b, &mut got).expect("shapes");
        reference::integer::add(&p, &a, &b, &mut want);
        prop_assert_eq!(got, want);
    }

    #[test]
    fn stored_trits_come_back(len in 0..200_usize, seed: u64) {
        let trits = trits(seed, len);
        let mut back = vec![9; len];
        storage::unpack2(&storage::pack2(&trits).expect("trits"), &mut back).expect("own bytes");
        prop_assert_eq!(&back, &trits);
        back.fill(9);
        storage::unpack3(&storage::pack3(&trits).expect("trits"), &mut back).expect("own bytes");
        prop_assert_eq!(&back, &trits);
    }

    #[test]
    fn any_bytes_unpack_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..9), len in 0..45_usize) {
        let mut trits = vec![0; len];
        if storage::unpack2(&bytes, &mut trits).is_ok() {
            prop_assert_eq!(storage::pack2(&trits).expect("trits"), bytes.clone());
        }
        if storage::unpack3(&bytes, &mut trits).is_ok() {
            prop_assert_eq!(storage::pack3(&trits).expect("trits"), bytes);
        }
    }
}

/// The largest sums there are: every weight and every code at its extreme, up to K = 8192.
#[test]
fn accumulators_never_overflow() {
    for k in [1, 4, 127, 128, 129, 255, 256, 257, 511, 1024, 2304, 8191, 8192] {
        for (m, n) in [(1, 1), (5, 17)] {
            let a = vec![255_u8; m * k];
            let alternating = |i: usize| if (i / n).is_multiple_of(2) { 1 } else { -1 };
            let clustered = |i: usize| if (i / n) % 1000 < 500 { 1 } else { -1 };
            let patterns: [&dyn Fn(usize) -> i8; 4] = [&|_| 1, &|_| -1, &alternating, &clustered];
            for pattern in patterns {
                let w: Vec<i8> = (0..k * n).map(pattern).collect();
                product((m, n, k), &a, &w, Weights::Trits(Panel8::gemm(k, n, &w).expect("trits")))
                    .expect("exact");
            }
            for extreme in [-128, 127] {
                let w = vec![extreme; k * n];
                product((m, n, k), &a, &w, Weights::Bytes(Panel16::gemm(k, n, &w).expect("bytes")))
                    .expect("exact");
            }
        }
    }
}

/// The same for convolutions whose patches are several runs, so that blocks end inside and between them.
#[test]
fn convolutions_never_overflow() {
    for (channels, kernel) in [(128, 3), (67, 5), (300, 3)] {
        let g = Conv2d::new([1, 5, 5, channels], [kernel, kernel, channels, 3], [1, 1], Padding::Same)
            .expect("geometry");
        let x = vec![255; g.input_len()];
        for trit in [1, -1] {
            let w = vec![trit; g.kernel_len()];
            let packed = Panel8::conv2d(&g, &w).expect("trits");
            convolution(&g, &x, 255, &w, Weights::Trits(packed)).expect("exact");
        }
        let w = vec![-128; g.kernel_len()];
        convolution(&g, &x, 255, &w, Weights::Bytes(Panel16::conv2d(&g, &w).expect("bytes"))).expect("exact");
    }
}

#[test]
fn mismatched_weights_are_errors() {
    let g = Conv2d::new([1, 4, 4, 2], [3, 3, 2, 5], [1, 1], Padding::Same).expect("geometry");
    let flat = Panel8::gemm(18, 5, &[0; 90]).expect("trits");
    let packed = Panel8::conv2d(&g, &[0; 90]).expect("trits");
    let k = Kernel::default();
    let (x, mut y) = ([0; 32], [0; 80]);
    assert!(matches!(
        ternary::conv2d(k, &g, (&x, 0), &flat, &Accumulators, &mut y),
        Err(KernelError::Pack { .. })
    ));
    assert!(matches!(
        ternary::gemm(k, &[0; 18], &packed, &Accumulators, &mut y[..5]),
        Err(KernelError::Pack { .. })
    ));
    assert!(ternary::gemm(k, &[0; 17], &flat, &Accumulators, &mut y[..5]).is_err());
    assert!(ternary::conv2d(k, &g, (&x, 0), &packed, &Accumulators, &mut y[..79]).is_err());
    assert!(ternary::conv2d(k, &g, (&x[..31], 0), &packed, &Accumulators, &mut y).is_err());
    let short = Scale { scale: &[1.0; 4], bias: &[0.0; 5] };
    assert!(ternary::conv2d(k, &g, (&x, 0), &packed, &short, &mut [0.0; 80]).is_err());
    assert!(storage::unpack2(&[0b11], &mut [0; 1]).is_err());
    assert!(storage::unpack3(&[243], &mut [0; 5]).is_err());
    assert!(storage::pack2(&[2]).is_err());
}

#[test]
fn the_path_in_force_is_listed() {
    let knobs = knobs();
    assert_eq!(knobs[0].variable, "TERNION_KERNEL");
    assert!(knobs[0].picked.starts_with(&Kernel::default().path().to_string()));
    assert_eq!("avx2".parse(), Ok(Path::Avx2));
    assert!("sse9".parse::<Path>().is_err());
}
