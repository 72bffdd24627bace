//! Trits a byte each, output by output along the codes, for single rows with few outputs: codes are read once for all
//! outputs, where a panel would broadcast every four of them to outputs most of which are not there.
//!
//! 16-bit sums are emptied every 32 lines: they then met 128 products of a code and a trit, and 255 * 128 < 2^15.

use alloc::vec;
use alloc::vec::Vec;

use super::Form;
use crate::dispatch::{Kernel, Path};
use crate::error::{check_trits, length};
use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::{KernelError, parallel};

/// Codes of a line.
pub(crate) const LINE: usize = 64;
/// Lines of a block.
pub(crate) const BLOCK: usize = 32;
/// Work of one parallel block, in trits.
const BLOCK_TRITS: usize = 1 << 20;

/// Trits of one output for 64 codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [i8; LINE]);

/// The last codes of a row, zeros after them.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Tail(pub(crate) [u8; LINE]);

/// A ternary weight as rows of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rows {
    k: usize,
    n: usize,
    /// Group by group of up to 16 outputs; in a group 64 codes after 64 codes; of these a line for every output, and one of
    /// zeros where the outputs are odd.
    lines: Vec<Line>,
}

/// Lines for 64 codes of a group of that many outputs.
pub(crate) fn width(outputs: usize) -> usize {
    outputs.next_multiple_of(2)
}

impl Rows {
    pub(super) fn new(k: usize, n: usize, trits: &[i8]) -> Result<Self, KernelError> {
        let len = n.checked_add(1).and_then(|n| n.checked_mul(k));
        if k == 0 || n == 0 || k > Form::Rows.largest_k() || len.is_none() {
            return Err(KernelError::Geometry {
                op: "Rows",
                reason: "sizes are zero or too large (k, n)",
                sizes: [k, n, 0, 0],
            });
        }
        length("Rows", "trits", k * n, trits.len())?;
        let mut rows = Self { k, n, lines: vec![Line([0; LINE]); k.div_ceil(LINE) * width(n)] };
        rows.repack(trits)?;
        Ok(rows)
    }

    pub(super) fn repack(&mut self, trits: &[i8]) -> Result<(), KernelError> {
        check_trits("Rows::repack", "Rows", self.k * self.n, trits)?;
        let (n, count) = (self.n, self.k.div_ceil(LINE));
        let mut groups = &mut self.lines[..];
        for first in (0..n).step_by(PANEL) {
            let outputs = (n - first).min(PANEL);
            let (group, rest) = groups.split_at_mut(count * width(outputs));
            groups = rest;
            for (k, row) in trits.chunks_exact(n).enumerate() {
                let lines = &mut group[k / LINE * width(outputs)..];
                for (line, &trit) in lines.iter_mut().zip(&row[first..first + outputs]) {
                    line.0[k % LINE] = trit;
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
        size_of_val(&self.lines[..])
    }

    /// Rows of codes times the weight. Lengths have been checked.
    pub(super) fn multiply<E: Epilogue>(&self, kernel: Kernel, a: &[u8], epilogue: &E, c: &mut [E::Out]) {
        let rows = parallel::rows_per_chunk(a.len() / self.k, self.k * self.n, BLOCK_TRITS);
        parallel::for_each_chunk(c, rows * self.n, |i, c| {
            let a = a[i * rows * self.k..].chunks_exact(self.k);
            a.zip(c.chunks_exact_mut(self.n)).for_each(|(a, c)| self.row(kernel, a, epilogue, c));
        });
    }

    fn row<E: Epilogue>(&self, kernel: Kernel, codes: &[u8], epilogue: &E, c: &mut [E::Out]) {
        let mut tail = Tail([0; LINE]);
        let rest = codes.chunks_exact(LINE).remainder();
        tail.0[..rest.len()].copy_from_slice(rest);
        let mut lines = &self.lines[..];
        for (group, out) in c.chunks_mut(PANEL).enumerate() {
            let (own, others) = lines.split_at(self.k.div_ceil(LINE) * width(out.len()));
            lines = others;
            let first = group * PANEL;
            match kernel.path() {
                #[cfg(all(feature = "std", target_arch = "x86_64"))]
                // SAFETY: a kernel on this path exists only on a CPU that can run it.
                Path::Avx2 => unsafe { crate::x86_64::rows::row(own, codes, &tail, epilogue, first, out) },
                #[cfg(all(feature = "std", target_arch = "x86_64"))]
                // SAFETY: as above.
                Path::Avx512 => unsafe {
                    crate::x86_64::avx512::rows::row(own, codes, &tail, epilogue, first, out);
                },
                #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
                Path::Avx2 | Path::Avx512 => unreachable!("no kernel holds a path this build lacks"),
                Path::Scalar => row(own, codes, &tail, epilogue, first, out),
            }
        }
    }
}

fn row<E: Epilogue>(
    lines: &[Line],
    codes: &[u8],
    tail: &Tail,
    epilogue: &E,
    first: usize,
    out: &mut [E::Out],
) {
    let mut acc = [0_i32; PANEL];
    let whole = codes.chunks_exact(LINE).chain(core::iter::once(&tail.0[..]));
    for (lines, codes) in lines.chunks_exact(width(out.len())).zip(whole) {
        for (acc, line) in acc.iter_mut().zip(lines) {
            let products = line.0.iter().zip(codes).map(|(&trit, &code)| i32::from(trit) * i32::from(code));
            *acc += products.sum::<i32>();
        }
    }
    epilogue.store(&acc, first, out);
}
