//! f32 times trits against double precision: within `(k + 2)` units of rounding of the sum of magnitudes, the classical
//! bound of a sum in any order, on random shapes; and the same bits on any number of threads and of rows.

mod common;

use common::*;
use kernels::ternary::float::{self, Sums3};
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gemm_is_within_the_bound(m in 0..80_usize, n in 1..50_usize, k in 1..300_usize, seed: u64) {
        let (a, w, scale): (Vec<f32>, _, Vec<f32>) = (values(seed, m * k), trits(seed ^ 1, k * n), values(seed ^ 2, n));
        let mut got = vec![f32::NAN; m * n];
        float::gemm(&a, &Sums3::gemm(k, n, &w).expect("trits"), &scale, &mut got).expect("shapes");
        let (want, magnitude) = product((m, n, k), &a, &w, &scale);
        close(&got, &want, &magnitude, (k + 2) as f64 * UNIT)?;
    }

    #[test]
    fn conv2d_is_within_the_bound(g in conv2d(), seed: u64) {
        let (x, w): (Vec<f32>, _) = (values(seed, g.input_len()), trits(seed ^ 1, g.kernel_len()));
        let scale: Vec<f32> = values(seed ^ 2, g.out_c);
        let mut got = vec![f32::NAN; g.output_len()];
        float::conv2d(&g, &x, &Sums3::conv2d(&g, &w).expect("trits"), &scale, &mut got).expect("shapes");
        let mnk = (g.batch * g.out_h * g.out_w, g.out_c, g.patch());
        let (want, magnitude) = product(mnk, &patches(&g, &x), &w, &scale);
        close(&got, &want, &magnitude, (g.patch() + 2) as f64 * UNIT)?;
    }
}

#[test]
fn bits_depend_on_neither_threads_nor_rows() {
    let (m, k, n) = (2000, 310, 70);
    let (a, w): (Vec<f32>, _) = (values(1, m * k), trits(2, k * n));
    let packed = Sums3::gemm(k, n, &w).expect("trits");
    let run = |a: &[f32], threads| {
        on_threads(threads, || {
            let mut c = vec![0.0; a.len() / k * n];
            float::gemm(a, &packed, &vec![0.3; n], &mut c).expect("shapes");
            c
        })
    };
    let one = run(&a, 1);
    assert!([2, 3, 7].iter().all(|&threads| run(&a, threads) == one));
    assert_eq!(run(&a[5 * k..6 * k], 1), one[5 * n..6 * n]);
}

#[test]
fn bad_calls_are_errors() {
    let g = Conv2d::new([1, 4, 4, 2], [3, 3, 2, 5], [1, 1], Padding::Same).expect("geometry");
    let (flat, packed) =
        (Sums3::gemm(18, 5, &[0; 90]).expect("trits"), Sums3::conv2d(&g, &[0; 90]).expect("trits"));
    let (x, mut y, scale) = ([0.0; 32], [0.0; 80], [1.0; 5]);
    assert!(matches!(float::conv2d(&g, &x, &flat, &scale, &mut y), Err(KernelError::Pack { .. })));
    assert!(matches!(float::gemm(&x[..18], &packed, &scale, &mut y[..5]), Err(KernelError::Pack { .. })));
    assert!(float::conv2d(&g, &x, &packed, &scale[..4], &mut y).is_err());
    assert!(float::conv2d(&g, &x[..31], &packed, &scale, &mut y).is_err());
    assert!(float::gemm(&x[..17], &flat, &scale, &mut y[..5]).is_err());
    assert!(Sums3::gemm(0, 3, &[]).is_err() && Sums3::gemm(3, 0, &[]).is_err());
    assert!(Sums3::gemm(usize::MAX, 2, &[]).is_err() && Sums3::gemm(1, usize::MAX, &[]).is_err());
    assert!(Sums3::gemm(1, 2, &[0, 2]).is_err());
    let mut kept = flat.clone();
    assert!(kept.repack(&[3; 90]).is_err() && kept == flat);
}
