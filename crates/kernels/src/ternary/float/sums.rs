//! f32 times trits by sums: no multiplication, and a third of the additions.
//!
//! For every three codes of a patch there are 27 signed sums. A block of 32 patches makes them once, side by side, and
//! every output adds the one its three trits name. So three products cost one addition, and the 27 sums cost little once
//! there are many outputs. An output is summed over groups of three in order, whatever the rows and threads; the result
//! differs from a product's only by that order.

use alloc::vec;
use alloc::vec::Vec;

use crate::integer::patches::Patches;
use crate::scratch::Scratch;

/// Values of one group.
const GROUP: usize = 3;
/// Groups whose tables are made at a time: they stay in the nearest cache.
const GROUPS: usize = 4;
/// Patches of a block.
pub(super) const BLOCK: usize = 32;
/// Sums of a group.
const SUMS: usize = 27;
/// The sum of no trit.
const NONE: u8 = 13;
/// A row of a table, or of sums: one value of each patch of a block.
type Lane = [f32; BLOCK];

/// Trits `[segments, segment, n]`: a number of a sum per three of a segment.
#[derive(Debug, Clone)]
pub(super) struct Sums3 {
    /// Runs of a patch, values of a run, outputs.
    segments: usize,
    segment: usize,
    n: usize,
    /// Per four groups and output: which of the 27 sums of each.
    numbers: Vec<[u8; GROUPS]>,
}

impl Sums3 {
    /// Zeros.
    pub(super) fn new(segments: usize, segment: usize, n: usize) -> Self {
        let chunks = segments * segment.div_ceil(GROUP * GROUPS);
        Self { segments, segment, n, numbers: vec![[NONE; GROUPS]; chunks * n] }
    }

    /// Takes over trits, which have been checked.
    pub(super) fn fill(&mut self, trits: &[i8]) {
        debug_assert_eq!(trits.len(), self.segments * self.segment * self.n);
        let run_chunks = self.run_chunks();
        for (i, chunk) in self.numbers.chunks_exact_mut(self.n).enumerate() {
            let (run, first) = (i / run_chunks, i % run_chunks * GROUP * GROUPS);
            for (o, numbers) in chunk.iter_mut().enumerate() {
                for (g, number) in numbers.iter_mut().enumerate() {
                    let digit = |j: usize| {
                        let at = first + g * GROUP + j;
                        let trit =
                            if at < self.segment { trits[(run * self.segment + at) * self.n + o] } else { 0 };
                        (trit + 1) as u8
                    };
                    *number = digit(0) + 3 * digit(1) + 9 * digit(2);
                }
            }
        }
    }

    /// Four groups at a time, of one run.
    fn run_chunks(&self) -> usize {
        self.segment.div_ceil(GROUP * GROUPS)
    }

    /// The patches' scaled outputs, block by block.
    pub(super) fn multiply(&self, patches: &Patches<'_, f32>, scale: &[f32], out: &mut [f32]) {
        let n = self.n;
        let mut sums = Scratch::<f32>::take(n * BLOCK);
        let mut tables = Scratch::<f32>::take(GROUPS * SUMS * BLOCK);
        for (block, out) in out.chunks_mut(BLOCK * n).enumerate() {
            // A block that is not full repeats its last patch.
            let last = out.len() / n - 1;
            let at: [usize; BLOCK] = core::array::from_fn(|p| patches.offset(block * BLOCK + p.min(last)));
            sums.fill(0.0);
            let (sums, _) = sums.as_chunks_mut::<BLOCK>();
            let (tables, _) = tables.as_chunks_mut::<BLOCK>();
            for (i, numbers) in self.numbers.chunks_exact(n).enumerate() {
                let (run, first) = (i / self.run_chunks(), i % self.run_chunks() * GROUP * GROUPS);
                let (offset, count) =
                    (run * patches.segment_step + first, (GROUP * GROUPS).min(self.segment - first));
                gather_and_add(patches.data, &at, offset, count, numbers, tables, sums);
            }
            store(sums, scale, out);
        }
    }
}

crate::dispatch::every_path! {
    /// Makes the tables of up to four groups and adds each output's sums of them.
    fn gather_and_add(
        data: &[f32],
        at: &[usize; BLOCK],
        offset: usize,
        count: usize,
        numbers: &[[u8; GROUPS]],
        tables: &mut [Lane],
        sums: &mut [Lane],
    ) {
        let mut values = [[0.0_f32; BLOCK]; GROUP * GROUPS];
        if count == GROUP * GROUPS {
            for (p, &at) in at.iter().enumerate() {
                let from: &[f32; GROUP * GROUPS] = crate::lanes::lanes(data, at + offset);
                for (values, &value) in values.iter_mut().zip(from) {
                    values[p] = value;
                }
            }
        } else {
            for (p, &at) in at.iter().enumerate() {
                for (values, &value) in values.iter_mut().zip(&data[at + offset..][..count]) {
                    values[p] = value;
                }
            }
        }
        let groups = count.div_ceil(GROUP);
        for (values, table) in values.chunks_exact(GROUP).zip(tables.chunks_exact_mut(SUMS)).take(groups) {
            for l in 0..BLOCK {
                let (a, b, c) = (values[0][l], values[1][l], values[2][l]);
                for (j, high) in [-b - c, -c, b - c, -b, 0.0, b, c - b, c, b + c].into_iter().enumerate() {
                    table[3 * j][l] = high - a;
                    table[3 * j + 1][l] = high;
                    table[3 * j + 2][l] = high + a;
                }
            }
        }
        if groups == GROUPS {
            let (t0, rest) = tables.split_at(SUMS);
            let (t1, rest) = rest.split_at(SUMS);
            let (t2, t3) = rest.split_at(SUMS);
            for (sum, numbers) in sums.iter_mut().zip(numbers) {
                let [a, b, c, d] = numbers.map(usize::from);
                let (a, b, c, d) = (&t0[a], &t1[b], &t2[c], &t3[d]);
                for l in 0..BLOCK {
                    sum[l] = sum[l] + a[l] + b[l] + c[l] + d[l];
                }
            }
        } else {
            for (sum, numbers) in sums.iter_mut().zip(numbers) {
                for (table, &number) in tables.chunks_exact(SUMS).zip(numbers).take(groups) {
                    let row = &table[usize::from(number)];
                    for l in 0..BLOCK {
                        sum[l] += row[l];
                    }
                }
            }
        }
    }
}

crate::dispatch::every_path! {
    /// Scales and transposes a block's sums into its rows of outputs.
    fn store(sums: &[Lane], scale: &[f32], out: &mut [f32]) {
        let n = scale.len();
        for (p, row) in out.chunks_exact_mut(n).enumerate() {
            for ((out, sum), scale) in row.iter_mut().zip(sums).zip(scale) {
                *out = sum[p] * scale;
            }
        }
    }
}
