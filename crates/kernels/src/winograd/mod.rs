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
mod points;
mod weight_grad;

pub(crate) use correlate::{forward, input_grad};
pub(crate) use weight_grad::weight_grad;

use crate::Real;
use crate::geometry::Conv2dSizes;

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

    /// The `S` x `S` block of `image` whose first row and column are `y` and `x` (possibly outside), and the distance of
    /// its rows: in place if it lies inside, else as a copy in `patch`, extended with zeros.
    fn block<'a, T: Real, const S: usize>(
        &self,
        image: &'a [T],
        (y, x): (isize, isize),
        patch: &'a mut [T],
    ) -> (&'a [T], usize) {
        let (h, w, c) = (self.h as isize, self.w as isize, self.c);
        let size = S as isize;
        if y >= 0 && x >= 0 && y + size <= h && x + size <= w {
            return (&image[(y as usize * self.w + x as usize) * c..], self.w * c);
        }
        let (left, right) = ((-x).clamp(0, size) as usize, (w - x).clamp(0, size) as usize);
        for (i, line) in patch[..S * S * c].chunks_exact_mut(S * c).enumerate() {
            let row = y + i as isize;
            if (0..h).contains(&row) && left < right {
                let from = (row as usize * self.w + (x + left as isize) as usize) * c;
                line[..left * c].fill(T::ZERO);
                line[left * c..right * c].copy_from_slice(&image[from..][..(right - left) * c]);
                line[right * c..].fill(T::ZERO);
            } else {
                line.fill(T::ZERO);
            }
        }
        (patch, S * c)
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
