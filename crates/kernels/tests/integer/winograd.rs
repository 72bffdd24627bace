//! The suite of the form that takes 3x3 kernels with a stride of 1 alone.

use super::*;

const FORM: Form = Form::Winograd;

fn geometry() -> impl Strategy<Value = Conv2d> {
    let sizes = (0..=3_usize, 1..=19_usize, 1..=19_usize, 1..=70_usize, 1..=70_usize);
    (sizes, padding()).prop_filter_map("kernel larger than the image", |((n, h, w, ci, co), padding)| {
        Conv2d::new([n, h, w, ci], [3, 3, ci, co], [1, 1], padding).ok()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conv2d_is_exact(g in geometry(), seed: u64, pad: u8) {
        let (x, w) = (random_codes(seed, g.input_len()), trits(seed ^ 1, g.kernel_len()));
        convolution(&g, &x, pad, &w, Weights::Trits(Packed::conv2d(FORM, &g, &w).expect("trits")))?;
    }

    #[test]
    fn packing_again_is_packing_anew(ci in 1..40_usize, co in 1..40_usize, seed: u64) {
        let g = Conv2d::new([1, 4, 4, ci], [3, 3, ci, co], [1, 1], Padding::Same).expect("geometry");
        let (old, new) = (trits(seed, g.kernel_len()), trits(seed ^ 1, g.kernel_len()));
        let mut packed = Packed::conv2d(FORM, &g, &old).expect("trits");
        packed.repack(&new).expect("trits");
        prop_assert!(packed == Packed::conv2d(FORM, &g, &new).expect("trits"));
    }
}

/// Codes and trits of any of 2^9 patterns of extremes over a patch, and as many channels as the form takes: the largest
/// transformed values, and sums that wrap on the way.
#[test]
fn accumulators_never_overflow() {
    let most = FORM.largest_k() / 9;
    let geometry = |ci| Conv2d::new([1, 6, 6, ci], [3, 3, ci, 1], [1, 1], Padding::Valid);
    assert!(Packed::conv2d(FORM, &geometry(most + 1).expect("geometry"), &vec![0; 9 * (most + 1)]).is_err());
    for ci in [1, 33, most] {
        let g = geometry(ci).expect("geometry");
        for seed in 0..if ci == most { 8 } else { 64 } {
            // The same pattern in every channel, and its opposite in the weights' signs.
            let (positions, signs) = (codes_of(seed, 36), trits(seed, 9));
            let x: Vec<u8> = (0..g.input_len()).map(|i| if positions[i / ci] { 255 } else { 0 }).collect();
            let w: Vec<i8> = (0..g.kernel_len()).map(|i| if signs[i / ci] < 0 { -1 } else { 1 }).collect();
            let packed = Packed::conv2d(FORM, &g, &w).expect("trits");
            convolution(&g, &x, 255, &w, Weights::Trits(packed)).expect("exact");
        }
        for trit in [1, -1] {
            let (x, w) = (vec![255; g.input_len()], vec![trit; g.kernel_len()]);
            let packed = Packed::conv2d(FORM, &g, &w).expect("trits");
            convolution(&g, &x, 255, &w, Weights::Trits(packed)).expect("exact");
        }
    }
}

fn codes_of(seed: u64, len: usize) -> Vec<bool> {
    bits(seed).take(len).map(|b| b >> 63 == 1).collect()
}

#[test]
fn other_kernels_are_refused() {
    for (kernel, stride) in [([3, 3, 4, 5], [2, 1]), ([3, 3, 4, 5], [1, 2]), ([1, 3, 4, 5], [1, 1])] {
        let g = Conv2d::new([1, 8, 8, 4], kernel, stride, Padding::Same).expect("geometry");
        assert!(Packed::conv2d(FORM, &g, &vec![0; g.kernel_len()]).is_err());
    }
    assert!(Packed::gemm(FORM, 9, 1, &[0; 9]).is_err());
    let g = Conv2d::new([1, 4, 4, 2], [3, 3, 2, 5], [1, 1], Padding::Same).expect("geometry");
    let mut w = Packed::conv2d(FORM, &g, &[1; 90]).expect("trits");
    let old = w.clone();
    assert!(w.repack(&[0; 89]).is_err());
    assert!(w.repack(&[2; 90]).is_err());
    assert!(w == old);
    let (k, mut y) = (Kernel::default(), [0; 80]);
    assert!(ternary::gemm(k, &[0; 18], &w, &Accumulators, &mut y[..5]).is_err());
    assert!(ternary::conv2d(k, &g, (&[0; 32], 0), &w, &Accumulators, &mut y[..79]).is_err());
    assert!(ternary::conv2d(k, &g, (&[0; 31], 0), &w, &Accumulators, &mut y).is_err());
    let strided = Conv2d::new([1, 4, 4, 2], [3, 3, 2, 5], [2, 2], Padding::Same).expect("geometry");
    assert!(ternary::conv2d(k, &strided, (&[0; 32], 0), &w, &Accumulators, &mut y[..20]).is_err());
    let short = Scale { scale: &[1.0; 4], bias: &[0.0; 5] };
    assert!(ternary::conv2d(k, &g, (&[0; 32], 0), &w, &short, &mut [0.0; 80]).is_err());
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let g = Conv2d::new([5, 31, 22, 64], [3, 3, 64, 48], [1, 1], Padding::Same).expect("geometry");
    let (x, w) = (random_codes(3, g.input_len()), trits(4, g.kernel_len()));
    let packed = Packed::conv2d(FORM, &g, &w).expect("trits");
    let run = |threads| {
        on_threads(threads, || {
            let mut y = vec![0; g.output_len()];
            ternary::conv2d(Kernel::default(), &g, (&x, 9), &packed, &Accumulators, &mut y).expect("shapes");
            y
        })
    };
    let one = run(1);
    assert!([2, 3, 7].iter().all(|&threads| run(threads) == one));
}
