//! Elementwise loops and sums over slices: split in fixed pieces, so that results do not depend on the thread count.

use kernels::Real;
use rayon::prelude::*;

use super::quantized::KernelCodes;

/// Elements per task: large enough to amortise scheduling, small enough to stay in the second-level cache.
const PIECE: usize = 32 * 1024;

/// A float type the executor can run: `f32` with the integer kernels where they apply, `f64` to check with.
pub trait Element: Real {
    /// The same slice if this type is `f32`.
    fn f32s(x: &[Self]) -> Option<&[f32]>;
    /// The same slice if this type is `f32`.
    fn f32s_mut(x: &mut [Self]) -> Option<&mut [f32]>;
    /// The same codes if this type is `f32`.
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "the trait is implemented here only")]
    fn f32_codes(k: &KernelCodes<Self>) -> Option<&KernelCodes<f32>>;
}

impl Element for f32 {
    fn f32s(x: &[Self]) -> Option<&[f32]> {
        Some(x)
    }
    fn f32s_mut(x: &mut [Self]) -> Option<&mut [f32]> {
        Some(x)
    }
    #[allow(private_interfaces, reason = "as in the trait")]
    fn f32_codes(k: &KernelCodes<f32>) -> Option<&KernelCodes<f32>> {
        Some(k)
    }
}

impl Element for f64 {
    fn f32s(_: &[Self]) -> Option<&[f32]> {
        None
    }
    fn f32s_mut(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }
    #[allow(private_interfaces, reason = "as in the trait")]
    fn f32_codes(_: &KernelCodes<f64>) -> Option<&KernelCodes<f32>> {
        None
    }
}

/// Calls `f(offset, piece)` for the pieces of `out`, in parallel where it pays.
pub(crate) fn pieces<T: Send, F: Fn(usize, &mut [T]) + Sync>(out: &mut [T], f: F) {
    if out.len() <= PIECE {
        f(0, out);
    } else {
        out.par_chunks_mut(PIECE).enumerate().for_each(|(i, piece)| f(i * PIECE, piece));
    }
}

/// Sum of `f(i)` over `0..n`: 64 fixed pieces in double precision, added in order.
pub(crate) fn sum(n: usize, f: impl Fn(usize) -> f64 + Sync) -> f64 {
    let mut parts = [0.0f64; 64];
    let piece = n.div_ceil(parts.len()).max(1);
    let part = |(p, out): (usize, &mut f64)| {
        let range = (p * piece).min(n)..((p + 1) * piece).min(n);
        *out = range.map(&f).sum();
    };
    if n <= PIECE {
        parts.iter_mut().enumerate().for_each(part);
    } else {
        parts.par_iter_mut().enumerate().for_each(part);
    }
    parts.iter().sum()
}

/// Calls `f(row, out_row)` for rows of `out`, in parallel where it pays.
pub(crate) fn rows<T: Real, F: Fn(usize, &mut [T]) + Sync>(out: &mut [T], n: usize, f: F) {
    let width = (out.len() / n.max(1)).max(1);
    if out.len() <= PIECE {
        out.chunks_mut(width).enumerate().for_each(|(i, row)| f(i, row));
    } else {
        out.par_chunks_mut(width).enumerate().for_each(|(i, row)| f(i, row));
    }
}
