//! Trits as panels of bytes: 16 outputs by 4 codes to a step, and when 16-bit sums must be emptied.
//!
//! A vector of 16-bit sums takes two products of a code and a trit per step. Additions may wrap: only the value at
//! the moment of emptying has to fit. Packing counts, for every sum, the +1 and the -1 it meets, and ends a *block*
//! before either count passes 128, since 255 * 128 < 2^15. So overflow is impossible whatever the codes are, and
//! blocks are as long as the weights allow.

use alloc::vec;
use alloc::vec::Vec;

use crate::dispatch::{Kernel, Path};
use crate::error::{check_trits, length};
use crate::integer::epilogue::Epilogue;
use crate::integer::patches::Patches;
use crate::integer::run::Weight;
use crate::integer::{LARGEST_ACCUMULATOR, Layout, PANEL};
use crate::{Conv2d, KernelError};

/// Weights of 16 outputs for 4 codes: byte `4 l + j` is output `l`'s trit for code `j`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Step(pub(crate) [i8; 64]);

/// Codes of one step.
const STEP: usize = 4;
/// Steps counted at a time: a block ends at a multiple of it.
const GRAIN: usize = 16;
/// Trits of one sign a 16-bit sum may meet within a block.
const LARGEST_COUNT: u16 = 128;

/// A packed ternary weight. Packing again in place allocates nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Panel8 {
    layout: Layout,
    /// Panel by panel.
    steps: Vec<Step>,
    /// Per panel, the step each block ends before; unused places repeat the last.
    ends: Vec<u32>,
    /// Places per panel in `ends`.
    blocks: usize,
}

impl Panel8 {
    /// Packs a `[k, n]` matrix of trits.
    ///
    /// # Errors
    /// A zero size, a `k` beyond 4.2 million (where an accumulator could overflow), `trits` not `k n` long, or a value
    /// that is no trit.
    pub(crate) fn gemm(k: usize, n: usize, trits: &[i8]) -> Result<Self, KernelError> {
        Self::new(Layout { segments: 1, segment: k, n, step: STEP }, trits)
    }

    /// Packs the `[kh, kw, cin, cout]` kernel of a convolution.
    ///
    /// # Errors
    /// As [`Panel8::gemm`].
    pub(crate) fn conv2d(g: &Conv2d, trits: &[i8]) -> Result<Self, KernelError> {
        let layout = Layout { segments: g.kernel_h, segment: g.kernel_w * g.in_c, n: g.out_c, step: STEP };
        Self::new(layout, trits)
    }

    fn new(layout: Layout, trits: &[i8]) -> Result<Self, KernelError> {
        let k =
            layout.segments.checked_mul(layout.segment).filter(|&k| k as i64 <= LARGEST_ACCUMULATOR / 255);
        if k.is_none_or(|k| {
            k == 0 || layout.n == 0 || layout.n.checked_add(PANEL).and_then(|n| n.checked_mul(k)).is_none()
        }) {
            return Err(KernelError::Geometry {
                op: "Panel8",
                reason: "sizes are zero or too large (runs, codes per run, outputs)",
                sizes: [layout.segments, layout.segment, layout.n, 0],
            });
        }
        // Allocate only once the caller has shown to hold a weight of that size.
        length("Panel8", "trits", layout.k() * layout.n, trits.len())?;
        let blocks = layout.steps().div_ceil(GRAIN * STEP_BLOCKS);
        let mut packed = Self {
            layout,
            steps: vec![Step([0; 64]); layout.steps() * layout.panels()],
            ends: vec![0; blocks * layout.panels()],
            blocks,
        };
        packed.repack(trits)?;
        Ok(packed)
    }

    /// Replaces the weight by another of the same shape, without allocating.
    ///
    /// # Errors
    /// `trits` of another length, or a value that is no trit; the old weight is then kept.
    pub(crate) fn repack(&mut self, trits: &[i8]) -> Result<(), KernelError> {
        let Layout { segment, n, .. } = self.layout;
        check_trits("Panel8::repack", "Panel8", self.layout.k() * n, trits)?;
        let segment_steps = self.layout.segment_steps();
        for (panel, steps) in self.steps.chunks_exact_mut(self.layout.steps()).enumerate() {
            let first = panel * PANEL;
            let count = PANEL.min(n - first);
            for (i, step) in steps.iter_mut().enumerate() {
                let (run, start) = (i / segment_steps, i % segment_steps * STEP);
                let codes = STEP.min(segment - start);
                let rows = &trits[(run * segment + start) * n..][..codes * n];
                fill(step, rows, n, first, count);
            }
            schedule(steps, &mut self.ends[panel * self.blocks..][..self.blocks]);
        }
        Ok(())
    }

    /// Rows of the weight: `k`, or `kh kw cin`.
    pub(crate) fn k(&self) -> usize {
        self.layout.k()
    }

    /// Columns of the weight: outputs.
    pub(crate) fn n(&self) -> usize {
        self.layout.n
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.steps[..]) + size_of_val(&self.ends[..])
    }

    /// Steps of the panels from `first` on.
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    pub(crate) fn panels_from(&self, first: usize) -> &[Step] {
        &self.steps[first * self.layout.steps()..]
    }

    /// Steps and block ends of a panel.
    pub(crate) fn panel(&self, panel: usize) -> (&[Step], &[u32]) {
        let steps = self.layout.steps();
        (&self.steps[panel * steps..][..steps], &self.ends[panel * self.blocks..][..self.blocks])
    }
}

/// Grains that fit a block whatever the trits: two products a step and sum.
const STEP_BLOCKS: usize = LARGEST_COUNT as usize / (2 * GRAIN);

/// Writes one step from `rows` of weights (at most 4, `n` apart), outputs `first..first + count`.
#[inline(always)]
pub(crate) fn fill(step: &mut Step, rows: &[i8], n: usize, first: usize, count: usize) {
    if count == PANEL && rows.len() == STEP * n {
        // Constant lengths, so that this becomes byte shuffles.
        let row = |j: usize| -> &[i8] { &rows[j * n + first..][..PANEL] };
        let (a, b, c, d) = (row(0), row(1), row(2), row(3));
        for l in 0..PANEL {
            step.0[4 * l] = a[l];
            step.0[4 * l + 1] = b[l];
            step.0[4 * l + 2] = c[l];
            step.0[4 * l + 3] = d[l];
        }
    } else {
        step.0.fill(0);
        for (j, row) in rows.chunks_exact(n).enumerate() {
            for (l, &trit) in row[first..first + count].iter().enumerate() {
                step.0[4 * l + j] = trit;
            }
        }
    }
}

/// Writes the ends of the longest blocks (in grains) that keep every 16-bit sum in range.
fn schedule(steps: &[Step], ends: &mut [u32]) {
    let (mut positive, mut negative) = ([0_u16; 32], [0_u16; 32]);
    let mut blocks = ends.iter_mut();
    let mut last = blocks.next();
    for (i, grain) in steps.chunks(GRAIN).enumerate() {
        // At most 32 of a sign per grain, so bytes suffice.
        let (mut plus, mut minus) = ([0_u8; 64], [0_u8; 64]);
        for step in grain {
            for l in 0..64 {
                plus[l] += u8::from(step.0[l] > 0);
                minus[l] += u8::from(step.0[l] < 0);
            }
        }
        let mut full = false;
        for l in 0..32 {
            positive[l] += u16::from(plus[2 * l]) + u16::from(plus[2 * l + 1]);
            negative[l] += u16::from(minus[2 * l]) + u16::from(minus[2 * l + 1]);
            full |= positive[l].max(negative[l]) > LARGEST_COUNT;
        }
        if full {
            if let Some(end) = last {
                *end = (i * GRAIN) as u32;
            }
            last = blocks.next();
            for l in 0..32 {
                positive[l] = u16::from(plus[2 * l]) + u16::from(plus[2 * l + 1]);
                negative[l] = u16::from(minus[2 * l]) + u16::from(minus[2 * l + 1]);
            }
        }
    }
    debug_assert!(last.is_some(), "a block holds at least {STEP_BLOCKS} grains");
    for end in last.into_iter().chain(blocks) {
        *end = steps.len() as u32;
    }
}

impl Weight for Panel8 {
    type Element = u8;
    const IN_PLACE: bool = true;

    fn layout(&self) -> Layout {
        self.layout
    }

    fn elements(codes: &[u8]) -> &[u8] {
        codes
    }

    fn multiply<E: Epilogue>(
        &self,
        kernel: Kernel,
        patches: &Patches<'_, u8>,
        epilogue: &E,
        out: &mut [E::Out],
    ) {
        match kernel.path() {
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            // SAFETY: a kernel on this path exists only on a CPU that can run it.
            Path::Avx2 => unsafe { crate::x86_64::panels::multiply(self, patches, epilogue, out) },
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            // SAFETY: as above.
            Path::Avx512 => unsafe { crate::x86_64::avx512::panels::multiply(self, patches, epilogue, out) },
            #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
            Path::Avx2 | Path::Avx512 => unreachable!("no kernel holds a path this build lacks"),
            Path::Scalar => self.multiply_scalar(patches, epilogue, out),
        }
    }
}

impl Panel8 {
    fn multiply_scalar<E: Epilogue>(&self, patches: &Patches<'_, u8>, epilogue: &E, out: &mut [E::Out]) {
        let n = self.layout.n;
        let run = self.layout.segment_steps();
        for panel in 0..self.layout.panels() {
            let (steps, _) = self.panel(panel);
            let first = panel * PANEL;
            let count = PANEL.min(n - first);
            for (p, out) in out.chunks_exact_mut(n).enumerate() {
                let mut acc = [0_i32; PANEL];
                for (i, step) in steps.iter().enumerate() {
                    let at = patches.offset(p) + i / run * patches.segment_step + i % run * STEP;
                    let codes = &patches.data[at..at + STEP];
                    for (acc, w) in acc.iter_mut().zip(step.0.chunks_exact(STEP)) {
                        *acc += w.iter().zip(codes).map(|(&w, &c)| i32::from(c) * i32::from(w)).sum::<i32>();
                    }
                }
                epilogue.store(&acc, first, &mut out[first..first + count]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Panel8;

    #[test]
    fn blocks_follow_the_weights() {
        let ends = |k: usize, trit: fn(usize) -> i8| {
            let trits: Vec<i8> = (0..k).map(trit).collect();
            Panel8::gemm(k, 1, &trits).expect("trits").panel(0).1.to_vec()
        };
        // All +1: 64 steps of 4 codes put 128 on each of an output's two sums.
        assert_eq!(ends(1024, |_| 1), [64, 128, 192, 256]);
        assert_eq!(ends(1024, |_| -1), [64, 128, 192, 256]);
        // Half as dense: blocks twice as long. No weight: one block.
        assert_eq!(ends(1024, |i| if i % 2 == 0 { 1 } else { -1 }), [128, 256, 256, 256]);
        assert_eq!(ends(1024, |_| 0), [256; 4]);
        assert_eq!(ends(1, |_| 1), [1]);
    }

    #[test]
    fn bad_weights_are_errors_and_keep_the_old_one() {
        let mut w = Panel8::gemm(2, 3, &[1, 0, -1, 0, 1, 1]).expect("trits");
        let old = w.clone();
        assert!(w.repack(&[0; 5]).is_err());
        assert!(w.repack(&[0, 0, 0, 2, 0, 0]).is_err());
        assert_eq!(w, old);
        assert!(Panel8::gemm(0, 3, &[]).is_err());
        assert!(Panel8::gemm(3, 0, &[]).is_err());
        assert!(Panel8::gemm(usize::MAX, 2, &[]).is_err());
        assert!(Panel8::gemm(1 << 40, 1, &[]).is_err());
    }
}
