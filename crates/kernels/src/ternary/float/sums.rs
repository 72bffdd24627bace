//! f32 times trits by sums: no multiplication, and a third of the additions.
//!
//! For every three codes of a patch there are 27 signed sums. A block of 32 patches makes them once, side by side, and
//! every output adds the one its three trits name. So three products cost one addition, and the 27 sums cost little once
//! there are many outputs. An output is summed over groups of three in order, whatever the rows and threads; the result
//! differs from a product's only by that order.

use alloc::vec;
use alloc::vec::Vec;

use crate::integer::patches::Patches;
use crate::lanes::{lanes, lanes_mut};
use crate::scratch::Scratch;
use crate::transpose::{SIDE, eight};

/// Values of one group.
const GROUP: usize = 3;
/// Groups whose tables are made at a time: they stay in the nearest cache.
const GROUPS: usize = 4;
/// Values of those groups.
const CHUNK: usize = GROUP * GROUPS;
/// Patches of a block.
pub(super) const BLOCK: usize = 32;
/// Rows of a group's table: its 27 sums, and room up to a power of two.
const ROWS: usize = 32;
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
        let chunks = segments * segment.div_ceil(CHUNK);
        Self { segments, segment, n, numbers: vec![[NONE; GROUPS]; chunks * n] }
    }

    /// Takes over trits, which have been checked.
    pub(super) fn fill(&mut self, trits: &[i8]) {
        let n = self.n;
        debug_assert_eq!(trits.len(), self.segments * self.segment * n);
        let chunks = self.numbers.chunks_exact_mut(n * self.segment.div_ceil(CHUNK));
        for (chunks, trits) in chunks.zip(trits.chunks_exact(self.segment * n)) {
            for (numbers, trits) in chunks.chunks_exact_mut(n).zip(trits.chunks(CHUNK * n)) {
                numbers_of_rows(trits, numbers);
            }
        }
    }

    /// Four groups at a time, of one run.
    fn run_chunks(&self) -> usize {
        self.segment.div_ceil(CHUNK)
    }

    /// The patches' scaled outputs, block by block.
    pub(super) fn multiply(&self, patches: &Patches<'_, f32>, scale: &[f32], out: &mut [f32]) {
        let n = self.n;
        let mut sums = Scratch::<f32>::take(n * BLOCK);
        let mut tables = Scratch::<f32>::take(GROUPS * ROWS * BLOCK);
        for (block, out) in out.chunks_mut(BLOCK * n).enumerate() {
            // A block that is not full repeats its last patch.
            let last = out.len() / n - 1;
            let at: [usize; BLOCK] = core::array::from_fn(|p| patches.offset(block * BLOCK + p.min(last)));
            sums.fill(0.0);
            let (sums, _) = sums.as_chunks_mut::<BLOCK>();
            let (tables, _) = tables.as_chunks_mut::<BLOCK>();
            let (tables, _) = tables.as_chunks_mut::<ROWS>();
            for (i, numbers) in self.numbers.chunks_exact(n).enumerate() {
                let (run, first) = (i / self.run_chunks(), i % self.run_chunks() * CHUNK);
                let (offset, count) = (run * patches.segment_step + first, CHUNK.min(self.segment - first));
                gather_and_add(patches.data, &at, offset, count, numbers, tables, sums);
            }
            store(sums, scale, out);
        }
    }
}

/// Which of the 27 sums three trits name.
#[inline]
fn number([a, b, c]: [i8; GROUP]) -> u8 {
    (a + 3 * b + 9 * c + NONE as i8) as u8
}

crate::dispatch::two_paths! {
    /// Numbers of up to twelve rows of trits, one row after another.
    fn numbers_of_rows(trits: &[i8], numbers: &mut [[u8; GROUPS]]) {
        let n = numbers.len();
        let mut whole = 0;
        if trits.len() == CHUNK * n {
            let (vectors, _) = numbers.as_chunks_mut::<BLOCK>();
            whole = vectors.len() * BLOCK;
            for (o, numbers) in vectors.iter_mut().enumerate() {
                let of = |g: usize| {
                    let rows: [&[i8; BLOCK]; GROUP] =
                        core::array::from_fn(|j| lanes(trits, (GROUP * g + j) * n + o * BLOCK));
                    let mut of = [0; BLOCK];
                    for l in 0..BLOCK {
                        of[l] = number([rows[0][l], rows[1][l], rows[2][l]]);
                    }
                    of
                };
                let groups: [[u8; BLOCK]; GROUPS] = core::array::from_fn(of);
                for (l, numbers) in numbers.iter_mut().enumerate() {
                    *numbers = groups.each_ref().map(|group| group[l]);
                }
            }
        }
        let trit = |j: usize, o: usize| trits.get(j * n + o).map_or(0, |&trit| trit);
        for (o, numbers) in numbers.iter_mut().enumerate().skip(whole) {
            *numbers = core::array::from_fn(|g| number(core::array::from_fn(|j| trit(GROUP * g + j, o))));
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
        tables: &mut [[Lane; ROWS]],
        sums: &mut [Lane],
    ) {
        let mut values = [[0.0_f32; BLOCK]; CHUNK];
        if count == CHUNK {
            for (p, at) in at.as_chunks::<SIDE>().0.iter().enumerate() {
                // Squares of eight by eight, the last of which may repeat values of the one before.
                for first in (0..CHUNK).step_by(SIDE).map(|first| first.min(CHUNK - SIDE)) {
                    let square = eight(at.map(|at| lanes(data, at + offset + first)));
                    for (values, square) in values[first..].iter_mut().zip(&square) {
                        *lanes_mut(values, p * SIDE) = *square;
                    }
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
        for (values, table) in values.chunks_exact(GROUP).zip(tables.iter_mut()).take(groups) {
            for l in 0..BLOCK {
                let (a, b, c) = (values[0][l], values[1][l], values[2][l]);
                for (j, high) in [-b - c, -c, b - c, -b, 0.0, b, c - b, c, b + c].into_iter().enumerate() {
                    table[3 * j][l] = high - a;
                    table[3 * j + 1][l] = high;
                    table[3 * j + 2][l] = high + a;
                }
            }
        }
        // Numbers are below 27: the mask changes none, and says so to the compiler.
        if let ([t0, t1, t2, t3], GROUPS) = (&*tables, groups) {
            for (sum, numbers) in sums.iter_mut().zip(numbers) {
                let [a, b, c, d] = numbers.map(|number| usize::from(number) % ROWS);
                let (a, b, c, d) = (&t0[a], &t1[b], &t2[c], &t3[d]);
                for l in 0..BLOCK {
                    sum[l] = sum[l] + a[l] + b[l] + c[l] + d[l];
                }
            }
        } else {
            for (sum, numbers) in sums.iter_mut().zip(numbers) {
                for (table, &number) in tables.iter().zip(numbers).take(groups) {
                    let row = &table[usize::from(number) % ROWS];
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
        let whole = n / SIDE * SIDE;
        for (p, rows) in out.chunks_mut(SIDE * n).enumerate() {
            let (squares, rest) = sums.as_chunks::<SIDE>();
            for (o, sums) in squares.iter().enumerate() {
                let square = eight(sums.each_ref().map(|sum| lanes(sum, p * SIDE)));
                let scale: &[f32; SIDE] = lanes(scale, o * SIDE);
                for (row, square) in rows.chunks_exact_mut(n).zip(&square) {
                    let out: &mut [f32; SIDE] = lanes_mut(row, o * SIDE);
                    for l in 0..SIDE {
                        out[l] = square[l] * scale[l];
                    }
                }
            }
            for (i, row) in rows.chunks_exact_mut(n).enumerate() {
                for ((out, sum), scale) in row[whole..].iter_mut().zip(rest).zip(&scale[whole..]) {
                    *out = sum[p * SIDE + i] * scale;
                }
            }
        }
    }
}
