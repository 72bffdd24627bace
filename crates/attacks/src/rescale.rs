//! Scales for the logits of saturated networks: Jacobian (NJS) and Hessian-norm (HNS) scaling of Gupta and Ajanthan (2022).

use kernels::Real;

use crate::error::ModelError;
use crate::loss::argmax;
use crate::model::Differentiable;
use crate::wrap::Rescaled;

/// Factors tried by Hessian-norm scaling, per decade.
const PER_DECADE: i32 = 20;
/// Decades searched, as powers of ten.
const DECADES: (i32, i32) = (-5, 3);
/// Least error signal `1 - p_y` that Jacobian scaling leaves to a sample of the largest margin.
const SIGNAL: f64 = 0.01;

/// A calibration sample: its logits and the Gram matrix `J J^T` of their input gradients.
struct Local {
    z: Vec<f64>,
    gram: Vec<f64>,
}

impl<M: Differentiable<T>, T: Real> Rescaled<M, T> {
    /// Network Jacobian scaling: the mean singular value of the logits' Jacobian becomes 1, unless that would leave the
    /// largest margin of the calibration samples `x` less than a hundredth of error signal; then the factor that leaves it.
    ///
    /// # Errors
    /// When the model fails or has no gradients at all.
    pub fn jacobian_scaled(mut model: M, x: &[T]) -> Result<Self, ModelError> {
        let locals = locals(&mut model, x)?;
        let singular = |l: &Local| {
            let k = l.z.len();
            eigenvalues(&l.gram, k).iter().map(|v| v.max(0.0).sqrt()).sum::<f64>() / k as f64
        };
        let mean = locals.iter().map(singular).sum::<f64>() / locals.len().max(1) as f64;
        let margin = locals.iter().map(|l| gap(&l.z)).fold(0.0, f64::max);
        let classes = locals.first().map_or(2, |l| l.z.len()) as f64;
        // (K - 1) exp(-factor * margin) is the signal where all other classes are as far away as the nearest.
        let ceiling = ((classes - 1.0) / SIGNAL).ln() / margin;
        Self::temperature(model, 1.0 / (1.0 / mean).min(ceiling))
    }

    /// Hessian-norm scaling: the factor at which cross-entropy is most curved in the input, on average over the
    /// calibration samples `x`. For piecewise linear networks the Hessian is `b^2 J^T (diag p - p p^T) J`.
    ///
    /// # Errors
    /// As [`jacobian_scaled`](Self::jacobian_scaled).
    pub fn hessian_scaled(mut model: M, x: &[T]) -> Result<Self, ModelError> {
        let locals = locals(&mut model, x)?;
        let steps = (DECADES.1 - DECADES.0) * PER_DECADE;
        let factor = |i: i32| 10f64.powf(f64::from(DECADES.0) + f64::from(i) / f64::from(PER_DECADE));
        let curvature = |i: &i32| locals.iter().map(|l| hessian_norm(l, factor(*i))).sum::<f64>();
        let best = (0..=steps).max_by(|a, b| curvature(a).total_cmp(&curvature(b))).unwrap_or(0);
        if curvature(&best) <= 0.0 {
            return Err(ModelError::new("the model has no gradients to scale by"));
        }
        Self::temperature(model, 1.0 / factor(best))
    }
}

fn locals<T: Real>(model: &mut impl Differentiable<T>, x: &[T]) -> Result<Vec<Local>, ModelError> {
    let (d, k) = (model.input_len(), model.classes());
    let n = x.len() / d.max(1);
    let (mut logits, mut jacobian) = (vec![T::ZERO; n * k], vec![T::ZERO; n * k * d]);
    model.logits_jacobian(x, &mut logits, &mut jacobian)?;
    let local = |i: usize| {
        let row = |class: usize| &jacobian[(class * n + i) * d..][..d];
        let dot = |a: &[T], b: &[T]| a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum::<f64>();
        let gram = (0..k * k).map(|p| dot(row(p / k), row(p % k))).collect();
        Local { z: logits[i * k..(i + 1) * k].iter().map(|z| z.to_f64()).collect(), gram }
    };
    Ok((0..n).map(local).collect())
}

/// Difference of the two largest logits.
fn gap(z: &[f64]) -> f64 {
    let top = usize::from(argmax(z));
    let second =
        z.iter().enumerate().filter(|(i, _)| *i != top).map(|(_, z)| *z).fold(f64::NEG_INFINITY, f64::max);
    z.get(top).map_or(0.0, |z| z - second)
}

/// `b^2 ||J^T H J||_F` with `H = diag p - p p^T` at logits `b z`: the square is the trace of `(H G)^2`.
fn hessian_norm(l: &Local, b: f64) -> f64 {
    let k = l.z.len();
    let max = l.z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = l.z.iter().map(|z| (b * (z - max)).exp()).collect();
    let total: f64 = e.iter().sum();
    let p: Vec<f64> = e.iter().map(|e| e / total).collect();
    let mut product = vec![0.0; k * k];
    for i in 0..k {
        for j in 0..k {
            let mean: f64 = (0..k).map(|m| p[m] * l.gram[m * k + j]).sum();
            product[i * k + j] = p[i] * (l.gram[i * k + j] - mean);
        }
    }
    let trace: f64 = (0..k * k).map(|q| product[q] * product[q % k * k + q / k]).sum();
    b * b * trace.max(0.0).sqrt()
}

/// Eigenvalues of a symmetric matrix `[k, k]` by Jacobi's rotations.
fn eigenvalues(matrix: &[f64], k: usize) -> Vec<f64> {
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
        let local = Local { z: vec![0.5, 0.1], gram: vec![9.0, 0.0, 0.0, 1.0] };
        let p = 1.0 / (1.0 + (-2.0f64 * 0.4).exp());
        // J^T H J = pq [[9, -3], [-3, 1]], of Frobenius norm 10 pq.
        assert!((hessian_norm(&local, 2.0) - 4.0 * 10.0 * p * (1.0 - p)).abs() < 1e-12);
    }
}
