//! The `gemm` crate behind a safe call, for benches alone: its interface is raw pointers, and `unsafe` lives here.

use gemm_common::Parallelism;

/// `c = a b` with the `gemm` crate's f32 product. `a` `[m, k]`, `b` `[k, n]`, `c` `[m, n]`, row-major.
///
/// # Panics
/// If a slice has another length.
pub fn gemm_f32((m, k, n): (usize, usize, usize), a: &[f32], b: &[f32], c: &mut [f32], threads: usize) {
    assert_eq!((a.len(), b.len(), c.len()), (m * k, k * n, m * n), "lengths of a, b and c");
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    let gemm = gemm_f32::gemm::f32::get_gemm_fn();
    let [k_step, n_step] = [k as isize, n as isize];
    // SAFETY: the three slices hold whole row-major matrices of these sizes (asserted), `c` is borrowed uniquely, and
    // it is not read (`read_dst` is false).
    unsafe {
        gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n_step,
            false,
            a.as_ptr(),
            1,
            k_step,
            b.as_ptr(),
            1,
            n_step,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn is_a_matrix_product() {
        let mut c = [0.0; 4];
        super::gemm_f32(
            (2, 3, 2),
            &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0],
            &mut c,
            1,
        );
        assert_eq!(c, [4.0, 5.0, 10.0, 11.0]);
    }
}
