//! Codes laid out for look-up: a plane of bytes per group of channels, positions side by side, four bits a byte.
//!
//! There is a set of planes for each column of the kernel, and for each *phase* of the rows if rows are strided. In a
//! set, the codes that a trit group meets at consecutive outputs are consecutive bytes, row after row without a gap,
//! whatever the kernel, the padding and the stride: vectors are full, and aligned where rows are as long as vectors.

use crate::geometry::Conv2dSizes;
use crate::scratch::Scratch;
use crate::strip::Strip;
use crate::ternary::lut::Taps;

/// Bytes after a plane's last position that a vector may read, and packing may write.
const SLACK: usize = 64;

/// Where things are in the planes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Bytes of a plane.
    pub(crate) plane: usize,
    /// Positions of a row of outputs.
    columns: usize,
    stride: (usize, usize),
}

impl Layout {
    /// For the padded copy of a strip.
    pub(crate) fn of_strip(g: &Conv2dSizes, strip: &Strip) -> Self {
        let positions = strip.height(g).div_ceil(g.stride_h) * g.out_w;
        Self { plane: plane(positions), columns: g.out_w, stride: (g.stride_h, g.stride_w) }
    }

    /// For `rows` rows of a matrix, which are positions of one row.
    pub(crate) fn of_rows(rows: usize) -> Self {
        Self { plane: (rows.div_ceil(64) | 1) * 64, columns: rows, stride: (1, 1) }
    }

    /// Bytes of all planes, and what may be read beyond.
    pub(crate) fn len(&self, taps: &Taps) -> usize {
        self.stride.0 * taps.width * taps.tap_groups() * self.plane + taps.height * self.columns + SLACK
    }

    /// Where the codes of each of the weight's groups are, for output position 0.
    pub(crate) fn offsets(&self, taps: &Taps) -> Scratch<i32> {
        let mut offsets = Scratch::take(taps.groups());
        let mut next = offsets.iter_mut();
        for (ky, kx) in (0..taps.height).flat_map(|ky| (0..taps.width).map(move |kx| (ky, kx))) {
            let set = (ky % self.stride.0 * taps.width + kx) * taps.tap_groups();
            let row = ky / self.stride.0 * self.columns;
            for (group, offset) in next.by_ref().take(taps.tap_groups()).enumerate() {
                *offset = ((set + group) * self.plane + row) as i32;
            }
        }
        offsets
    }

    /// Calls `f(pixel, count, to)` for every row of positions of every set of planes: which of `[height, width]` pixels
    /// is its first, how many there are, a step apart, and where they go in the set's first plane.
    pub(crate) fn for_each_row(
        &self,
        taps: &Taps,
        (height, width): (usize, usize),
        mut f: impl FnMut(usize, usize, usize),
    ) {
        for (phase, kx) in (0..self.stride.0).flat_map(|phase| (0..taps.width).map(move |kx| (phase, kx))) {
            let first = (phase * taps.width + kx) * taps.tap_groups() * self.plane;
            for (row, y) in (phase..height).step_by(self.stride.0).enumerate() {
                f(y * width + kx, self.columns, first + row * self.columns);
            }
        }
    }

    /// Pixels between two neighbours of a row.
    pub(crate) fn step(&self) -> usize {
        self.stride.1
    }
}

/// Bytes of a plane of `positions`, and what may be read or written beyond: whole lines, an odd number of them, so that planes do
/// not meet in one cache set.
pub(crate) fn plane(positions: usize) -> usize {
    ((positions + SLACK).div_ceil(64) | 1) * 64
}

/// Packs one row of positions, plainly: `count` pixels of `channels` codes, `step` pixels apart. Returns the bits of all codes.
pub(crate) fn pack_row(
    taps: &Taps,
    pixels: &[u8],
    step: usize,
    count: usize,
    plane: usize,
    to: &mut [u8],
) -> u8 {
    let bits = 4 / taps.group;
    let mut seen = 0;
    for (p, pixel) in pixels.chunks(step * taps.channels).take(count).enumerate() {
        let pixel = &pixel[..taps.channels];
        seen = pixel.iter().fold(seen, |seen, code| seen | code);
        for g in 0..taps.tap_groups() {
            let code = |j: usize| pixel.get(taps.channel(g, j)).map_or(0, |c| c << (j * bits));
            to[g * plane + p] = (0..taps.group).fold(0, |byte, j| byte | code(j));
        }
    }
    seen
}

/// Copies `count` positions of each of `planes` planes.
pub(crate) fn copy_row(
    planes: usize,
    count: usize,
    (from, from_plane): (&[u8], usize),
    (to, plane): (&mut [u8], usize),
) {
    for g in 0..planes {
        to[g * plane..][..count].copy_from_slice(&from[g * from_plane..][..count]);
    }
}
