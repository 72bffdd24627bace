//! Pools and residual additions directly on `u8` codes.

use crate::dispatch::two_paths;
use crate::error::length;
use crate::geometry::{Pool2d, Pool2dSizes};
use crate::lanes::{for_each_block, lanes, lanes_mut};
use crate::{KernelError, parallel};

/// Codes that a parallel block of pooling reads.
const BLOCK: usize = 1 << 20;

/// `y = max of x` over each window. `x` `[n, h, w, c]`, `y` `[n, oh, ow, c]`, on the same scale and zero point.
///
/// # Errors
/// Slices whose lengths are not the geometry's.
pub fn max_pool(g: &Pool2d, x: &[u8], y: &mut [u8]) -> Result<(), KernelError> {
    pool("codes::max_pool", g, x, y, max_images)
}

/// `y = floor((2 sum + count) / (2 count))` of `x` over each window, padding not counted: the mean rounded to
/// nearest, ties upwards. `x` `[n, h, w, c]`, `y` `[n, oh, ow, c]`, on the same scale and zero point.
///
/// # Errors
/// Slices whose lengths are not the geometry's, or a window of more than 2^22 pixels.
pub fn avg_pool(g: &Pool2d, x: &[u8], y: &mut [u8]) -> Result<(), KernelError> {
    if g.size_h * g.size_w > 1 << 22 {
        return Err(KernelError::Geometry {
            op: "codes::avg_pool",
            reason: "the window is too large (rows, columns)",
            sizes: [g.size_h, g.size_w, 0, 0],
        });
    }
    pool("codes::avg_pool", g, x, y, avg_images)
}

/// `y = sum of x` over each window, padding not counted. `x` `[n, h, w, c]` codes, `y` `[n, oh, ow, c]`.
///
/// # Errors
/// Slices whose lengths are not the geometry's, or a window of more than 257 pixels (beyond which a sum could overflow).
pub fn sum_pool(g: &Pool2d, x: &[u8], y: &mut [u16]) -> Result<(), KernelError> {
    const OP: &str = "codes::sum_pool";
    if g.size_h * g.size_w > 257 {
        return Err(KernelError::Geometry {
            op: OP,
            reason: "the window is too large (rows, columns)",
            sizes: [g.size_h, g.size_w, 0, 0],
        });
    }
    pool(OP, g, x, y, sum_images)
}

fn pool<T: Send>(
    op: &'static str,
    g: &Pool2d,
    x: &[u8],
    y: &mut [T],
    images: fn(&Pool2dSizes, &[u8], &mut [T]),
) -> Result<(), KernelError> {
    length(op, "x", g.input_len(), x.len())?;
    length(op, "y", g.output_len(), y.len())?;
    let (input, output) = (g.in_h * g.in_w * g.channels, g.out_h * g.out_w * g.channels);
    let work = output * g.size_h * g.size_w;
    let block = parallel::rows_per_chunk(g.batch, work, BLOCK);
    let few = g.batch * work < parallel::FEW_MACS / 16;
    parallel::for_each_chunk_unless(few, y, block * output, |i, y| images(g, &x[i * block * input..], y));
    Ok(())
}

two_paths! {
    fn max_images(g: &Pool2dSizes, x: &[u8], y: &mut [u8]) {
        let c = g.channels;
        let halves = (g.size_h, g.size_w, g.stride_h, g.stride_w) == (2, 2, 2, 2);
        if halves && (g.in_h, g.in_w) == (2 * g.out_h, 2 * g.out_w) && c > 0 {
            // Windows follow each other in memory, and so need no positions.
            let line = g.in_w * c;
            for (y, x) in y.chunks_exact_mut(g.out_w * c).zip(x.chunks_exact(2 * line)) {
                let (upper, lower) = x.split_at(line);
                let pairs = upper.chunks_exact(2 * c).zip(lower.chunks_exact(2 * c));
                for (pixel, (upper, lower)) in y.chunks_exact_mut(c).zip(pairs) {
                    for_each_block!(c, [64, 32, 8, 1], |start, L| {
                        let [a, b] = [0, c].map(|at| lanes::<u8, L>(upper, at + start));
                        let [d, e] = [0, c].map(|at| lanes::<u8, L>(lower, at + start));
                        let best = core::array::from_fn(|l| a[l].max(b[l]).max(d[l].max(e[l])));
                        *lanes_mut::<u8, L>(pixel, start) = best;
                    });
                }
            }
            return;
        }
        for (p, pixel) in y.chunks_exact_mut(c).enumerate() {
            let (image, oy, ox) = (p / (g.out_h * g.out_w), p / g.out_w % g.out_h, p % g.out_w);
            let (rows, columns) = g.window(oy, ox);
            for_each_block!(c, [32, 8, 1], |start, L| {
                let mut best = [0_u8; L];
                for iy in rows.clone() {
                    for ix in columns.clone() {
                        let x = lanes::<u8, L>(x, ((image * g.in_h + iy) * g.in_w + ix) * c + start);
                        for l in 0..L {
                            best[l] = best[l].max(x[l]);
                        }
                    }
                }
                *lanes_mut::<u8, L>(pixel, start) = best;
            });
        }
        let _ = FUSED; // integers
    }
}

two_paths! {
    fn avg_images(g: &Pool2dSizes, x: &[u8], y: &mut [u8]) {
        let c = g.channels;
        for (p, pixel) in y.chunks_exact_mut(c).enumerate() {
            let (image, oy, ox) = (p / (g.out_h * g.out_w), p / g.out_w % g.out_h, p % g.out_w);
            let (rows, columns) = g.window(oy, ox);
            let count = (rows.len() * columns.len()) as u32;
            for_each_block!(c, [16, 8, 1], |start, L| {
                let mut sum = [0_u32; L];
                for iy in rows.clone() {
                    for ix in columns.clone() {
                        let x = lanes::<u8, L>(x, ((image * g.in_h + iy) * g.in_w + ix) * c + start);
                        for l in 0..L {
                            sum[l] += u32::from(x[l]);
                        }
                    }
                }
                *lanes_mut::<u8, L>(pixel, start) = sum.map(|s| ((2 * s + count) / (2 * count)) as u8);
            });
        }
        let _ = FUSED; // integers
    }
}

two_paths! {
    fn sum_images(g: &Pool2dSizes, x: &[u8], y: &mut [u16]) {
        let c = g.channels;
        for (p, pixel) in y.chunks_exact_mut(c).enumerate() {
            let (image, oy, ox) = (p / (g.out_h * g.out_w), p / g.out_w % g.out_h, p % g.out_w);
            let (rows, columns) = g.window(oy, ox);
            for_each_block!(c, [64, 16, 1], |start, L| {
                let mut sum = [0_u16; L];
                for iy in rows.clone() {
                    for ix in columns.clone() {
                        let x = lanes::<u8, L>(x, ((image * g.in_h + iy) * g.in_w + ix) * c + start);
                        for l in 0..L {
                            sum[l] = sum[l].wrapping_add(u16::from(x[l]));
                        }
                    }
                }
                *lanes_mut::<u16, L>(pixel, start) = sum;
            });
        }
        let _ = FUSED; // integers
    }
}

/// Parameters of [`add`].
///
/// `y = clamp(zero_point_y + floor((t + 2^(shift - 1)) / 2^shift), low, high)` with
/// `t = (a - zero_points[0]) * multipliers[0] + (b - zero_points[1]) * multipliers[1]`, exactly: rounding to nearest,
/// ties upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddCodes {
    pub(crate) zero_points: [i32; 2],
    pub(crate) multipliers: [i32; 2],
    pub(crate) shift: u32,
    pub(crate) zero_point_y: i32,
    pub(crate) low: i32,
    pub(crate) high: i32,
}

impl AddCodes {
    /// Largest multiplier: keeps every intermediate within `i32`.
    pub const LARGEST_MULTIPLIER: i32 = 1 << 21;

    /// Checked parameters.
    ///
    /// # Errors
    /// A multiplier outside `0..=2^21`, a shift outside `1..=29`, `low > high`.
    pub fn new(
        zero_points: [u8; 2],
        multipliers: [i32; 2],
        shift: u8,
        zero_point_y: u8,
        (low, high): (u8, u8),
    ) -> Result<Self, KernelError> {
        let bad = |reason, value: usize| KernelError::Geometry {
            op: "codes::AddCodes",
            reason,
            sizes: [value, 0, 0, 0],
        };
        if multipliers.iter().any(|m| !(0..=Self::LARGEST_MULTIPLIER).contains(m)) {
            return Err(bad("a multiplier is negative or above 2^21", 0));
        }
        if !(1..=29).contains(&shift) {
            return Err(bad("the shift is outside 1..=29", shift.into()));
        }
        if low > high {
            return Err(bad("the lowest code is above the highest", low.into()));
        }
        Ok(Self {
            zero_points: zero_points.map(i32::from),
            multipliers,
            shift: shift.into(),
            zero_point_y: zero_point_y.into(),
            low: low.into(),
            high: high.into(),
        })
    }

    /// The sum of two codes.
    #[inline(always)]
    fn code(&self, a: u8, b: u8) -> u8 {
        let a = (i32::from(a) - self.zero_points[0]) * self.multipliers[0];
        let b = (i32::from(b) - self.zero_points[1]) * self.multipliers[1];
        let sum = (a + b + (1 << (self.shift - 1))) >> self.shift;
        (sum + self.zero_point_y).clamp(self.low, self.high) as u8
    }
}

/// Sum of two tensors of codes on different scales: a residual connection. See [`AddCodes`] for the formula.
///
/// # Errors
/// Slices of different lengths.
pub fn add(p: &AddCodes, a: &[u8], b: &[u8], y: &mut [u8]) -> Result<(), KernelError> {
    length("codes::add", "b", a.len(), b.len())?;
    length("codes::add", "y", a.len(), y.len())?;
    parallel::for_each_chunk(y, 1 << 16, |i, y| add_block(p, &a[i << 16..], &b[i << 16..], y));
    Ok(())
}

two_paths! {
    fn add_block(p: &AddCodes, a: &[u8], b: &[u8], y: &mut [u8]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = p.code(a, b);
        }
        let _ = FUSED; // integers
    }
}
