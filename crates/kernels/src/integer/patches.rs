//! Codes laid out so that a patch is a few runs of contiguous memory: the image itself, or a padded copy of it.

use crate::geometry::Conv2dSizes;
use crate::scratch::Plain;

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

impl<E> Patches<'_, E> {
    /// First element of patch `p`.
    #[inline(always)]
    pub(crate) fn offset(&self, p: usize) -> usize {
        p / self.columns * self.row_step + p % self.columns * self.column_step
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

/// A strip of one image's input rows, padded on all sides: enough for some consecutive output rows.
pub(crate) struct Strip {
    /// First output row.
    pub(crate) first: usize,
    /// Output rows.
    pub(crate) rows: usize,
}

impl Strip {
    /// Rows of the padded copy.
    pub(crate) fn height(&self, g: &Conv2dSizes) -> usize {
        (self.rows - 1) * g.stride_h + g.kernel_h
    }

    /// Columns of the padded copy.
    pub(crate) fn width(g: &Conv2dSizes) -> usize {
        ((g.out_w - 1) * g.stride_w + g.kernel_w).max(g.in_w + g.pad_left)
    }

    /// Elements of the padded copy.
    pub(crate) fn len(&self, g: &Conv2dSizes) -> usize {
        self.height(g) * Self::width(g) * g.in_c
    }

    /// Writes the padded copy of `image` (`[h, w, c]`) to `to`.
    pub(crate) fn copy<E: Element>(&self, g: &Conv2dSizes, image: &[u8], pad: u8, to: &mut [E]) {
        let (width, c) = (Self::width(g), g.in_c);
        let pad = E::from_code(pad);
        for (i, line) in to.chunks_exact_mut(width * c).enumerate() {
            let y = (self.first * g.stride_h + i).wrapping_sub(g.pad_top);
            if y < g.in_h {
                let (left, rest) = line.split_at_mut(g.pad_left * c);
                let (inside, right) = rest.split_at_mut(g.in_w * c);
                left.fill(pad);
                E::copy(&image[y * g.in_w * c..][..g.in_w * c], inside);
                right.fill(pad);
            } else {
                line.fill(pad);
            }
        }
    }

    /// Where the patches of the strip are in its padded copy.
    pub(crate) fn patches<'a, E>(g: &Conv2dSizes, data: &'a [E]) -> Patches<'a, E> {
        let line = Self::width(g) * g.in_c;
        Patches {
            data,
            columns: g.out_w,
            row_step: line * g.stride_h,
            column_step: g.in_c * g.stride_w,
            segment_step: line,
        }
    }
}
