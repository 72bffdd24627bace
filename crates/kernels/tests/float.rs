//! Float operations against their scalar definitions: f64 to 1e-12 and f32 to the summation bound
//! `(terms + 2) * epsilon * sum |terms|`, over random geometry; adjoint identities; same bits on any thread count.

mod common;

use common::*;
use kernels::gemm::MatRef;
use kernels::{Conv2d, Pool2d, Real, channel, conv2d, depthwise, gemm, pool, reference};
use proptest::prelude::*;

/// Accepted relative error of a sum of `terms` products, by type.
fn factor<T: Real>(terms: usize) -> f64 {
    if size_of::<T>() == 8 { 1e-12 } else { (terms as f64 + 2.0) * f64::from(f32::EPSILON) }
}

/// A geometry, two inputs and room for the output.
type Run<T> = fn(&Conv2d, &[T], &[T], &mut [T]);

/// Checks one face of a convolution against its reference on slices of the given lengths.
fn against<T: Real>(
    g: &Conv2d,
    fast: Run<T>,
    slow: Run<f64>,
    [a, b, out]: [usize; 3],
    terms: usize,
) -> Result<Vec<T>, TestCaseError> {
    let (a, b) = (values::<T>(1, a), values::<T>(2, b));
    let mut got = vec![T::from_f64(f64::NAN); out];
    let (mut want, mut size) = (vec![0.0; out], vec![0.0; out]);
    fast(g, &a, &b, &mut got);
    slow(g, &wide(&a), &wide(&b), &mut want);
    slow(g, &magnitude(&a), &magnitude(&b), &mut size);
    close(&got, &want, &size, factor::<T>(terms))?;
    Ok(got)
}

fn conv2d_suite<T: Real>(g: &Conv2d) -> Result<(), TestCaseError> {
    let [i, k, o] = [g.input_len(), g.kernel_len(), g.output_len()];
    let pixels = g.batch * g.out_h * g.out_w;
    let taps = g.kernel_h * g.kernel_w;
    let y = against::<T>(
        g,
        |g, x, w, y| conv2d::forward(g, x, w, y).expect("shapes"),
        reference::conv2d::forward,
        [i, k, o],
        g.patch(),
    )?;
    let dx = against::<T>(
        g,
        |g, d, w, x| conv2d::input_grad(g, d, w, x).expect("shapes"),
        reference::conv2d::input_grad,
        [o, k, i],
        taps * g.out_c,
    )?;
    let dw = against::<T>(
        g,
        |g, x, d, w| conv2d::weight_grad(g, x, d, w).expect("shapes"),
        reference::conv2d::weight_grad,
        [i, o, k],
        pixels,
    )?;
    prop_assert_eq!((y.len(), dx.len(), dw.len()), (o, i, k));
    Ok(())
}

fn depthwise_suite<T: Real>(g: &Conv2d) -> Result<(), TestCaseError> {
    let [i, k, o] = [g.input_len(), g.kernel_len(), g.output_len()];
    let pixels = g.batch * g.out_h * g.out_w;
    let taps = g.kernel_h * g.kernel_w;
    against::<T>(
        g,
        |g, x, w, y| depthwise::forward(g, x, w, y).expect("shapes"),
        reference::depthwise::forward,
        [i, k, o],
        taps,
    )?;
    against::<T>(
        g,
        |g, d, w, x| depthwise::input_grad(g, d, w, x).expect("shapes"),
        reference::depthwise::input_grad,
        [o, k, i],
        taps,
    )?;
    against::<T>(
        g,
        |g, x, d, w| depthwise::weight_grad(g, x, d, w).expect("shapes"),
        reference::depthwise::weight_grad,
        [i, o, k],
        pixels,
    )?;
    Ok(())
}

/// `<conv(x, w), dy> = <x, input_grad(dy, w)> = <w, weight_grad(x, dy)>`.
fn adjoint(g: &Conv2d, [forward, input, weight]: [Run<f64>; 3]) -> Result<(), TestCaseError> {
    let (x, w, dy) = (values::<f64>(3, g.input_len()), values(4, g.kernel_len()), values(5, g.output_len()));
    let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
    forward(g, &x, &w, &mut y);
    input(g, &dy, &w, &mut dx);
    weight(g, &x, &dy, &mut dw);
    let want = inner(&y, &dy);
    let bound = 1e-12 * (1.0 + g.macs() as f64);
    prop_assert!((inner(&x, &dx) - want).abs() <= bound);
    prop_assert!((inner(&w, &dw) - want).abs() <= bound);
    Ok(())
}

fn pool_suite<T: Real>(g: &Pool2d) -> Result<(), TestCaseError> {
    let (i, o) = (g.input_len(), g.output_len());
    let (x, gx, gy) = (tied::<T>(1, i), values::<T>(2, i), values::<T>(3, o));
    let nan = T::from_f64(f64::NAN);
    let (mut out, mut want) = (vec![nan; o], vec![nan; o]);
    pool::max_forward(g, &x, &mut out).expect("shapes");
    reference::pool::max_forward(g, &x, &mut want);
    prop_assert_eq!(&out, &want);
    pool::max_gather(g, &x, &gx, &mut out).expect("shapes");
    reference::pool::max_gather(g, &x, &gx, &mut want);
    prop_assert_eq!(&out, &want);
    pool::avg_forward(g, &gx, &mut out).expect("shapes");
    let (mut mean, mut size) = (vec![0.0; o], vec![0.0; o]);
    reference::pool::avg_forward(g, &wide(&gx), &mut mean);
    reference::pool::avg_forward(g, &magnitude(&gx), &mut size);
    close(&out, &mean, &size, factor::<T>(g.size_h * g.size_w + 2))?;

    let (mut scattered, mut want, mut size) = (vec![nan; i], vec![0.0; i], vec![0.0; i]);
    pool::max_scatter(g, &x, &gy, &mut scattered).expect("shapes");
    reference::pool::max_scatter(g, &wide(&x), &wide(&gy), &mut want);
    reference::pool::max_scatter(g, &wide(&x), &magnitude(&gy), &mut size);
    close(&scattered, &want, &size, factor::<T>(g.size_h * g.size_w))?;
    pool::max_gather(g, &x, &gx, &mut out).expect("shapes");
    prop_assert!((inner(&out, &gy) - inner(&gx, &scattered)).abs() <= factor::<T>(16) * (1.0 + o as f64));

    pool::avg_adjoint(g, &gy, &mut scattered).expect("shapes");
    reference::pool::avg_adjoint(g, &wide(&gy), &mut want);
    reference::pool::avg_adjoint(g, &magnitude(&gy), &mut size);
    close(&scattered, &want, &size, factor::<T>(g.size_h * g.size_w + 2))?;
    Ok(())
}

fn channel_suite<T: Real>(rows: usize, c: usize, terms: usize, bias: bool) -> Result<(), TestCaseError> {
    let xs: Vec<Vec<T>> = (0..terms as u64).map(|t| values(t, rows * c)).collect();
    let scales: Vec<Vec<T>> = (0..terms as u64).map(|t| values(100 + t, c)).collect();
    let bias = bias.then(|| values::<T>(200, c));
    let pairs: Vec<(&[T], &[T])> = xs.iter().zip(&scales).map(|(x, a)| (&x[..], &a[..])).collect();
    let (mut got, mut want) = (vec![T::from_f64(f64::NAN); rows * c], vec![T::ZERO; rows * c]);
    channel::affine(&pairs, bias.as_deref(), &mut got).expect("shapes");
    reference::affine(&pairs, bias.as_deref(), c, &mut want);
    close(&got, &wide(&want), &vec![terms as f64 + 1.0; got.len()], factor::<T>(terms + 1))?;

    let (mut got, mut want) = (vec![T::ZERO; c], vec![T::ZERO; c]);
    channel::dot(&xs[0], &xs[terms - 1], &mut got).expect("shapes");
    reference::dot(&xs[0], &xs[terms - 1], &mut want);
    close(&got, &wide(&want), &vec![rows as f64; c], factor::<T>(1))?;
    channel::sum(&xs[0], &mut got).expect("shapes");
    reference::sum(&xs[0], &mut want);
    close(&got, &wide(&want), &vec![rows as f64; c], factor::<T>(1))?;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conv2d_matches_its_definition(g in conv2d()) {
        conv2d_suite::<f64>(&g)?;
        conv2d_suite::<f32>(&g)?;
    }

    #[test]
    fn depthwise_matches_its_definition(g in depthwise()) {
        depthwise_suite::<f64>(&g)?;
        depthwise_suite::<f32>(&g)?;
    }

    #[test]
    fn gradients_are_adjoint(g in conv2d(), d in depthwise()) {
        adjoint(&g, [
            |g, a, b, o| conv2d::forward(g, a, b, o).expect("shapes"),
            |g, a, b, o| conv2d::input_grad(g, a, b, o).expect("shapes"),
            |g, a, b, o| conv2d::weight_grad(g, a, b, o).expect("shapes"),
        ])?;
        adjoint(&d, [
            |g, a, b, o| depthwise::forward(g, a, b, o).expect("shapes"),
            |g, a, b, o| depthwise::input_grad(g, a, b, o).expect("shapes"),
            |g, a, b, o| depthwise::weight_grad(g, a, b, o).expect("shapes"),
        ])?;
    }

    #[test]
    fn pools_match_their_definition(g in pool2d()) {
        pool_suite::<f64>(&g)?;
        pool_suite::<f32>(&g)?;
    }

    #[test]
    fn channel_operations_match_their_definition(
        rows in 0..300_usize, c in 1..70_usize, terms in 1..4_usize, bias: bool
    ) {
        channel_suite::<f64>(rows, c, terms, bias)?;
        channel_suite::<f32>(rows, c, terms, bias)?;
    }

    #[test]
    fn gemm_matches_its_definition(
        m in 0..70_usize, n in 0..40_usize, k in 0..80_usize, ta: bool, tb: bool, beta in 0..3_u8
    ) {
        let (a, b) = (values::<f32>(1, m * k), values::<f32>(2, k * n));
        let view = |d, rows, cols, t| if t { MatRef::transposed(d, rows) } else { MatRef::rows(d, cols) };
        let start = values::<f32>(3, m * n);
        let beta = f32::from(beta) * 0.5;
        let mut got = if beta == 0.0 { vec![f32::NAN; m * n] } else { start.clone() };
        gemm::gemm((m, n, k), view(&a, m, k, ta), view(&b, k, n, tb), beta, &mut got).expect("shapes");
        let (wa, wb) = (wide(&a), wide(&b));
        let view = |d, rows, cols, t| if t { MatRef::transposed(d, rows) } else { MatRef::rows(d, cols) };
        let mut want = wide(&start);
        reference::gemm((m, n, k), view(&wa, m, k, ta), view(&wb, k, n, tb), f64::from(beta), &mut want);
        close(&got, &want, &vec![k as f64 + 1.0; m * n], factor::<f32>(k + 1))?;
    }
}

/// Everything at once on pools of one, two and five threads: the same bits.
#[test]
fn bits_do_not_depend_on_threads() {
    let g = Conv2d::new([9, 17, 15, 19], [3, 3, 19, 23], [1, 1], kernels::Padding::Same).expect("geometry");
    let s = Conv2d::new([9, 17, 15, 19], [3, 3, 19, 23], [2, 2], kernels::Padding::Same).expect("geometry");
    let d =
        Conv2d::depthwise([9, 17, 15, 37], [3, 3, 37, 1], [1, 1], kernels::Padding::Same).expect("geometry");
    let run = || {
        let mut all: Vec<u32> = Vec::new();
        let mut keep = |v: Vec<f32>| all.extend(v.iter().map(|v| v.to_bits()));
        for g in [&g, &s] {
            let (x, w, dy) =
                (values::<f32>(1, g.input_len()), values(2, g.kernel_len()), values(3, g.output_len()));
            let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
            conv2d::forward(g, &x, &w, &mut y).expect("shapes");
            conv2d::input_grad(g, &dy, &w, &mut dx).expect("shapes");
            conv2d::weight_grad(g, &x, &dy, &mut dw).expect("shapes");
            let mut sums = vec![0.0; g.in_c];
            channel::dot(&x, &dx, &mut sums).expect("shapes");
            [y, dx, dw, sums].into_iter().for_each(&mut keep);
        }
        let (x, w, dy) =
            (values::<f32>(1, d.input_len()), values(2, d.kernel_len()), values(3, d.output_len()));
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
        depthwise::forward(&d, &x, &w, &mut y).expect("shapes");
        depthwise::input_grad(&d, &dy, &w, &mut dx).expect("shapes");
        depthwise::weight_grad(&d, &x, &dy, &mut dw).expect("shapes");
        [y, dx, dw].into_iter().for_each(&mut keep);
        all
    };
    let one = on_threads(1, run);
    assert!(one == on_threads(2, run), "two threads");
    assert!(one == on_threads(5, run), "five threads");
}

/// A sample's outputs and input gradients have the same bits alone and within a batch.
#[test]
fn bits_do_not_depend_on_the_batch() {
    for stride in [1, 2] {
        let batch = 7;
        let of = |n| Conv2d::new([n, 9, 11, 13], [3, 3, 13, 21], [stride; 2], kernels::Padding::Same);
        let (all, one) = (of(batch).expect("geometry"), of(1).expect("geometry"));
        let (x, w, dy) =
            (values::<f32>(1, all.input_len()), values(2, all.kernel_len()), values(3, all.output_len()));
        let (mut y, mut dx) = (dy.clone(), x.clone());
        conv2d::forward(&all, &x, &w, &mut y).expect("shapes");
        conv2d::input_grad(&all, &dy, &w, &mut dx).expect("shapes");
        let (mut y1, mut dx1) = (vec![0.0; one.output_len()], vec![0.0; one.input_len()]);
        for i in 0..batch {
            let (x, dy) = (&x[i * dx1.len()..][..dx1.len()], &dy[i * y1.len()..][..y1.len()]);
            conv2d::forward(&one, x, &w, &mut y1).expect("shapes");
            conv2d::input_grad(&one, dy, &w, &mut dx1).expect("shapes");
            assert_eq!(y1, y[i * y1.len()..][..y1.len()]);
            assert_eq!(dx1, dx[i * dx1.len()..][..dx1.len()]);
        }
    }
}

/// Neither do those of a row of a product: alone, in a block whose first rows pack as they go, and among several blocks.
#[test]
fn bits_of_a_row_do_not_depend_on_the_others() {
    for (m, n, k) in [(40, 37, 131), (150, 64, 300), (400, 37, 300)] {
        let (a, b) = (values::<f32>(1, m * k), values::<f32>(2, k * n));
        let run = |threads| {
            on_threads(threads, || {
                let mut c = vec![0.0; m * n];
                gemm::gemm((m, n, k), MatRef::rows(&a, k), MatRef::rows(&b, n), 0.0, &mut c).expect("shapes");
                c
            })
        };
        let all = run(1);
        assert!(all == run(3), "three threads");
        let mut one = vec![0.0; n];
        for i in 0..m {
            gemm::gemm((1, n, k), MatRef::rows(&a[i * k..], k), MatRef::rows(&b, n), 0.0, &mut one)
                .expect("shapes");
            assert_eq!(one, all[i * n..][..n]);
        }
    }
}

#[test]
fn wrong_lengths_are_errors() {
    let g = Conv2d::new([1, 4, 4, 2], [3, 3, 2, 5], [1, 1], kernels::Padding::Same).expect("geometry");
    let (x, w) = (vec![0.0_f32; 32], vec![0.0_f32; 90]);
    let error = conv2d::forward(&g, &x, &w, &mut [0.0; 79]).expect_err("y is short");
    assert_eq!(error.to_string(), "conv2d::forward: `y` has 79 elements, the geometry needs 80");
    assert!(depthwise::forward(&g, &x, &w, &mut [0.0; 80]).is_err());
    assert!(channel::affine::<f32>(&[], None, &mut []).is_err());
    assert!(channel::sum(&[1.0_f32; 5], &mut [0.0; 2]).is_err());
    let far = MatRef { data: &x, row_stride: usize::MAX, col_stride: 1 };
    assert!(gemm::gemm((2, 2, 2), far, far, 0.0, &mut [0.0; 4]).is_err());
    assert!(Conv2d::new([1, 2, 2, 1], [3, 3, 1, 1], [1, 1], kernels::Padding::Valid).is_err());
    assert!(Conv2d::new([1, 2, 2, 1], [3, 3, 1, 1], [0, 1], kernels::Padding::Same).is_err());
    assert!(Conv2d::new([1 << 60, 9, 9, 9], [3, 3, 9, 9], [1, 1], kernels::Padding::Same).is_err());
}
