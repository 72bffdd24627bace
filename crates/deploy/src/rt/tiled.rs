//! Steps with ternary kernels, tile by tile: sums of one or two branches, then codes.

use super::bytes::{i32_at, i64_at};
use super::float;
use super::form::{Form, NO_LINE};
use super::record::{Branch, BranchKind};
use super::sums::spread;
use super::tile::{CELLS, Memory, Tiles};

/// A step's branches with their inputs, and its epilogue.
pub(super) struct Step<'a> {
    pub(super) first: (Branch<'a>, &'a [u8]),
    pub(super) second: Option<(Branch<'a>, &'a [u8])>,
    pub(super) form: Form<'a>,
    pub(super) shift: i32,
    pub(super) max: u8,
}

/// The positions of a tile.
struct Positions {
    /// Where they are in the output, and in that order.
    at: [usize; 8],
    order: [usize; 8],
    /// A bit for each that is not outside.
    inside: u8,
}

impl Positions {
    /// Slices of the output at all positions, `count` codes each, if all are inside and apart.
    #[inline(always)]
    fn slices<'a>(&self, output: &'a mut [u8], first: usize, count: usize) -> Option<[&'a mut [u8]; 8]> {
        if self.inside != u8::MAX {
            return None;
        }
        let mut slices: [&mut [u8]; 8] = Default::default();
        let (mut rest, mut from) = (output.get_mut(first..)?, 0);
        for j in self.order {
            let (_, tail) = rest.split_at_mut_checked(self.at[j].checked_sub(from)?)?;
            let (slice, tail) = tail.split_at_mut_checked(count)?;
            (slices[j], rest, from) = (slice, tail, self.at[j] + count);
        }
        Some(slices)
    }
}

impl Step<'_> {
    /// How the step is cut, if any of its branches is.
    pub(super) fn tiles(&self) -> Option<Tiles> {
        self.first.0.tiles.or(self.second.as_ref().and_then(|s| s.0.tiles))
    }

    fn branches(&self) -> [Option<&(Branch<'_>, &[u8])>; 2] {
        [Some(&self.first), self.second.as_ref()]
    }

    /// Runs the whole step.
    pub(super) fn run(&self, tiles: &Tiles, memory: &mut Memory, output: &mut [u8]) {
        let v = tiles.view(&self.first.0.window);
        let (lane_y, lane_x) = tiles.lane();
        let next = 1 + lane_y;
        let limits = self.branches().into_iter().flatten().filter_map(|b| Some(b.0.tiles?.rows(&b.0)));
        let limit = limits.fold(v.w.out_h.div_ceil(next).min(CELLS), usize::min).max(1);
        // Depthwise channels have nothing in common, but their rows have.
        let alone = self.second.is_none() && self.first.0.kind == BranchKind::Depthwise;
        let block = v.w.out_c.min(if alone { (CELLS / limit) & !3 } else { CELLS });
        let rows = limit.min(CELLS / block);
        let places = core::array::from_fn(|j| (j / 4 * lane_y, j % 4 + j / 4 * lane_x));
        let offsets = places.map(|(y, x)| y.wrapping_mul(v.out_row).wrapping_add(x.wrapping_mul(v.out_col)));
        let mut tile = Positions { at: offsets, order: [0, 1, 2, 3, 4, 5, 6, 7], inside: 0 };
        // By insertion: eight numbers, and a library's sort would be more code than all of this.
        for i in 1..8 {
            for j in (1..=i).rev() {
                if offsets[tile.order[j]] < offsets[tile.order[j - 1]] {
                    tile.order.swap(j - 1, j);
                }
            }
        }
        for ox in (0..v.w.out_w).step_by(4 + lane_x) {
            for oy in (0..v.w.out_h).step_by(rows * next) {
                let rows = rows.min((v.w.out_h - oy).div_ceil(next));
                for first in (0..v.w.out_c).step_by(block) {
                    let count = block.min(v.w.out_c - first);
                    for (which, branch) in self.branches().into_iter().enumerate() {
                        if let Some((branch, input)) = branch
                            && let Some(own) = &branch.tiles
                        {
                            branch.sums(own, input, (oy, ox), (rows, first, count), (&mut *memory, which));
                        }
                    }
                    for row in 0..rows {
                        let y = oy + row * next;
                        let base = y * v.out_row + ox * v.out_col;
                        tile.inside = u8::MAX;
                        for (at, offset) in tile.at.iter_mut().zip(&offsets) {
                            *at = base.wrapping_add(*offset);
                        }
                        if y + lane_y >= v.w.out_h || ox + lane_x + 3 >= v.w.out_w {
                            let inside = |&(_, (dy, dx)): &(usize, (usize, usize))| {
                                y + dy < v.w.out_h && ox + dx < v.w.out_w
                            };
                            let bits = places.into_iter().enumerate().filter(inside);
                            tile.inside = bits.fold(0, |bits, (j, _)| bits | 1 << j);
                        }
                        self.codes(memory, row * count, &tile, (first, count), output);
                    }
                }
            }
        }
    }

    /// The codes of one tile, `count` channels from `first` on; their sums are in the cells from `cell` on.
    fn codes(
        &self,
        memory: &mut Memory,
        cell: usize,
        at: &Positions,
        (first, count): (usize, usize),
        output: &mut [u8],
    ) {
        let Memory { sums, accumulators, codes, .. } = memory;
        // Codes of a tile that is partly outside are made elsewhere, those inside copied.
        let [a, b] = codes.each_mut().map(|codes| codes.as_chunks_mut::<CELLS>().0);
        let out = at.slices(output, first, count);
        let inside = out.is_some();
        let mut out = match (out, a, b) {
            (Some(out), ..) => out,
            (None, [a, b, c, d], [e, f, g, h]) => [a, b, c, d, e, f, g, h].map(|codes| &mut codes[..count]),
            _ => return,
        };
        let cells = cell..cell + count;
        if let Form::Short { lines, shift, flip, rest } = &self.form {
            let sums = sums[0].get(cells).unwrap_or(&[]);
            let lines = lines.get(8 * first..8 * (first + count)).unwrap_or(&[]);
            short(sums, (lines, *shift, *flip), &mut out);
            if let Some(rest) = rest {
                for (i, line) in lines.as_chunks::<8>().0.iter().enumerate() {
                    if i32_at(line, 0) == NO_LINE {
                        let acc = spread(&sums[i], i32_at(rest.corrections, first + i));
                        put(&mut out, i, rest.integer.codes(&acc, first + i, self.shift, self.max));
                    }
                }
            }
        } else {
            let lift = |b: &(Branch<'_>, &[u8])| b.0.tiles.map_or(0, |t| t.total_lift(&b.0));
            let lifts = [lift(&self.first), self.second.as_ref().map_or(0, lift)];
            // As many channels, in the same places.
            let mut shortcut: [&[u8]; 8] = Default::default();
            if let Some((Branch { kind: BranchKind::Codes, .. }, input)) = self.second {
                for (j, codes) in shortcut.iter_mut().enumerate().filter(|(j, _)| at.inside >> j & 1 != 0) {
                    *codes = input.get(at.at[j] + first..at.at[j] + first + count).unwrap_or(&[]);
                }
            }
            for (i, cell) in cells.enumerate() {
                let values = |which: usize| match self.branches()[which] {
                    None => [0; 8],
                    Some((branch, input)) => match &branch.tiles {
                        Some(tiles) if tiles.flush != 0 => less(&accumulators[cell], lifts[which]),
                        Some(_) => spread(&sums[which][cell], lifts[which]),
                        None if which == 1 && branch.kind == BranchKind::Codes => {
                            let mut to = [0; 8];
                            for (to, codes) in to.iter_mut().zip(&shortcut) {
                                *to = codes.get(i).map_or(0, |&code| i32::from(code) - branch.zero_point);
                            }
                            to
                        }
                        None => branch.at(input, at, first + i),
                    },
                };
                let a = values(0);
                match (&self.second, &self.form) {
                    (None, Form::Integer(integer)) => {
                        put(&mut out, i, integer.codes(&a, first + i, self.shift, self.max));
                    }
                    _ => put(&mut out, i, self.sums(&a, &values(1), first + i)),
                }
            }
        }
        if !inside {
            for (j, &at) in at.at.iter().enumerate().filter(|(j, _)| at.inside >> j & 1 != 0) {
                if let Some(to) = output.get_mut(at + first..at + first + count) {
                    to.copy_from_slice(&codes[j / 4][j % 4 * CELLS..][..count]);
                }
            }
        }
    }

    /// The code of a channel's accumulators.
    pub(super) fn code(&self, [a, b]: [i32; 2], c: usize) -> u8 {
        match (&self.second, &self.form) {
            (None, Form::Integer(integer)) => integer.code(a, c, self.shift, self.max),
            _ => self.sums(&[a; 8], &[b; 8], c)[0],
        }
    }

    /// The codes of the sums of both branches.
    #[inline(always)]
    fn sums(&self, a: &[i32; 8], b: &[i32; 8], c: usize) -> [u8; 8] {
        let mut codes = [0; 8];
        let row = match self.form {
            Form::Fixed { table } => table.get(20 * c..20 * c + 20),
            _ => None,
        };
        let mut unsure = u8::MAX;
        if let Some(row) = row {
            // Offset, slopes, margin: the fixed-point value decides where its fraction is far enough from a step.
            let (m, n, margin) = (i32_at(row, 2).into(), i32_at(row, 3).into(), i32_at(row, 4) as u32);
            let (offset, sure) = (i64_at(row, 0), margin.wrapping_mul(2).wrapping_neg());
            unsure = 0;
            for (j, (code, (&a, &b))) in codes.iter_mut().zip(a.iter().zip(b)).enumerate() {
                let v = offset.wrapping_add(i64::from(a).wrapping_mul(m));
                let v = v.wrapping_add(i64::from(b).wrapping_mul(n));
                unsure |= u8::from(((v << 2) as u32).wrapping_sub(margin) >= sure) << j;
                *code = ((v >> 30) as i32).clamp(0, self.max.into()) as u8;
            }
        }
        if unsure != 0 {
            self.exact(a, b, c, &mut codes, unsure);
        }
        codes
    }

    /// The f32 operations, for the positions whose bits are set.
    #[inline(never)]
    fn exact(&self, a: &[i32; 8], b: &[i32; 8], c: usize, codes: &mut [u8; 8], positions: u8) {
        let Some((second, _)) = &self.second else { return };
        for (j, (code, (&a, &b))) in codes.iter_mut().zip(a.iter().zip(b)).enumerate() {
            if positions >> j & 1 != 0 {
                let sum = float::fma(self.first.0.value(a, c), float::ONE, second.value(b, c));
                *code = float::to_code(sum, self.shift, self.max);
            }
        }
    }
}

impl Branch<'_> {
    /// Accumulators of a branch without tiles.
    #[inline(never)]
    fn at(&self, input: &[u8], tile: &Positions, c: usize) -> [i32; 8] {
        let (mut to, w) = ([0; 8], &self.window);
        for (j, (to, &at)) in to.iter_mut().zip(&tile.at).enumerate() {
            if tile.inside >> j & 1 == 0 {
                continue;
            }
            *to = if self.kind == BranchKind::Codes {
                // As many channels, in the same places.
                input.get(at + c).map_or(0, |&code| i32::from(code) - self.zero_point)
            } else {
                self.accumulator(input, (at / w.out_c / w.out_w, at / w.out_c % w.out_w, c))
            };
        }
        to
    }
}

fn less(accumulators: &[i32; 8], lift: i32) -> [i32; 8] {
    let mut to = *accumulators;
    to.iter_mut().for_each(|acc| *acc = acc.wrapping_sub(lift));
    to
}

/// Writes the codes of channel `i`.
#[inline(always)]
fn put(out: &mut [&mut [u8]; 8], i: usize, codes: [u8; 8]) {
    for (out, code) in out.iter_mut().zip(codes) {
        if let Some(out) = out.get_mut(i) {
            *out = code;
        }
    }
}

/// Codes of 16-bit sums by lines of 32 bits, for as many channels as there are lines.
#[inline(never)]
fn short(sums: &[[u32; 4]], (lines, shift, flip): (&[u8], u8, u32), out: &mut [&mut [u8]; 8]) {
    // A constant shift is part of the instruction that saturates.
    match (shift, flip) {
        (14, 0) => short_by::<14>(sums, (lines, 14, 0), out),
        (11, 0) => short_by::<11>(sums, (lines, 11, 0), out),
        _ => short_by::<32>(sums, (lines, shift, flip), out),
    }
}

#[inline(always)]
fn short_by<const SHIFT: u8>(
    sums: &[[u32; 4]],
    (lines, shift, flip): (&[u8], u8, u32),
    out: &mut [&mut [u8]; 8],
) {
    let shift = if SHIFT < 32 { SHIFT } else { shift & 31 };
    let [a, b, c, d, e, f, g, h] = out;
    let first = a.iter_mut().zip(&mut **b).zip(&mut **c).zip(&mut **d);
    let second = e.iter_mut().zip(&mut **f).zip(&mut **g).zip(&mut **h);
    let lines = lines.as_chunks::<8>().0;
    for (((line, sums), (((a, b), c), d)), (((e, f), g), h)) in lines.iter().zip(sums).zip(first).zip(second)
    {
        let (multiplier, offset) = (i64::from(i32_at(line, 0)), i32_at(line, 1));
        let code = |sum: i16| {
            let product = ((i64::from(sum) * multiplier) >> 16) as i32;
            (product.wrapping_add(offset) >> shift).clamp(0, 255) as u8
        };
        for ((&word, low), high) in sums.iter().zip([a, b, c, d]).zip([e, f, g, h]) {
            (*low, *high) = (code((word ^ flip) as i16), code(((word ^ flip) >> 16) as i16));
        }
    }
}
