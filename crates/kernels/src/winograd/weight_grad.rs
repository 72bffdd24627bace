//! The weight gradient: per point, one product of inputs and output gradients over all tiles.

use super::points::{Part, input_part, kernel_adjoint_all, output_adjoint_part};
use super::{Field, POINTS, SKEW, SPAN, TILE, Tiles};
use crate::float::{self, Left, Packed, Rows, Runs, Target};
use crate::geometry::{Conv2dSizes, Range};
use crate::scratch::Scratch;
use crate::{Real, parallel};

/// Tiles brought to the points at a time.
const TOGETHER: usize = 32;
/// Bytes of points held before they are multiplied: with the sums, not much more than a second-level cache.
const HELD_BYTES: usize = 3 << 19;

/// Most parts that the points are shared out in: the transform of a third still shares most of its terms.
const MOST_PARTS: usize = 3;

/// Shards of the tiles, if a sum over one fits a second-level cache and there are many tiles for each: a thread then reads and
/// transforms its own images alone.
const SHARDS: usize = 4;
const SHARD_BYTES: usize = 640 << 10;
const SHARD_TILES: usize = 128;

/// Tiles below which the points of the kernel's gradient cost more than the products they save.
const LEAST_TILES: usize = 9;

/// Whether the weight gradient is computed this way.
pub(crate) fn weight_grad_applies(g: &Conv2dSizes) -> bool {
    super::applies(g) && g.batch * Tiles::new(g.out_h, g.out_w).per_image() >= LEAST_TILES
}

/// `dw = weight_grad(x, dy)`. Lengths have been checked, and [`weight_grad_applies`]. Tiles are summed in order, in steps and
/// shards that depend on the geometry alone.
///
/// Threads share out shards of the tiles where their sums are small, else the points: what one of them transforms it also
/// multiplies, so that it stays in its own cache.
pub(crate) fn weight_grad<T: Real>(g: &Conv2dSizes, x: &[T], dy: &[T], dw: &mut [T]) {
    let step = g.in_c * g.out_c + SKEW;
    let count = g.batch * Tiles::new(g.out_h, g.out_w).per_image();
    let small = POINTS * step * size_of::<T>() <= SHARD_BYTES;
    let shards = if small && count >= SHARDS * SHARD_TILES { SHARDS } else { 1 };
    let each = count.div_ceil(shards);
    let parts = if shards > 1 { 1 } else { parallel::threads().clamp(1, MOST_PARTS) };
    let mut points = Scratch::<T>::filled(shards * POINTS * step, T::ZERO);
    parallel::for_each_chunk(&mut points, POINTS / parts * step, |i, points| {
        let tiles = i / parts * each..count.min((i / parts + 1) * each);
        accumulate(g, (x, dy), tiles, (i % parts, parts), points, step);
    });
    let (sums, others) = points.split_at_mut(POINTS * step);
    if shards > 1 {
        let others = &*others;
        parallel::for_each_chunk(sums, step, |k, sums| {
            for other in others.chunks_exact(POINTS * step) {
                sums.iter_mut().zip(&other[k * step..]).for_each(|(s, &o)| *s += o);
            }
        });
    }
    kernel_adjoint_all(sums, step, dw);
}

/// Adds one part of the points, `step` elements apart, of some tiles.
fn accumulate<T: Real>(
    g: &Conv2dSizes,
    (x, dy): (&[T], &[T]),
    range: Range,
    part: Part,
    points: &mut [T],
    step: usize,
) {
    let (ci, co) = (g.in_c, g.out_c);
    let from = Field { h: g.in_h, w: g.in_w, c: ci };
    let to = Field { h: g.out_h, w: g.out_w, c: co };
    let tiles = Tiles::new(to.h, to.w);
    let together = TOGETHER.min(range.len());
    let blocks = range.len().div_ceil(together);
    // Output gradients go to panels straight away.
    let panel = together * T::PANEL;
    let (a_step, b_step) = (together * ci + SKEW, Packed::<T>::len(together, co) + SKEW);
    let held = (HELD_BYTES / (POINTS * (a_step + b_step) * size_of::<T>())).clamp(2, blocks.max(2));
    let own = POINTS / part.1;
    let mut a = Scratch::<T>::take(held.min(blocks) * own * a_step);
    let mut b = Scratch::<T>::take(held.min(blocks) * own * b_step);
    if !co.is_multiple_of(T::PANEL) {
        // Columns beyond the last are never written again.
        b.fill(T::ZERO);
    }
    let zeros = Scratch::<T>::filled(ci.max(co), T::ZERO);
    let zeros = &zeros[..];
    for first in (0..blocks).step_by(held) {
        let now = held.min(blocks - first);
        let (a, b) = (&mut a[..now * own * a_step], &mut b[..now * own * b_step]);
        parallel::for_each_chunk2((a, own * a_step), (b, own * b_step), |block, a, b| {
            for t in 0..together {
                let tile = range.start + (first + block) * together + t;
                if tile >= range.end {
                    // What is missing of the last block counts as zeros.
                    a.chunks_exact_mut(a_step).for_each(|a| a[t * ci..][..ci].fill(T::ZERO));
                    for b in b.chunks_exact_mut(b_step) {
                        let panels = b.chunks_exact_mut(panel).take(co.div_ceil(T::PANEL));
                        panels.for_each(|b| b[t * T::PANEL..][..T::PANEL].fill(T::ZERO));
                    }
                    continue;
                }
                let (image, row, column) = tiles.place(tile);
                let at = (row as isize - g.pad_top as isize, column as isize - g.pad_left as isize);
                let source = &x[image * from.len()..][..from.len()];
                let tile_of = from.block(at, SPAN);
                input_part(source, zeros, tile_of, part, &mut a[t * ci..], (a_step, T::PANEL));
                let source = &dy[image * to.len()..][..to.len()];
                let tile_of = to.block((row as isize, column as isize), TILE);
                output_adjoint_part(source, zeros, tile_of, part, &mut b[t * T::PANEL..], (b_step, panel));
                // The rest of the tile below, which the hardware does not see coming.
                let (image, row, column) = tiles.place(tile + tiles.across);
                let corner = (row + SPAN - TILE, column + SPAN - TILE);
                from.read_soon(x, image, corner, (g.pad_top, g.pad_left));
                to.read_soon(dy, image, (row, column), (0, 0));
            }
        });
        let (a, b) = (&*a, &*b);
        parallel::for_each_chunk(points, step, |k, points| {
            let right = Packed::in_runs(&b[k * b_step..], (now, own * b_step), (together, co));
            let runs = Runs { runs: now, run_step: own * a_step, len: together, step: ci };
            let left = Left { a: &a[k * a_step..], count: ci, rows: Rows::every(1), runs };
            let target = Target { rows: Rows::every(co), add: true };
            float::product(left, &right, target, points);
        });
    }
}
