//! Depthwise 2-D convolution of floats and its two gradients: each channel has its own `[kh, kw]` kernel.
//!
//! Loops run over channels innermost, a register block at a time, so nothing is unfolded.

use crate::dispatch::every_path;
use crate::error::length;
use crate::geometry::{Conv2d, Conv2dSizes, Range, clip};
use crate::lanes::{for_each_block, lanes, lanes_mut};
use crate::scratch::Scratch;
use crate::{KernelError, Real, parallel};

/// `y = depthwise(x, w)`. `x` `[n, h, w, c]`, `w` `[kh, kw, c, 1]`, `y` `[n, oh, ow, c]`, which is overwritten.
///
/// # Errors
/// A geometry not made by [`Conv2d::depthwise`], or slices whose lengths are not the geometry's.
pub fn forward<T: Real>(g: &Conv2d, x: &[T], w: &[T], y: &mut [T]) -> Result<(), KernelError> {
    check(g, "depthwise::forward", [("x", x.len()), ("w", w.len()), ("y", y.len())], [0, 1, 2])?;
    let rows = parallel::rows_per_chunk(g.batch * g.out_h, g.out_w * g.kernel_len(), CHUNK_MACS);
    parallel::for_each_chunk(y, rows * g.out_w * g.out_c, |i, y| forward_rows(g, x, w, y, i * rows));
    Ok(())
}

/// `dx = d(sum dy * depthwise(x, w)) / dx`. Shapes as in [`forward`]; `dx` is overwritten.
///
/// # Errors
/// As [`forward`].
pub fn input_grad<T: Real>(g: &Conv2d, dy: &[T], w: &[T], dx: &mut [T]) -> Result<(), KernelError> {
    check(g, "depthwise::input_grad", [("dy", dy.len()), ("w", w.len()), ("dx", dx.len())], [2, 1, 0])?;
    let rows = parallel::rows_per_chunk(g.batch * g.in_h, g.in_w * g.kernel_len(), CHUNK_MACS);
    parallel::for_each_chunk(dx, rows * g.in_w * g.in_c, |i, dx| input_rows(g, dy, w, dx, i * rows));
    Ok(())
}

/// `dw = d(sum dy * depthwise(x, w)) / dw`. Shapes as in [`forward`]; `dw` is overwritten. The batch is summed over
/// chunks that depend on the geometry alone, in order.
///
/// # Errors
/// As [`forward`].
pub fn weight_grad<T: Real>(g: &Conv2d, x: &[T], dy: &[T], dw: &mut [T]) -> Result<(), KernelError> {
    check(g, "depthwise::weight_grad", [("x", x.len()), ("dy", dy.len()), ("dw", dw.len())], [0, 2, 1])?;
    let rows = g.batch * g.out_h;
    let per_chunk =
        rows.div_ceil(MAX_CHUNKS).max(parallel::rows_per_chunk(rows, g.out_w * g.kernel_len(), CHUNK_MACS));
    let chunks = rows.div_ceil(per_chunk);
    let mut partial = Scratch::<T>::filled(chunks * dw.len(), T::ZERO);
    parallel::for_each_chunk(&mut partial, dw.len(), |i, partial| {
        weight_rows(g, x, dy, partial, i * per_chunk..((i + 1) * per_chunk).min(rows));
    });
    dw.fill(T::ZERO);
    for chunk in partial.chunks_exact(dw.len()) {
        dw.iter_mut().zip(chunk).for_each(|(d, &p)| *d += p);
    }
    Ok(())
}

/// Work of one parallel chunk, in multiply-accumulates.
const CHUNK_MACS: usize = 1 << 18;
/// Chunks the weight gradient is summed over at most.
const MAX_CHUNKS: usize = 16;

fn check(
    g: &Conv2d,
    op: &'static str,
    slices: [(&'static str, usize); 3],
    roles: [usize; 3],
) -> Result<(), KernelError> {
    if !g.depthwise {
        return Err(KernelError::Geometry {
            op,
            reason: "the geometry is not a depthwise one",
            sizes: g.kernel_shape(),
        });
    }
    let lengths = [g.input_len(), g.kernel_len(), g.output_len()];
    for ((name, actual), role) in slices.into_iter().zip(roles) {
        length(op, name, lengths[role], actual)?;
    }
    Ok(())
}

/// The taps of one kernel axis that meet one position: which kernel entries, and what they are multiplied with.
#[derive(Clone, Copy)]
struct Taps {
    count: usize,
    kernel: usize,
    kernel_step: usize,
    source: usize,
    source_step: isize,
}

impl Taps {
    /// Inputs under output `o`.
    #[inline(always)]
    fn forward(o: usize, stride: usize, pad: usize, kernel: usize, input: usize) -> Self {
        let start = o * stride;
        let range = clip(start, pad, kernel, input);
        let first = pad.saturating_sub(start).min(kernel);
        Self { count: range.len(), kernel: first, kernel_step: 1, source: range.start, source_step: 1 }
    }

    /// Outputs that saw input `i`.
    #[inline(always)]
    fn backward(i: usize, stride: usize, pad: usize, kernel: usize, output: usize) -> Self {
        let reach = i + pad;
        let (last, phase) = if stride == 1 { (reach, 0) } else { (reach / stride, reach % stride) };
        // Kernel entry `phase + t * stride` meets output `last - t`.
        let first = last.saturating_sub(output - 1);
        let end = if phase < kernel { ((kernel - phase).div_ceil(stride)).min(last + 1) } else { 0 };
        Self {
            count: end.saturating_sub(first),
            kernel: phase + first * stride,
            kernel_step: stride,
            source: last - first,
            source_step: -1,
        }
    }
}

every_path! {
    fn forward_rows<T: Real>(g: &Conv2dSizes, x: &[T], w: &[T], y: &mut [T], first: usize) {
        for (i, line) in y.chunks_exact_mut(g.out_w * g.out_c).enumerate() {
            let (image, oy) = ((first + i) / g.out_h, (first + i) % g.out_h);
            let rows = Taps::forward(oy, g.stride_h, g.pad_top, g.kernel_h, g.in_h);
            for (ox, pixel) in line.chunks_exact_mut(g.out_c).enumerate() {
                let columns = Taps::forward(ox, g.stride_w, g.pad_left, g.kernel_w, g.in_w);
                weigh::<T, FUSED>(rows, columns, g.kernel_w, (x, image * g.in_h, g.in_w), w, pixel);
            }
        }
    }
}

every_path! {
    fn input_rows<T: Real>(g: &Conv2dSizes, dy: &[T], w: &[T], dx: &mut [T], first: usize) {
        for (i, line) in dx.chunks_exact_mut(g.in_w * g.in_c).enumerate() {
            let (image, iy) = ((first + i) / g.in_h, (first + i) % g.in_h);
            let rows = Taps::backward(iy, g.stride_h, g.pad_top, g.kernel_h, g.out_h);
            for (ix, pixel) in line.chunks_exact_mut(g.in_c).enumerate() {
                let columns = Taps::backward(ix, g.stride_w, g.pad_left, g.kernel_w, g.out_w);
                weigh::<T, FUSED>(rows, columns, g.kernel_w, (dy, image * g.out_h, g.out_w), w, pixel);
            }
        }
    }
}

/// `out[c] = sum over the taps of source * w`, for one pixel. The source is read from row `top` of an image `width`
/// pixels wide.
#[inline(always)]
fn weigh<T: Real, const FUSED: bool>(
    rows: Taps,
    columns: Taps,
    kernel_w: usize,
    (source, top, width): (&[T], usize, usize),
    w: &[T],
    out: &mut [T],
) {
    let c = out.len();
    for_each_block!(c, [32, 8, 1], |start, L| {
        let mut acc = [T::ZERO; L];
        let (mut ky, mut y) = (rows.kernel, rows.source);
        for _ in 0..rows.count {
            let mut tap = (ky * kernel_w + columns.kernel) * c + start;
            let mut at = ((top + y) * width + columns.source) * c + start;
            for _ in 0..columns.count {
                let (s, w) = (lanes::<T, L>(source, at), lanes::<T, L>(w, tap));
                for l in 0..L {
                    acc[l] = s[l].madd::<FUSED>(w[l], acc[l]);
                }
                tap += columns.kernel_step * c;
                at = at.wrapping_add_signed(columns.source_step * c as isize);
            }
            ky += rows.kernel_step;
            y = y.wrapping_add_signed(rows.source_step);
        }
        *lanes_mut::<T, L>(out, start) = acc;
    });
}

every_path! {
    fn weight_rows<T: Real>(g: &Conv2dSizes, x: &[T], dy: &[T], dw: &mut [T], rows: Range) {
        let c = g.in_c;
        for row in rows {
            let (image, oy) = (row / g.out_h, row % g.out_h);
            let taps = Taps::forward(oy, g.stride_h, g.pad_top, g.kernel_h, g.in_h);
            for ky in 0..taps.count {
                let line = (image * g.in_h + taps.source + ky) * g.in_w;
                for kx in 0..g.kernel_w {
                    // Outputs whose tap `kx` falls inside the image.
                    let from = g.pad_left.saturating_sub(kx).div_ceil(g.stride_w);
                    let reach = (g.in_w + g.pad_left).saturating_sub(kx).div_ceil(g.stride_w);
                    let outputs = from..reach.min(g.out_w);
                    let tap = ((taps.kernel + ky) * g.kernel_w + kx) * c;
                    for_each_block!(c, [32, 8, 1], |start, L| {
                        let mut acc = *lanes::<T, L>(dw, tap + start);
                        for ox in outputs.clone() {
                            let ix = ox * g.stride_w + kx - g.pad_left;
                            let x = lanes::<T, L>(x, (line + ix) * c + start);
                            let dy = lanes::<T, L>(dy, (row * g.out_w + ox) * c + start);
                            for l in 0..L {
                                acc[l] = x[l].madd::<FUSED>(dy[l], acc[l]);
                            }
                        }
                        *lanes_mut::<T, L>(dw, tap + start) = acc;
                    });
                }
            }
        }
    }
}
