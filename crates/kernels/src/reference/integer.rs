//! Integer operations. Trits and 8-bit weights share them.

use super::float::{places, pool::for_each_window};
use crate::codes::AddCodes;
use crate::{Conv2d, Pool2d};

/// `c = a w`. `a` `[m, k]`, `w` `[k, n]`, `c` `[m, n]`.
pub fn gemm((m, n, k): (usize, usize, usize), a: &[u8], w: &[i8], c: &mut [i32]) {
    for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
        c[i * n + j] = (0..k).map(|p| i32::from(a[i * k + p]) * i32::from(w[p * n + j])).sum();
    }
}

/// The convolution of `x`, extended with `pad`, with `w`, as accumulators; depthwise if the geometry is.
pub fn conv2d(g: &Conv2d, (x, pad): (&[u8], u8), w: &[i8], acc: &mut [i32]) {
    for (n, oy, ox) in places(g.batch, g.out_h, g.out_w) {
        for co in 0..g.out_c {
            let mut sum = 0;
            for (ky, kx, ci) in places(g.kernel_h, g.kernel_w, if g.depthwise { 1 } else { g.in_c }) {
                let ci = if g.depthwise { co } else { ci };
                let iy = (oy * g.stride_h + ky).wrapping_sub(g.pad_top);
                let ix = (ox * g.stride_w + kx).wrapping_sub(g.pad_left);
                let inside = iy < g.in_h && ix < g.in_w;
                let code = if inside { x[((n * g.in_h + iy) * g.in_w + ix) * g.in_c + ci] } else { pad };
                let tap = (ky * g.kernel_w + kx) * g.in_c + ci;
                sum += i32::from(code) * i32::from(if g.depthwise { w[tap] } else { w[tap * g.out_c + co] });
            }
            acc[((n * g.out_h + oy) * g.out_w + ox) * g.out_c + co] = sum;
        }
    }
}

/// [`crate::epilogue::Scale`] of one accumulator.
pub fn scale(acc: i32, scale: f32, bias: f32) -> f32 {
    acc as f32 * scale + bias
}

/// [`crate::epilogue::Requantize`] of one accumulator, in 128-bit arithmetic.
pub fn requantize(
    acc: i32,
    bias: i32,
    multiplier: i32,
    shift: u8,
    zero_point: u8,
    (low, high): (u8, u8),
) -> u8 {
    let product = (i128::from(acc) + i128::from(bias)) * i128::from(multiplier);
    let rounded = (product + (1_i128 << (shift - 1))) >> shift;
    (rounded + i128::from(zero_point)).clamp(low.into(), high.into()) as u8
}

/// [`crate::codes::max_pool`].
pub fn max_pool(g: &Pool2d, x: &[u8], y: &mut [u8]) {
    for_each_window(g, |o, window| y[o] = window.iter().map(|&i| x[i]).max().unwrap_or(0));
}

/// [`crate::codes::avg_pool`].
pub fn avg_pool(g: &Pool2d, x: &[u8], y: &mut [u8]) {
    for_each_window(g, |o, window| {
        let sum: u64 = window.iter().map(|&i| u64::from(x[i])).sum();
        let count = window.len() as u64;
        y[o] = ((2 * sum + count) / (2 * count)) as u8;
    });
}

/// [`crate::codes::sum_pool`].
pub fn sum_pool(g: &Pool2d, x: &[u8], y: &mut [u16]) {
    for_each_window(g, |o, window| y[o] = window.iter().map(|&i| u16::from(x[i])).sum());
}

/// The real value of an accumulator, see [`crate::epilogue::Affine`]; `norm` is its `a` and `b`.
#[cfg(feature = "std")]
pub fn affine(acc: i32, zero: i32, scale: f32, bias: Option<f32>, norm: Option<[f32; 2]>) -> f32 {
    let mut y = (acc - zero) as f32 * scale;
    if let Some(bias) = bias {
        y += bias;
    }
    norm.map_or(y, |[a, b]| y.mul_add(a, b))
}

/// The code of a real value, see [`crate::epilogue::Grid`].
#[cfg(feature = "std")]
pub fn code(value: f32, unit: f32, high: u8) -> u8 {
    // A cast of what is no number gives 0.
    (value * unit).round_ties_even().clamp(0.0, high.into()) as u8
}

/// [`crate::codes::add`].
pub fn add(p: &AddCodes, a: &[u8], b: &[u8], y: &mut [u8]) {
    let part =
        |code: u8, i: usize| i64::from(i32::from(code) - p.zero_points[i]) * i64::from(p.multipliers[i]);
    for (y, (&a, &b)) in y.iter_mut().zip(a.iter().zip(b)) {
        let sum = (part(a, 0) + part(b, 1) + (1_i64 << (p.shift - 1))) >> p.shift;
        *y = (sum + i64::from(p.zero_point_y)).clamp(p.low.into(), p.high.into()) as u8;
    }
}
