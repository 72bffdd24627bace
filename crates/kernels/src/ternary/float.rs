//! f32 times trits by sums: no multiplication, and a third of the additions.
//!
//! For every three codes of a patch there are 27 signed sums. A block of 32 patches makes them once, side by side, and
//! every output adds the one its three trits name. So three products cost one addition, and the 27 sums cost little once
//! there are many outputs. An output is summed over groups of three in order, whatever the rows and threads; the result
//! differs from a product's only by that order.
//!
//! ```
//! use kernels::ternary::float::{self, Sums3};
//!
//! let w = Sums3::gemm(3, 2, &[1, 0, -1, 1, 0, -1])?; // [k, n]
//! let mut c = [0.0; 2];
//! float::gemm(&[1.0, 2.0, 3.0], &w, &[0.5, 2.0], &mut c)?;
//! assert_eq!(c, [0.5 * (1.0 - 2.0), 2.0 * (2.0 - 3.0)]);
//! # Ok::<(), kernels::KernelError>(())
//! ```

use alloc::vec;
use alloc::vec::Vec;

use crate::error::{check_trits, length};
use crate::integer::patches::Patches;
use crate::scratch::Scratch;
use crate::strip::strips;
use crate::{Conv2d, KernelError, parallel};

/// Values of one group.
const GROUP: usize = 3;
/// Groups whose tables are made at a time: they stay in the nearest cache.
const GROUPS: usize = 4;
/// Patches of a block.
const BLOCK: usize = 32;
/// Sums of a group.
const SUMS: usize = 27;
/// The sum of no trit.
const NONE: u8 = 13;
/// Most values per output: keeps positions within 32 bits.
const LARGEST_K: usize = 1 << 24;
/// Work of one parallel block, in multiply-accumulates.
const BLOCK_MACS: usize = 1 << 21;

/// A row of a table, or of sums: one value of each patch of a block.
type Lane = [f32; BLOCK];

/// A ternary weight for f32 values: a number of a sum per three trits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums3 {
    /// Runs of a patch, values of a run, outputs.
    segments: usize,
    segment: usize,
    n: usize,
    /// Per four groups and output: which of the 27 sums of each.
    numbers: Vec<[u8; GROUPS]>,
}

impl Sums3 {
    /// Packs a `[k, n]` matrix of trits.
    ///
    /// # Errors
    /// A zero size, a `k` beyond 2^24, `trits` not `k n` long, or a value that is no trit.
    pub fn gemm(k: usize, n: usize, trits: &[i8]) -> Result<Self, KernelError> {
        Self::new(1, k, n, trits)
    }

    /// Packs the `[kh, kw, cin, cout]` kernel of a convolution.
    ///
    /// # Errors
    /// As [`Sums3::gemm`].
    pub fn conv2d(g: &Conv2d, trits: &[i8]) -> Result<Self, KernelError> {
        Self::new(g.kernel_h, g.kernel_w * g.in_c, g.out_c, trits)
    }

    fn new(segments: usize, segment: usize, n: usize, trits: &[i8]) -> Result<Self, KernelError> {
        let k = segments.checked_mul(segment).filter(|&k| k <= LARGEST_K);
        let Some(len) = k.and_then(|k| k.checked_mul(n)).filter(|&len| len > 0) else {
            return Err(KernelError::Geometry {
                op: "Sums3",
                reason: "sizes are zero or too large (runs, values per run, outputs)",
                sizes: [segments, segment, n, 0],
            });
        };
        length("Sums3", "trits", len, trits.len())?;
        let chunks = segments * segment.div_ceil(GROUP * GROUPS);
        let mut packed = Self { segments, segment, n, numbers: vec![[NONE; GROUPS]; chunks * n] };
        packed.repack(trits)?;
        Ok(packed)
    }

    /// Replaces the weight by another of the same shape, without allocating.
    ///
    /// # Errors
    /// `trits` of another length, or a value that is no trit; the old weight is then kept.
    pub fn repack(&mut self, trits: &[i8]) -> Result<(), KernelError> {
        check_trits("Sums3::repack", "Sums3", self.segments * self.segment * self.n, trits)?;
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
        Ok(())
    }

    /// Four groups at a time, of one run.
    fn run_chunks(&self) -> usize {
        self.segment.div_ceil(GROUP * GROUPS)
    }
}

/// `c = (a w) * scale`. `a` `[m, k]`, `w` packed by [`Sums3::gemm`], `scale` `[n]`, `c` `[m, n]`, row-major.
///
/// # Errors
/// An `a` that is no whole number of rows, a `scale` or a `c` of another length, or a weight packed for several runs.
pub fn gemm(a: &[f32], w: &Sums3, scale: &[f32], c: &mut [f32]) -> Result<(), KernelError> {
    const OP: &str = "ternary::float::gemm";
    let (k, n) = (w.segment, w.n);
    if w.segments != 1 {
        return Err(KernelError::Pack { op: OP, expected: [k, n], actual: [w.segments * k, n] });
    }
    let m = a.len() / k;
    length(OP, "a", m * k, a.len())?;
    length(OP, "scale", n, scale.len())?;
    length(OP, "c", m * n, c.len())?;
    rows(a, w, scale, c);
    Ok(())
}

fn rows(a: &[f32], w: &Sums3, scale: &[f32], c: &mut [f32]) {
    let (k, n) = (w.segment, w.n);
    let block = parallel::rows_per_chunk(a.len() / k, k * n, BLOCK_MACS).next_multiple_of(BLOCK);
    parallel::for_each_chunk(c, block * n, |i, c| {
        let data = &a[i * block * k..][..c.len() / n * k];
        multiply(
            w,
            &Patches { data, columns: usize::MAX, row_step: 0, column_step: k, segment_step: 0 },
            scale,
            c,
        );
    });
}

/// `y = conv(x, w) * scale`. `x` `[n, h, w, cin]`, extended with zeros, `w` packed by [`Sums3::conv2d`], `scale` `[cout]`,
/// `y` `[n, oh, ow, cout]`.
///
/// # Errors
/// Slices whose lengths are not the geometry's, a depthwise geometry, or a weight packed for another kernel shape.
pub fn conv2d(g: &Conv2d, x: &[f32], w: &Sums3, scale: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
    const OP: &str = "ternary::float::conv2d";
    if g.depthwise || (w.segments, w.segment, w.n) != (g.kernel_h, g.kernel_w * g.in_c, g.out_c) {
        let actual = [w.segments * w.segment, w.n];
        return Err(KernelError::Pack { op: OP, expected: [g.patch(), g.out_c], actual });
    }
    length(OP, "x", g.input_len(), x.len())?;
    length(OP, "scale", g.out_c, scale.len())?;
    length(OP, "y", g.output_len(), y.len())?;
    if g.is_pointwise() {
        rows(x, w, scale, y);
        return Ok(());
    }
    strips(g, (BLOCK_MACS, 0), y, |image, strip, y| {
        let x = &x[image * g.in_h * g.in_w * g.in_c..][..g.in_h * g.in_w * g.in_c];
        let mut padded = Scratch::<f32>::take(strip.len(g));
        strip.copy(g, x, 0.0, &mut padded, |from, to| to.copy_from_slice(from));
        multiply(w, &Patches::of_strip(g, &padded), scale, y);
    });
    Ok(())
}

/// The patches' outputs, block by block.
fn multiply(w: &Sums3, patches: &Patches<'_, f32>, scale: &[f32], out: &mut [f32]) {
    let mut sums = Scratch::<f32>::take(w.n * BLOCK);
    let mut tables = Scratch::<f32>::take(GROUPS * SUMS * BLOCK);
    for (block, out) in out.chunks_mut(BLOCK * w.n).enumerate() {
        // A block that is not full repeats its last patch.
        let last = out.len() / w.n - 1;
        let at: [usize; BLOCK] = core::array::from_fn(|p| patches.offset(block * BLOCK + p.min(last)));
        sums.fill(0.0);
        let (sums, _) = sums.as_chunks_mut::<BLOCK>();
        let (tables, _) = tables.as_chunks_mut::<BLOCK>();
        for (i, numbers) in w.numbers.chunks_exact(w.n).enumerate() {
            let (run, first) = (i / w.run_chunks(), i % w.run_chunks() * GROUP * GROUPS);
            let count = (GROUP * GROUPS).min(w.segment - first);
            gather_and_add(
                patches.data,
                &at,
                run * patches.segment_step + first,
                count,
                numbers,
                tables,
                sums,
            );
        }
        store(sums, scale, out);
    }
}

crate::dispatch::two_paths! {
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

crate::dispatch::two_paths! {
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
