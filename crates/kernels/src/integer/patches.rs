//! Codes laid out so that a patch is a few runs of contiguous memory: the image itself, or a padded copy of it.

use crate::geometry::Conv2dSizes;
use crate::scratch::Plain;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
use crate::scratch::Scratch;
use crate::strip::Strip;

/// What a step reads: `u8` codes, or codes widened to `i16`.
pub(crate) trait Element: Plain + Send + Sync {
    /// A code as this type.
    fn from_code(code: u8) -> Self;
    /// Copies codes.
    fn copy(codes: &[u8], to: &mut [Self]);
}

impl Element for u8 {
    #[inline(always)]
    fn from_code(code: u8) -> Self {
        code
    }
    #[inline(always)]
    fn copy(codes: &[u8], to: &mut [u8]) {
        to.copy_from_slice(codes);
    }
}

impl Element for i16 {
    #[inline(always)]
    fn from_code(code: u8) -> Self {
        Self::from(code)
    }
    #[inline(always)]
    fn copy(codes: &[u8], to: &mut [i16]) {
        to.iter_mut().zip(codes).for_each(|(t, &c)| *t = Self::from(c));
    }
}

/// Where the patches of a block of outputs are: patch `p` has its first run at
/// `p / columns * row_step + p % columns * column_step`, the next ones `segment_step` further each.
pub(crate) struct Patches<'a, E> {
    pub(crate) data: &'a [E],
    pub(crate) columns: usize,
    pub(crate) row_step: usize,
    pub(crate) column_step: usize,
    pub(crate) segment_step: usize,
}

impl<'a, E> Patches<'a, E> {
    /// Where the patches of a strip are in its padded copy.
    pub(crate) fn of_strip(g: &Conv2dSizes, data: &'a [E]) -> Self {
        let line = Strip::width(g) * g.in_c;
        Patches {
            data,
            columns: g.out_w,
            row_step: line * g.stride_h,
            column_step: g.in_c * g.stride_w,
            segment_step: line,
        }
    }

    /// First element of patch `p`.
    #[inline(always)]
    pub(crate) fn offset(&self, p: usize) -> usize {
        p / self.columns * self.row_step + p % self.columns * self.column_step
    }

    /// Walks over the patches from the first, without a division.
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor { at: 0, row: 0, left: self.columns }
    }

    /// As [`Self::cursor`], from patch `p`.
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    pub(crate) fn cursor_at(&self, p: usize) -> Cursor {
        let (row, column) = (p / self.columns, p % self.columns);
        let row = row * self.row_step;
        Cursor { at: row + column * self.column_step, row, left: self.columns - column }
    }

    /// Where each step of a patch is from its first element: `run` steps of `step` elements in each of `segments` runs. After
    /// them, `usize::MAX`.
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    pub(crate) fn steps(&self, segments: usize, run: usize, step: usize) -> Scratch<usize> {
        let mut steps = Scratch::filled(segments * run + 1, usize::MAX);
        for (segment, steps) in steps[..segments * run].chunks_exact_mut(run).enumerate() {
            for (at, to) in steps.iter_mut().enumerate() {
                *to = segment * self.segment_step + at * step;
            }
        }
        steps
    }

    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    /// Elements that reading `count` patches of `segments` runs of `len` elements needs.
    pub(crate) fn needed(&self, count: usize, segments: usize, len: usize) -> usize {
        if count == 0 || segments == 0 {
            return 0;
        }
        // Offsets grow within a row and from row to row, so the furthest patch is the last of a row or the last.
        let last_row = (count - 1) / self.columns;
        let end_of_previous = if last_row > 0 { self.offset(last_row * self.columns - 1) } else { 0 };
        self.offset(count - 1).max(end_of_previous) + (segments - 1) * self.segment_step + len
    }
}

/// Where the next patch is.
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub(crate) struct Cursor {
    at: usize,
    /// First patch of this row.
    row: usize,
    /// Patches left in it.
    left: usize,
}

#[cfg(all(feature = "std", target_arch = "x86_64"))]
impl Cursor {
    /// First element of the next patch.
    #[inline(always)]
    pub(crate) fn next<E>(&mut self, patches: &Patches<'_, E>) -> usize {
        let at = self.at;
        self.left -= 1;
        if self.left == 0 {
            self.row += patches.row_step;
            (self.at, self.left) = (self.row, patches.columns);
        } else {
            self.at += patches.column_step;
        }
        at
    }
}
