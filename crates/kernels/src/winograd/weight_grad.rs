//! The weight gradient: per point, one product of inputs and output gradients over all tiles.

use super::points::{input_tile, kernel_adjoint_all, output_adjoint_tile};
use super::{Field, POINTS, SKEW, SPAN, TILE, Tiles};
use crate::float::{self, Left, Packed, Rows, Runs, Target};
use crate::geometry::Conv2dSizes;
use crate::scratch::Scratch;
use crate::{Real, parallel};

/// Tiles brought to the points at a time.
const TOGETHER: usize = 32;
/// Bytes of points held before they are multiplied.
const HELD_BYTES: usize = 3 << 20;

/// Tiles below which the points of the kernel's gradient cost more than the products they save.
const LEAST_TILES: usize = 9;

/// Whether the weight gradient is computed this way.
pub(crate) fn weight_grad_applies(g: &Conv2dSizes) -> bool {
    super::applies(g) && g.batch * Tiles::new(g.out_h, g.out_w).per_image() >= LEAST_TILES
}

/// `dw = weight_grad(x, dy)`. Lengths have been checked, and [`super::applies`]. Tiles are summed in order, in steps that
/// depend on the geometry alone.
pub(crate) fn weight_grad<T: Real>(g: &Conv2dSizes, x: &[T], dy: &[T], dw: &mut [T]) {
    let (ci, co) = (g.in_c, g.out_c);
    let from = Field { h: g.in_h, w: g.in_w, c: ci };
    let to = Field { h: g.out_h, w: g.out_w, c: co };
    let tiles = Tiles::new(to.h, to.w);
    let count = g.batch * tiles.per_image();
    let together = TOGETHER.min(count);
    let blocks = count.div_ceil(together);
    // Output gradients go to panels straight away.
    let panel = together * T::PANEL;
    let (a_step, b_step) = (together * ci + SKEW, Packed::<T>::len(together, co) + SKEW);
    let held = (HELD_BYTES / (POINTS * (a_step + b_step) * size_of::<T>())).clamp(2, blocks.max(2));
    let step = ci * co + SKEW;
    let mut points = Scratch::<T>::filled(POINTS * step, T::ZERO);
    let mut a = Scratch::<T>::take(held.min(blocks) * POINTS * a_step);
    let mut b = Scratch::<T>::take(held.min(blocks) * POINTS * b_step);
    if !co.is_multiple_of(T::PANEL) {
        // Columns beyond the last are never written again.
        b.fill(T::ZERO);
    }
    let zeros = Scratch::<T>::filled(ci.max(co), T::ZERO);
    let zeros = &zeros[..];
    for first in (0..blocks).step_by(held) {
        let now = held.min(blocks - first);
        let (a, b) = (&mut a[..now * POINTS * a_step], &mut b[..now * POINTS * b_step]);
        parallel::for_each_chunk2((a, POINTS * a_step), (b, POINTS * b_step), |block, a, b| {
            for t in 0..together {
                let tile = (first + block) * together + t;
                if tile >= count {
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
                input_tile(source, zeros, from.block(at, SPAN), &mut a[t * ci..], a_step);
                let source = &dy[image * to.len()..][..to.len()];
                let tile_of = to.block((row as isize, column as isize), TILE);
                output_adjoint_tile(source, zeros, tile_of, &mut b[t * T::PANEL..], (b_step, panel));
                // The rest of the tile below, which the hardware does not see coming.
                let (image, row, column) = tiles.place(tile + tiles.across);
                let corner = (row + SPAN - TILE, column + SPAN - TILE);
                from.read_soon(x, image, corner, (g.pad_top, g.pad_left));
                to.read_soon(dy, image, (row, column), (0, 0));
            }
        });
        let (a, b) = (&*a, &*b);
        parallel::for_each_chunk(&mut points, step, |k, points| {
            let right = Packed::in_runs(&b[k * b_step..], (now, POINTS * b_step), (together, co));
            let runs = Runs { runs: now, run_step: POINTS * a_step, len: together, step: ci };
            let left = Left { a: &a[k * a_step..], count: ci, rows: Rows::every(1), runs };
            let target = Target { rows: Rows::every(co), add: true };
            float::product(left, &right, target, points);
        });
    }
    kernel_adjoint_all(&points, step, dw);
}
