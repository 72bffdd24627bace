//! Maximum and average pools of floats with what their derivatives of any order need.
//!
//! Where several elements of a window are equal, the first one in window order is the maximum.

use crate::dispatch::every_path;
use crate::error::length;
use crate::geometry::{Pool2d, Pool2dSizes};
use crate::lanes::{for_each_block, lanes, lanes_mut};
use crate::{KernelError, Real, parallel};

/// `y = max of x` over each window. `x` `[n, h, w, c]`, `y` `[n, oh, ow, c]`, which is overwritten.
///
/// # Errors
/// Slices whose lengths are not the geometry's.
pub fn max_forward<T: Real>(g: &Pool2d, x: &[T], y: &mut [T]) -> Result<(), KernelError> {
    length("pool::max_forward", "x", g.input_len(), x.len())?;
    max_gather_from("pool::max_forward", g, x, x, y)
}

/// `gy = gx` at the place of the maximum of `x` in each window: the adjoint of [`max_scatter`]. `gy` is overwritten.
///
/// # Errors
/// Slices whose lengths are not the geometry's.
pub fn max_gather<T: Real>(g: &Pool2d, x: &[T], gx: &[T], gy: &mut [T]) -> Result<(), KernelError> {
    length("pool::max_gather", "x", g.input_len(), x.len())?;
    length("pool::max_gather", "gx", g.input_len(), gx.len())?;
    max_gather_from("pool::max_gather", g, x, gx, gy)
}

/// `gx = sum of gy` over the windows whose maximum of `x` lies there: the gradient of [`max_forward`]. `gx` is
/// overwritten.
///
/// # Errors
/// Slices whose lengths are not the geometry's.
pub fn max_scatter<T: Real>(g: &Pool2d, x: &[T], gy: &[T], gx: &mut [T]) -> Result<(), KernelError> {
    length("pool::max_scatter", "x", g.input_len(), x.len())?;
    length("pool::max_scatter", "gy", g.output_len(), gy.len())?;
    length("pool::max_scatter", "gx", g.input_len(), gx.len())?;
    parallel::for_each_chunk(gx, images(g) * image_in(g), |i, gx| {
        let (x, gy) = (&x[i * images(g) * image_in(g)..], &gy[i * images(g) * image_out(g)..]);
        max_scatter_images(g, x, gy, gx);
    });
    Ok(())
}

/// `y = mean of x` over each window, padding not counted. `x` `[n, h, w, c]`, `y` `[n, oh, ow, c]`, which is
/// overwritten.
///
/// # Errors
/// Slices whose lengths are not the geometry's.
pub fn avg_forward<T: Real>(g: &Pool2d, x: &[T], y: &mut [T]) -> Result<(), KernelError> {
    length("pool::avg_forward", "x", g.input_len(), x.len())?;
    length("pool::avg_forward", "y", g.output_len(), y.len())?;
    parallel::for_each_chunk(y, images(g) * image_out(g), |i, y| {
        avg_images(g, &x[i * images(g) * image_in(g)..], y);
    });
    Ok(())
}

/// `gx` = adjoint of [`avg_forward`] applied to `gy`: each window spreads its `gy` evenly. `gx` is overwritten.
///
/// # Errors
/// Slices whose lengths are not the geometry's.
pub fn avg_adjoint<T: Real>(g: &Pool2d, gy: &[T], gx: &mut [T]) -> Result<(), KernelError> {
    length("pool::avg_adjoint", "gy", g.output_len(), gy.len())?;
    length("pool::avg_adjoint", "gx", g.input_len(), gx.len())?;
    parallel::for_each_chunk(gx, images(g) * image_in(g), |i, gx| {
        avg_adjoint_images(g, &gy[i * images(g) * image_out(g)..], gx);
    });
    Ok(())
}

/// Elements of one input and one output image.
fn image_in(g: &Pool2dSizes) -> usize {
    g.in_h * g.in_w * g.channels
}
fn image_out(g: &Pool2dSizes) -> usize {
    g.out_h * g.out_w * g.channels
}

/// Images of one parallel chunk.
fn images(g: &Pool2dSizes) -> usize {
    parallel::rows_per_chunk(g.batch, g.out_h * g.out_w * g.channels * g.size_h * g.size_w, 1 << 17)
}

fn max_gather_from<T: Real>(
    op: &'static str,
    g: &Pool2d,
    x: &[T],
    from: &[T],
    y: &mut [T],
) -> Result<(), KernelError> {
    length(op, if op == "pool::max_forward" { "y" } else { "gy" }, g.output_len(), y.len())?;
    parallel::for_each_chunk(y, images(g) * image_out(g), |i, y| {
        let at = i * images(g) * image_in(g);
        max_gather_images(g, &x[at..], &from[at..], y);
    });
    Ok(())
}

/// Whether the windows are disjoint, 2x2 and cover the image.
fn is_halving(g: &Pool2dSizes) -> bool {
    let (size, stride) = ((g.size_h, g.size_w), (g.stride_h, g.stride_w));
    size == (2, 2) && stride == (2, 2) && (g.in_h, g.in_w) == (2 * g.out_h, 2 * g.out_w)
}

/// The four pixels of a window of [`is_halving`] pools, `p` counting windows of whole images: two runs of two pixels.
#[inline(always)]
fn quarter<'a, T>(g: &Pool2dSizes, x: &'a [T], p: usize) -> [&'a [T]; 4] {
    let c = g.channels;
    let at = (p / g.out_w * 2 * g.in_w + p % g.out_w * 2) * c;
    let (upper, lower) = (&x[at..][..2 * c], &x[at + g.in_w * c..][..2 * c]);
    [&upper[..c], &upper[c..], &lower[..c], &lower[c..]]
}

every_path! {
    fn max_gather_images<T: Real>(g: &Pool2dSizes, x: &[T], from: &[T], y: &mut [T]) {
        let c = g.channels;
        if is_halving(g) {
            for (p, y) in y.chunks_exact_mut(c).enumerate() {
                let ([x0, x1, x2, x3], [f0, f1, f2, f3]) = (quarter(g, x, p), quarter(g, from, p));
                for l in 0..c {
                    let pick = |(x, f): (T, T), (x1, f1): (T, T)| if x1 > x { (x1, f1) } else { (x, f) };
                    let upper = pick((x0[l], f0[l]), (x1[l], f1[l]));
                    y[l] = pick(pick(upper, (x2[l], f2[l])), (x3[l], f3[l])).1;
                }
            }
            return;
        }
        for (p, pixel) in y.chunks_exact_mut(c).enumerate() {
            let (image, oy, ox) = (p / (g.out_h * g.out_w), p / g.out_w % g.out_h, p % g.out_w);
            let (rows, columns) = g.window(oy, ox);
            for_each_block!(c, [16, 8, 1], |start, L| {
                let first = ((image * g.in_h + rows.start) * g.in_w + columns.start) * c + start;
                let mut best = *lanes::<T, L>(x, first);
                let mut value = *lanes::<T, L>(from, first);
                for iy in rows.clone() {
                    for ix in columns.clone() {
                        let at = ((image * g.in_h + iy) * g.in_w + ix) * c + start;
                        let (x, from) = (lanes::<T, L>(x, at), lanes::<T, L>(from, at));
                        for l in 0..L {
                            let better = x[l] > best[l];
                            best[l] = if better { x[l] } else { best[l] };
                            value[l] = if better { from[l] } else { value[l] };
                        }
                    }
                }
                *lanes_mut::<T, L>(pixel, start) = value;
            });
        }
    }
}

every_path! {
    fn max_scatter_images<T: Real>(g: &Pool2dSizes, x: &[T], gy: &[T], gx: &mut [T]) {
        let c = g.channels;
        let pixels = gx.len() / (g.in_h * g.in_w * c) * g.out_h * g.out_w;
        if is_halving(g) {
            for (p, gy) in gy.chunks_exact(c).take(pixels).enumerate() {
                let [x0, x1, x2, x3] = quarter(g, x, p);
                let at = (p / g.out_w * 2 * g.in_w + p % g.out_w * 2) * c;
                let (upper, lower) = gx[at..].split_at_mut(g.in_w * c);
                let (g0, g1) = upper[..2 * c].split_at_mut(c);
                let (g2, g3) = lower[..2 * c].split_at_mut(c);
                for l in 0..c {
                    let (first, second) = (x1[l] > x0[l], x3[l] > x2[l]);
                    let upper = if first { x1[l] } else { x0[l] };
                    let lower = if second { x3[l] } else { x2[l] };
                    let below = lower > upper;
                    let (up, down) = (if below { T::ZERO } else { gy[l] }, if below { gy[l] } else { T::ZERO });
                    g0[l] = if first { T::ZERO } else { up };
                    g1[l] = if first { up } else { T::ZERO };
                    g2[l] = if second { T::ZERO } else { down };
                    g3[l] = if second { down } else { T::ZERO };
                }
            }
            return;
        }
        gx.fill(T::ZERO);
        for (p, pixel) in gy.chunks_exact(c).take(pixels).enumerate() {
            let (image, oy, ox) = (p / (g.out_h * g.out_w), p / g.out_w % g.out_h, p % g.out_w);
            let (rows, columns) = g.window(oy, ox);
            let line = |iy: usize| (image * g.in_h + iy) * g.in_w;
            for_each_block!(c, [16, 8, 1], |start, L| {
                let gy = lanes::<T, L>(pixel, start);
                let mut best = *lanes::<T, L>(x, (line(rows.start) + columns.start) * c + start);
                let mut place = [0_u32; L];
                let mut tap = 0_u32;
                for iy in rows.clone() {
                    for ix in columns.clone() {
                        let x = lanes::<T, L>(x, (line(iy) + ix) * c + start);
                        for l in 0..L {
                            let better = x[l] > best[l];
                            best[l] = if better { x[l] } else { best[l] };
                            place[l] = if better { tap } else { place[l] };
                        }
                        tap += 1;
                    }
                }
                tap = 0;
                for iy in rows.clone() {
                    for ix in columns.clone() {
                        let gx = lanes_mut::<T, L>(gx, (line(iy) + ix) * c + start);
                        for l in 0..L {
                            gx[l] += if place[l] == tap { gy[l] } else { T::ZERO };
                        }
                        tap += 1;
                    }
                }
            });
        }
    }
}

every_path! {
    fn avg_images<T: Real>(g: &Pool2dSizes, x: &[T], y: &mut [T]) {
        let c = g.channels;
        for (p, pixel) in y.chunks_exact_mut(c).enumerate() {
            let (image, oy, ox) = (p / (g.out_h * g.out_w), p / g.out_w % g.out_h, p % g.out_w);
            let (rows, columns) = g.window(oy, ox);
            let share = T::ONE / T::from_f64((rows.len() * columns.len()) as f64);
            for_each_block!(c, [16, 8, 1], |start, L| {
                let mut sum = [T::ZERO; L];
                for iy in rows.clone() {
                    for ix in columns.clone() {
                        let x = lanes::<T, L>(x, ((image * g.in_h + iy) * g.in_w + ix) * c + start);
                        for l in 0..L {
                            sum[l] += x[l];
                        }
                    }
                }
                *lanes_mut::<T, L>(pixel, start) = sum.map(|s| s * share);
            });
        }
    }
}

every_path! {
    fn avg_adjoint_images<T: Real>(g: &Pool2dSizes, gy: &[T], gx: &mut [T]) {
        let c = g.channels;
        gx.fill(T::ZERO);
        let pixels = gx.len() / (g.in_h * g.in_w * c) * g.out_h * g.out_w;
        for (p, pixel) in gy.chunks_exact(c).take(pixels).enumerate() {
            let (image, oy, ox) = (p / (g.out_h * g.out_w), p / g.out_w % g.out_h, p % g.out_w);
            let (rows, columns) = g.window(oy, ox);
            let share = T::ONE / T::from_f64((rows.len() * columns.len()) as f64);
            for_each_block!(c, [16, 8, 1], |start, L| {
                let gy = lanes::<T, L>(pixel, start);
                for iy in rows.clone() {
                    for ix in columns.clone() {
                        let at = ((image * g.in_h + iy) * g.in_w + ix) * c + start;
                        let gx = lanes_mut::<T, L>(gx, at);
                        for l in 0..L {
                            gx[l] = gy[l].madd::<FUSED>(share, gx[l]);
                        }
                    }
                }
            });
        }
    }
}
