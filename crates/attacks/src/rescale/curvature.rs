//! The factors themselves: when a row of logits is saturated, where its curvature is largest, and the small matrices of both.

use kernels::Real;

use crate::loss::ranked;

/// A row whose largest probability leaves less than this is saturated to Jacobian scaling, and gets its factor so that a
/// hundredth of error signal is left where all other logits are equal.
const SIGNAL: f64 = 0.01;
/// Factors that Hessian-norm scaling tries, equally spaced.
const GRID: usize = 100;
/// Error signal at the last of them.
const LEAST_SIGNAL: f64 = 1e-72;

/// Distance of the largest logit from that of the given rank (0 is the largest).
pub(super) fn spread<T: Real>(z: &[T], rank: usize) -> f64 {
    let at = |rank| z[ranked(z, rank)].to_f64();
    if rank < z.len() { at(0) - at(rank) } else { 0.0 }
}

/// What `distance` between the label's logit and all others leaves as error signal `signal` of the softmax.
pub(super) fn distance(signal: f64, classes: usize) -> f64 {
    ((1.0 - signal) * (classes as f64 - 1.0) / signal).ln()
}

/// Probabilities at logits `b z`.
pub(super) fn softmax<T: Real>(z: &[T], b: f64) -> Vec<f64> {
    let max = z.iter().fold(f64::NEG_INFINITY, |m, z| m.max(z.to_f64()));
    let e: Vec<f64> = z.iter().map(|z| (b * (z.to_f64() - max)).exp()).collect();
    let total: f64 = e.iter().sum();
    e.iter().map(|e| e / total).collect()
}

/// The factor of Jacobian scaling for a row whose logits are `factor * z`: 1 unless it is saturated.
pub(super) fn desaturating<T: Real>(z: &[T], factor: f64) -> f64 {
    let (p, range) = (softmax(z, factor), factor * spread(z, z.len() - 1));
    let signal = 1.0 - p.iter().copied().fold(0.0, f64::max);
    if signal < SIGNAL && range > 0.0 { distance(SIGNAL, z.len()) / range } else { 1.0 }
}

/// The factor of Hessian-norm scaling; 1 when the curvature has no maximum inside the grid.
pub(super) fn most_curved<T: Real>(z: &[T], gram: &[f64]) -> f64 {
    let (classes, gap) = (z.len(), spread(z, 1));
    // From nearly the error that guessing leaves to next to none.
    let first = distance(1.0 - 1.0 / classes as f64 - 0.01, classes) / gap;
    let last = distance(LEAST_SIGNAL, classes) / gap;
    if !(first > 0.0 && last.is_finite()) {
        return 1.0;
    }
    let factor = |i: usize| first + (last - first) * i as f64 / (GRID - 1) as f64;
    let norms: Vec<f64> = (0..GRID).map(|i| hessian_norm(z, gram, factor(i))).collect();
    let best = (0..GRID).fold(0, |best, i| if norms[i] > norms[best] { i } else { best });
    if best == 0 || best == GRID - 1 { 1.0 } else { factor(best) }
}

/// `J J^T` of sample `i` of `n`, from a Jacobian `[k, n, d]`.
pub(super) fn gram<T: Real>(jacobian: &[T], i: usize, n: usize, k: usize, d: usize) -> Vec<f64> {
    let row = |class: usize| &jacobian[(class * n + i) * d..][..d];
    let dot = |a: &[T], b: &[T]| a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum::<f64>();
    (0..k * k).map(|p| dot(row(p / k), row(p % k))).collect()
}

/// `b^2 ||J^T H J||_F` with `H = diag p - p p^T` at logits `b z`, the Hessian of cross-entropy in the input where the
/// network is linear: its square is the trace of `(H G)^2`.
pub(super) fn hessian_norm<T: Real>(z: &[T], gram: &[f64], b: f64) -> f64 {
    let (k, p) = (z.len(), softmax(z, b));
    let mut product = vec![0.0; k * k];
    for j in 0..k {
        let mean: f64 = (0..k).map(|m| p[m] * gram[m * k + j]).sum();
        for i in 0..k {
            product[i * k + j] = p[i] * (gram[i * k + j] - mean);
        }
    }
    let trace: f64 = (0..k * k).map(|q| product[q] * product[q % k * k + q / k]).sum();
    b * b * trace.max(0.0).sqrt()
}

/// Eigenvalues of a symmetric matrix `[k, k]` by Jacobi's rotations.
pub(super) fn eigenvalues(matrix: &[f64], k: usize) -> Vec<f64> {
    let mut a = matrix.to_vec();
    for _ in 0..50 {
        let off: f64 = (0..k * k).filter(|q| q / k != q % k).map(|q| a[q] * a[q]).sum();
        let all: f64 = a.iter().map(|v| v * v).sum();
        if off <= 1e-24 * all {
            break;
        }
        for p in 0..k {
            for q in p + 1..k {
                if a[p * k + q] == 0.0 {
                    continue;
                }
                let theta = (a[q * k + q] - a[p * k + p]) / (2.0 * a[p * k + q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let (c, s) = (1.0 / (t * t + 1.0).sqrt(), t / (t * t + 1.0).sqrt());
                for i in 0..k {
                    let (x, y) = (a[i * k + p], a[i * k + q]);
                    (a[i * k + p], a[i * k + q]) = (c * x - s * y, s * x + c * y);
                }
                for i in 0..k {
                    let (x, y) = (a[p * k + i], a[q * k + i]);
                    (a[p * k + i], a[q * k + i]) = (c * x - s * y, s * x + c * y);
                }
            }
        }
    }
    (0..k).map(|i| a[i * k + i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvalues_of_a_known_matrix() {
        let mut values = eigenvalues(&[2.0, 1.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 5.0], 3);
        values.sort_by(f64::total_cmp);
        for (got, want) in values.iter().zip([1.0, 3.0, 5.0]) {
            assert!((got - want).abs() < 1e-12, "{values:?}");
        }
    }

    #[test]
    fn the_hessians_norm_is_that_of_the_matrix() {
        // Two logits of one feature each: J = diag(3, 1), G = diag(9, 1); H = pq [[1, -1], [-1, 1]].
        let p = 1.0 / (1.0 + (-2.0f64 * 0.4).exp());
        // J^T H J = pq [[9, -3], [-3, 1]], of Frobenius norm 10 pq.
        let norm = hessian_norm(&[0.5, 0.1], &[9.0, 0.0, 0.0, 1.0], 2.0);
        assert!((norm - 4.0 * 10.0 * p * (1.0 - p)).abs() < 1e-12);
    }
}
