//! Input gradient of few input channels: a product per output pixel, spread over the inputs it met.
//!
//! With fewer channels than a panel has columns, most of a product that yields channels is padding. So each output pixel's
//! gradient is multiplied by the kernel of all taps at once, and an input then adds what its output pixels hold for it.

use super::input_grad::Border;
use crate::dispatch::every_path;
use crate::float::{self, Left, Packed, Rows, Runs, Target};
use crate::gemm::MatRef;
use crate::geometry::Conv2dSizes;
use crate::lanes::lanes;
use crate::scratch::Scratch;
use crate::{Real, parallel};

/// Most channels that are added as one vector.
const MOST: usize = 8;

/// Whether this takes a good deal fewer products.
pub(super) fn applies<T: Real>(g: &Conv2dSizes) -> bool {
    let taps = g.kernel_h * g.kernel_w;
    let padded = |columns: usize| columns.next_multiple_of(T::PANEL);
    g.in_c <= MOST && 3 * padded(taps * g.in_c) <= 2 * taps * padded(g.in_c)
}

/// `dx = input_grad(dy, w)`. Lengths have been checked, and [`applies`].
pub(super) fn input_grad<T: Real>(g: &Conv2dSizes, dy: &[T], w: &[T], dx: &mut [T]) {
    let (ci, co) = (g.in_c, g.out_c);
    let taps = g.kernel_h * g.kernel_w * ci;
    // Whole panels, their last columns being zeros.
    let width = taps.next_multiple_of(T::PANEL);
    let mut packed = Scratch::<T>::take(Packed::<T>::len(co, width));
    float::pack(MatRef::transposed(w, co), (co, taps), (0, co), &mut packed);
    let right = Packed::new(&packed, co, width);
    let columns = Border::columns(g);
    let line = columns.padded * width;
    parallel::for_each_chunk(dx, g.in_h * g.in_w * ci, |image, dx| {
        let size = g.out_h * g.out_w * co;
        let dy = &dy[image * size..][..size];
        // Lanes beyond the last are read, but not used.
        let mut spread = Scratch::<T>::take(g.out_h * line + MOST);
        for spread in spread.chunks_exact_mut(line).take(g.out_h) {
            spread[..columns.before * width].fill(T::ZERO);
            spread[(columns.before + columns.kept) * width..].fill(T::ZERO);
        }
        let from = Rows { base: 0, columns: columns.kept, row_step: g.out_w * co, column_step: co };
        let to =
            Rows { base: columns.before * width, columns: columns.kept, row_step: line, column_step: width };
        let runs = Runs { runs: 1, run_step: 0, len: co, step: 1 };
        let left = Left { a: dy, count: g.out_h * columns.kept, rows: from, runs };
        float::product(left, &right, Target { rows: to, add: false }, &mut spread);
        let lanes = ci.next_power_of_two();
        let mut sums = Scratch::<T>::take(g.in_w * lanes);
        for (y, dx) in dx.chunks_exact_mut(g.in_w * ci).enumerate() {
            let (first, phase) = ((y + g.pad_top) / g.stride_h, (y + g.pad_top) % g.stride_h);
            sums.fill(T::ZERO);
            for (tap, row) in (phase..g.kernel_h).step_by(g.stride_h).zip((0..=first).rev()) {
                if row < g.out_h {
                    let spread = &spread[row * line + tap * g.kernel_w * ci..];
                    add_row(g, lanes, spread, (width, columns.before), &mut sums);
                }
            }
            for (dx, sums) in dx.chunks_exact_mut(ci).zip(sums.chunks_exact(lanes)) {
                dx.iter_mut().zip(sums).for_each(|(d, &s)| *d = s);
            }
        }
    });
}

every_path! {
    /// Adds to the `lanes` of each input of a row what one row of outputs holds for it, `places.0` elements from output to
    /// output, `places.1` of which come before the first.
    fn add_row<T: Real>(g: &Conv2dSizes, lanes: usize, spread: &[T], places: (usize, usize), sums: &mut [T]) {
        match lanes {
            1 => taps::<T, 1>(g, spread, places, sums),
            2 => taps::<T, 2>(g, spread, places, sums),
            4 => taps::<T, 4>(g, spread, places, sums),
            _ => taps::<T, 8>(g, spread, places, sums),
        }
    }
}

/// [`add_row`] tap by tap, in vectors of `L`.
#[inline(always)]
fn taps<T: Real, const L: usize>(
    g: &Conv2dSizes,
    spread: &[T],
    (width, before): (usize, usize),
    sums: &mut [T],
) {
    let (sums, _) = sums.as_chunks_mut::<L>();
    for tap in 0..g.kernel_w {
        // The first input that meets this tap, and the output it meets it in.
        let first = (tap + g.stride_w - g.pad_left % g.stride_w) % g.stride_w;
        if first >= g.in_w {
            continue;
        }
        let output = (first + g.pad_left + before * g.stride_w - tap) / g.stride_w;
        let from = spread[output * width + tap * g.in_c..].chunks(width);
        for (sum, from) in sums.iter_mut().skip(first).step_by(g.stride_w).zip(from) {
            sum.iter_mut().zip(lanes::<T, L>(from, 0)).for_each(|(s, &v)| *s += v);
        }
    }
}
