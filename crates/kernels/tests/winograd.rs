//! Winograd's convolutions against the definition, where the cases of `float.rs` seldom meet them: every border and
//! remainder of tiles, and the rounding of a tile whose outputs differ by orders of magnitude.

mod common;

use common::*;
use kernels::{Conv2d, Padding, conv2d, reference};
use proptest::prelude::*;

/// 3x3, stride 1, 16 to 40 channels, images of at least four tiles.
fn geometry() -> impl Strategy<Value = Conv2d> {
    (0..=3_usize, (6..=18_usize, 6..=18_usize), (16..=40_usize, 16..=40_usize), padding()).prop_map(
        |(n, (h, w), (ci, co), padding)| {
            Conv2d::new([n, h, w, ci], [3, 3, ci, co], [1, 1], padding).expect("geometry")
        },
    )
}

/// The three faces, against sums in double precision.
fn faces<T: kernels::Real>(g: &Conv2d, factor: f64) -> Result<(), TestCaseError> {
    let (x, w, dy) =
        (values::<T>(1, g.input_len()), values::<T>(2, g.kernel_len()), values::<T>(3, g.output_len()));
    let nan = T::from_f64(f64::NAN);
    let (mut y, mut dx, mut dw) = (vec![nan; dy.len()], vec![nan; x.len()], vec![nan; w.len()]);
    conv2d::forward(g, &x, &w, &mut y).expect("shapes");
    conv2d::input_grad(g, &dy, &w, &mut dx).expect("shapes");
    conv2d::weight_grad(g, &x, &dy, &mut dw).expect("shapes");
    type Face = fn(&Conv2d, &[f64], &[f64], &mut [f64]);
    type Case<'a, T> = (&'a [T], &'a [T], &'a [T], Face);
    let faces: [Case<'_, T>; 3] = [
        (&y, &x, &w, reference::conv2d::forward),
        (&dx, &dy, &w, reference::conv2d::input_grad),
        (&dw, &x, &dy, reference::conv2d::weight_grad),
    ];
    for (got, a, b, face) in faces {
        let (mut want, mut size) = (vec![0.0; got.len()], vec![0.0; got.len()]);
        face(g, &wide(a), &wide(b), &mut want);
        face(g, &magnitude(a), &magnitude(b), &mut size);
        // The bound of a tile: the largest sum of magnitudes stands for those of its neighbours.
        let largest = size.iter().copied().fold(0.0, f64::max);
        close(got, &want, &vec![largest; got.len()], factor)?;
    }
    Ok(())
}

/// Enough tiles for the weight gradient to be summed in shards, the last of them shorter.
#[test]
fn shards_match_the_definition() {
    let g = Conv2d::new([21, 19, 20, 16], [3, 3, 16, 17], [1, 1], Padding::Same).expect("geometry");
    faces::<f32>(&g, 16.0 * f64::from(f32::EPSILON)).expect("within the bound");
    faces::<f64>(&g, 16.0 * f64::EPSILON).expect("within the bound");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn matches_the_definition(g in geometry()) {
        faces::<f64>(&g, 16.0 * f64::EPSILON)?;
        faces::<f32>(&g, 16.0 * f64::from(f32::EPSILON))?;
    }
}

/// One huge pixel: outputs that do not see it stay within the rounding of its tile.
#[test]
fn a_spike_spreads_no_further_than_rounding() {
    let g = Conv2d::new([1, 12, 12, 16], [3, 3, 16, 16], [1, 1], Padding::Same).expect("geometry");
    let mut x = values::<f32>(1, g.input_len());
    let w = values::<f32>(2, g.kernel_len());
    let spike = 1e6;
    x[(5 * 12 + 5) * 16] = spike;
    let (mut y, mut want) = (vec![0.0; g.output_len()], vec![0.0; g.output_len()]);
    conv2d::forward(&g, &x, &w, &mut y).expect("shapes");
    reference::conv2d::forward(&g, &wide(&x), &wide(&w), &mut want);
    for (i, (y, want)) in y.iter().zip(&want).enumerate() {
        let (row, column) = (i / 16 / 12, i / 16 % 12);
        // Tiles whose inputs hold the pixel: outputs 4..8 of both axes, and their neighbours one to the left and above.
        let touched = (4..8).contains(&row) && (4..8).contains(&column);
        let bound = if touched { 32.0 * f64::from(spike * f32::EPSILON) } else { 2e-4 };
        assert!((f64::from(*y) - want).abs() <= bound, "row {row}, column {column}: {y} is not {want}");
    }
}

#[test]
fn bits_depend_neither_on_threads_nor_on_the_batch() {
    // The last is enough for the weight gradient to be summed in shards.
    for (batch, size) in [(5, 12), (5, 11), (48, 12)] {
        let of = |n| {
            Conv2d::new([n, size, size + 3, 17], [3, 3, 17, 33], [1, 1], Padding::Same).expect("geometry")
        };
        let (all, one) = (of(batch), of(1));
        let (x, w, dy) =
            (values::<f32>(1, all.input_len()), values(2, all.kernel_len()), values(3, all.output_len()));
        let run = |g: &Conv2d, x: &[f32], dy: &[f32]| {
            let (mut y, mut dx, mut dw) = (dy.to_vec(), x.to_vec(), w.clone());
            conv2d::forward(g, x, &w, &mut y).expect("shapes");
            conv2d::input_grad(g, dy, &w, &mut dx).expect("shapes");
            conv2d::weight_grad(g, x, dy, &mut dw).expect("shapes");
            (y, dx, dw)
        };
        let whole = on_threads(1, || run(&all, &x, &dy));
        assert!([2, 3, 7].iter().all(|&threads| whole == on_threads(threads, || run(&all, &x, &dy))));
        for i in 0..batch {
            let (x, dy) = (&x[i * one.input_len()..][..one.input_len()], &dy[i * one.output_len()..]);
            let (y, dx, _) = run(&one, x, &dy[..one.output_len()]);
            assert_eq!(y, whole.0[i * y.len()..][..y.len()]);
            assert_eq!(dx, whole.1[i * dx.len()..][..dx.len()]);
        }
    }
}
