//! Products of float matrices read in place: rows broadcast against packed panels of columns.
//!
//! One output is always summed in the order of its reduction index, one fused multiply-add each. So its bits do not
//! depend on how many rows there are, where they are or how work was cut.

mod few_rows;
mod pack;
mod tile;

pub(crate) use few_rows::few_rows;
pub(crate) use pack::{Packed, pack};
pub(crate) use tile::Tile;

use crate::Real;
use crate::dispatch::Path;

/// Positions in memory of the rows of a matrix: row `i` is at
/// `base + i / columns * row_step + i % columns * column_step`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) base: usize,
    pub(crate) columns: usize,
    pub(crate) row_step: usize,
    pub(crate) column_step: usize,
}

impl Rows {
    /// Rows `step` apart.
    pub(crate) fn every(step: usize) -> Self {
        Self { base: 0, columns: usize::MAX, row_step: 0, column_step: step }
    }

    /// Furthest position of the first `count` rows, which are at least one.
    fn furthest(&self, count: usize) -> usize {
        let (last, columns) = (count - 1, self.columns.min(count));
        self.base + last / self.columns * self.row_step + (columns - 1) * self.column_step
    }
}

/// Positions of the reduction index relative to a row: `runs` runs of `len` elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Runs {
    pub(crate) runs: usize,
    pub(crate) run_step: usize,
    pub(crate) len: usize,
    pub(crate) step: usize,
}

impl Runs {
    /// Terms of the reduction.
    pub(crate) fn terms(&self) -> usize {
        self.runs * self.len
    }

    /// Furthest position, of at least one term.
    fn furthest(&self) -> usize {
        (self.runs - 1) * self.run_step + (self.len - 1) * self.step
    }
}

/// The left operand: `rows` rows of `a`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a, T> {
    pub(crate) a: &'a [T],
    pub(crate) count: usize,
    pub(crate) rows: Rows,
    pub(crate) runs: Runs,
}

/// Where the product goes.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) rows: Rows,
    /// Whether the product is added to what is there.
    pub(crate) add: bool,
}

/// Writes (or adds) the product of `left` and `right` to `c`, on the calling thread.
///
/// # Panics
/// If an operand leaves its slice.
pub(crate) fn product<T: Real>(left: Left<'_, T>, right: &Packed<'_, T>, target: Target, c: &mut [T]) {
    let n = right.columns;
    if left.count == 0 || n == 0 {
        return;
    }
    assert!(right.fits(&left.runs), "the same terms on both sides");
    assert!(target.rows.furthest(left.count) + n <= c.len(), "the product must fit its slice");
    if right.terms == 0 {
        if !target.add {
            let mut places = Walk::new(target.rows);
            (0..left.count).for_each(|_| c[places.next()..][..n].fill(T::ZERO));
        }
        return;
    }
    assert!(
        left.rows.furthest(left.count) + left.runs.furthest() < left.a.len(),
        "rows must stay in their slice"
    );
    match crate::dispatch::path() {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        // SAFETY: the path in force is one this CPU can run, and the operands' extents have been checked.
        Path::Avx2 => unsafe { crate::x86_64::floats::panels(left, right, target, c) },
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        // SAFETY: as above.
        Path::Avx512 => unsafe { crate::x86_64::floats512::panels(left, right, target, c) },
        #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
        Path::Avx2 | Path::Avx512 => unreachable!("no path in force is one this build lacks"),
        // SAFETY: the operands' extents have been checked.
        Path::Scalar => unsafe { panels::<T, tile::Portable>(left, right, target, c) },
    }
}

/// Steps through the positions of rows without dividing.
pub(crate) struct Walk {
    rows: Rows,
    column: usize,
    at: usize,
}

impl Walk {
    #[inline(always)]
    pub(crate) fn new(rows: Rows) -> Self {
        Self { rows, column: 0, at: rows.base }
    }

    /// Position of the next row.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> usize {
        let at = self.at;
        self.column += 1;
        if self.column == self.rows.columns {
            self.at = at + self.rows.row_step - (self.rows.columns - 1) * self.rows.column_step;
            self.column = 0;
        } else {
            self.at = at.wrapping_add(self.rows.column_step);
        }
        at
    }
}

/// All panels, a tile of rows at a time.
///
/// # Safety
/// As [`product`] checks, and the CPU can run `K`.
#[inline(always)]
pub(crate) unsafe fn panels<T: Real, K: Tile<T>>(
    left: Left<'_, T>,
    right: &Packed<'_, T>,
    target: Target,
    c: &mut [T],
) {
    for first in (0..right.columns).step_by(T::PANEL) {
        let columns = T::PANEL.min(right.columns - first);
        let panel = right.panel(first / T::PANEL);
        let (mut from, mut to) = (Walk::new(left.rows), Walk::new(target.rows));
        let mut rest = left.count;
        while rest > 0 {
            macro_rules! tile {
                ($rows:literal) => {{
                    // SAFETY: the caller checked that all rows lie within `a` and `c`.
                    let (a, c) = unsafe {
                        (
                            core::array::from_fn(|_| left.a.as_ptr().add(from.next())),
                            core::array::from_fn(|_| c.as_mut_ptr().add(to.next() + first)),
                        )
                    };
                    // SAFETY: as above; the panel holds `terms` steps, and rows of `c` hold `columns` more elements.
                    unsafe { K::run::<$rows>(a, &left.runs, (panel, right.gap), c, columns, target.add) };
                    rest -= $rows;
                }};
            }
            match rest {
                6.. => tile!(6),
                5 => tile!(5),
                4 => tile!(4),
                3 => tile!(3),
                2 => tile!(2),
                _ => tile!(1),
            }
        }
    }
}
