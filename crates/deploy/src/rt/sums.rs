//! 16-bit sums of ternary kernels, eight output positions at a time.

use core::ops::Range;

use super::patch::Patch;
use super::record::{Branch, BranchKind};
use super::table::{Tables, Three, build, nine, three};
use super::tile::{CELLS, Memory, TABLES, Tiles};

/// The accumulators of four sums that are larger by `lift`.
#[inline(always)]
pub(super) fn spread(sums: &[u32; 4], lift: i32) -> [i32; 8] {
    let mut to = [0; 8];
    for (j, &word) in sums.iter().enumerate() {
        (to[j], to[j + 4]) =
            (((word & 0xffff) as i32).wrapping_sub(lift), ((word >> 16) as i32).wrapping_sub(lift));
    }
    to
}

/// A run of sums of one branch: rows of tiles that are summed together, times `count` channels from `first` on.
pub(super) struct Run<'a> {
    pub(super) sums: &'a mut [[u32; 4]; CELLS],
    accumulators: &'a mut [[i32; 8]; CELLS],
    pub(super) rows: Range<usize>,
    pub(super) first: usize,
    pub(super) count: usize,
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
        let Memory { tables, patch, sums, accumulators, .. } = memory;
        let Some(sums) = sums.get_mut(which) else { return };
        let mut run = Run { sums, accumulators, rows: 0..rows, first, count, since: 0, emptied: false };
        if self.kind == BranchKind::Depthwise {
            self.depthwise(tiles, input, at, &mut run, patch);
        } else if tiles.view(&self.window).by_rows() {
            self.by_rows(tiles, input, at, &mut run, (tables, patch));
        } else {
            self.by_list(tiles, input, at, &mut run, (tables, patch));
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
        (tables, patch): (&mut Tables, &mut Patch),
    ) {
        let (v, zero) = (tiles.view(&self.window), self.zero_point as u8);
        let (step, lift) = (v.w.stride_h * (1 + tiles.lane().0), tiles.lanes_lift());
        let count = ((run.rows.end - 1) * step + 3).min(TABLES);
        let words = patch.find_rows(&v, (tiles, self.kind), at, count);
        for channel in 0..v.w.in_c {
            let x = patch.read(input, zero, channel, v.w.in_c);
            if words == 6 {
                for (number, &[a, b, c, d, e, f]) in x.as_chunks().0.iter().enumerate() {
                    build(tables, number, &[[a, b, c, d], [b, c, d, e], [c, d, e, f]], lift);
                }
            } else {
                for (number, &[a, b, c, d, e, p, q, r, s]) in x.as_chunks().0.iter().enumerate() {
                    build(tables, number, &[[a, b, c, d], [p, q, r, s], [b, c, d, e]], lift);
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
        (tables, patch): (&mut Tables, &mut Patch),
    ) {
        let (v, zero) = (tiles.view(&self.window), self.zero_point as u8);
        let (rows, taps) = (run.rows.clone(), v.w.kernel_h * v.w.kernel_w);
        let (halfwords, lift) = ((taps * v.w.in_c).div_ceil(9), tiles.lanes_lift());
        for row in rows {
            let at = (oy + row * (1 + tiles.lane().0), ox);
            let (mut ky, mut kx, mut channel) = (0, 0, 0);
            (run.rows, run.since, run.emptied) = (row..row + 1, 0, false);
            for halfword in 0..halfwords {
                let mut x = [[[0; 4]; 3]; 3];
                for x in x.as_flattened_mut() {
                    if ky == v.w.kernel_h {
                        break;
                    }
                    if channel == 0 {
                        patch.find(&v, tiles, at, (ky, kx));
                    }
                    if let Some(words) = patch.read(input, zero, channel, v.w.in_c).first_chunk() {
                        *x = *words;
                    }
                    channel += 1;
                    if channel == v.w.in_c {
                        (kx, channel) = (kx + 1, 0);
                        if kx == v.w.kernel_w {
                            (ky, kx) = (ky + 1, 0);
                        }
                    }
                }
                for (number, x) in x.iter().enumerate() {
                    build(tables, number, x, lift);
                }
                run.add(self, (row, halfword), three(tables, 0));
                run.done(tiles.flush, halfword + 1 == halfwords);
            }
        }
    }
}
