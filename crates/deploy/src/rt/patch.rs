//! Reading the patch of input codes under a tile.

use super::record::BranchKind;
use super::tile::{TABLES, Tiles, View, WORDS};

const PLACES: usize = TABLES * WORDS;
/// Beyond any input: a place outside the image.
const OUTSIDE: usize = usize::MAX / 2;

/// Where words are in the input, both lanes, and what they are.
pub(super) struct Patch {
    places: [[usize; 2]; PLACES],
    count: usize,
    /// Codes of one channel, or of four.
    words: [[u32; PLACES]; 4],
}

impl Patch {
    pub(super) fn new() -> Self {
        Self { places: [[OUTSIDE; 2]; PLACES], count: 0, words: [[0; PLACES]; 4] }
    }

    /// Turns to `rows` input rows under a tile; returns the number of words of each.
    pub(super) fn find_rows(
        &mut self,
        v: &View,
        (tiles, kind): (&Tiles, BranchKind),
        at: (usize, usize),
        rows: usize,
    ) -> usize {
        let words = v.words(kind).clamp(1, WORDS);
        self.count = (rows * words).min(PLACES);
        for (ky, row) in self.places.chunks_exact_mut(words).take(rows).enumerate() {
            if kind != BranchKind::Depthwise && words == WORDS {
                // Columns of even distance first: each kernel column's four words are neighbours.
                let (even, odd) = row.split_at_mut(5);
                find(v, tiles, at, (ky, 0, 2), even);
                find(v, tiles, at, (ky, 1, 2), odd);
            } else {
                find(v, tiles, at, (ky, 0, 1), row);
            }
        }
        words
    }

    /// Turns to the four words under one tap of the kernel.
    pub(super) fn find(&mut self, v: &View, tiles: &Tiles, at: (usize, usize), (ky, kx): (usize, usize)) {
        self.count = 4;
        find(v, tiles, at, (ky, kx, v.w.stride_w), &mut self.places[..4]);
    }

    /// The words of a channel of `channels`; `zero` outside the image. Channels are read in their order: where their number
    /// is a multiple of four, or two or three, up to four are read at a time.
    pub(super) fn read(&mut self, input: &[u8], zero: u8, channel: usize, channels: usize) -> &[u32] {
        let places = self.places.get(..self.count).unwrap_or(&[]);
        let together = channels.is_multiple_of(4) || channels == 2 || channels == 3;
        let part = if together { channel % 4 } else { 0 };
        if part == 0 && together {
            read_four(input, places, channel, u32::from_le_bytes([zero; 4]), &mut self.words);
        } else if part == 0 {
            read_one(input, places, channel, zero, &mut self.words[0]);
        }
        self.words[part].get(..self.count).unwrap_or(&[])
    }
}

/// Places of `to.len()` words: kernel row `ky`, kernel columns `kx`, `kx + step`, … of the tile at `at`.
#[inline(never)]
fn find(
    v: &View,
    tiles: &Tiles,
    (oy, ox): (usize, usize),
    (ky, kx, step): (usize, usize, usize),
    to: &mut [[usize; 2]],
) {
    for (lane, (lane_y, lane_x)) in [(0, 0), tiles.lane()].into_iter().enumerate() {
        // Wraps to something huge above and to the left of the image.
        let y = ((oy + lane_y) * v.w.stride_h + ky).wrapping_sub(v.w.pad_top);
        let mut x = ((ox + lane_x) * v.w.stride_w + kx).wrapping_sub(v.w.pad_left);
        let width = if y < v.w.in_h { v.w.in_w } else { 0 };
        let mut at = y.wrapping_mul(v.in_row).wrapping_add(x.wrapping_mul(v.in_col));
        let next = step.wrapping_mul(v.in_col);
        if x < width && x.wrapping_add(to.len().wrapping_mul(step)) < width {
            for place in &mut *to {
                place[lane] = at;
                at = at.wrapping_add(next);
            }
            continue;
        }
        for place in &mut *to {
            place[lane] = if x < width { at } else { OUTSIDE };
            x = x.wrapping_add(step);
            at = at.wrapping_add(next);
        }
    }
}

#[inline(never)]
fn read_one(input: &[u8], places: &[[usize; 2]], channel: usize, zero: u8, to: &mut [u32; PLACES]) {
    let code = |at: usize| u32::from(*input.get(at + channel).unwrap_or(&zero));
    for (word, &[low, high]) in to.iter_mut().zip(places) {
        *word = code(low) | code(high) << 16;
    }
}

#[inline(never)]
fn read_four(input: &[u8], places: &[[usize; 2]], channel: usize, zero: u32, to: &mut [[u32; PLACES]; 4]) {
    let four = |at: usize| match input.get(at + channel..) {
        Some(codes) => u32::from_le_bytes(codes.first_chunk().copied().unwrap_or_else(|| last(codes))),
        None => zero,
    };
    let [a, b, c, d] = to;
    for ((((&[low, high], a), b), c), d) in places.iter().zip(a).zip(b).zip(c).zip(d) {
        let (low, high) = (four(low), four(high));
        let even = (low & 0x00ff_00ff, high & 0x00ff_00ff);
        let odd = (low >> 8 & 0x00ff_00ff, high >> 8 & 0x00ff_00ff);
        (*a, *c) = (even.0 & 0xffff | even.1 << 16, even.0 >> 16 | even.1 & 0xffff_0000);
        (*b, *d) = (odd.0 & 0xffff | odd.1 << 16, odd.0 >> 16 | odd.1 & 0xffff_0000);
    }
}

/// The end of the input, where there are no four codes.
#[cold]
fn last(codes: &[u8]) -> [u8; 4] {
    let mut four = [0; 4];
    four.iter_mut().zip(codes).for_each(|(to, &code)| *to = code);
    four
}
