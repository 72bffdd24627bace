//! Trits at two bits each, for single rows: what bounds them is fetching the weight, so it is a quarter as long.
//!
//! Digits are `trit + 1`, so that unpacking is a shift and a mask; what the added ones contribute is the sum of the
//! codes, which is the same for all outputs and taken off. 16-bit sums wrap and are emptied every 64 steps of four codes:
//! a sum then met 128 products of a code and a trit, and 255 * 128 < 2^15.

use alloc::vec;
use alloc::vec::Vec;

use super::Form;
use crate::dispatch::{Kernel, Path};
use crate::error::{check_trits, length};
use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::scratch::Scratch;
use crate::{KernelError, parallel};

/// Digits of 16 outputs for 16 codes. Bits `2 s..2 s + 2` of byte `4 l + j`: output `l`'s digit for code `4 s + j`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Quad(pub(crate) [u8; 64]);

/// Codes of a quad.
pub(crate) const QUAD: usize = 16;
/// Quads of a block.
pub(crate) const BLOCK: usize = 16;
/// Work of one parallel block, in trits.
const BLOCK_TRITS: usize = 1 << 20;

/// A ternary weight at two bits a trit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed2 {
    k: usize,
    n: usize,
    /// Panel by panel.
    quads: Vec<Quad>,
}

impl Packed2 {
    pub(super) fn new(k: usize, n: usize, trits: &[i8]) -> Result<Self, KernelError> {
        if k == 0
            || n == 0
            || k > Form::Packed2.largest_k()
            || n.checked_add(PANEL).and_then(|n| n.checked_mul(k)).is_none()
        {
            return Err(KernelError::Geometry {
                op: "Packed2",
                reason: "sizes are zero or too large (k, n)",
                sizes: [k, n, 0, 0],
            });
        }
        length("Packed2", "trits", k * n, trits.len())?;
        let mut packed = Self { k, n, quads: vec![Quad([0; 64]); k.div_ceil(QUAD) * n.div_ceil(PANEL)] };
        packed.repack(trits)?;
        Ok(packed)
    }

    pub(super) fn repack(&mut self, trits: &[i8]) -> Result<(), KernelError> {
        check_trits("Packed2::repack", "Packed2", self.k * self.n, trits)?;
        let (n, quads) = (self.n, self.k.div_ceil(QUAD));
        for (i, quad) in self.quads.iter_mut().enumerate() {
            let (first, code) = (i / quads * PANEL, i % quads * QUAD);
            // Trit 0 where there is none.
            quad.0.fill(0b01_01_01_01);
            for (c, row) in trits[code * n..].chunks_exact(n).take(QUAD).enumerate() {
                for (l, trit) in row[first..n.min(first + PANEL)].iter().enumerate() {
                    let (place, shift) = (4 * l + c % 4, c / 4 * 2);
                    quad.0[place] = quad.0[place] & !(3 << shift) | ((trit + 1) as u8) << shift;
                }
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
        size_of_val(&self.quads[..])
    }

    /// Rows of codes times the weight. Lengths have been checked.
    pub(super) fn multiply<E: Epilogue>(&self, kernel: Kernel, a: &[u8], epilogue: &E, c: &mut [E::Out]) {
        let quads = self.k.div_ceil(QUAD);
        let mut codes = Scratch::<u8>::filled(quads * QUAD, 0);
        let mut offsets = Scratch::<i32>::take(quads.div_ceil(BLOCK));
        let panels = (BLOCK_TRITS / (quads * QUAD * PANEL)).max(2);
        for (a, c) in a.chunks_exact(self.k).zip(c.chunks_exact_mut(self.n)) {
            codes[..self.k].copy_from_slice(a);
            for (offset, codes) in offsets.iter_mut().zip(codes.chunks(BLOCK * QUAD)) {
                *offset = added(codes);
            }
            let (codes, offsets) = (&codes[..], &offsets[..]);
            parallel::for_each_chunk(c, panels * PANEL, |i, c| {
                let first = i * panels;
                let quads = &self.quads[first * quads..][..c.len().div_ceil(PANEL) * quads];
                match kernel.path() {
                    #[cfg(all(feature = "std", target_arch = "x86_64"))]
                    // SAFETY: a kernel on this path exists only on a CPU that can run it.
                    Path::Avx2 => unsafe {
                        crate::x86_64::packed2::row(quads, codes, offsets, epilogue, first * PANEL, c);
                    },
                    #[cfg(all(feature = "std", target_arch = "x86_64"))]
                    // SAFETY: as above.
                    Path::Avx512 => unsafe {
                        crate::x86_64::avx512::packed2::row(
                            quads,
                            codes,
                            offsets,
                            epilogue,
                            first * PANEL,
                            c,
                        );
                    },
                    #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
                    Path::Avx2 | Path::Avx512 => unreachable!("no kernel holds a path this build lacks"),
                    Path::Scalar => row(quads, codes, epilogue, first * PANEL, c),
                }
            });
        }
    }
}

/// What the ones added to trits contribute to a block's sums: codes 0 and 1 of all steps in the low half, codes 2 and 3
/// in the high one. At most 128 * 255 each.
fn added(codes: &[u8]) -> i32 {
    let sum = |at: usize| codes.chunks_exact(4).map(|c| i32::from(c[at]) + i32::from(c[at + 1])).sum::<i32>();
    sum(0) | sum(2) << 16
}

fn row<E: Epilogue>(quads: &[Quad], codes: &[u8], epilogue: &E, first: usize, c: &mut [E::Out]) {
    let panel_quads = codes.len() / QUAD;
    for (panel, (quads, out)) in quads.chunks_exact(panel_quads).zip(c.chunks_mut(PANEL)).enumerate() {
        let mut acc = [0_i32; PANEL];
        for (quad, codes) in quads.iter().zip(codes.chunks_exact(QUAD)) {
            for (l, acc) in acc.iter_mut().enumerate() {
                let digit = |i: usize| i32::from(quad.0[4 * l + i % 4] >> (i / 4 * 2) & 3);
                *acc +=
                    codes.iter().enumerate().map(|(i, &code)| i32::from(code) * (digit(i) - 1)).sum::<i32>();
            }
        }
        epilogue.store(&acc, first + panel * PANEL, out);
    }
}
