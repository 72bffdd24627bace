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
use crate::gemm::MatRef;

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

/// Fails unless the rows of both sides, at least one of at least one term, stay in their slices: what loops rely on.
fn check_extents<T>(left: &Left<'_, T>, target: &Target, n: usize, c: &[T]) {
    assert!(target.rows.furthest(left.count) + n <= c.len(), "the product must fit its slice");
    assert!(
        left.rows.furthest(left.count) + left.runs.furthest() < left.a.len(),
        "rows must stay in their slice"
    );
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
    if right.terms == 0 {
        assert!(target.rows.furthest(left.count) + n <= c.len(), "the product must fit its slice");
        if !target.add {
            let mut places = Walk::new(target.rows);
            (0..left.count).for_each(|_| c[places.next()..][..n].fill(T::ZERO));
        }
        return;
    }
    check_extents(&left, &target, n, c);
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

/// A right operand of `terms` x `columns` read where it is, whose columns are side by side.
pub(crate) struct InPlace<'a, T> {
    pub(crate) b: MatRef<'a, T>,
    pub(crate) terms: usize,
    pub(crate) columns: usize,
    /// Room for two panels.
    pub(crate) panels: &'a mut [T],
}

impl<T: Real> InPlace<'_, T> {
    /// Panels of the next `columns` columns.
    pub(crate) fn pack(&mut self, first: usize, columns: usize) {
        let b = MatRef { data: &self.b.data[first..], ..self.b };
        let len = Packed::<T>::len(self.terms, columns);
        pack(b, (self.terms, columns), (0, self.terms), &mut self.panels[..len]);
    }
}

/// As [`product`] for a single block of rows: each panel is made as the first rows meet it, and only it is kept.
///
/// # Panics
/// If an operand leaves its slice.
pub(crate) fn product_in_place<T: Real>(
    left: Left<'_, T>,
    right: InPlace<'_, T>,
    target: Target,
    c: &mut [T],
) {
    let (k, n) = (right.terms, right.columns);
    assert!(left.count > 0 && n > 0 && k > 0, "no size may be zero");
    assert!(left.runs.terms() == k, "the same terms on both sides");
    assert!(
        right.b.col_stride == 1 && (k - 1) * right.b.row_stride + n <= right.b.data.len(),
        "a whole matrix"
    );
    assert!(right.panels.len() >= 2 * Packed::<T>::len(k, 1), "room for two panels");
    check_extents(&left, &target, n, c);
    match crate::dispatch::path() {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        // SAFETY: the path in force is one this CPU can run, and the operands' extents have been checked.
        Path::Avx2 => unsafe { crate::x86_64::floats::panels_in_place(left, right, target, c) },
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        // SAFETY: as above.
        Path::Avx512 => unsafe { crate::x86_64::floats512::panels_in_place(left, right, target, c) },
        #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
        Path::Avx2 | Path::Avx512 => unreachable!("no path in force is one this build lacks"),
        // SAFETY: the operands' extents have been checked.
        Path::Scalar => unsafe { panels_in_place::<T, tile::Portable>(left, right, target, c) },
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
        let mut tiles =
            Tiles { left: &left, from: Walk::new(left.rows), to: Walk::new(target.rows), first, c };
        let panel = (right.panel(first / T::PANEL).cast_mut(), right.gap);
        // SAFETY: passed on; panels are only read.
        unsafe { tiles.rows::<K>(left.count, panel, columns, target.add) };
    }
}

/// All panels, which the first tile of rows copies from where they are.
///
/// # Safety
/// As [`product_in_place`] checks, and the CPU can run `K`.
#[inline(always)]
pub(crate) unsafe fn panels_in_place<T: Real, K: Tile<T>>(
    left: Left<'_, T>,
    mut right: InPlace<'_, T>,
    target: Target,
    c: &mut [T],
) {
    for first in (0..right.columns).step_by(T::PANEL) {
        let columns = T::PANEL.min(right.columns - first);
        let mut tiles =
            Tiles { left: &left, from: Walk::new(left.rows), to: Walk::new(target.rows), first, c };
        let whole = columns == T::PANEL && left.count >= ROWS;
        if !whole {
            right.pack(first, columns);
        }
        let from = (right.b.data[first..].as_ptr(), right.b.row_stride);
        let panel = (right.panels.as_mut_ptr(), 0);
        // SAFETY: passed on: all terms of a whole panel's columns lie within `b` and fit `panels`; others have been written.
        unsafe {
            let packed = if whole {
                tiles.tile::<K, ROWS, true>(panel, from, columns, target.add);
                ROWS
            } else {
                0
            };
            tiles.rows::<K>(left.count - packed, panel, columns, target.add);
        }
    }
}

/// Rows of a whole tile.
const ROWS: usize = 6;

/// Tiles of rows against the panel whose first column is `first`.
struct Tiles<'a, T> {
    left: &'a Left<'a, T>,
    from: Walk,
    to: Walk,
    first: usize,
    c: &'a mut [T],
}

impl<T: Real> Tiles<'_, T> {
    /// The next `R` rows.
    ///
    /// # Safety
    /// As [`panels`]; `panel` and, if `PACK`, `from` are as [`Tile::run`] asks.
    #[inline(always)]
    unsafe fn tile<K: Tile<T>, const R: usize, const PACK: bool>(
        &mut self,
        panel: (*mut T, usize),
        from: (*const T, usize),
        columns: usize,
        add: bool,
    ) {
        // SAFETY: the caller checked that all rows lie within `a` and `c`, and what they hold `columns` elements of.
        unsafe {
            let a = core::array::from_fn(|_| self.left.a.as_ptr().add(self.from.next()));
            let c = core::array::from_fn(|_| self.c.as_mut_ptr().add(self.to.next() + self.first));
            K::run::<R, PACK>(a, &self.left.runs, panel, from, c, columns, add);
        }
    }

    /// The next `rest` rows against a panel that has been written.
    ///
    /// # Safety
    /// As [`panels`].
    #[inline(always)]
    unsafe fn rows<K: Tile<T>>(
        &mut self,
        mut rest: usize,
        panel: (*mut T, usize),
        columns: usize,
        add: bool,
    ) {
        while rest > 0 {
            macro_rules! tile {
                ($rows:literal) => {{
                    // SAFETY: passed on.
                    unsafe {
                        self.tile::<K, $rows, false>(panel, (core::ptr::null(), 0), columns, add);
                    }
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
