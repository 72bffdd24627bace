//! Matrix product of floats, parallel over fixed blocks of rows.

use crate::error::length;
use crate::float::{self, InPlace, Left, Packed, Rows, Runs, Target};
use crate::scratch::Scratch;
use crate::{KernelError, Real, parallel};

/// A matrix read through two strides, so that a transposed view costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct MatRef<'a, T> {
    /// Elements.
    pub data: &'a [T],
    /// Elements between two rows.
    pub row_stride: usize,
    /// Elements between two columns.
    pub col_stride: usize,
}

impl<'a, T> MatRef<'a, T> {
    /// A row-major matrix of `cols` columns.
    pub fn rows(data: &'a [T], cols: usize) -> Self {
        Self { data, row_stride: cols, col_stride: 1 }
    }

    /// The transpose of a row-major matrix of `cols` columns.
    pub fn transposed(data: &'a [T], cols: usize) -> Self {
        Self { data, row_stride: 1, col_stride: cols }
    }

    /// Fails unless a `rows` x `cols` matrix stays within `data`.
    pub(crate) fn check(&self, slice: &'static str, rows: usize, cols: usize) -> Result<(), KernelError> {
        if rows == 0 || cols == 0 {
            return Ok(());
        }
        let last = (rows - 1)
            .checked_mul(self.row_stride)
            .and_then(|r| (cols - 1).checked_mul(self.col_stride).and_then(|c| r.checked_add(c)));
        match last {
            Some(last) if last < self.data.len() => Ok(()),
            last => Err(KernelError::Length {
                op: "gemm",
                slice,
                expected: last.map_or(usize::MAX, |l| l.saturating_add(1)),
                actual: self.data.len(),
            }),
        }
    }
}

/// `c = a b + beta c`, with `a` of `m` x `k`, `b` of `k` x `n` and `c` row-major of `m` x `n`. A `beta` of zero
/// overwrites `c` whatever it holds. An element is summed over `k` in order, whatever `m` and `n` are.
///
/// # Errors
/// A view that leaves its slice, or a `c` of another length than `m n`.
pub fn gemm<T: Real>(
    (m, n, k): (usize, usize, usize),
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    beta: T,
    c: &mut [T],
) -> Result<(), KernelError> {
    a.check("a", m, k)?;
    b.check("b", k, n)?;
    let len = m.checked_mul(n).ok_or(KernelError::Geometry {
        op: "gemm",
        reason: "m n does not fit memory",
        sizes: [m, n, k, 0],
    })?;
    length("gemm", "c", len, c.len())?;
    if c.is_empty() {
        return Ok(());
    }
    if beta != T::ZERO && beta != T::ONE {
        c.iter_mut().for_each(|c| *c *= beta);
    }
    let target = Target { rows: Rows::every(n), add: beta != T::ZERO };
    let runs = Runs { runs: 1, run_step: 0, len: k, step: a.col_stride };
    // Few rows do not repay packing.
    if m < PACKING_ROWS && b.col_stride == 1 {
        let mut sums = Scratch::<T>::take(n);
        for (i, c) in c.chunks_exact_mut(n.max(1)).enumerate() {
            float::few_rows(&a.data[(i * a.row_stride).min(a.data.len())..], a.col_stride, b, k, &mut sums);
            c.iter_mut().zip(&*sums).for_each(|(c, &s)| *c = if target.add { *c + s } else { s });
        }
        return Ok(());
    }
    let rows = parallel::rows_per_chunk(m, n.saturating_mul(k), BLOCK_MACS).max(MIN_ROWS);
    let left = |i: usize, c: &[T]| {
        let rows = Rows { base: i * rows * a.row_stride, ..Rows::every(a.row_stride) };
        Left { a: a.data, count: c.len() / n, rows, runs }
    };
    if b.col_stride == 1 && k > 0 {
        // Packing goes along with the first rows of a block: sharing it would not repay a pass of its own.
        parallel::for_each_chunk(c, rows * n, |i, c| {
            let mut panels = Scratch::<T>::take(2 * Packed::<T>::len(k, 1));
            let right = InPlace { b, terms: k, columns: n, panels: &mut panels };
            float::product_in_place(left(i, c), right, target, c);
        });
        return Ok(());
    }
    let mut packed = Scratch::<T>::take(Packed::<T>::len(k, n));
    if k > 0 {
        float::pack(b, (k, n), (0, k), &mut packed);
    }
    let right = Packed::new(&packed, k, n);
    parallel::for_each_chunk(c, rows * n, |i, c| float::product(left(i, c), &right, target, c));
    Ok(())
}

/// Work of one parallel block: enough to hide the cost of handing it to a thread.
const BLOCK_MACS: usize = 1 << 22;
/// Rows a block has at least, so that panels are not fetched from memory for too few.
const MIN_ROWS: usize = 128;
/// Rows from which packing the right operand pays.
const PACKING_ROWS: usize = 6;
