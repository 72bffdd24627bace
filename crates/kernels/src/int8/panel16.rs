//! `i8` weights widened to panels of `i16`, where nothing multiplies bytes exactly: 16 outputs by 2 codes to a step.
//!
//! Bytes would saturate (255 * 127 * 2 does not fit 16 bits), so codes and weights meet as 16-bit numbers whose
//! products are added in pairs to 32 bits, exactly.

use alloc::vec;
use alloc::vec::Vec;

use crate::dispatch::{Kernel, Path};
use crate::error::length;
use crate::integer::epilogue::Epilogue;
use crate::integer::patches::Patches;
use crate::integer::run::Weight;
use crate::integer::{LARGEST_ACCUMULATOR, Layout, PANEL};
use crate::{Conv2d, KernelError};

/// Weights of 16 outputs for 2 codes: element `2 l + j` is output `l`'s weight for code `j`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Step(pub(crate) [i16; 32]);

/// Codes of one step.
const STEP: usize = 2;

/// A packed 8-bit weight. Packing again in place allocates nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Panel16 {
    layout: Layout,
    /// Panel by panel.
    steps: Vec<Step>,
}

impl Panel16 {
    /// Packs a `[k, n]` matrix.
    ///
    /// # Errors
    /// A zero size, a `k` beyond 32896 (where an accumulator could overflow), or `weights` not `k n` long.
    pub(crate) fn gemm(k: usize, n: usize, weights: &[i8]) -> Result<Self, KernelError> {
        Self::new(Layout { segments: 1, segment: k, n, step: STEP }, weights)
    }

    /// Packs the `[kh, kw, cin, cout]` kernel of a convolution.
    ///
    /// # Errors
    /// As [`Panel16::gemm`].
    pub(crate) fn conv2d(g: &Conv2d, weights: &[i8]) -> Result<Self, KernelError> {
        let layout = Layout { segments: g.kernel_h, segment: g.kernel_w * g.in_c, n: g.out_c, step: STEP };
        Self::new(layout, weights)
    }

    fn new(layout: Layout, weights: &[i8]) -> Result<Self, KernelError> {
        let k = layout
            .segments
            .checked_mul(layout.segment)
            .filter(|&k| k as u64 <= LARGEST_ACCUMULATOR as u64 / (255 * 128));
        if k.is_none_or(|k| k == 0 || layout.n == 0 || k.checked_mul(layout.n).is_none()) {
            return Err(KernelError::Geometry {
                op: "Panel16",
                reason: "sizes are zero or too large (runs, codes per run, outputs)",
                sizes: [layout.segments, layout.segment, layout.n, 0],
            });
        }
        // Allocate only once the caller has shown to hold a weight of that size.
        length("Panel16", "weights", layout.k() * layout.n, weights.len())?;
        let mut packed = Self { layout, steps: vec![Step([0; 32]); layout.steps() * layout.panels()] };
        packed.repack(weights)?;
        Ok(packed)
    }

    /// Replaces the weight by another of the same shape, without allocating.
    ///
    /// # Errors
    /// `weights` of another length; the old weight is then kept.
    pub(crate) fn repack(&mut self, weights: &[i8]) -> Result<(), KernelError> {
        let Layout { segment, n, .. } = self.layout;
        length("Panel16::repack", "weights", self.layout.k() * n, weights.len())?;
        let segment_steps = self.layout.segment_steps();
        for (panel, steps) in self.steps.chunks_exact_mut(self.layout.steps()).enumerate() {
            let first = panel * PANEL;
            let count = PANEL.min(n - first);
            for (i, step) in steps.iter_mut().enumerate() {
                let (run, start) = (i / segment_steps, i % segment_steps * STEP);
                let codes = STEP.min(segment - start);
                step.0.fill(0);
                for j in 0..codes {
                    let row = &weights[(run * segment + start + j) * n + first..][..count];
                    for (l, &w) in row.iter().enumerate() {
                        step.0[STEP * l + j] = w.into();
                    }
                }
            }
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
        size_of_val(&self.steps[..])
    }

    /// Steps of a panel.
    pub(crate) fn panel(&self, panel: usize) -> &[Step] {
        let steps = self.layout.steps();
        &self.steps[panel * steps..][..steps]
    }
}

impl Weight for Panel16 {
    type Element = i16;
    const IN_PLACE: bool = false;

    fn layout(&self) -> Layout {
        self.layout
    }

    fn elements(_codes: &[u8]) -> &[i16] {
        &[]
    }

    fn multiply<E: Epilogue>(
        &self,
        kernel: Kernel,
        patches: &Patches<'_, i16>,
        epilogue: &E,
        out: &mut [E::Out],
    ) {
        match kernel.path() {
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            // SAFETY: a kernel on these paths exists only on a CPU that can run AVX2. The wider path has a form of its own, see
            // [`super::Packed`], and would be right with this one too.
            Path::Avx2 | Path::Avx512 => unsafe {
                crate::x86_64::panels::multiply(self, patches, epilogue, out);
            },
            #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
            Path::Avx2 | Path::Avx512 => unreachable!("no kernel holds a path this build lacks"),
            Path::Scalar => self.multiply_scalar(patches, epilogue, out),
        }
    }
}

impl Panel16 {
    fn multiply_scalar<E: Epilogue>(&self, patches: &Patches<'_, i16>, epilogue: &E, out: &mut [E::Out]) {
        let n = self.layout.n;
        let run = self.layout.segment_steps();
        for panel in 0..self.layout.panels() {
            let first = panel * PANEL;
            let count = PANEL.min(n - first);
            for (p, out) in out.chunks_exact_mut(n).enumerate() {
                let mut acc = [0_i32; PANEL];
                for (i, step) in self.panel(panel).iter().enumerate() {
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
