//! Norms, balls and the input box: where a perturbation may live, and which way is steepest.

use kernels::Real;

use crate::error::AttackError;
use crate::l1;
use crate::text::words;

words! {
    /// The norm that measures a perturbation.
    Norm {
        /// Largest absolute change of a feature.
        Linf = "linf",
        /// Euclidean length.
        L2 = "l2",
        /// Sum of absolute changes.
        L1 = "l1",
    }
}

impl Norm {
    /// Length of `a - b`.
    pub fn distance<T: Real>(self, a: &[T], b: &[T]) -> f64 {
        let pairs = a.iter().zip(b).map(|(a, b)| (a.to_f64() - b.to_f64()).abs());
        match self {
            Norm::Linf => pairs.fold(0.0, f64::max),
            Norm::L2 => pairs.map(|v| v * v).sum::<f64>().sqrt(),
            Norm::L1 => pairs.sum(),
        }
    }

    /// Length of `v`. The order of the sum is fixed: eight interleaved lanes, then the lanes in order.
    pub fn length<T: Real>(self, v: &[T]) -> f64 {
        match self {
            Norm::Linf => v.iter().fold(0.0, |m, v| m.max(v.to_f64().abs())),
            Norm::L2 => lanes(v, |v| v * v).sqrt(),
            Norm::L1 => lanes(v, f64::abs),
        }
    }

    /// Length of `v` in the dual norm: the most a unit perturbation can change `v . delta`.
    pub fn dual_length<T: Real>(self, v: &[T]) -> f64 {
        match self {
            Norm::Linf => Norm::L1.length(v),
            Norm::L2 => Norm::L2.length(v),
            Norm::L1 => Norm::Linf.length(v),
        }
    }
}

fn lanes<T: Real>(v: &[T], f: impl Fn(f64) -> f64) -> f64 {
    let mut acc = [0.0f64; 8];
    let chunks = v.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (a, v) in acc.iter_mut().zip(chunk) {
            *a += f(v.to_f64());
        }
    }
    for (a, v) in acc.iter_mut().zip(rest) {
        *a += f(v.to_f64());
    }
    acc.iter().sum()
}

/// -1, 0 or 1; zero (and NaN) give zero, so that a feature without gradient is not moved.
pub(crate) fn sign<T: Real>(v: T) -> T {
    if v > T::ZERO {
        T::ONE
    } else if v < T::ZERO {
        -T::ONE
    } else {
        T::ZERO
    }
}

pub(crate) fn clamp<T: Real>(v: T, lo: T, hi: T) -> T {
    if v < lo {
        lo
    } else if v > hi {
        hi
    } else {
        v
    }
}

pub(crate) fn abs<T: Real>(v: T) -> T {
    if v < T::ZERO { -v } else { v }
}

/// What a sample may be: bounds for all features alike, or for each.
#[derive(Debug, Clone, PartialEq)]
pub struct InputBox {
    lo: Vec<f32>,
    hi: Vec<f32>,
}

impl InputBox {
    /// The same bounds for every feature.
    ///
    /// # Errors
    /// [`AttackError::Bounds`] unless `lo <= hi`, both finite.
    pub fn new(lo: f32, hi: f32) -> Result<Self, AttackError> {
        Self::per_feature(vec![lo], vec![hi])
    }

    /// Bounds of each feature of a sample.
    ///
    /// # Errors
    /// [`AttackError::Bounds`] unless `lo[i] <= hi[i]`, both finite, and as many of either.
    pub fn per_feature(lo: Vec<f32>, hi: Vec<f32>) -> Result<Self, AttackError> {
        if lo.len() != hi.len() {
            let feature = lo.len().min(hi.len());
            return Err(AttackError::Bounds { feature, lo: f32::NAN, hi: f32::NAN });
        }
        for (feature, (&lo, &hi)) in lo.iter().zip(&hi).enumerate() {
            if !(lo.is_finite() && hi.is_finite() && lo <= hi) {
                return Err(AttackError::Bounds { feature, lo, hi });
            }
        }
        Ok(Self { lo, hi })
    }

    /// Images in [0, 1].
    pub fn unit() -> Self {
        Self { lo: vec![0.0], hi: vec![1.0] }
    }

    /// Width of the widest feature: the eps at which an L-infinity ball covers the box.
    pub fn width(&self) -> f32 {
        self.lo.iter().zip(&self.hi).fold(0.0, |w, (lo, hi)| w.max(hi - lo))
    }

    /// Bounds of all `d` features, or the number given when it is neither 1 nor `d`.
    pub(crate) fn expand<T: Real>(&self, d: usize) -> Result<(Vec<T>, Vec<T>), usize> {
        let cast = |v: &[f32]| -> Vec<T> {
            let mut v: Vec<T> = v.iter().map(|&v| T::from_f64(f64::from(v))).collect();
            if v.len() == 1 {
                v.resize(d, v[0]);
            }
            v
        };
        match self.lo.len() {
            n if n == 1 || n == d => Ok((cast(&self.lo), cast(&self.hi))),
            n => Err(n),
        }
    }
}

/// Moves `point` into the ball of radius `eps` around `center`, then into the box (torchattacks' and foolbox's order); in L1
/// to the nearest point of both.
pub(crate) fn project<T: Real>(norm: Norm, point: &mut [T], center: &[T], eps: f64, lo: &[T], hi: &[T]) {
    match norm {
        Norm::Linf => {
            let e = T::from_f64(eps);
            for (((p, &c), &lo), &hi) in point.iter_mut().zip(center).zip(lo).zip(hi) {
                *p = clamp(clamp(*p, c - e, c + e), lo, hi);
            }
            return;
        }
        Norm::L2 => {
            let length = Norm::L2.distance(point, center);
            if length > eps {
                let scale = T::from_f64(eps / length);
                for (p, &c) in point.iter_mut().zip(center) {
                    *p = c + (*p - c) * scale;
                }
            }
        }
        Norm::L1 => return l1::project(point, center, eps, lo, hi),
    }
    clip(point, lo, hi);
}

/// Moves `point` into the box.
pub(crate) fn clip<T: Real>(point: &mut [T], lo: &[T], hi: &[T]) {
    for ((p, &lo), &hi) in point.iter_mut().zip(lo).zip(hi) {
        *p = clamp(*p, lo, hi);
    }
}

/// Adds to `point` the step of length `step` that increases a function of gradient `grad` most.
///
/// L-infinity: the sign; L2: the gradient scaled to unit length; L1: all of it along the largest coordinate (coordinates
/// that are equally large share it). Iterated steps in L1 are [`l1::ascend`].
pub(crate) fn ascend<T: Real>(norm: Norm, point: &mut [T], grad: &[T], step: f64) {
    match norm {
        Norm::Linf => {
            let a = T::from_f64(step);
            for (p, &g) in point.iter_mut().zip(grad) {
                *p += a * sign(g);
            }
        }
        Norm::L2 => {
            let length = Norm::L2.length(grad);
            if length > 0.0 && length.is_finite() {
                // In f64: a gradient of 1e-30 still has a direction.
                let scale = step / length;
                for (p, &g) in point.iter_mut().zip(grad) {
                    *p += T::from_f64(g.to_f64() * scale);
                }
            }
        }
        Norm::L1 => {
            let threshold = grad.iter().fold(T::ZERO, |m, &g| if abs(g) > m { abs(g) } else { m });
            if threshold > T::ZERO {
                let chosen = grad.iter().filter(|&&g| abs(g) >= threshold).count();
                let a = T::from_f64(step / chosen as f64);
                for (p, &g) in point.iter_mut().zip(grad) {
                    if abs(g) >= threshold {
                        *p += a * sign(g);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projections_are_nearest_points() {
        let center = [0.5f64; 4];
        let mut p = [0.9, 0.5, 0.1, 0.55];
        project(Norm::L1, &mut p, &center, 0.4, &[0.0; 4], &[1.0; 4]);
        // Soft threshold 0.2: |0.4| - 0.2 twice, the small one vanishes.
        for (got, want) in p.iter().zip([0.7, 0.5, 0.3, 0.5]) {
            assert!((got - want).abs() < 1e-12, "{p:?}");
        }
        let mut p = [0.8, 0.5, 0.1, 0.5];
        project(Norm::L2, &mut p, &center, 0.25, &[0.0; 4], &[1.0; 4]);
        assert!((p[0] - 0.65).abs() < 1e-12 && (p[2] - 0.3).abs() < 1e-12, "{p:?}");
    }

    #[test]
    fn steepest_steps_have_unit_length_in_their_norm() {
        let grad = [0.3f64, -2.0, 0.0, 1.0];
        for norm in [Norm::Linf, Norm::L2, Norm::L1] {
            let mut p = [0.0; 4];
            ascend(norm, &mut p, &grad, 0.5);
            assert!((norm.length(&p) - 0.5).abs() < 1e-12);
            let gain: f64 = p.iter().zip(&grad).map(|(p, g)| p * g).sum();
            assert!((gain - 0.5 * norm.dual_length(&grad)).abs() < 1e-12);
        }
    }

    #[test]
    fn boxes_refuse_nonsense() {
        assert!(InputBox::new(1.0, 0.0).is_err());
        assert!(InputBox::new(0.0, f32::NAN).is_err());
        assert!(InputBox::per_feature(vec![0.0], vec![1.0, 1.0]).is_err());
        assert_eq!(InputBox::unit().width(), 1.0);
    }
}
