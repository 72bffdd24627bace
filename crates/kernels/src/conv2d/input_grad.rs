//! Input gradient of any stride, as one dense convolution per phase of the stride.
//!
//! Input row `i` meets kernel rows `phase + t * stride` only, where `phase = (i + pad) % stride`: rows of the same
//! phase are a stride-1 convolution of the output gradient with that part of the kernel, turned by half a turn.

use super::{check, few_channels};
use crate::float::{self, Left, Packed, Rows, Runs, Target};
use crate::gemm::{MatRef, gemm};
use crate::geometry::{Conv2d, Conv2dSizes};
use crate::scratch::Scratch;
use crate::{KernelError, Real, parallel, winograd};

/// `dx = d(sum dy * conv(x, w)) / dx`. `dy` `[n, oh, ow, cout]`, `dx` `[n, h, w, cin]`, which is overwritten.
///
/// # Errors
/// Slices whose lengths are not the geometry's.
pub fn input_grad<T: Real>(g: &Conv2d, dy: &[T], w: &[T], dx: &mut [T]) -> Result<(), KernelError> {
    check(g, "conv2d::input_grad", [("dy", dy.len()), ("w", w.len()), ("dx", dx.len())], [2, 1, 0])?;
    if winograd::applies(g) {
        winograd::input_grad(g, dy, w, dx);
        return Ok(());
    }
    if few_channels::applies::<T>(g) {
        few_channels::input_grad(g, dy, w, dx);
        return Ok(());
    }
    let (ci, co) = (g.in_c, g.out_c);
    if g.is_pointwise() {
        let (dy, w) = (MatRef::rows(dy, co), MatRef::transposed(w, co));
        return gemm((dx.len() / ci, ci, co), dy, w, T::ZERO, dx);
    }
    let mut packed = Scratch::<T>::take(Packed::<T>::len(g.kernel_h * g.kernel_w * co, ci));
    pack_phases(g, w, &mut packed);
    parallel::for_each_chunk(dx, g.in_h * g.in_w * ci, |image, dx| {
        let size = g.out_h * g.out_w * co;
        let dy = &dy[image * size..][..size];
        let (rows, columns) = (Border::rows(g), Border::columns(g));
        let line = columns.padded * co;
        // Without a border the gradient is read where it is.
        let in_place =
            rows.before == 0 && columns.before == 0 && columns.padded == g.out_w && rows.padded <= g.out_h;
        let mut copy = Scratch::<T>::take(if in_place { 0 } else { rows.padded * line });
        copy.fill(T::ZERO);
        let lines = copy.chunks_exact_mut(line).skip(rows.before);
        for (to, from) in lines.zip(dy.chunks_exact(g.out_w * co).take(rows.kept)) {
            let kept = columns.kept * co;
            to[columns.before * co..][..kept].copy_from_slice(&from[..kept]);
        }
        let extended = if in_place { dy } else { &copy };
        if g.kernel_h < g.stride_h || g.kernel_w < g.stride_w {
            // Some inputs meet no kernel entry.
            dx.fill(T::ZERO);
        }
        let mut at = 0;
        for (py, px) in phases(g) {
            let (y, x) = (Phase::rows(g, py), Phase::columns(g, px));
            let terms = y.taps * x.taps * co;
            let len = Packed::<T>::len(terms, ci);
            let right = Packed::new(&packed[at..at + len], terms, ci);
            at += len;
            if y.count * x.count == 0 {
                continue;
            }
            let top = rows.before + y.source + 1 - y.taps;
            let left = columns.before + x.source + 1 - x.taps;
            let from =
                Rows { base: top * line + left * co, columns: x.count, row_step: line, column_step: co };
            let to = Rows {
                base: (y.first * g.in_w + x.first) * ci,
                columns: x.count,
                row_step: g.stride_h * g.in_w * ci,
                column_step: g.stride_w * ci,
            };
            let runs = Runs { runs: y.taps, run_step: line, len: x.taps * co, step: 1 };
            let left = Left { a: extended, count: y.count * x.count, rows: from, runs };
            float::product(left, &right, Target { rows: to, add: false }, dx);
        }
    });
    Ok(())
}

/// Phases that meet a kernel entry.
fn phases(g: &Conv2dSizes) -> impl Iterator<Item = (usize, usize)> {
    let (h, w) = (g.stride_h.min(g.kernel_h), g.stride_w.min(g.kernel_w));
    (0..h).flat_map(move |y| (0..w).map(move |x| (y, x)))
}

/// The inputs of one phase along one axis.
struct Phase {
    /// Kernel entries they meet.
    taps: usize,
    /// First such input, and how many there are.
    first: usize,
    count: usize,
    /// Output the first input meets with the first kernel entry.
    source: usize,
}

impl Phase {
    fn new(phase: usize, stride: usize, kernel: usize, pad: usize, input: usize) -> Self {
        let first = (phase + stride - pad % stride) % stride;
        Self {
            taps: (kernel - phase).div_ceil(stride),
            first,
            count: input.saturating_sub(first).div_ceil(stride),
            source: (first + pad) / stride,
        }
    }
    fn rows(g: &Conv2dSizes, phase: usize) -> Self {
        Self::new(phase, g.stride_h, g.kernel_h, g.pad_top, g.in_h)
    }
    fn columns(g: &Conv2dSizes, phase: usize) -> Self {
        Self::new(phase, g.stride_w, g.kernel_w, g.pad_left, g.in_w)
    }
}

/// How far the output gradient must be extended with zeros along one axis.
pub(super) struct Border {
    pub(super) before: usize,
    /// Outputs that some input meets.
    pub(super) kept: usize,
    pub(super) padded: usize,
}

impl Border {
    fn new(stride: usize, kernel: usize, pad: usize, input: usize, output: usize) -> Self {
        let before = kernel.div_ceil(stride) - 1;
        let last = (input - 1 + pad) / stride;
        Self { before, kept: output.min(last + 1), padded: before + last + 1 }
    }
    fn rows(g: &Conv2dSizes) -> Self {
        Self::new(g.stride_h, g.kernel_h, g.pad_top, g.in_h, g.out_h)
    }
    pub(super) fn columns(g: &Conv2dSizes) -> Self {
        Self::new(g.stride_w, g.kernel_w, g.pad_left, g.in_w, g.out_w)
    }
}

/// Packs each phase's part of the kernel, turned by half a turn and transposed to `[taps, cout, cin]`.
fn pack_phases<T: Real>(g: &Conv2dSizes, w: &[T], packed: &mut [T]) {
    let (ci, co) = (g.in_c, g.out_c);
    let mut at = 0;
    for (py, px) in phases(g) {
        let (rows, columns) = (Phase::rows(g, py).taps, Phase::columns(g, px).taps);
        let terms = rows * columns * co;
        let len = Packed::<T>::len(terms, ci);
        for i in 0..rows * columns {
            let (ty, tx) = (rows - 1 - i / columns, columns - 1 - i % columns);
            let tap = (py + ty * g.stride_h) * g.kernel_w + px + tx * g.stride_w;
            let w = MatRef::transposed(&w[tap * ci * co..], co);
            float::pack(w, (co, ci), (i * co, terms), &mut packed[at..at + len]);
        }
        at += len;
    }
}
