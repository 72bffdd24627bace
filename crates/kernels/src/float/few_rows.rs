//! One row times a matrix read where it is: what batch-1 inference needs.

use crate::Real;
use crate::dispatch::every_path;
use crate::gemm::MatRef;

/// Terms added at a time.
const TERMS: usize = 4;

every_path! {
    /// `sums = a b` for a row `a` (`k` elements, `step` apart) and a `k` x `sums.len()` matrix of column stride 1. Each
    /// sum runs over `k` in order, as a tile's does: the bits are the same.
    pub(crate) fn few_rows<T: Real>(a: &[T], step: usize, b: MatRef<'_, T>, k: usize, sums: &mut [T]) {
        let n = sums.len();
        sums.fill(T::ZERO);
        let mut term = 0;
        while n > 0 && term + TERMS <= k {
            let x: [T; TERMS] = core::array::from_fn(|t| a[(term + t) * step]);
            let [b0, b1, b2, b3]: [&[T]; TERMS] =
                core::array::from_fn(|t| &b.data[(term + t) * b.row_stride..][..n]);
            for (i, sum) in sums.iter_mut().enumerate() {
                let s = x[1].madd::<FUSED>(b1[i], x[0].madd::<FUSED>(b0[i], *sum));
                *sum = x[3].madd::<FUSED>(b3[i], x[2].madd::<FUSED>(b2[i], s));
            }
            term += TERMS;
        }
        while n > 0 && term < k {
            let (x, b) = (a[term * step], &b.data[term * b.row_stride..][..n]);
            sums.iter_mut().zip(b).for_each(|(s, &b)| *s = x.madd::<FUSED>(b, *s));
            term += 1;
        }
    }
}
