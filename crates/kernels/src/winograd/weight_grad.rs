//! The weight gradient: per point, one product of inputs and output gradients over all tiles.

use super::points::{input_tile, kernel_adjoint_all, output_adjoint_tile};
use super::{Field, POINTS, SKEW, SPAN, TILE, Tiles};
use crate::float::{self, Left, Packed, Rows, Runs, Target};
use crate::gemm::MatRef;
use crate::geometry::Conv2dSizes;
use crate::scratch::Scratch;
use crate::{Real, parallel};

/// Tiles brought to the points at a time.
const TOGETHER: usize = 32;
/// Bytes of points held before they are multiplied.
const HELD_BYTES: usize = 3 << 20;

/// `dw = weight_grad(x, dy)`. Lengths have been checked, and [`super::applies`]. Tiles are summed in order, in steps that
/// depend on the geometry alone.
pub(crate) fn weight_grad<T: Real>(g: &Conv2dSizes, x: &[T], dy: &[T], dw: &mut [T]) {
    let (ci, co) = (g.in_c, g.out_c);
    let from = Field { h: g.in_h, w: g.in_w, c: ci };
    let to = Field { h: g.out_h, w: g.out_w, c: co };
    let tiles = Tiles::new(to.h, to.w);
    let count = g.batch * tiles.per_image();
    let blocks = count.div_ceil(TOGETHER);
    let (a_step, b_step) = (TOGETHER * ci + SKEW, TOGETHER * co + SKEW);
    let held = (HELD_BYTES / (POINTS * (a_step + b_step) * size_of::<T>())).clamp(2, blocks.max(2));
    let step = ci * co + SKEW;
    let mut points = Scratch::<T>::filled(POINTS * step, T::ZERO);
    let mut a = Scratch::<T>::take(held.min(blocks) * POINTS * a_step);
    let mut b = Scratch::<T>::take(held.min(blocks) * POINTS * b_step);
    for first in (0..blocks).step_by(held) {
        let now = held.min(blocks - first);
        let (a, b) = (&mut a[..now * POINTS * a_step], &mut b[..now * POINTS * b_step]);
        parallel::for_each_chunk2((a, POINTS * a_step), (b, POINTS * b_step), |block, a, b| {
            for t in 0..TOGETHER {
                let tile = (first + block) * TOGETHER + t;
                if tile >= count {
                    // What is missing of the last block counts as zeros.
                    a.chunks_exact_mut(a_step).for_each(|a| a[t * ci..][..ci].fill(T::ZERO));
                    b.chunks_exact_mut(b_step).for_each(|b| b[t * co..][..co].fill(T::ZERO));
                    continue;
                }
                let (image, row, column) = tiles.place(tile);
                let at = (row as isize - g.pad_top as isize, column as isize - g.pad_left as isize);
                let x = &x[image * from.len()..][..from.len()];
                input_tile(x, from.block(at, SPAN), &mut a[t * ci..], a_step);
                let dy = &dy[image * to.len()..][..to.len()];
                let block = to.block((row as isize, column as isize), TILE);
                output_adjoint_tile(dy, block, &mut b[t * co..], b_step);
            }
        });
        let terms = now * TOGETHER;
        parallel::for_each_chunk(&mut points, step, |k, points| {
            let mut packed = Scratch::<T>::take(Packed::<T>::len(terms, co));
            for block in 0..now {
                let b = MatRef::rows(&b[block * POINTS * b_step + k * b_step..], co);
                float::pack(b, (TOGETHER, co), (block * TOGETHER, terms), &mut packed);
            }
            let runs = Runs { runs: now, run_step: POINTS * a_step, len: TOGETHER, step: ci };
            let left = Left { a: &a[k * a_step..], count: ci, rows: Rows::every(1), runs };
            let target = Target { rows: Rows::every(co), add: true };
            float::product(left, &Packed::new(&packed, terms, co), target, points);
        });
    }
    kernel_adjoint_all(&points, step, dw);
}
