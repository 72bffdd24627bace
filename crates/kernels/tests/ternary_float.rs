//! f32 times trits against double precision, on random shapes: tables of sums and panels within `(k + 2)` units of rounding
//! of the sum of magnitudes, the classical bound of a sum in any order, Winograd's form within 32 of the image's largest;
//! and the same bits on any number of threads, rows and images.

mod common;

use common::*;
use kernels::ternary::float::{self, Form, Packed};
use kernels::{Conv2d, KernelError, Padding};
use proptest::prelude::*;

/// Unit of rounding of f32.
const UNIT: f64 = f32::EPSILON as f64 / 2.0;

/// The product and the sum of magnitudes, times the scale, in double.
fn product((m, n, k): (usize, usize, usize), a: &[f32], w: &[i8], scale: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let at = |i: usize, f: fn(f64) -> f64| {
        let terms = (0..k).map(|p| f(f64::from(a[i / n * k + p]) * f64::from(w[p * n + i % n])));
        terms.sum::<f64>() * f(f64::from(scale[i % n]))
    };
    ((0..m * n).map(|i| at(i, |v| v)).collect(), (0..m * n).map(|i| at(i, f64::abs)).collect())
}

/// The rows that a convolution multiplies.
fn patches(g: &Conv2d, x: &[f32]) -> Vec<f32> {
    let mut rows = Vec::new();
    for (image, oy, ox) in
        (0..g.batch).flat_map(|i| (0..g.out_h).flat_map(move |y| (0..g.out_w).map(move |x| (i, y, x))))
    {
        for (ky, kx) in (0..g.kernel_h).flat_map(|y| (0..g.kernel_w).map(move |x| (y, x))) {
            let y = (oy * g.stride_h + ky).wrapping_sub(g.pad_top);
            let x_at = (ox * g.stride_w + kx).wrapping_sub(g.pad_left);
            for c in 0..g.in_c {
                let inside = y < g.in_h && x_at < g.in_w;
                rows.push(if inside { x[((image * g.in_h + y) * g.in_w + x_at) * g.in_c + c] } else { 0.0 });
            }
        }
    }
    rows
}

/// 3x3 kernels with a stride of 1 and enough channels for Winograd's form.
fn large() -> impl Strategy<Value = Conv2d> {
    (0..=2_usize, (6..=14_usize, 6..=14_usize), (16..=40_usize, 16..=40_usize), padding()).prop_map(
        |(n, (h, w), (ci, co), padding)| {
            Conv2d::new([n, h, w, ci], [3, 3, ci, co], [1, 1], padding).expect("geometry")
        },
    )
}

/// Every form that takes the geometry, within its bound.
fn convolutions_are_within_their_bounds(g: &Conv2d, seed: u64) -> Result<(), TestCaseError> {
    let (x, w): (Vec<f32>, _) = (values(seed, g.input_len()), trits(seed ^ 1, g.kernel_len()));
    let scale: Vec<f32> = values(seed ^ 2, g.out_c);
    let mnk = (g.batch * g.out_h * g.out_w, g.out_c, g.patch());
    let (want, magnitude) = product(mnk, &patches(g, &x), &w, &scale);
    let largest = vec![magnitude.iter().copied().fold(0.0, f64::max); magnitude.len()];
    for form in Form::ALL.into_iter().filter(|form| form.takes(g)) {
        let packed = Packed::conv2d(form, g, &w, &scale).expect("trits");
        let mut got = vec![f32::NAN; g.output_len()];
        float::conv2d(g, &x, &packed, &mut got).expect("shapes");
        match form {
            Form::Winograd => close(&got, &want, &largest, 32.0 * UNIT)?,
            Form::Sums3 | Form::Panels => close(&got, &want, &magnitude, (g.patch() + 2) as f64 * UNIT)?,
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gemm_is_within_the_bound(m in 0..80_usize, n in 1..50_usize, k in 1..300_usize, seed: u64) {
        let (a, w, scale): (Vec<f32>, _, Vec<f32>) = (values(seed, m * k), trits(seed ^ 1, k * n), values(seed ^ 2, n));
        let (want, magnitude) = product((m, n, k), &a, &w, &scale);
        for form in [Form::Sums3, Form::Panels] {
            let mut got = vec![f32::NAN; m * n];
            float::gemm(&a, &Packed::gemm(form, k, n, &w, &scale).expect("trits"), &mut got).expect("shapes");
            close(&got, &want, &magnitude, (k + 2) as f64 * UNIT)?;
        }
    }

    #[test]
    fn conv2d_is_within_the_bound(g in conv2d(), seed: u64) {
        convolutions_are_within_their_bounds(&g, seed)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn large_conv2d_is_within_the_bound(g in large(), seed: u64) {
        prop_assert_eq!(Form::for_conv2d(&g), if Form::Winograd.takes(&g) { Form::Winograd } else { Form::Panels });
        convolutions_are_within_their_bounds(&g, seed)?;
    }
}

#[test]
fn bits_depend_on_neither_threads_nor_rows() {
    let (m, k, n) = (2000, 310, 70);
    let (a, w): (Vec<f32>, _) = (values(1, m * k), trits(2, k * n));
    for form in [Form::Sums3, Form::Panels] {
        let packed = Packed::gemm(form, k, n, &w, &vec![0.3; n]).expect("trits");
        let run = |a: &[f32], threads| {
            on_threads(threads, || {
                let mut c = vec![0.0; a.len() / k * n];
                float::gemm(a, &packed, &mut c).expect("shapes");
                c
            })
        };
        let one = run(&a, 1);
        assert!([2, 3, 7].iter().all(|&threads| run(&a, threads) == one));
        assert_eq!(run(&a[5 * k..6 * k], 1), one[5 * n..6 * n]);
    }
}

#[test]
fn bits_depend_on_neither_threads_nor_images() {
    let of = |n| Conv2d::new([n, 9, 13, 17], [3, 3, 17, 33], [1, 1], Padding::Same).expect("geometry");
    let (all, one) = (of(5), of(1));
    let (x, w): (Vec<f32>, _) = (values(1, all.input_len()), trits(2, all.kernel_len()));
    for form in Form::ALL {
        let run = |g: &Conv2d, x: &[f32], threads| {
            let packed = Packed::conv2d(form, g, &w, &[0.7; 33]).expect("trits");
            on_threads(threads, || {
                let mut y = vec![0.0; g.output_len()];
                float::conv2d(g, x, &packed, &mut y).expect("shapes");
                y
            })
        };
        let whole = run(&all, &x, 1);
        assert!(whole == run(&all, &x, 3), "{form:?} on 3 threads");
        for (x, y) in x.chunks_exact(one.input_len()).zip(whole.chunks_exact(one.output_len())) {
            assert!(run(&one, x, 1) == y, "{form:?} of one image");
        }
    }
}

/// A new weight of the same shape gives what packing it anew gives, and a refused one changes nothing.
#[test]
fn repacking_replaces_the_weight() {
    let g = Conv2d::new([1, 8, 8, 16], [3, 3, 16, 20], [1, 1], Padding::Same).expect("geometry");
    let x: Vec<f32> = values(1, g.input_len());
    let run = |w: &Packed| {
        let mut y = vec![0.0; g.output_len()];
        float::conv2d(&g, &x, w, &mut y).expect("shapes");
        y
    };
    let (first, second) = (trits(2, g.kernel_len()), trits(3, g.kernel_len()));
    let (ones, scale): (_, Vec<f32>) = (vec![1.0; 20], values(4, 20));
    for form in Form::ALL {
        let mut packed = Packed::conv2d(form, &g, &first, &ones).expect("trits");
        assert_eq!((packed.form(), packed.k(), packed.n()), (form, 144, 20));
        let before = run(&packed);
        assert!(packed.repack(&[2; 2880], &scale).is_err() && packed.repack(&second, &scale[1..]).is_err());
        assert!(run(&packed) == before, "{form:?} keeps what it had");
        packed.repack(&second, &scale).expect("trits");
        assert!(run(&packed) == run(&Packed::conv2d(form, &g, &second, &scale).expect("trits")), "{form:?}");
    }
}

#[test]
fn bad_calls_are_errors() {
    let g = Conv2d::new([1, 4, 4, 2], [3, 3, 2, 5], [1, 1], Padding::Same).expect("geometry");
    let (x, mut y, scale) = ([0.0; 32], [0.0; 80], [1.0; 5]);
    for form in [Form::Sums3, Form::Panels] {
        let flat = Packed::gemm(form, 18, 5, &[0; 90], &scale).expect("trits");
        let packed = Packed::conv2d(form, &g, &[0; 90], &scale).expect("trits");
        assert!(matches!(float::conv2d(&g, &x, &flat, &mut y), Err(KernelError::Pack { .. })));
        assert!(matches!(float::gemm(&x[..18], &packed, &mut y[..5]), Err(KernelError::Pack { .. })));
        assert!(float::conv2d(&g, &x[..31], &packed, &mut y).is_err());
        assert!(float::gemm(&x[..17], &flat, &mut y[..5]).is_err());
        assert!(Packed::conv2d(form, &g, &[0; 90], &scale[..4]).is_err());
        assert!(Packed::gemm(form, 0, 3, &[], &[1.0; 3]).is_err());
        assert!(Packed::gemm(form, 3, 0, &[], &[]).is_err());
        assert!(Packed::gemm(form, usize::MAX, 2, &[], &[1.0; 2]).is_err());
        assert!(Packed::gemm(form, 1, usize::MAX, &[], &[]).is_err());
        assert!(Packed::gemm(form, 1, 2, &[0, 2], &[1.0; 2]).is_err());
    }
    assert!(Packed::gemm(Form::Winograd, 18, 5, &[0; 90], &scale).is_err());
    assert!(!Form::Winograd.takes(&g) && Packed::conv2d(Form::Winograd, &g, &[0; 90], &scale).is_err());
    // A kernel packed at Winograd's points is no use for images too small for its tiles.
    let of =
        |side| Conv2d::new([1, side, side, 16], [3, 3, 16, 16], [1, 1], Padding::Same).expect("geometry");
    let w = Packed::conv2d(Form::Winograd, &of(8), &[1; 2304], &[1.0; 16]).expect("trits");
    let small = of(4);
    let (x, mut y) = (vec![0.0; small.input_len()], vec![0.0; small.output_len()]);
    assert!(matches!(float::conv2d(&small, &x, &w, &mut y), Err(KernelError::Pack { .. })));
}
