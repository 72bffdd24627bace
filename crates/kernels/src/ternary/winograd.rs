//! 3x3 kernels of trits by Winograd's F(4x4, 3x3) in integers: 36 products where a sum over positions takes 144, exactly.
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), section 4.2, has `y = A'((G w G') * (B' d B))A` with
//! fractions of 24 in `G`. Here its rows are scaled to small integers, and what they lack is in `A`, so that everything is
//! an integer and the result 64 times 9 too large: transformed trits are at most 49, transformed codes at most 255 * 68,
//! which fits 16 bits, and sums of 32 bits may wrap, because the result, 576 times an accumulator, does fit. Shifting by 6
//! and multiplying by the inverse of 9 modulo 2^32 gives the accumulator.

use alloc::vec;
use alloc::vec::Vec;

use super::Form;
use crate::dispatch::{Kernel, Path, two_paths};
use crate::error::{check_trits, length};
use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::prefetch::write_soon;
use crate::scratch::Scratch;
use crate::strip::{Strip, strips_of};
use crate::{Conv2d, Conv2dSizes, KernelError, parallel};

/// Side of a tile of outputs.
pub(crate) const TILE: usize = 4;
/// Side of the patch a tile needs.
pub(crate) const SIDE: usize = 6;
/// Points of the transform.
pub(crate) const POINTS: usize = SIDE * SIDE;
/// Tiles computed together.
pub(crate) const GROUP: usize = 8;
/// Channels are filled up to a multiple: 16-bit lanes of the widest vector.
pub(crate) const CHANNELS: usize = 32;
/// The inverse of 9 modulo 2^32.
pub(crate) const NINTH: i32 = 0x38e3_8e39;
/// Work of one parallel block, in multiply-accumulates of the definition.
const BLOCK_MACS: usize = 1 << 23;

/// Transformed weights of 16 outputs for 2 codes at a point: byte `2 l + j` is output `l`'s for code `j`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(32))]
pub(crate) struct Step(pub(crate) [i8; 32]);

/// A transformed weight. Packing again in place allocates nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Winograd {
    channels: usize,
    n: usize,
    /// Panel by panel, point by point.
    steps: Vec<Step>,
}

impl Winograd {
    pub(super) fn new(g: &Conv2d, trits: &[i8]) -> Result<Self, KernelError> {
        let k = g.patch();
        if !Self::takes(g) || k > Form::Winograd.largest_k() {
            return Err(KernelError::Geometry {
                op: "Winograd",
                reason: "the form is for 3x3 kernels with a stride of 1, and not too many channels (kernel)",
                sizes: g.kernel_shape(),
            });
        }
        length("Winograd", "trits", g.kernel_len(), trits.len())?;
        let steps = Self::filled(g.in_c) / 2 * POINTS * g.out_c.div_ceil(PANEL);
        let mut packed = Self { channels: g.in_c, n: g.out_c, steps: vec![Step([0; 32]); steps] };
        packed.repack(trits)?;
        Ok(packed)
    }

    /// Whether the form can compute a convolution.
    pub(super) fn takes(g: &Conv2dSizes) -> bool {
        !g.depthwise && (g.kernel_h, g.kernel_w, g.stride_h, g.stride_w) == (3, 3, 1, 1)
    }

    /// Whether it is worth it: channels fill vectors, so that the transforms cost less than the products saved.
    pub(super) fn suits(g: &Conv2dSizes) -> bool {
        let even = g.out_h.is_multiple_of(TILE) && g.out_w.is_multiple_of(TILE);
        Self::takes(g) && even && g.in_c.is_multiple_of(CHANNELS) && g.out_c.is_multiple_of(CHANNELS)
    }

    /// Channels with those that fill up the last vector.
    fn filled(channels: usize) -> usize {
        channels.next_multiple_of(CHANNELS)
    }

    pub(super) fn repack(&mut self, trits: &[i8]) -> Result<(), KernelError> {
        let (channels, n) = (self.channels, self.n);
        check_trits("Winograd::repack", "Winograd", self.k() * n, trits)?;
        let steps = Self::filled(channels) / 2;
        for (panel, points) in self.steps.chunks_exact_mut(POINTS * steps).enumerate() {
            fill_panel(points, trits, (channels, n), panel * PANEL);
        }
        Ok(())
    }

    /// Rows of the weight: `kh kw cin`.
    pub(super) fn k(&self) -> usize {
        9 * self.channels
    }

    pub(super) fn n(&self) -> usize {
        self.n
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.steps[..])
    }

    /// Steps of a panel at each point, and all of the panels from `first`: point by point.
    pub(crate) fn panels_from(&self, first: usize) -> (usize, &[Step]) {
        let steps = Self::filled(self.channels) / 2;
        (steps, &self.steps[first * POINTS * steps..])
    }
}

two_paths! {
    /// Transforms the weights of a panel of outputs from `first`.
    fn fill_panel(points: &mut [Step], trits: &[i8], sizes: (usize, usize), first: usize) {
        let (channels, n) = sizes;
        let (count, steps) = (PANEL.min(n - first), points.len() / POINTS);
        // Both codes of a step at once, so that interleaving them is a byte shuffle.
        for pair in 0..channels.div_ceil(2) {
            let mut columns = [[[[0_i8; PANEL]; SIDE]; 3]; 2];
            for (columns, c) in columns.iter_mut().zip(2 * pair..channels) {
                for (i, column) in columns.iter_mut().enumerate() {
                    let mut w = [[0_i8; PANEL]; 3];
                    for (j, w) in w.iter_mut().enumerate() {
                        let row = &trits[((3 * i + j) * channels + c) * n + first..][..count];
                        match <&[i8; PANEL]>::try_from(row) {
                            // A constant length, so that this is one move.
                            Ok(row) => *w = *row,
                            Err(_) => w[..count].copy_from_slice(row),
                        }
                    }
                    *column = kernel_points(&w[0], &w[1], &w[2]);
                }
            }
            for j in 0..SIDE {
                let even = kernel_points(&columns[0][0][j], &columns[0][1][j], &columns[0][2][j]);
                let odd = kernel_points(&columns[1][0][j], &columns[1][1][j], &columns[1][2][j]);
                for i in 0..SIDE {
                    let step = &mut points[(i * SIDE + j) * steps + pair];
                    for l in 0..PANEL {
                        step.0[2 * l] = even[i][l];
                        step.0[2 * l + 1] = odd[i][l];
                    }
                }
            }
        }
        let _ = FUSED; // integers
    }
}

/// `G w` for 16 outputs, with rows (3, 0, 0), -(1, 1, 1), -(1, -1, 1), (1, 2, 4), (1, -2, 4) and (0, 0, 3).
#[inline(always)]
fn kernel_points(a: &[i8; PANEL], b: &[i8; PANEL], c: &[i8; PANEL]) -> [[i8; PANEL]; SIDE] {
    let mut to = [[0; PANEL]; SIDE];
    for l in 0..PANEL {
        let (outer, far) = (a[l] + c[l], a[l] + 4 * c[l]);
        to[0][l] = 3 * a[l];
        to[1][l] = -outer - b[l];
        to[2][l] = b[l] - outer;
        to[3][l] = far + 2 * b[l];
        to[4][l] = far - 2 * b[l];
        to[5][l] = 3 * c[l];
    }
    to
}

/// `B' d`: rows (4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0), (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0) and
/// (0, 4, 0, -5, 0, 1). Of two such transforms every value fits 16 bits.
fn code_points(d: [i16; SIDE]) -> [i16; SIDE] {
    let (even, odd) = (d[4] - d[2], d[1] - d[3]);
    let (far, near) = (d[4] - 4 * d[2], d[3] - 4 * d[1]);
    [4 * (d[0] - d[2]) + even, far + near, far - near, even - 2 * odd, even + 2 * odd, 4 * odd + d[5] - d[3]]
}

/// `A' m`: rows (2, 4, 4, 1, 1, 0), (0, 4, -4, 2, -2, 0), (0, 4, 4, 4, 4, 0) and (0, 4, -4, 8, -8, 8), modulo 2^32.
fn outputs(m: [i32; SIDE]) -> [i32; TILE] {
    let [m0, m1, m2, m3, m4, m5] = m.map(core::num::Wrapping);
    let four = core::num::Wrapping(4);
    let (sum, difference) = ((m1 + m2) * four, (m1 - m2) * four);
    let (sum2, difference2) = (m3 + m4, m3 - m4);
    [
        m0 + m0 + sum + sum2,
        difference + difference2 + difference2,
        sum + sum2 * four,
        difference + (difference2 + m5) * (four + four),
    ]
    .map(|y| y.0)
}

/// As [`super::conv2d`].
pub(super) fn conv2d<E: Epilogue>(
    op: &'static str,
    kernel: Kernel,
    g: &Conv2d,
    (x, pad): (&[u8], u8),
    w: &Winograd,
    epilogue: &E,
    y: &mut [E::Out],
) -> Result<(), KernelError> {
    if !Winograd::takes(g) || (w.channels, w.n) != (g.in_c, g.out_c) {
        return Err(KernelError::Pack { op, expected: [g.patch(), g.out_c], actual: [w.k(), w.n] });
    }
    epilogue.check(g.out_c)?;
    length(op, "x", g.input_len(), x.len())?;
    length(op, "y", g.output_len(), y.len())?;
    let macs = g.out_w * g.patch() * g.out_c;
    // Whole tiles wherever an image has them.
    let block = parallel::rows_per_chunk(g.batch * g.out_h, macs, BLOCK_MACS).next_multiple_of(TILE);
    strips_of(g, block, parallel::FEW_MACS, y, |image, strip, y| {
        let x = &x[image * g.in_h * g.in_w * g.in_c..][..g.in_h * g.in_w * g.in_c];
        groups(kernel, g, (x, pad), &strip, w, epilogue, y);
    });
    Ok(())
}

/// Transformed codes of a group of tiles: `[point][tile][channel]`, as many tiles and channels as there may be.
pub(crate) struct Codes<'a> {
    pub(crate) data: &'a mut [i16],
    /// Channels with those that fill up the last vector.
    pub(crate) filled: usize,
}

/// Where a tile's outputs go: `rows` by `columns` of them, from element `at` of the strip's outputs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place {
    pub(crate) at: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// All tiles of a strip, a group at a time.
fn groups<E: Epilogue>(
    kernel: Kernel,
    g: &Conv2dSizes,
    (x, pad): (&[u8], u8),
    strip: &Strip,
    w: &Winograd,
    epilogue: &E,
    y: &mut [E::Out],
) {
    let columns = g.out_w.div_ceil(TILE);
    let tiles = strip.rows.div_ceil(TILE) * columns;
    let filled = Winograd::filled(g.in_c);
    let mut data = Scratch::<i16>::take(POINTS * GROUP * filled);
    let mut edge = Scratch::<u8>::take(POINTS * g.in_c);
    let mut places = [Place::default(); GROUP];
    let mut at = 0;
    while at < tiles {
        // As many as there are loops for.
        let left = tiles - at;
        let count = [8, 4, 2, 1].into_iter().find(|&count| count <= left).unwrap_or(1);
        let mut codes = Codes { data: &mut data[..POINTS * count * filled], filled };
        for (t, place) in places[..count].iter_mut().enumerate() {
            let (row, column) = ((at + t) / columns * TILE, (at + t) % columns * TILE);
            *place = Place {
                at: (row * g.out_w + column) * g.out_c,
                rows: TILE.min(strip.rows - row),
                columns: TILE.min(g.out_w - column),
            };
            let top = (strip.first + row).checked_sub(g.pad_top);
            let (patch, stride) = match (top, column.checked_sub(g.pad_left)) {
                (Some(top), Some(left)) if top + SIDE <= g.in_h && left + SIDE <= g.in_w => {
                    (&x[(top * g.in_w + left) * g.in_c..], g.in_w * g.in_c)
                }
                _ => {
                    copy_patch(g, (x, pad), strip.first + row, column, &mut edge);
                    (&edge[..], SIDE * g.in_c)
                }
            };
            transform(kernel, (patch, stride), g.in_c, (t, count), &mut codes);
            for row in 0..place.rows {
                let at = place.at + row * g.out_w * g.out_c;
                write_soon(y, at, at + place.columns * g.out_c);
            }
        }
        let tiles = &places[..count];
        match kernel.path() {
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            // SAFETY: a kernel on this path exists only on a CPU that can run it.
            Path::Avx512 => unsafe {
                crate::x86_64::avx512::winograd::multiply(w, &codes, tiles, (g.out_w, g.out_c), epilogue, y);
            },
            // Other paths choose other forms, and this one only if it is forced.
            _ => multiply(w, &codes, tiles, (g.out_w, g.out_c), epilogue, y),
        }
        at += count;
    }
}

/// The patch of the tile at output `(row, column)`, extended beyond the image.
fn copy_patch(g: &Conv2dSizes, (x, pad): (&[u8], u8), row: usize, column: usize, to: &mut [u8]) {
    let c = g.in_c;
    for (i, line) in to.chunks_exact_mut(SIDE * c).enumerate() {
        let y = (row + i).wrapping_sub(g.pad_top);
        // Columns of the patch before the image, and of the image in the patch.
        let before = g.pad_left.saturating_sub(column).min(SIDE);
        let first = (column + before).saturating_sub(g.pad_left);
        let inside = if y < g.in_h { (SIDE - before).min(g.in_w.saturating_sub(first)) } else { 0 };
        line.fill(pad);
        if inside > 0 {
            line[before * c..][..inside * c].copy_from_slice(&x[(y * g.in_w + first) * c..][..inside * c]);
        }
    }
}

/// Transforms a patch, rows `stride` apart, as tile `t` of `count`.
fn transform(
    kernel: Kernel,
    (patch, stride): (&[u8], usize),
    channels: usize,
    (t, count): (usize, usize),
    codes: &mut Codes<'_>,
) {
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    if kernel.path() == Path::Avx512 {
        // SAFETY: a kernel on this path exists only on a CPU that can run it.
        unsafe { crate::x86_64::avx512::winograd::transform(patch, stride, channels, (t, count), codes) };
        return;
    }
    debug_assert!(kernel.path() != Path::Avx512);
    for c in 0..codes.filled {
        let code =
            |i: usize, j: usize| if c < channels { patch[i * stride + j * channels + c].into() } else { 0 };
        let rows: [[i16; SIDE]; SIDE] =
            core::array::from_fn(|i| code_points(core::array::from_fn(|j| code(i, j))));
        for j in 0..SIDE {
            let column = code_points(rows.map(|row| row[j]));
            for (i, value) in column.into_iter().enumerate() {
                codes.data[((i * SIDE + j) * count + t) * codes.filled + c] = value;
            }
        }
    }
}

/// Products at every point, and the outputs of the tiles.
fn multiply<E: Epilogue>(
    w: &Winograd,
    codes: &Codes<'_>,
    tiles: &[Place],
    (width, n): (usize, usize),
    epilogue: &E,
    y: &mut [E::Out],
) {
    for first in (0..n).step_by(PANEL) {
        let (steps, weights) = w.panels_from(first / PANEL);
        let channels = PANEL.min(n - first);
        for (t, place) in tiles.iter().enumerate() {
            let mut sums = [[0_i32; PANEL]; POINTS];
            for (point, (sums, weights)) in sums.iter_mut().zip(weights.chunks_exact(steps)).enumerate() {
                let codes = &codes.data[(point * tiles.len() + t) * codes.filled..][..codes.filled];
                for (codes, step) in codes.chunks_exact(2).zip(weights) {
                    for (sum, w) in sums.iter_mut().zip(step.0.chunks_exact(2)) {
                        let product = |j: usize| i32::from(codes[j]) * i32::from(w[j]);
                        *sum = sum.wrapping_add(product(0) + product(1));
                    }
                }
            }
            let mut tile = [[[0_i32; PANEL]; TILE]; TILE];
            for l in 0..PANEL {
                let columns: [[i32; TILE]; SIDE] =
                    core::array::from_fn(|j| outputs(core::array::from_fn(|i| sums[i * SIDE + j][l])));
                for (i, row) in tile.iter_mut().enumerate() {
                    let values = outputs(core::array::from_fn(|j| columns[j][i]));
                    for (pixel, value) in row.iter_mut().zip(values) {
                        pixel[l] = (value >> 6).wrapping_mul(NINTH);
                    }
                }
            }
            for (i, row) in tile.iter().enumerate().take(place.rows) {
                for (j, acc) in row.iter().enumerate().take(place.columns) {
                    let at = place.at + (i * width + j) * n + first;
                    epilogue.store(acc, first, &mut y[at..at + channels]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NINTH, code_points};

    #[test]
    fn a_ninth_is_one() {
        assert_eq!(NINTH.wrapping_mul(9), 1);
    }

    /// The largest and the smallest a transformed code can be fit 16 bits, in any order of the two transforms.
    #[test]
    fn transformed_codes_fit() {
        let column = |k: usize| code_points(core::array::from_fn(|i| i16::from(i == k)));
        let rows: [[i32; 6]; 6] = core::array::from_fn(|p| core::array::from_fn(|k| column(k)[p].into()));
        for a in rows {
            for b in rows {
                let products = a.iter().flat_map(|a| b.iter().map(move |b| a * b));
                let (plus, minus): (Vec<i32>, Vec<i32>) = products.partition(|&p| p > 0);
                assert!(255 * plus.iter().sum::<i32>() <= i16::MAX.into());
                assert!(255 * minus.iter().sum::<i32>() >= i16::MIN.into());
            }
        }
    }
}
