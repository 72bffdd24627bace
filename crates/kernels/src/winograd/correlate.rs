//! The convolution and its input gradient, which is a convolution with the kernel turned by half a turn.

use super::points::{input_tile, kernel_panel, output_tile};
use super::{Field, POINTS, SKEW, SPAN, TILE, Tiles, few_tiles};
use crate::float::{self, Left, Packed, Rows, Runs, Target};
use crate::geometry::Conv2dSizes;
use crate::prefetch::write_soon;
use crate::scratch::Scratch;
use crate::transpose::transpose;
use crate::{Real, parallel};

/// Bytes that the points of the tiles computed together take: most of a second-level cache.
const BLOCK_BYTES: usize = 896 << 10;
/// Fewest tiles computed together: the kernel's points are read once for all of them.
const FEWEST: usize = 24;
/// Parallel blocks there are at least, where there are as many rows of tiles.
const BLOCKS: usize = 4;
/// Tiles between the one being written and the one whose outputs are announced.
const AHEAD: usize = 2;

/// `y = conv(x, w)`. Lengths have been checked, and [`super::applies`].
pub(crate) fn forward<T: Real>(g: &Conv2dSizes, x: &[T], w: &[T], y: &mut [T]) {
    let (from, to) = fields(g);
    if few_tiles::applies(to, y.len()) {
        return few_tiles::correlate(
            (from, to),
            (g.pad_top, g.pad_left),
            x,
            |panel, points, step| {
                kernel_panel(w, (g.in_c, g.out_c), panel * T::PANEL, points, step);
            },
            y,
        );
    }
    let mut points = Scratch::<T>::take(points_len::<T>((g.in_c, g.out_c)));
    kernel_points(w, (g.in_c, g.out_c), &mut points);
    forward_at_points(g, x, &points, y);
}

/// As [`forward`], with the kernel's points made before by [`kernel_points`].
pub(crate) fn forward_at_points<T: Real>(g: &Conv2dSizes, x: &[T], points: &[T], y: &mut [T]) {
    correlate(fields(g), (g.pad_top, g.pad_left), x, points, y);
}

/// Inputs and outputs.
fn fields(g: &Conv2dSizes) -> (Field, Field) {
    (Field { h: g.in_h, w: g.in_w, c: g.in_c }, Field { h: g.out_h, w: g.out_w, c: g.out_c })
}

/// Elements from point to point of one panel, for kernels of `terms` inputs.
fn point_step<T: Real>(terms: usize) -> usize {
    terms * T::PANEL + SKEW
}

/// Elements that the points of a kernel `[3, 3, terms, n]` take.
pub(crate) fn points_len<T: Real>((terms, n): (usize, usize)) -> usize {
    n.div_ceil(T::PANEL) * POINTS * point_step::<T>(terms)
}

/// Writes the points of kernel `w` `[3, 3, terms, n]`: panel after panel, each with all points.
pub(crate) fn kernel_points<T: Real>(w: &[T], (terms, n): (usize, usize), to: &mut [T]) {
    let step = point_step::<T>(terms);
    parallel::for_each_chunk(to, POINTS * step, |panel, to| {
        kernel_panel(w, (terms, n), panel * T::PANEL, to, step);
    });
}

/// `dx = input_grad(dy, w)`. Lengths have been checked, and [`super::applies`].
pub(crate) fn input_grad<T: Real>(g: &Conv2dSizes, dy: &[T], w: &[T], dx: &mut [T]) {
    let (ci, co) = (g.in_c, g.out_c);
    let (to, from) = fields(g);
    let padding = (2 - g.pad_top, 2 - g.pad_left);
    if few_tiles::applies(to, dx.len()) {
        return few_tiles::correlate(
            (from, to),
            padding,
            dy,
            |panel, points, step| {
                let (first, columns) = (panel * T::PANEL, T::PANEL.min(ci - panel * T::PANEL));
                let mut turned = Scratch::<T>::take(9 * co * columns);
                for (tap, turned) in turned.chunks_exact_mut(co * columns).enumerate() {
                    transpose(&w[((8 - tap) * ci + first) * co..], turned, (co, columns), columns, co);
                }
                kernel_panel(&turned, (co, columns), 0, points, step);
            },
            dx,
        );
    }
    let mut turned = Scratch::<T>::take(w.len());
    for (tap, turned) in turned.chunks_exact_mut(ci * co).enumerate() {
        transpose(&w[(8 - tap) * ci * co..], turned, (co, ci), ci, co);
    }
    let mut points = Scratch::<T>::take(points_len::<T>((co, ci)));
    kernel_points(&turned, (co, ci), &mut points);
    correlate((from, to), padding, dy, &points, dx);
}

/// Correlates images of one field with the kernel `[3, 3, from.c, to.c]` of these points, padded above and on the left.
fn correlate<T: Real>(
    (from, to): (Field, Field),
    (top, left): (usize, usize),
    x: &[T],
    panels: &[T],
    y: &mut [T],
) {
    let (ci, co) = (from.c, to.c);
    let tiles = Tiles::new(to.h, to.w);
    let step = point_step::<T>(ci);
    // Rows of tiles if they do not overlap the next image, else whole images.
    let (unit, unit_tiles) = match to.h.is_multiple_of(TILE) {
        true => (TILE * to.w * co, tiles.across),
        false => (to.len(), tiles.per_image()),
    };
    let units = y.len() / unit;
    let together = BLOCK_BYTES / (POINTS * (ci + co) * size_of::<T>());
    let together = (together / 12 * 12).clamp(FEWEST, 4 * FEWEST);
    // Parallel blocks of the tiles computed together; an output does not depend on which they are.
    let chunk = (together / unit_tiles).min(units.div_ceil(BLOCKS)).max(1);
    let together = together.min(chunk * unit_tiles);
    let zeros = Scratch::<T>::filled(ci, T::ZERO);
    let zeros = &zeros[..];
    parallel::for_each_chunk(y, chunk * unit, |i, y| {
        let first = i * chunk * unit_tiles;
        let last = first + y.len() / unit * unit_tiles;
        let (line, origin) = (to.w * co, i * chunk * unit);
        let (a_step, m_step) = (together * ci + SKEW, together * co + SKEW);
        let mut a = Scratch::<T>::take(POINTS * a_step);
        let mut m = Scratch::<T>::take(POINTS * m_step);
        for block in (first..last).step_by(together) {
            let count = together.min(last - block);
            for t in 0..count {
                let (image, row, column) = tiles.place(block + t);
                let at = (row as isize - top as isize, column as isize - left as isize);
                let source = &x[image * from.len()..][..from.len()];
                input_tile(source, zeros, from.block(at, SPAN), &mut a[t * ci..], a_step);
                // The rest of the tile below, which the hardware does not see coming.
                let (image, row, column) = tiles.place(block + t + tiles.across);
                from.read_soon(x, image, (row + SPAN - TILE, column + SPAN - TILE), (top, left));
            }
            for k in 0..POINTS {
                let runs = Runs { runs: 1, run_step: 0, len: ci, step: 1 };
                let rows = Rows::every(ci);
                let right = Packed::spread(&panels[k * step..], POINTS * step, (ci, co));
                let target = Target { rows: Rows::every(co), add: false };
                let a = &a[k * a_step..][..count * ci];
                float::product(Left { a, count, rows, runs }, &right, target, &mut m[k * m_step..]);
            }
            for t in 0..count {
                let (image, row, column) = tiles.place(block + t);
                let wanted = (TILE.min(to.h - row), TILE.min(to.w - column));
                let at = image * to.len() + row * line + column * co - origin;
                let next = at + AHEAD * TILE * co;
                (0..TILE).for_each(|i| write_soon(y, next + i * line, next + i * line + TILE * co));
                output_tile(&m[t * co..], m_step, (co, co), &mut y[at..], line, wanted);
            }
        }
    });
}
