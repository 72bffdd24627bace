//! Steps with ternary convolutions, tile by tile: sums of one or two branches, then codes.

use super::bytes::{i32_at, i64_at};
use super::float;
use super::record::{Branch, BranchKind, Form, Window};
use super::tile::{CHANNELS, Memory, Tiles, View, empty, lanes};

/// A step's branches with their inputs, and its epilogue.
pub(super) struct Step<'a> {
    pub(super) first: (Branch<'a>, &'a [u8]),
    pub(super) second: Option<(Branch<'a>, &'a [u8])>,
    pub(super) form: Form<'a>,
    pub(super) shift: i32,
    pub(super) max: u8,
}

/// Where the positions of a tile are in the output; `None` outside.
type Positions = [Option<usize>; 8];

impl Step<'_> {
    /// How the step is cut, if any of its branches is.
    pub(super) fn tiles(&self) -> Option<Tiles> {
        self.first.0.tiles.or(self.second.as_ref().and_then(|s| s.0.tiles))
    }

    /// Runs the whole step.
    pub(super) fn run(&self, tiles: &Tiles, memory: &mut Memory, output: &mut [u8]) {
        let v = tiles.view(&self.first.0.window);
        let (lane_y, lane_x) = tiles.lane();
        for oy in (0..v.w.out_h).step_by(1 + lane_y) {
            for ox in (0..v.w.out_w).step_by(4 + lane_x) {
                let positions = positions(&v, (oy, ox), (lane_y, lane_x));
                for first in (0..v.w.out_c).step_by(CHANNELS) {
                    let channels = (first, CHANNELS.min(v.w.out_c - first));
                    self.block(memory, &positions, (oy, ox), channels, output);
                }
            }
        }
    }

    /// One tile of one block of channels.
    fn block(
        &self,
        memory: &mut Memory,
        positions: &Positions,
        at: (usize, usize),
        (first, count): (usize, usize),
        output: &mut [u8],
    ) {
        let branches = [Some(&self.first), self.second.as_ref()];
        for (which, branch) in branches.into_iter().enumerate() {
            let Some((branch, input)) = branch else { continue };
            let left = match &branch.tiles {
                Some(own) => branch.tile(own, input, at, (first, count), (&mut *memory, which)),
                None => {
                    let to = &mut memory.accumulators[which];
                    other(branch, input, positions, (first, count), to);
                    continue;
                }
            };
            if let Form::Short { lines, fractions } = self.form
                && left
            {
                let lines = lines.get(8 * first..8 * (first + count)).unwrap_or(&[]);
                let fractions = fractions.get(first..).unwrap_or(&[]);
                short(&memory.sums, (lines, fractions), &mut memory.codes);
                for (at, codes) in positions.iter().zip(&memory.codes) {
                    if let Some(out) = at.and_then(|at| output.get_mut(at + first..at + first + count)) {
                        out.copy_from_slice(&codes[..count]);
                    }
                }
                return;
            }
            if left {
                empty(&memory.sums[..count], &mut memory.accumulators[which], true);
            }
        }
        let [a, b] = &memory.accumulators;
        for (i, (a, b)) in a.iter().zip(b).enumerate().take(count) {
            let c = first + i;
            for ((&a, &b), at) in a.iter().zip(b).zip(positions) {
                let Some(out) = at.and_then(|at| output.get_mut(at + c)) else { continue };
                *out = self.code([a, b], c);
            }
        }
    }

    /// The code of a channel's accumulators.
    #[inline(always)]
    pub(super) fn code(&self, [a, b]: [i32; 2], c: usize) -> u8 {
        let Some((second, _)) = &self.second else { return self.form.code(a, c, self.shift, self.max) };
        if let Form::Fixed { table } = self.form {
            // Offsets, slopes, margins: the fixed-point value decides where its fraction is far enough from a step.
            let row = table.get(20 * c..20 * c + 20).unwrap_or(&[0; 20]);
            let (m, n, margin) = (i32_at(row, 2), i32_at(row, 3), i32_at(row, 4) as u32);
            let products =
                i64::from(a).wrapping_mul(m.into()).wrapping_add(i64::from(b).wrapping_mul(n.into()));
            let v = products.wrapping_add(i64_at(row, 0));
            if ((v << 2) as u32).wrapping_sub(margin) < margin.wrapping_mul(2).wrapping_neg() {
                return (v >> 30).clamp(0, self.max.into()) as u8;
            }
        }
        self.exact([a, b], second, c)
    }

    /// The f32 operations.
    #[inline(never)]
    fn exact(&self, [a, b]: [i32; 2], second: &Branch<'_>, c: usize) -> u8 {
        let sum = float::fma(self.first.0.value(a, c), float::ONE, second.value(b, c));
        float::to_code(sum, self.shift, self.max)
    }
}

fn positions(v: &View, (oy, ox): (usize, usize), (lane_y, lane_x): (usize, usize)) -> Positions {
    core::array::from_fn(|j| {
        let (y, x) = (oy + j / 4 * lane_y, ox + j % 4 + j / 4 * lane_x);
        (y < v.w.out_h && x < v.w.out_w).then_some(y * v.out_row + x * v.out_col)
    })
}

/// Accumulators of a branch without tiles.
fn other(
    branch: &Branch<'_>,
    input: &[u8],
    positions: &Positions,
    (first, count): (usize, usize),
    to: &mut [[i32; 8]],
) {
    let w: &Window = &branch.window;
    for (j, at) in positions.iter().enumerate() {
        let Some(at) = at else { continue };
        if branch.kind == BranchKind::Codes {
            // As many channels, in the same places.
            let codes = input.get(at + first..at + first + count).unwrap_or(&[]);
            for (to, &code) in to.iter_mut().zip(codes) {
                to[j] = i32::from(code) - branch.zero_point;
            }
        } else {
            let (y, x) = (at / w.out_c / w.out_w, at / w.out_c % w.out_w);
            for (c, to) in to.iter_mut().enumerate().take(count) {
                to[j] = branch.accumulator(input, (y, x, first + c));
            }
        }
    }
}

/// Codes of 16-bit sums by lines of 32 bits, for as many channels as there are lines.
#[inline(never)]
fn short(sums: &[[u32; 4]; CHANNELS], (lines, fractions): (&[u8], &[u8]), codes: &mut [[u8; CHANNELS]; 8]) {
    for (i, (line, &fraction)) in (0..CHANNELS).zip(lines.chunks_exact(8).zip(fractions)) {
        let (m, offset) = (i64::from(i32_at(line, 0)), i32_at(line, 1));
        let code = |sum: i16| {
            let product = ((i64::from(sum) * m) >> 16) as i32;
            (product.wrapping_add(offset) >> (u32::from(fraction) & 31)).clamp(0, 255) as u8
        };
        for (j, &word) in sums[i].iter().enumerate() {
            let [low, high] = lanes(word);
            (codes[j][i], codes[j + 4][i]) = (code(low), code(high));
        }
    }
}
