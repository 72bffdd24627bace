//! Trits of two outputs in a byte, for single rows: no shift and half a mask a product, at four bits a trit.
//!
//! A byte is `d + 4 t`, `d` the first output's trit and one, `t` the second one's trit. Codes are multiplied by the bytes as
//! they are and by their low two bits: these sums are the first output's (with the codes' own sum, which is taken off), and
//! what the former have more is four times the second one's. 16-bit sums are emptied before they can overflow: a step gives
//! at most `2 * 255 * 6` to the whole ones and `2 * 255 * 2` to the low ones.

use alloc::vec;
use alloc::vec::Vec;

use super::Form;
use crate::dispatch::{Kernel, Path};
use crate::error::{check_trits, length};
use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::scratch::Scratch;
use crate::{KernelError, parallel};

/// Trits of 16 outputs for four codes. Byte `4 l + j`: outputs `l` and `8 + l`, code `j`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(32))]
pub(crate) struct Step(pub(crate) [i8; 32]);

/// Codes of a step.
pub(crate) const STEP: usize = 4;
/// Panels of 16 outputs that are multiplied together.
pub(crate) const GROUP: usize = 4;
/// Steps of which sums of whole bytes fit 16 bits.
pub(crate) const SHORT: usize = 10;
/// Steps of which sums of low digits fit 16 bits.
pub(crate) const LONG: usize = 3 * SHORT;
const _: () = assert!(SHORT * 2 * 255 * 6 <= i16::MAX as usize && LONG * 2 * 255 * 2 <= i16::MAX as usize);
/// Work of one parallel block, in trits.
const BLOCK_TRITS: usize = 1 << 20;

/// A ternary weight at four bits a trit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pairs {
    k: usize,
    n: usize,
    /// Group by group of up to four panels; in a group step by step; of these one for every panel.
    steps: Vec<Step>,
}

impl Pairs {
    pub(super) fn new(k: usize, n: usize, trits: &[i8]) -> Result<Self, KernelError> {
        let len = n.checked_add(PANEL).and_then(|n| n.checked_mul(k));
        if k == 0 || n == 0 || k > Form::Pairs.largest_k() || len.is_none() {
            return Err(KernelError::Geometry {
                op: "Pairs",
                reason: "sizes are zero or too large (k, n)",
                sizes: [k, n, 0, 0],
            });
        }
        length("Pairs", "trits", k * n, trits.len())?;
        let mut pairs = Self { k, n, steps: vec![Step([0; 32]); k.div_ceil(STEP) * n.div_ceil(PANEL)] };
        pairs.repack(trits)?;
        Ok(pairs)
    }

    pub(super) fn repack(&mut self, trits: &[i8]) -> Result<(), KernelError> {
        check_trits("Pairs::repack", "Pairs", self.k * self.n, trits)?;
        let (count, panels) = (self.k.div_ceil(STEP), self.n.div_ceil(PANEL));
        for (k, row) in trits.chunks_exact(self.n).enumerate() {
            for (panel, outputs) in row.chunks(PANEL).enumerate() {
                let group = panel / GROUP * GROUP;
                let at = group * count + k / STEP * GROUP.min(panels - group) + panel - group;
                let bytes = self.steps[at].0[k % STEP..].iter_mut().step_by(STEP);
                // No trit is trit 0.
                let trit = |l: usize| outputs.get(l).copied().unwrap_or(0);
                bytes.enumerate().for_each(|(l, byte)| *byte = trit(l) + 1 + 4 * trit(l + 8));
            }
        }
        Ok(())
    }

    pub(super) fn k(&self) -> usize {
        self.k
    }

    pub(super) fn n(&self) -> usize {
        self.n
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.steps[..])
    }

    /// Rows of codes times the weight. Lengths have been checked.
    pub(super) fn multiply<E: Epilogue>(&self, kernel: Kernel, a: &[u8], epilogue: &E, c: &mut [E::Out]) {
        let count = self.k.div_ceil(STEP);
        let mut codes = Scratch::<u8>::filled(count * STEP, 0);
        let panels = (BLOCK_TRITS / (count * STEP * PANEL)).next_multiple_of(GROUP);
        for (a, c) in a.chunks_exact(self.k).zip(c.chunks_exact_mut(self.n)) {
            codes[..self.k].copy_from_slice(a);
            let codes = &codes[..];
            let total: i32 = a.iter().map(|&code| i32::from(code)).sum();
            parallel::for_each_chunk(c, panels.max(GROUP) * PANEL, |i, c| {
                let first = i * panels.max(GROUP);
                let steps = &self.steps[first * count..][..c.len().div_ceil(PANEL) * count];
                match kernel.path() {
                    #[cfg(all(feature = "std", target_arch = "x86_64"))]
                    // SAFETY: a kernel on this path exists only on a CPU that can run it.
                    Path::Avx2 | Path::Avx512 => unsafe {
                        crate::x86_64::pairs::row(steps, codes, total, epilogue, first * PANEL, c);
                    },
                    #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
                    Path::Avx2 | Path::Avx512 => unreachable!("no kernel holds a path this build lacks"),
                    Path::Scalar => row(steps, codes, epilogue, first * PANEL, c),
                }
            });
        }
    }
}

fn row<E: Epilogue>(steps: &[Step], codes: &[u8], epilogue: &E, first: usize, c: &mut [E::Out]) {
    let count = codes.len() / STEP;
    let groups = steps.chunks(GROUP * count).zip(c.chunks_mut(GROUP * PANEL));
    for (group, (steps, c)) in groups.enumerate() {
        let (panels, first) = (steps.len() / count, first + group * GROUP * PANEL);
        for (panel, out) in c.chunks_mut(PANEL).enumerate() {
            let mut acc = [0_i32; PANEL];
            let steps = steps[panel..].iter().step_by(panels);
            for (step, codes) in steps.zip(codes.chunks_exact(STEP)) {
                for (bytes, l) in step.0.chunks_exact(STEP).zip(0..) {
                    for (&byte, &code) in bytes.iter().zip(codes) {
                        acc[l] += i32::from(code) * i32::from((byte & 3) - 1);
                        acc[l + 8] += i32::from(code) * i32::from(byte >> 2);
                    }
                }
            }
            epilogue.store(&acc, first + panel * PANEL, out);
        }
    }
}
