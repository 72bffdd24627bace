//! Correlations of few tiles, panel by panel of the outputs: with so few, most of the time goes into the kernel's points, and a
//! panel of them is multiplied before it leaves the second-level cache. Outputs have the bits of [`super::correlate`]'s.

use super::points::{input_tile, output_tile};
use super::{Field, POINTS, SKEW, SPAN, TILE, Tiles};
use crate::dispatch::Path;
use crate::float::{self, Left, Packed, Rows, Runs, Target};
use crate::scratch::Scratch;
use crate::{Real, parallel};

/// Most tiles of all images together: of more, points that are read again and again are worth keeping.
const MOST: usize = 64;
/// The same where several threads share out panels: tiles are then transformed by one of them.
const MOST_SHARED: usize = 24;

/// Panels that a product takes at a time on the path in force.
fn together() -> usize {
    if crate::dispatch::path() == Path::Avx512 { 2 } else { 1 }
}

/// Whether as many images of a field have few tiles.
pub(super) fn applies(to: Field, len: usize) -> bool {
    let most = if parallel::threads() > 1 { MOST_SHARED } else { MOST };
    len / to.len() * Tiles::new(to.h, to.w).per_image() <= most
}

/// Correlates images of one field, padded above and on the left; `kernel(panel, points, step)` writes the points of a panel of
/// output channels, `step` elements apart.
pub(super) fn correlate<T: Real>(
    (from, to): (Field, Field),
    (top, left): (usize, usize),
    x: &[T],
    kernel: impl Fn(usize, &mut [T], usize) + Sync + Send,
    y: &mut [T],
) {
    let (ci, co) = (from.c, to.c);
    let tiles = Tiles::new(to.h, to.w);
    let count = y.len() / to.len() * tiles.per_image();
    let width = together() * T::PANEL;
    let (a_step, m_step, step) = (count * ci + SKEW, count * width + SKEW, ci * T::PANEL + SKEW);
    let zeros = Scratch::<T>::filled(ci, T::ZERO);
    let mut a = Scratch::<T>::take(POINTS * a_step);
    for t in 0..count {
        let (image, row, column) = tiles.place(t);
        let at = (row as isize - top as isize, column as isize - left as isize);
        let source = &x[image * from.len()..][..from.len()];
        input_tile(source, &zeros, from.block(at, SPAN), &mut a[t * ci..], a_step);
    }
    let a = &a[..];
    let mut m = Scratch::<T>::take(co.div_ceil(width) * POINTS * m_step);
    parallel::for_each_chunk(&mut m, POINTS * m_step, |group, m| {
        let columns = width.min(co - group * width);
        let mut points = Scratch::<T>::take(columns.div_ceil(T::PANEL) * POINTS * step);
        for (panel, points) in points.chunks_exact_mut(POINTS * step).enumerate() {
            kernel(group * together() + panel, points, step);
        }
        let runs = Runs { runs: 1, run_step: 0, len: ci, step: 1 };
        let target = Target { rows: Rows::every(width), add: false };
        for (k, (a, m)) in a.chunks_exact(a_step).zip(m.chunks_exact_mut(m_step)).enumerate() {
            let left = Left { a: &a[..count * ci], count, rows: Rows::every(ci), runs };
            let right = Packed::spread(&points[k * step..], POINTS * step, (ci, columns));
            float::product(left, &right, target, m);
        }
    });
    let line = to.w * co;
    for (group, m) in m.chunks_exact(POINTS * m_step).enumerate() {
        let first = group * width;
        let channels = (width.min(co - first), co);
        for t in 0..count {
            let (image, row, column) = tiles.place(t);
            let wanted = (TILE.min(to.h - row), TILE.min(to.w - column));
            let at = image * to.len() + row * line + column * co + first;
            output_tile(&m[t * width..], m_step, channels, &mut y[at..], line, wanted);
        }
    }
}
