//! `i8` weights as panels of bytes, 16 outputs by 4 codes to a step, where an instruction multiplies bytes exactly (VNNI).

use alloc::vec;
use alloc::vec::Vec;

use crate::KernelError;
use crate::dispatch::{Kernel, Path};
use crate::error::length;
use crate::integer::epilogue::Epilogue;
use crate::integer::patches::Patches;
use crate::integer::run::Weight;
use crate::integer::{Layout, PANEL};
use crate::ternary::{Step, fill};

/// Codes of one step.
const STEP: usize = 4;

/// A packed 8-bit weight. Packing again in place allocates nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PanelBytes {
    layout: Layout,
    /// Panel by panel.
    steps: Vec<Step>,
}

impl PanelBytes {
    /// Packs a weight that [`super::Panel16`] has taken: its sizes have been checked.
    pub(super) fn new(layout: Layout, weights: &[i8]) -> Result<Self, KernelError> {
        let layout = Layout { step: STEP, ..layout };
        length("PanelBytes", "weights", layout.k() * layout.n, weights.len())?;
        let mut packed = Self { layout, steps: vec![Step([0; 64]); layout.steps() * layout.panels()] };
        packed.repack(weights)?;
        Ok(packed)
    }

    pub(super) fn repack(&mut self, weights: &[i8]) -> Result<(), KernelError> {
        let Layout { segment, n, .. } = self.layout;
        length("PanelBytes::repack", "weights", self.layout.k() * n, weights.len())?;
        let segment_steps = self.layout.segment_steps();
        for (panel, steps) in self.steps.chunks_exact_mut(self.layout.steps()).enumerate() {
            let first = panel * PANEL;
            for (i, step) in steps.iter_mut().enumerate() {
                let (run, start) = (i / segment_steps, i % segment_steps * STEP);
                let rows = &weights[(run * segment + start) * n..][..STEP.min(segment - start) * n];
                fill(step, rows, n, first, PANEL.min(n - first));
            }
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.steps[..])
    }

    /// Steps of the panels from `first` on.
    pub(crate) fn panels_from(&self, first: usize) -> &[Step] {
        &self.steps[first * self.layout.steps()..]
    }
}

impl Weight for PanelBytes {
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
        assert!(kernel.path() == Path::Avx512, "bytes are for the path that multiplies them");
        // SAFETY: a kernel on this path exists only on a CPU that can run it.
        unsafe { crate::x86_64::avx512::panels::multiply(self, patches, epilogue, out) }
    }
}
