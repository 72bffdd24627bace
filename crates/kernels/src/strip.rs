//! Padded copies of some rows of an image, in which every patch is a few runs of contiguous memory.

use crate::geometry::Conv2dSizes;
use crate::parallel;

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

    /// Writes the padded copy of `image` (`[h, w, c]`) to `to`, `copy` copying what is inside.
    pub(crate) fn copy<S, E: Copy>(
        &self,
        g: &Conv2dSizes,
        image: &[S],
        pad: E,
        to: &mut [E],
        copy: impl Fn(&[S], &mut [E]),
    ) {
        let (width, c) = (Self::width(g), g.in_c);
        for (i, line) in to.chunks_exact_mut(width * c).enumerate() {
            let y = (self.first * g.stride_h + i).wrapping_sub(g.pad_top);
            if y < g.in_h {
                let (left, rest) = line.split_at_mut(g.pad_left * c);
                let (inside, right) = rest.split_at_mut(g.in_w * c);
                left.fill(pad);
                copy(&image[y * g.in_w * c..][..g.in_w * c], inside);
                right.fill(pad);
            } else {
                line.fill(pad);
            }
        }
    }
}

/// Output pixels a block has at least, so that panels are not fetched from memory for too few.
const MIN_PIXELS: usize = 64;

/// Cuts `y` `[n, oh, ow, c]` into strips of output rows, none of which crosses an image, and calls
/// `f(image, strip, its part of y)` for each, in parallel over
/// fixed blocks of about `block_macs` multiply-accumulates, if there are `least_macs` in all.
pub(crate) fn strips<T: Send>(
    g: &Conv2dSizes,
    (block_macs, least_macs): (usize, usize),
    y: &mut [T],
    f: impl Fn(usize, Strip, &mut [T]) + Sync + Send,
) {
    strips_of(g, strip_rows(g, block_macs), least_macs, y, f);
}

/// Output rows of a strip of about `block_macs` multiply-accumulates, or of whole images if that is more than one.
pub(crate) fn strip_rows(g: &Conv2dSizes, block_macs: usize) -> usize {
    let macs = (g.macs() as usize).checked_div(g.batch * g.out_h).unwrap_or(0);
    let block =
        parallel::rows_per_chunk(g.batch * g.out_h, macs, block_macs).max(MIN_PIXELS.div_ceil(g.out_w));
    // Whole images, where there is room for one: a part of an image pads its edges again.
    if block > g.out_h { block - block % g.out_h } else { block }
}

/// As [`strips`], over blocks of `block` output rows.
pub(crate) fn strips_of<T: Send>(
    g: &Conv2dSizes,
    block: usize,
    least_macs: usize,
    y: &mut [T],
    f: impl Fn(usize, Strip, &mut [T]) + Sync + Send,
) {
    let line = g.out_w * g.out_c;
    let few = (g.macs() as usize) < least_macs;
    parallel::for_each_chunk_unless(few, y, block * line, |i, mut y| {
        let mut row = i * block;
        while !y.is_empty() {
            let first = row % g.out_h;
            let rows = (g.out_h - first).min(y.len() / line);
            let (part, rest) = y.split_at_mut(rows * line);
            f(row / g.out_h, Strip { first, rows }, part);
            (row, y) = (row + rows, rest);
        }
    });
}
