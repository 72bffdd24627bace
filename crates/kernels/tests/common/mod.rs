//! Random geometry and values shared by the property suites.
#![allow(dead_code, reason = "each suite uses its part")]

use kernels::{Conv2d, Padding, Pool2d, Real};
use proptest::prelude::*;

/// `SAME` or `VALID`.
pub(crate) fn padding() -> impl Strategy<Value = Padding> {
    prop_oneof![Just(Padding::Same), Just(Padding::Valid)]
}

/// Batch 0..3, odd sizes, kernels 1..4, strides 1..2, channels 1..40; `VALID` kernels larger than the image left out.
pub(crate) fn conv2d() -> impl Strategy<Value = Conv2d> {
    let sizes = (0..=3_usize, 1..=11_usize, 1..=11_usize, 1..=40_usize);
    (sizes, (1..=4_usize, 1..=4_usize, 1..=40_usize), (1..=2_usize, 1..=2_usize), padding()).prop_filter_map(
        "kernel larger than the image",
        |((n, h, w, ci), (kh, kw, co), (sh, sw), padding)| {
            Conv2d::new([n, h, w, ci], [kh, kw, ci, co], [sh, sw], padding).ok()
        },
    )
}

/// As [`conv2d`], depthwise.
pub(crate) fn depthwise() -> impl Strategy<Value = Conv2d> {
    let sizes = (0..=3_usize, 1..=11_usize, 1..=11_usize, 1..=40_usize);
    (sizes, (1..=5_usize, 1..=5_usize), (1..=3_usize, 1..=3_usize), padding()).prop_filter_map(
        "kernel larger than the image",
        |((n, h, w, c), (kh, kw), (sh, sw), padding)| {
            Conv2d::depthwise([n, h, w, c], [kh, kw, c, 1], [sh, sw], padding).ok()
        },
    )
}

/// As [`conv2d`], pools.
pub(crate) fn pool2d() -> impl Strategy<Value = Pool2d> {
    let sizes = (0..=3_usize, 1..=11_usize, 1..=11_usize, 1..=40_usize);
    (sizes, (1..=4_usize, 1..=4_usize), (1..=3_usize, 1..=3_usize), padding()).prop_filter_map(
        "window larger than the image",
        |(sizes, (kh, kw), (sh, sw), padding)| {
            Pool2d::new([sizes.0, sizes.1, sizes.2, sizes.3], [kh, kw], [sh, sw], padding).ok()
        },
    )
}

/// A stream of well mixed 64-bit numbers (SplitMix64).
pub(crate) fn bits(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// `len` values in [-1, 1), exactly representable in f32.
pub(crate) fn values<T: Real>(seed: u64, len: usize) -> Vec<T> {
    bits(seed).take(len).map(|b| T::from_f64((b >> 40) as f64 / (1 << 23) as f64 - 1.0)).collect()
}

/// `len` values out of few, so that windows hold equal ones.
pub(crate) fn tied<T: Real>(seed: u64, len: usize) -> Vec<T> {
    bits(seed).take(len).map(|b| T::from_f64((b % 5) as f64 - 2.0)).collect()
}

/// `len` bytes.
pub(crate) fn codes(seed: u64, len: usize) -> Vec<u8> {
    bits(seed).take(len).map(|b| (b >> 33) as u8).collect()
}

/// `len` trits.
pub(crate) fn trits(seed: u64, len: usize) -> Vec<i8> {
    bits(seed).take(len).map(|b| (b >> 33) as u8 % 3).map(|t| t as i8 - 1).collect()
}

/// As doubles.
pub(crate) fn wide<T: Real>(v: &[T]) -> Vec<f64> {
    v.iter().map(|v| v.to_f64()).collect()
}

/// Absolute values, as doubles.
pub(crate) fn magnitude<T: Real>(v: &[T]) -> Vec<f64> {
    v.iter().map(|v| v.to_f64().abs()).collect()
}

/// Fails unless each `got` is within `factor * magnitude` of `want`, where `magnitude` is the same sum over absolute
/// values: the classical bound of a sum of `k` products in any order, for `factor = (k + 2) * epsilon`.
pub(crate) fn close<T: Real>(
    got: &[T],
    want: &[f64],
    magnitude: &[f64],
    factor: f64,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.len(), want.len());
    for (i, ((g, w), m)) in got.iter().zip(want).zip(magnitude).enumerate() {
        prop_assert!((g.to_f64() - w).abs() <= factor * m, "element {}: {} is not {}", i, g, w);
    }
    Ok(())
}

/// `sum a b` in double.
pub(crate) fn inner<T: Real>(a: &[T], b: &[T]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}

/// Runs `f` on a pool of its own of `threads` threads.
pub(crate) fn on_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(f)
}
