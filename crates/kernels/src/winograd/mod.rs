//! 3x3 convolutions of stride 1 by Winograd's minimal filtering F(4x4, 3x3): 36 products where the definition has 144.
//!
//! Interpolated at 0, ±3/4, ±3/2 and infinity, because rounding errors are then twice those of direct summation in f32
//! rather than four times with the usual 0, ±1, ±2 (root mean square over random operands of 64 channels; the points'
//! effect is treated in Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution for deep
//! neural networks", ACM TOMS 46(4), 2020). Outputs whose patch is all zero may come out as rounding errors of their
//! tile's size.
//!
//! Whether it is used depends on one image's geometry alone, never on the batch: an output's bits do not depend on how
//! many images are computed together.

mod correlate;
mod few_tiles;
mod points;
mod weight_grad;

pub(crate) use correlate::{forward, forward_at_points, input_grad, kernel_points, points_len};
pub(crate) use weight_grad::{weight_grad, weight_grad_applies};

use crate::Real;
use crate::geometry::Conv2dSizes;
use crate::prefetch::read_soon;

/// Outputs of a tile along one axis.
const TILE: usize = 4;
/// Inputs of a tile along one axis.
const SPAN: usize = 6;
/// Products of a tile.
const POINTS: usize = SPAN * SPAN;
/// Elements between the matrices of two points, beyond their own: keeps them out of the same cache sets.
const SKEW: usize = 16;

/// Whether the convolution, its input gradient and its weight gradient are computed this way.
pub(crate) fn applies(g: &Conv2dSizes) -> bool {
    let pays = |h: usize, w: usize| {
        let tiles = h.div_ceil(TILE) * w.div_ceil(TILE);
        // At least half of the tiles' outputs are wanted.
        tiles >= 4 && 2 * h * w >= tiles * TILE * TILE
    };
    let (kernel, stride) = ((g.kernel_h, g.kernel_w), (g.stride_h, g.stride_w));
    let channels = g.in_c.min(g.out_c);
    kernel == (3, 3) && stride == (1, 1) && channels >= 16 && pays(g.out_h, g.out_w) && pays(g.in_h, g.in_w)
}

/// One axis-aligned field of images that tiles are read from or written to.
#[derive(Clone, Copy)]
struct Field {
    h: usize,
    w: usize,
    c: usize,
}

impl Field {
    fn len(&self) -> usize {
        self.h * self.w * self.c
    }

    /// The `size` x `size` block whose first row and column are `y` and `x`, possibly outside.
    fn block(&self, (y, x): (isize, isize), size: usize) -> Block {
        let inside = |first: isize, len: usize| {
            let (size, len) = (size as isize, len as isize);
            ((-first).clamp(0, size) as usize, (len - first).clamp(0, size) as usize)
        };
        let (w, c) = (self.w as isize, self.c as isize);
        let at = (y * w + x) * c;
        Block { at, row: self.w * self.c, c: self.c, rows: inside(y, self.h), columns: inside(x, self.w) }
    }

    /// Announces a tile of pixels of an image, whose first row and column are given beyond `padding`.
    fn read_soon<T>(&self, images: &[T], image: usize, (y, x): (usize, usize), padding: (usize, usize)) {
        let (y, x) = (y.saturating_sub(padding.0), x.saturating_sub(padding.1));
        for row in y..(y + TILE).min(self.h) {
            let at = image * self.len() + (row * self.w + x) * self.c;
            read_soon(images, at, at + TILE.min(self.w.saturating_sub(x)) * self.c);
        }
    }
}

/// Where a block lies in its image.
#[derive(Clone, Copy)]
struct Block {
    /// Its first element, negative if that is outside.
    at: isize,
    /// Elements between two rows.
    row: usize,
    c: usize,
    /// First row and end of the rows, and of the columns, that lie inside; the rest counts as zeros.
    rows: (usize, usize),
    columns: (usize, usize),
}

impl Block {
    /// Whether all of it lies inside.
    #[inline(always)]
    fn is_inside(&self, size: usize) -> bool {
        self.rows == (0, size) && self.columns == (0, size)
    }

    /// The channels of each pixel, those outside being zeros.
    #[inline(always)]
    fn pixels<'a, T: Real, const I: usize>(&self, image: &'a [T], zeros: &'a [T]) -> [[&'a [T]; I]; I] {
        let within = |(first, end): (usize, usize), k: usize| first <= k && k < end;
        core::array::from_fn(|i| {
            core::array::from_fn(|j| {
                let inside = within(self.rows, i) & within(self.columns, j);
                let at = if inside { self.at.wrapping_add_unsigned(i * self.row + j * self.c) } else { 0 };
                &(if inside { image } else { zeros })[at as usize..][..self.c]
            })
        })
    }
}

/// Tiles of the images, numbered along rows, then down, then over the batch.
#[derive(Clone, Copy)]
struct Tiles {
    down: usize,
    across: usize,
}

impl Tiles {
    fn new(h: usize, w: usize) -> Self {
        Self { down: h.div_ceil(TILE), across: w.div_ceil(TILE) }
    }

    fn per_image(&self) -> usize {
        self.down * self.across
    }

    /// Image, first row and first column of a tile.
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (image, rest) = (tile / self.per_image(), tile % self.per_image());
        (image, rest / self.across * TILE, rest % self.across * TILE)
    }
}
