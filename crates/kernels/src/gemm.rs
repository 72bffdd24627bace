//! Matrix product of floats: one facade over the `gemm` crate, parallel over fixed blocks of rows.

use crate::error::length;
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

    /// The matrix without its first `row` rows.
    fn skip_rows(self, row: usize) -> Self {
        Self { data: &self.data[(row * self.row_stride).min(self.data.len())..], ..self }
    }
}

/// `c = a b + beta c`, with `a` of `m` x `k`, `b` of `k` x `n` and `c` row-major of `m` x `n`. A `beta` of zero
/// overwrites `c` whatever it holds.
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
    let rows = parallel::rows_per_chunk(m, n.saturating_mul(k), BLOCK_MACS).max(MIN_ROWS);
    parallel::for_each_chunk(c, rows * n, |i, c| {
        product((c.len() / n, n, k), a.skip_rows(i * rows), b, beta, c);
    });
    Ok(())
}

/// Work of one parallel block: enough to hide the cost of handing it to a thread.
const BLOCK_MACS: usize = 1 << 21;
/// Rows a block has at least, so that the cost of packing `b` stays small beside the product.
const MIN_ROWS: usize = 64;

/// The product itself, on the calling thread. The caller has checked the views and `c.len() == m n`.
#[cfg(feature = "std")]
pub(crate) fn product<T: Real>(
    (m, n, k): (usize, usize, usize),
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    beta: T,
    c: &mut [T],
) {
    debug_assert!(a.check("a", m, k).is_ok() && b.check("b", k, n).is_ok() && c.len() == m * n);
    if k == 0 || m == 0 || n == 0 {
        return crate::reference::gemm((m, n, k), a, b, beta, c);
    }
    // SAFETY: `a` and `b` were checked to hold m x k and k x n elements at these strides, `c` holds m x n row-major
    // and is borrowed uniquely; strides fit isize because the slices do.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            beta != T::ZERO,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            beta,
            T::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// The product itself, portably.
#[cfg(not(feature = "std"))]
pub(crate) fn product<T: Real>(
    (m, n, k): (usize, usize, usize),
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    beta: T,
    c: &mut [T],
) {
    crate::reference::gemm((m, n, k), a, b, beta, c);
}
