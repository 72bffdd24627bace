//! Ternary convolutions by tables of sums, eight output positions at a time.
//!
//! A tile is four words of two 16-bit lanes: lane 1 lies a row or four columns from lane 0, so one addition adds at two
//! positions. Three rows of the input patch form a group; all 27 sums `x0 * w0 + x1 * w1 + x2 * w2` of a group are computed
//! once and serve every output channel and every column of the kernel. Three weights are a 5-bit table index, nine of them
//! a halfword. Lanes are added as one integer and may wrap; what is read in the end fits 16 bits (the writer sees to that).

use core::sync::atomic::{Ordering, compiler_fence};

use super::record::{Branch, Window};

/// Output channels computed at a time.
pub(super) const CHANNELS: usize = 64;
/// Rows a kernel may have.
pub(super) const ROWS: usize = 3;
/// Words of tables: groups of 32 entries of 4, 8 or 16 words.
const TABLE: usize = 1024;
/// Most words of an entry in use.
const WORDS: usize = 9;

/// Working memory.
pub(super) struct Memory {
    tables: [u32; TABLE],
    /// `[channel][word]`
    pub(super) sums: [[u32; 4]; CHANNELS],
    /// `[branch][channel][position]`
    pub(super) accumulators: [[[i32; 8]; CHANNELS]; 2],
    /// `[position][channel]`
    pub(super) codes: [[u8; CHANNELS]; 8],
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            tables: [0; TABLE],
            sums: [[0; 4]; CHANNELS],
            accumulators: [[[0; 8]; CHANNELS]; 2],
            codes: [[0; CHANNELS]; 8],
        }
    }
}

/// How a step is cut into tiles, and a convolution's weights into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tiles {
    /// Lane 1 is a row apart, else four columns.
    pub(super) row_apart: bool,
    /// 0: as in memory; 1: rows and columns swapped; 2: all positions are one row.
    pub(super) orientation: u8,
    /// Groups of a chunk.
    pub(super) chunk: usize,
    /// Chunks after which sums may be full; 0 if never.
    pub(super) flush: usize,
}

/// A window as tiles see it, and the distances of its rows and columns in memory.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub(super) w: Window,
    pub(super) in_row: usize,
    pub(super) in_col: usize,
    pub(super) out_row: usize,
    pub(super) out_col: usize,
}

impl Tiles {
    pub(super) fn view(&self, w: &Window) -> View {
        // Sizes may not have been checked yet.
        let (in_row, out_row) = (w.in_w.wrapping_mul(w.in_c), w.out_w.wrapping_mul(w.out_c));
        let plain = View { w: *w, in_row, in_col: w.in_c, out_row, out_col: w.out_c };
        match self.orientation {
            0 => plain,
            1 => {
                let w = Window {
                    in_h: w.in_w,
                    in_w: w.in_h,
                    out_h: w.out_w,
                    out_w: w.out_h,
                    kernel_h: w.kernel_w,
                    kernel_w: w.kernel_h,
                    stride_h: w.stride_w,
                    stride_w: w.stride_h,
                    pad_top: w.pad_left,
                    pad_left: w.pad_top,
                    ..*w
                };
                View { w, in_row: plain.in_col, in_col: in_row, out_row: plain.out_col, out_col: out_row }
            }
            _ => {
                let (input, output) = (w.in_h.wrapping_mul(w.in_w), w.out_h.wrapping_mul(w.out_w));
                View { w: Window { in_h: 1, in_w: input, out_h: 1, out_w: output, ..*w }, ..plain }
            }
        }
    }

    /// Rows and columns from lane 0 to lane 1.
    pub(super) fn lane(&self) -> (usize, usize) {
        if self.row_apart { (1, 0) } else { (0, 4) }
    }

    /// Chunks, and halfwords of a channel and chunk, for a window seen by tiles.
    fn counts(&self, w: &Window) -> Option<(usize, usize)> {
        let groups = w.in_c.checked_mul(w.kernel_h)?.div_ceil(3);
        let halfwords = if w.kernel_w == 3 { self.chunk } else { self.chunk / 3 };
        Some((groups.div_ceil(self.chunk.max(1)), halfwords))
    }

    /// Bytes of the weights.
    pub(super) fn bytes(&self, w: &Window) -> Option<usize> {
        let (chunks, halfwords) = self.counts(&self.view(w).w)?;
        chunks.checked_mul(halfwords)?.checked_mul(2)?.checked_mul(w.out_c)
    }

    /// Whether the loops here do this window.
    pub(super) fn check(&self, plain: &Window) -> Result<(), &'static str> {
        let whole = (plain.in_h, plain.in_w) == (plain.out_h, plain.out_w)
            && [plain.kernel_h, plain.kernel_w, plain.stride_h, plain.stride_w] == [1; 4];
        let w = self.view(plain).w;
        let most = match (w.kernel_w, w.stride_w) {
            (3, 1) => 4,
            (3, 2) => 2,
            (1, _) if self.chunk.is_multiple_of(3) => 6,
            _ => return Err("tiles of a kernel they cannot have"),
        };
        if w.kernel_h > ROWS || !(1..=most).contains(&self.chunk) || self.orientation > 2 {
            return Err("tiles of a size they cannot have");
        }
        if self.orientation == 2 && !whole { Err("one row of an image with a window") } else { Ok(()) }
    }
}

/// Where the words of a patch are in the input: `[kernel row][word]`, both lanes; beyond the input for what is outside the
/// image.
type Places = [[usize; 2]; ROWS * WORDS];

const OUTSIDE: usize = usize::MAX / 2;

fn places<const N: usize>(v: &View, tiles: &Tiles, (oy, ox): (usize, usize)) -> Places {
    let mut places = [[OUTSIDE; 2]; ROWS * WORDS];
    let w = &v.w;
    for (lane, (lane_y, lane_x)) in [(0, 0), tiles.lane()].into_iter().enumerate() {
        let (top, left) = ((oy + lane_y) * w.stride_h, (ox + lane_x) * w.stride_w);
        for ky in 0..w.kernel_h {
            // Wraps to something huge above and to the left of the image.
            let y = (top + ky).wrapping_sub(w.pad_top);
            if y >= w.in_h {
                continue;
            }
            for word in 0..N {
                let column = match N {
                    WORDS => {
                        if word < 5 {
                            2 * word
                        } else {
                            2 * word - 9
                        }
                    }
                    _ => word * w.stride_w,
                };
                let x = (left + column).wrapping_sub(w.pad_left);
                if x < w.in_w {
                    places[ky * N + word][lane] = y * v.in_row + x * v.in_col;
                }
            }
        }
    }
    places
}

/// All sums of one group: entry `9 * (w0 + 1) + 3 * (w1 + 1) + w2 + 1`.
#[inline(always)]
fn build<const W: usize, const N: usize>(table: &mut [[u32; W]; 32], rows: &[[u32; N]; 3]) {
    for word in 0..N {
        let [a, b, c] = [rows[0][word], rows[1][word], rows[2][word]];
        let mut first = a.wrapping_neg();
        for i in 0..3 {
            let mut p = first.wrapping_sub(b);
            for j in 0..3 {
                let at = 9 * i + 3 * j;
                table[at][word] = p.wrapping_sub(c);
                table[at + 1][word] = p;
                table[at + 2][word] = p.wrapping_add(c);
                p = p.wrapping_add(b);
            }
            first = first.wrapping_add(a);
        }
    }
}

#[inline(always)]
fn add_entry<const W: usize>(sums: &mut [u32; 4], table: &[[u32; W]; 32], index: u16, offset: usize) {
    let entry = &table[usize::from(index & 31)];
    for (sum, word) in sums.iter_mut().zip(&entry[offset..offset + 4]) {
        *sum = sum.wrapping_add(*word);
    }
    // No instruction, but it keeps the compiler from loading several entries ahead and running out of registers.
    compiler_fence(Ordering::AcqRel);
}

/// Adds one chunk to the sums of the channels whose `weights` these are. Entries of kernel column `i` start at word
/// `OFFSETS[i]` of the group's table; kernels of one column have a group for each index instead.
#[inline(never)]
fn add<const W: usize, const K: usize, const O1: usize, const O2: usize>(
    sums: &mut [[u32; 4]],
    tables: &[[[u32; W]; 32]],
    weights: &[u8],
    halfwords: usize,
) {
    for (to, weights) in sums.iter_mut().zip(weights.chunks_exact(2 * halfwords)) {
        let mut sums = *to;
        let (pairs, _) = weights.as_chunks::<2>();
        if K == 3 {
            for (table, &pair) in tables.iter().zip(pairs) {
                let v = u16::from_le_bytes(pair);
                add_entry(&mut sums, table, v, 0);
                add_entry(&mut sums, table, v >> 5, O1);
                add_entry(&mut sums, table, v >> 10, O2);
            }
        } else {
            for (tables, &pair) in tables.as_chunks::<3>().0.iter().zip(pairs) {
                let v = u16::from_le_bytes(pair);
                add_entry(&mut sums, &tables[0], v, 0);
                add_entry(&mut sums, &tables[1], v >> 5, 0);
                add_entry(&mut sums, &tables[2], v >> 10, 0);
            }
        }
        *to = sums;
    }
}

impl Branch<'_> {
    /// Sums of the tile at `(oy, ox)` for `count` channels from `first`: left in `memory.sums` if they need never be emptied
    /// on the way, and then `true`; else accumulators, the zero point not subtracted.
    pub(super) fn tile(
        &self,
        tiles: &Tiles,
        input: &[u8],
        at: (usize, usize),
        (first, count): (usize, usize),
        (memory, which): (&mut Memory, usize),
    ) -> bool {
        let v = tiles.view(&self.window);
        match (v.w.kernel_w, v.w.stride_w) {
            (3, 1) => self.tile_of::<8, 6, 3, 1, 2>(tiles, &v, input, at, (first, count), (memory, which)),
            (3, _) => self.tile_of::<16, 9, 3, 5, 1>(tiles, &v, input, at, (first, count), (memory, which)),
            _ => self.tile_of::<4, 4, 1, 0, 0>(tiles, &v, input, at, (first, count), (memory, which)),
        }
    }

    #[inline(never)]
    fn tile_of<const W: usize, const N: usize, const K: usize, const O1: usize, const O2: usize>(
        &self,
        tiles: &Tiles,
        v: &View,
        input: &[u8],
        at: (usize, usize),
        (first, count): (usize, usize),
        (memory, which): (&mut Memory, usize),
    ) -> bool {
        let Memory { tables, sums, accumulators, .. } = memory;
        let (Some(sums), Some(accumulators)) = (sums.get_mut(..count), accumulators[which].get_mut(..count))
        else {
            return false;
        };
        let (tables, _) = tables.as_chunks_mut::<W>();
        let (tables, _) = tables.as_chunks_mut::<32>();
        let Some(tables) = tables.get_mut(..tiles.chunk) else { return false };
        let Some((chunks, halfwords)) = tiles.counts(&v.w) else { return false };
        let places = places::<N>(v, tiles, at);
        let (rows, _) = places.as_chunks::<N>();
        let zero = self.zero_point as u8;
        let (mut channel, mut ky, mut since, mut emptied) = (0, 0, 0, false);
        sums.fill([0; 4]);
        for chunk in 0..chunks {
            for table in &mut *tables {
                let mut patch = [[0_u32; N]; 3];
                for row in &mut patch {
                    if channel < v.w.in_c {
                        let code = |at: usize| u32::from(*input.get(at + channel).unwrap_or(&zero));
                        for (word, [low, high]) in row.iter_mut().zip(&rows[ky]) {
                            *word = code(*low) | code(*high) << 16;
                        }
                    }
                    ky += 1;
                    if ky == v.w.kernel_h {
                        (ky, channel) = (0, channel + 1);
                    }
                }
                build(table, &patch);
            }
            let from = (chunk * v.w.out_c + first) * 2 * halfwords;
            let weights = self.weights.get(from..from + count * 2 * halfwords).unwrap_or(&[]);
            add::<W, K, O1, O2>(sums, tables, weights, halfwords);
            since += 1;
            if since == tiles.flush && chunk + 1 < chunks {
                empty(sums, accumulators, !emptied);
                sums.fill([0; 4]);
                (since, emptied) = (0, true);
            }
        }
        if emptied {
            empty(sums, accumulators, false);
        }
        !emptied
    }
}

/// Both lanes of a word. They were added as one integer, so the lower one's sign borrows from the upper.
#[inline(always)]
pub(super) fn lanes(word: u32) -> [i16; 2] {
    let low = word as i16;
    [low, (word.wrapping_sub(i32::from(low) as u32) >> 16) as i16]
}

/// Moves sums to accumulators, on top of what is there or as the first.
pub(super) fn empty(sums: &[[u32; 4]], accumulators: &mut [[i32; 8]], first: bool) {
    for (words, to) in sums.iter().zip(accumulators) {
        for (j, &word) in words.iter().enumerate() {
            let [low, high] = lanes(word).map(i32::from);
            if first {
                (to[j], to[j + 4]) = (low, high);
            } else {
                (to[j], to[j + 4]) = (to[j].wrapping_add(low), to[j + 4].wrapping_add(high));
            }
        }
    }
}
