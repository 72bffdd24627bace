//! Integer operations against their scalar definitions, bit for bit, on every path this CPU can run: random shapes
//! (empty, one, off-tile), extremes of codes and weights, and the worst case of every accumulator.

#[path = "../common/mod.rs"]
mod common;
mod epilogues;
mod winograd;

use common::*;
use epilogues::{Op, every_epilogue};
use kernels::codes::AddCodes;
use kernels::dispatch::{Kernel, Path, knobs};
use kernels::epilogue::{Accumulators, Epilogue, Quantize, QuantizeSum, Requantize, Scale};
use kernels::ternary::{Form, Packed, storage};
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

/// What an operation multiplies with.
enum Weights {
    Trits(Packed),
    Bytes(int8::Packed),
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
    fn quantize(&self, kernel: Kernel, epilogue: &Quantize, out: &mut [u8]) {
        self.run(kernel, epilogue, out).expect("shapes");
    }
    fn quantize_sum(&self, kernel: Kernel, epilogue: &QuantizeSum<'_>, out: &mut [u8]) {
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
    fn int8_conv2d_is_exact(g in conv2d(), seed: u64, pad: u8) {
        let (x, w) = (random_codes(seed, g.input_len()), bytes(seed ^ 1, g.kernel_len()));
        let packed = int8::Packed::conv2d(&g, &w).expect("bytes");
        convolution(&g, &x, pad, &w, Weights::Bytes(packed))?;
    }

    #[test]
    fn depthwise_is_exact(g in depthwise(), seed: u64, pad: u8) {
        let (x, w) = (random_codes(seed, g.input_len()), bytes(seed ^ 1, g.kernel_len()));
        convolution(&g, &x, pad, &w, Weights::Depthwise(w.clone()))?;
    }

    #[test]
    fn int8_gemm_is_exact(m in 0..40_usize, n in 1..70_usize, k in 1..600_usize, seed: u64) {
        let a = random_codes(seed, m * k);
        let w = bytes(seed ^ 1, k * n);
        product((m, n, k), &a, &w, Weights::Bytes(int8::Packed::gemm(k, n, &w).expect("bytes")))?;
    }

    #[test]
    fn pools_of_codes_are_exact(g in pool2d(), seed: u64) {
        let x = random_codes(seed, g.input_len());
        let (mut got, mut want) = (vec![0; g.output_len()], vec![1; g.output_len()]);
        codes::max_pool(&g, &x, &mut got).expect("shapes");
        reference::integer::max_pool(&g, &x, &mut want);
        prop_assert_eq!(&got, &want);
        let (mut sums, mut wanted) = (vec![0; g.output_len()], vec![1; g.output_len()]);
        codes::sum_pool(&g, &x, &mut sums).expect("shapes");
        reference::integer::sum_pool(&g, &x, &mut wanted);
        prop_assert_eq!(&sums, &wanted);
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

/// Declares a form of ternary weights with its property suite: bit for bit what the plain definition gives, on random
/// shapes (empty, one, off-tile, several blocks) and codes, packed anew or again, and in the worst case of every sum.
macro_rules! form_suite {
    ($name:ident, $form:expr) => {
        mod $name {
            use super::*;

            const FORM: Form = $form;

            proptest! {
                #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

                #[test]
                fn gemm_is_exact(m in 0..150_usize, n in 1..70_usize, k in 1..600_usize, seed: u64) {
                    let (a, w) = (narrow_codes(FORM, seed, m * k), trits(seed ^ 1, k * n));
                    product((m, n, k), &a, &w, Weights::Trits(Packed::gemm(FORM, k, n, &w).expect("trits")))?;
                }

                #[test]
                fn conv2d_is_exact(g in conv2d(), seed: u64, pad: u8) {
                    // Two bits are for one position: the same image under a 1x1 kernel.
                    let kernel = [1, 1, g.in_c, g.out_c];
                    let one = Conv2d::new([g.batch, g.in_h, g.in_w, g.in_c], kernel, [1, 1], Padding::Same);
                    let g = if FORM.is_of_rows() { one.expect("geometry") } else { g };
                    let (x, w) = (narrow_codes(FORM, seed, g.input_len()), trits(seed ^ 1, g.kernel_len()));
                    let packed = Packed::conv2d(FORM, &g, &w).expect("trits");
                    convolution(&g, &x, pad & largest_code(FORM), &w, Weights::Trits(packed))?;
                }

                #[test]
                fn unaligned_codes_are_read_alike(skip in 0..64_usize, seed: u64) {
                    let (m, k, n) = (33, 67, 19);
                    let (a, w) = (narrow_codes(FORM, seed, skip + m * k), trits(seed ^ 1, k * n));
                    let packed = Packed::gemm(FORM, k, n, &w).expect("trits");
                    product((m, n, k), &a[skip..], &w, Weights::Trits(packed))?;
                }

                #[test]
                fn packing_again_is_packing_anew(k in 1..300_usize, n in 1..40_usize, seed: u64) {
                    let (old, new) = (trits(seed, k * n), trits(seed ^ 1, k * n));
                    let mut packed = Packed::gemm(FORM, k, n, &old).expect("trits");
                    packed.repack(&new).expect("trits");
                    prop_assert!(packed == Packed::gemm(FORM, k, n, &new).expect("trits"));
                }
            }

            /// The largest sums there are: every weight and every code at its extreme, up to K = 8192.
            #[test]
            fn accumulators_never_overflow() {
                for k in [1, 4, 41, 42, 43, 127, 128, 129, 255, 256, 257, 511, 1024, 2304, 8191, 8192] {
                    for (m, n) in [(1, 1), (5, 17)] {
                        let a = vec![largest_code(FORM); m * k];
                        let alternating = |i: usize| if (i / n).is_multiple_of(2) { 1 } else { -1 };
                        let clustered = |i: usize| if (i / n) % 1000 < 500 { 1 } else { -1 };
                        let patterns: [&dyn Fn(usize) -> i8; 4] = [&|_| 1, &|_| -1, &alternating, &clustered];
                        for pattern in patterns {
                            let w: Vec<i8> = (0..k * n).map(pattern).collect();
                            let packed = Packed::gemm(FORM, k, n, &w).expect("trits");
                            product((m, n, k), &a, &w, Weights::Trits(packed)).expect("exact");
                        }
                    }
                }
            }

            /// The longest sums the form takes; one more code is an error.
            #[test]
            fn the_largest_k_is_the_largest() {
                let k = FORM.largest_k().min(40_000);
                let (a, w) = (vec![largest_code(FORM); 2 * k], vec![-1; 2 * k]);
                product((2, 2, k), &a, &w, Weights::Trits(Packed::gemm(FORM, k, 2, &w).expect("trits"))).expect("exact");
                assert!(Packed::gemm(FORM, FORM.largest_k() + 1, 1, &[]).is_err());
            }

            /// The worst case for convolutions whose patches are several runs, so that blocks end inside and between them.
            #[test]
            fn convolutions_never_overflow() {
                for (channels, kernel) in [(128, 3), (67, 5), (300, 3)] {
                    let kernel = if FORM.is_of_rows() { 1 } else { kernel };
                    let g = Conv2d::new([1, 5, 5, channels], [kernel, kernel, channels, 3], [1, 1], Padding::Same)
                        .expect("geometry");
                    let x = vec![largest_code(FORM); g.input_len()];
                    for trit in [1, -1] {
                        let w = vec![trit; g.kernel_len()];
                        let packed = Packed::conv2d(FORM, &g, &w).expect("trits");
                        convolution(&g, &x, largest_code(FORM), &w, Weights::Trits(packed)).expect("exact");
                    }
                }
            }

            #[test]
            fn bad_weights_are_errors_and_keep_the_old_one() {
                let mut w = Packed::gemm(FORM, 2, 3, &[1, 0, -1, 0, 1, 1]).expect("trits");
                let old = w.clone();
                assert!(w.repack(&[0; 5]).is_err());
                assert!(w.repack(&[0, 0, 0, 2, 0, 0]).is_err());
                assert!(w == old);
                assert!(Packed::gemm(FORM, 0, 3, &[]).is_err());
                assert!(Packed::gemm(FORM, 3, 0, &[]).is_err());
                assert!(Packed::gemm(FORM, usize::MAX, 2, &[]).is_err());
                assert!(Packed::gemm(FORM, 1 << 40, 1, &[]).is_err());
                assert!(Packed::gemm(FORM, 2, usize::MAX, &[]).is_err());
            }

            #[test]
            fn the_same_bits_on_any_number_of_threads() {
                let (m, k, n) = (if FORM.is_of_rows() { 3 } else { 2000 }, 900, 300);
                let (a, w) = (narrow_codes(FORM, 3, m * k), trits(4, k * n));
                let packed = Packed::gemm(FORM, k, n, &w).expect("trits");
                let run = |threads| {
                    on_threads(threads, || {
                        let mut c = vec![0; m * n];
                        ternary::gemm(Kernel::default(), &a, &packed, &Accumulators, &mut c).expect("shapes");
                        c
                    })
                };
                let one = run(1);
                assert!([2, 3, 7].iter().all(|&threads| run(threads) == one));
            }
        }
    };
}

form_suite!(panel8, Form::Panel8);
form_suite!(signs, Form::Signs);
form_suite!(lut2, Form::Lut2);
form_suite!(lut1, Form::Lut1);
form_suite!(packed2, Form::Packed2);
form_suite!(pairs, Form::Pairs);
form_suite!(rows, Form::Rows);

/// The largest code a form takes.
fn largest_code(form: Form) -> u8 {
    u8::MAX >> (8 - form.bits())
}

/// Codes over the range a form takes.
fn narrow_codes(form: Form, seed: u64, len: usize) -> Vec<u8> {
    random_codes(seed, len).into_iter().map(|code| code & largest_code(form)).collect()
}

/// The 8-bit form's largest sums.
#[test]
fn int8_accumulators_never_overflow() {
    for k in [1, 2, 255, 256, 2304, 8191, 8192] {
        for (m, n) in [(1, 1), (5, 17)] {
            let a = vec![255_u8; m * k];
            for extreme in [-128, 127] {
                let w = vec![extreme; k * n];
                product((m, n, k), &a, &w, Weights::Bytes(int8::Packed::gemm(k, n, &w).expect("bytes")))
                    .expect("exact");
            }
        }
    }
    let g = Conv2d::new([1, 5, 5, 300], [3, 3, 300, 3], [1, 1], Padding::Same).expect("geometry");
    let (x, w) = (vec![255; g.input_len()], vec![-128; g.kernel_len()]);
    convolution(&g, &x, 255, &w, Weights::Bytes(int8::Packed::conv2d(&g, &w).expect("bytes")))
        .expect("exact");
}

#[test]
fn the_chosen_form_is_the_rule_s() {
    let conv = |hw, ci, k, co| {
        Conv2d::new([1, hw, hw, ci], [k, k, ci, co], [1, 1], Padding::Same).expect("geometry")
    };
    let form =
        |largest, g: &Conv2d| Packed::chosen(largest, g, &vec![0; g.kernel_len()]).expect("trits").form();
    // Counting bits is for a path that has an instruction for it.
    let counts = Kernel::default().path() == Path::Avx512;
    let or = |signs, other| if signs { Form::Signs } else { other };
    assert_eq!(form(255, &conv(8, 16, 3, 32)), Form::Panel8);
    assert_eq!(form(15, &conv(8, 16, 3, 32)), Form::Panel8);
    assert_eq!(form(3, &conv(8, 16, 3, 32)), or(counts, Form::Lut2));
    assert_eq!(form(2, &conv(8, 16, 3, 32)), or(counts, Form::Lut2));
    assert_eq!(form(1, &conv(8, 16, 3, 32)), or(counts, Form::Lut1));
    assert_eq!(form(3, &conv(4, 16, 3, 32)), or(counts, Form::Panel8));
    assert_eq!(form(3, &conv(8, 7, 3, 32)), if counts { Form::Panel8 } else { Form::Lut2 });
    assert_eq!(form(1, &conv(8, 3, 3, 32)), Form::Panel8);
    assert_eq!(form(255, &conv(1, 4096, 1, 64)), if counts { Form::Packed2 } else { Form::Pairs });
    assert_eq!(form(255, &conv(8, 32, 3, 32)), if counts { Form::Winograd } else { Form::Panel8 });
    assert_eq!(form(255, &conv(6, 32, 3, 32)), Form::Panel8);
}

#[test]
fn mismatched_weights_are_errors() {
    let g = Conv2d::new([1, 4, 4, 2], [3, 3, 2, 5], [1, 1], Padding::Same).expect("geometry");
    for form in [Form::Panel8, Form::Signs, Form::Lut2, Form::Lut1] {
        mismatches(form, &g);
    }
    for form in [Form::Packed2, Form::Pairs, Form::Rows] {
        assert!(Packed::conv2d(form, &g, &[0; 90]).is_err());
        let flat = Packed::gemm(form, 18, 5, &[0; 90]).expect("trits");
        let result =
            ternary::conv2d(Kernel::default(), &g, (&[0; 32], 0), &flat, &Accumulators, &mut [0; 80]);
        assert!(matches!(result, Err(KernelError::Pack { .. })));
    }
    assert!(storage::unpack2(&[0b11], &mut [0; 1]).is_err());
    assert!(storage::unpack3(&[243], &mut [0; 5]).is_err());
    assert!(storage::pack2(&[2]).is_err());
}

fn mismatches(form: Form, g: &Conv2d) {
    let flat = Packed::gemm(form, 18, 5, &[0; 90]).expect("trits");
    let packed = Packed::conv2d(form, g, &[0; 90]).expect("trits");
    let k = Kernel::default();
    let (x, mut y) = ([0; 32], [0; 80]);
    assert!(matches!(
        ternary::conv2d(k, g, (&x, 0), &flat, &Accumulators, &mut y),
        Err(KernelError::Pack { .. })
    ));
    assert!(matches!(
        ternary::gemm(k, &[0; 18], &packed, &Accumulators, &mut y[..5]),
        Err(KernelError::Pack { .. })
    ));
    assert!(ternary::gemm(k, &[0; 17], &flat, &Accumulators, &mut y[..5]).is_err());
    assert!(ternary::conv2d(k, g, (&x, 0), &packed, &Accumulators, &mut y[..79]).is_err());
    assert!(ternary::conv2d(k, g, (&x[..31], 0), &packed, &Accumulators, &mut y).is_err());
    let short = Scale { scale: &[1.0; 4], bias: &[0.0; 5] };
    assert!(ternary::conv2d(k, g, (&x, 0), &packed, &short, &mut [0.0; 80]).is_err());
    // A code that the form has no place for, inside and at the border; nothing is written.
    if form != Form::Panel8 {
        let mut x = x;
        x[31] = 1 << form.bits();
        let mut y = [7; 80];
        for (x, pad) in [(&x, 0), (&[0; 32], 1 << form.bits())] {
            let result = ternary::conv2d(k, g, (x, pad), &packed, &Accumulators, &mut y);
            assert!(matches!(result, Err(KernelError::Code { .. })), "{form}");
        }
        assert!(matches!(
            ternary::gemm(k, &x[14..], &flat, &Accumulators, &mut y[..5]),
            Err(KernelError::Code { .. })
        ));
        assert_eq!(y, [7; 80]);
    }
}

/// Look-ups check codes while they pack them, whichever vector reads them, or beforehand where there are many.
#[test]
fn a_code_too_large_is_found_wherever_it_is() {
    for (form, bad) in
        [(Form::Lut1, 2), (Form::Lut2, 4), (Form::Lut2, 128), (Form::Signs, 4), (Form::Signs, 64)]
    {
        for (m, k, step) in [(21, 300, 157), (2500, 500, 624_871)] {
            let w = Packed::gemm(form, k, 1, &trits(5, k)).expect("trits");
            for at in (0..m * k).step_by(step).chain([m * k - 1]) {
                let mut a = narrow_codes(form, 6, m * k);
                a[at] = bad;
                for kernel in kernels() {
                    let mut c = vec![7; m];
                    let result = ternary::gemm(kernel, &a, &w, &Accumulators, &mut c);
                    assert!(
                        matches!(result, Err(KernelError::Code { value, .. }) if value == bad),
                        "{form} {at}"
                    );
                    assert!(c.iter().all(|&c| c == 7));
                }
            }
        }
    }
}

#[test]
fn the_path_in_force_is_listed() {
    let knobs = knobs();
    assert_eq!(knobs[0].variable, "TERNION_KERNEL");
    assert_eq!(knobs[1].variable, "TERNION_FORM");
    assert!(knobs[0].picked.starts_with(&Kernel::default().path().to_string()));
    for path in Path::ALL {
        assert_eq!(path.to_string().parse(), Ok(path));
        assert_eq!(Kernel::new(path).map(Kernel::path), path.available().then_some(path));
    }
    // A wider path runs narrower loops where it has none of its own.
    assert!(!Path::Avx512.available() || Path::Avx2.available());
    assert!("sse9".parse::<Path>().is_err());
}
