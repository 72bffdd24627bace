//! 16-bit sums of ternary kernels, eight output positions at a time.
//!
//! Three codes under a kernel (a kernel row of one channel, or neighbouring channels) form a group; all 27 sums
//! `x0 * w0 + x1 * w1 + x2 * w2` of a group are computed once and serve every output channel. Three weights are a 5-bit
//! table index, nine of them a halfword. Lanes are added as one integer and may wrap; what is read in the end fits 16 bits
//! (the writer sees to that).

use core::ops::Range;
use core::sync::atomic::{Ordering, compiler_fence};

use super::record::{Branch, BranchKind};
use super::tile::{CELLS, Memory, TABLES, TAPS, Tiles, find, find_rows, read};

/// Four words: a sum for each pair of positions.
#[derive(Clone, Copy)]
#[repr(align(8))]
pub(super) struct Entry([u32; 4]);

impl Entry {
    pub(super) const ZERO: Self = Self([0; 4]);
}

/// Entries of a table: all sums of a group, `9 * (w0 + 1) + 3 * (w1 + 1) + w2 + 1`.
pub(super) const ENTRIES: usize = 27;
/// Three tables, what a 5-bit index can reach beyond the last, and an entry before them: with offsets that are never 0 the
/// compiler uses one address for all words of an entry.
const THREE: usize = 1 + 2 * ENTRIES + 32;
type Three = [Entry; THREE];

/// Three tables from number `first` on.
fn three(tables: &[Entry], first: usize) -> Option<&Three> {
    tables.get(first * ENTRIES..)?.first_chunk()
}

/// Computes table number `number`.
#[inline(always)]
fn build(tables: &mut [Entry], number: usize, x: [[u32; 4]; 3], lift: u32) {
    let from = 1 + number * ENTRIES;
    if let Some(table) = tables.get_mut(from..).and_then(|t| t.first_chunk_mut()) {
        build_table(table, &x, lift);
    }
}

#[inline(never)]
fn build_table(table: &mut [Entry; ENTRIES], [x0, x1, x2]: &[[u32; 4]; 3], lift: u32) {
    for word in 0..4 {
        let (a, b, c) = (x0[word], x1[word], x2[word]);
        let mut first = lift.wrapping_sub(a);
        for i in 0..3 {
            let mut p = first.wrapping_sub(b);
            for j in 0..3 {
                let at = 9 * i + 3 * j;
                table[at].0[word] = p.wrapping_sub(c);
                table[at + 1].0[word] = p;
                table[at + 2].0[word] = p.wrapping_add(c);
                p = p.wrapping_add(b);
            }
            first = first.wrapping_add(a);
        }
    }
}

/// Where sums of depthwise convolutions start, so that they are never negative.
const START: u32 = 0x4000_4000;

/// The accumulators of four sums that are larger by `lift`.
#[inline(always)]
pub(super) fn spread(sums: &[u32; 4], lift: i32) -> [i32; 8] {
    let mut to = [0; 8];
    for (j, &word) in sums.iter().enumerate() {
        (to[j], to[j + 4]) = ((word & 0xffff) as i32 - lift, (word >> 16) as i32 - lift);
    }
    to
}

/// Adds a halfword of weights to each channel's sums, or starts them with it.
#[inline(never)]
fn nine<const FIRST: bool>(sums: &mut [[u32; 4]], tables: &Three, weights: &[u8]) {
    // Two iterators, not `zip`: one index for both would cost an addition at every access.
    let mut pairs = weights.as_chunks::<2>().0.iter();
    for to in sums {
        let Some(&pair) = pairs.next() else { break };
        let v = usize::from(u16::from_le_bytes(pair));
        let e = &tables[1 + (v & 31)].0;
        let f = &tables[1 + ENTRIES + (v >> 5 & 31)].0;
        let g = &tables[1 + 2 * ENTRIES + (v >> 10 & 31)].0;
        for h in [0, 2] {
            let (a, b) = if FIRST { (0, 0) } else { (to[h], to[h + 1]) };
            let (a, b) = (a.wrapping_add(e[h]), b.wrapping_add(e[h + 1]));
            let (a, b) = (a.wrapping_add(f[h]), b.wrapping_add(f[h + 1]));
            (to[h], to[h + 1]) = (a.wrapping_add(g[h]), b.wrapping_add(g[h + 1]));
            // No instruction, but it keeps the compiler from loading all words at once and running out of registers.
            compiler_fence(Ordering::AcqRel);
        }
    }
}

/// Sums of a tile under a depthwise 3x3 kernel of stride 1, two words at a time for want of registers.
#[inline(never)]
fn three_by_three(sums: &mut [u32; 4], x: &[[u32; 6]; 3], weights: &[u32; 9]) {
    for h in [0, 2] {
        let (mut a, mut b) = (START, START);
        for (x, w) in x.iter().zip(weights.as_chunks::<3>().0) {
            for (kx, w) in w.iter().enumerate() {
                a = a.wrapping_add(w.wrapping_mul(x[h + kx]));
                b = b.wrapping_add(w.wrapping_mul(x[h + kx + 1]));
            }
            compiler_fence(Ordering::AcqRel);
        }
        (sums[h], sums[h + 1]) = (a, b);
    }
}

/// A run of sums of one branch: rows of tiles that are summed together, times `count` channels from `first` on.
struct Run<'a> {
    sums: &'a mut [[u32; 4]; CELLS],
    accumulators: &'a mut [[i32; 8]; CELLS],
    rows: Range<usize>,
    first: usize,
    count: usize,
    since: usize,
    emptied: bool,
}

impl Run<'_> {
    /// Adds a halfword to one row.
    fn add(&mut self, branch: &Branch<'_>, (row, halfword): (usize, usize), tables: Option<&Three>) {
        let from = 2 * (halfword * branch.window.out_c + self.first);
        let weights = branch.weights.get(from..from + 2 * self.count);
        let sums = self.sums.get_mut(row * self.count..(row + 1) * self.count);
        let (Some(sums), Some(tables), Some(weights)) = (sums, tables, weights) else { return };
        if self.since == 0 {
            nine::<true>(sums, tables, weights)
        } else {
            nine::<false>(sums, tables, weights)
        }
    }

    /// Moves sums to accumulators, on top of what is there or as the first.
    fn empty(&mut self) {
        let cells = self.rows.start * self.count..self.rows.end * self.count;
        let sums = self.sums.get(cells.clone()).unwrap_or(&[]);
        for (sums, to) in sums.iter().zip(self.accumulators.get_mut(cells).unwrap_or(&mut [])) {
            let values = spread(sums, 0);
            if self.emptied {
                to.iter_mut().zip(values).for_each(|(to, value)| *to = to.wrapping_add(value));
            } else {
                *to = values;
            }
        }
        (self.since, self.emptied) = (0, true);
    }

    /// Counts a halfword; empties the sums where they may be full.
    fn done(&mut self, flush: usize, last: bool) {
        self.since += 1;
        if flush != 0 && (last || self.since == flush) {
            self.empty();
        }
    }
}

impl Branch<'_> {
    /// 16-bit sums of `rows` rows of tiles from `at` on, channels `first..first + count`: in `memory.sums`, or in
    /// `memory.accumulators` if they are emptied on the way. Neither lift nor zero point are subtracted.
    pub(super) fn sums(
        &self,
        tiles: &Tiles,
        input: &[u8],
        at: (usize, usize),
        (rows, first, count): (usize, usize, usize),
        (memory, which): (&mut Memory, usize),
    ) {
        let Memory { tables, sums, accumulators, .. } = memory;
        let Some(sums) = sums.get_mut(which) else { return };
        let mut run = Run { sums, accumulators, rows: 0..rows, first, count, since: 0, emptied: false };
        if self.kind == BranchKind::Depthwise {
            self.depthwise(tiles, input, at, &mut run);
        } else if tiles.view(&self.window).by_rows() {
            self.by_rows(tiles, input, at, &mut run, tables);
        } else {
            self.by_list(tiles, input, at, &mut run, tables);
        }
    }

    /// 3x3 kernels: the three kernel rows of a channel are a halfword, and rows of tiles share the tables of their rows.
    #[inline(never)]
    fn by_rows(
        &self,
        tiles: &Tiles,
        input: &[u8],
        at: (usize, usize),
        run: &mut Run<'_>,
        tables: &mut [Entry],
    ) {
        let (v, zero) = (tiles.view(&self.window), self.zero_point as u8);
        let (step, lift) = (v.w.stride_h * (1 + tiles.lane().0), tiles.lanes_lift());
        let count = ((run.rows.end - 1) * step + 3).min(TABLES);
        let (places, words) = find_rows(&v, (tiles, self.kind), at, count);
        for channel in 0..v.w.in_c {
            for (number, places) in places.chunks_exact(words).take(count).enumerate() {
                if let Some(places) = places.first_chunk::<9>().filter(|_| words == 9) {
                    let [a, b, c, d, e, p, q, r, s] = read(input, places, channel, zero);
                    build(tables, number, [[a, b, c, d], [p, q, r, s], [b, c, d, e]], lift);
                } else if let Some(places) = places.first_chunk::<6>() {
                    let [a, b, c, d, e, f] = read(input, places, channel, zero);
                    build(tables, number, [[a, b, c, d], [b, c, d, e], [c, d, e, f]], lift);
                }
            }
            for row in run.rows.clone() {
                run.add(self, (row, channel), three(tables, row * step));
            }
            run.done(tiles.flush, channel + 1 == v.w.in_c);
        }
    }

    /// Any other kernel: nine neighbouring elements, channels of the first tap first, are a halfword.
    #[inline(never)]
    fn by_list(
        &self,
        tiles: &Tiles,
        input: &[u8],
        (oy, ox): (usize, usize),
        run: &mut Run<'_>,
        tables: &mut [Entry],
    ) {
        let (v, zero) = (tiles.view(&self.window), self.zero_point as u8);
        let (rows, taps) = (run.rows.clone(), v.w.kernel_h * v.w.kernel_w);
        let (halfwords, lift) = ((taps * v.w.in_c).div_ceil(9), tiles.lanes_lift());
        for row in rows {
            let at = (oy + row * (1 + tiles.lane().0), ox);
            let (mut tap, mut channel, mut places) = (0, 0, [[0; 2]; 4]);
            (run.rows, run.since, run.emptied) = (row..row + 1, 0, false);
            for halfword in 0..halfwords {
                for number in 0..3 {
                    let mut x = [[0; 4]; 3];
                    for x in &mut x {
                        if tap == taps {
                            break;
                        }
                        if channel == 0 {
                            let (ky, kx) = (tap / v.w.kernel_w, tap % v.w.kernel_w);
                            find(&v, tiles, at, (ky, kx, v.w.stride_w), &mut places);
                        }
                        *x = read(input, &places, channel, zero);
                        channel += 1;
                        if channel == v.w.in_c {
                            (tap, channel) = (tap + 1, 0);
                        }
                    }
                    build(tables, number, x, lift);
                }
                run.add(self, (row, halfword), three(tables, 0));
                run.done(tiles.flush, halfword + 1 == halfwords);
            }
        }
    }

    /// Ternary depthwise convolution: both lanes times a weight in one multiplication.
    #[inline(never)]
    fn depthwise(&self, tiles: &Tiles, input: &[u8], at: (usize, usize), run: &mut Run<'_>) {
        let (v, zero) = (tiles.view(&self.window), self.zero_point as u8);
        let (kernel_h, kernel_w, stride) = (v.w.kernel_h, v.w.kernel_w, v.w.stride_w);
        let step = v.w.stride_h * (1 + tiles.lane().0);
        let count = ((run.rows.end - 1) * step + kernel_h).min(TABLES);
        let (places, words) = find_rows(&v, (tiles, self.kind), at, count);
        let (mut patch, mut weights) = ([0; 9 * TABLES], [0; TAPS]);
        let weights = &mut weights[..kernel_h * kernel_w];
        for i in 0..run.count {
            let channel = run.first + i;
            let row = self.weights.get(channel * self.row..).unwrap_or(&[]);
            for (tap, weight) in weights.iter_mut().enumerate() {
                // Rows are in the order of memory.
                let (ky, kx) = (tap / kernel_w, tap % kernel_w);
                let at = if tiles.orientation == 1 { kx * kernel_h + ky } else { tap };
                let digit = row.get(at / 4).map_or(1, |byte| byte >> (2 * (at % 4)) & 3);
                *weight = u32::from(digit).wrapping_sub(1);
            }
            let small = (kernel_h, kernel_w, words) == (3, 3, 6);
            for (places, x) in places.chunks_exact(words).zip(patch.chunks_exact_mut(words)).take(count) {
                match (places.first_chunk::<6>(), x.first_chunk_mut::<6>()) {
                    (Some(places), Some(x)) if small => *x = read(input, places, channel, zero),
                    _ => x
                        .iter_mut()
                        .zip(places)
                        .for_each(|(x, place)| [*x] = read(input, &[*place], channel, zero)),
                }
            }
            for row in run.rows.clone() {
                let x = patch.get(row * step * words..).unwrap_or(&[]);
                let mut sums = [START; 4];
                if let Some(weights) = weights.first_chunk().filter(|_| small)
                    && let Some(x) = x.as_chunks::<6>().0.first_chunk()
                {
                    three_by_three(&mut sums, x, weights);
                } else {
                    for (x, w) in x.chunks_exact(words).zip(weights.chunks_exact(kernel_w)) {
                        for (kx, w) in w.iter().enumerate() {
                            for (sum, x) in sums.iter_mut().zip(x[kx..].iter().step_by(stride)) {
                                *sum = sum.wrapping_add(w.wrapping_mul(*x));
                            }
                        }
                    }
                }
                if let Some(to) = run.sums.get_mut(row * run.count + i) {
                    *to = sums;
                }
            }
        }
    }
}
