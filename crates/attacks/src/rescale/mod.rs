//! Rescaled logits for saturated networks: temperatures, and the Jacobian (NJS) and Hessian-norm (HNS) scaling of Gupta and
//! Ajanthan (AAAI 2022, arXiv 2003.13511), as their `attack-bnn` has them.

mod curvature;

use std::collections::HashMap;

use kernels::Real;

use curvature::{desaturating, eigenvalues, gram, most_curved, spread};

use crate::error::ModelError;
use crate::model::{Classifier, Differentiable};

/// Which further factor a row of logits gets while its gradient is taken.
#[derive(Clone, Copy)]
enum Rule {
    None,
    Jacobian,
    Hessian,
}

/// Logits times positive factors: predictions stay, the softmax leaves saturation.
///
/// The answer is always `logits * network factor`. With Jacobian or Hessian-norm scaling the loss and its gradient are
/// taken at logits scaled further, row by row, so losses of different points are not on one scale: meant for attacks that
/// step and look at predictions (FGSM, BIM, PGD, the authors' FGSM++ and PGD++), not for ones that steer by the loss
/// (APGD). The authors' rules are about correctly classified samples; here the predicted class stands for the label.
pub struct Rescaled<M, T = f32> {
    model: M,
    factor: T,
    rule: Rule,
    scaled: Vec<T>,
    factors: Vec<T>,
    /// Whose points the rows are; empty where nobody said so.
    rows: Vec<u32>,
    /// Factors of Hessian-norm scaling of the attack under way, by sample.
    curved: HashMap<u32, T>,
}

impl<M, T: Real> Rescaled<M, T> {
    fn by(model: M, factor: f64, rule: Rule) -> Self {
        let (scaled, factors, rows, curved) = (Vec::new(), Vec::new(), Vec::new(), HashMap::new());
        Self { model, factor: T::from_f64(factor), rule, scaled, factors, rows, curved }
    }

    /// Divides the logits by `temperature`.
    ///
    /// # Errors
    /// When the temperature is not a finite number above 0.
    pub fn temperature(model: M, temperature: f64) -> Result<Self, ModelError> {
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(ModelError::new(format!("temperature {temperature} is not a finite number above 0")));
        }
        Ok(Self::by(model, 1.0 / temperature, Rule::None))
    }

    /// Chooses the temperature so that the median gap between the two largest logits over the calibration samples `x`
    /// becomes `gap` (1 keeps cross-entropy's gradient alive).
    ///
    /// # Errors
    /// When the model fails, or its gaps have no positive finite median.
    pub fn calibrated(mut model: M, x: &[T], gap: f64) -> Result<Self, ModelError>
    where
        M: Classifier<T>,
    {
        let k = model.classes();
        let mut logits = vec![T::ZERO; x.len() / model.input_len().max(1) * k];
        model.logits(x, &mut logits)?;
        let gaps = logits.chunks_exact(k).map(|z| spread(z, 1));
        Self::temperature(model, crate::stats::median(gaps).unwrap_or(0.0) / gap)
    }

    /// Network Jacobian scaling (NJS): logits are divided by the mean singular value of their input Jacobians over the
    /// calibration samples `x` (the authors take about a hundred); rows saturated even so get a further factor.
    ///
    /// # Errors
    /// When the model fails or has no gradients at all.
    pub fn jacobian_scaled(mut model: M, x: &[T]) -> Result<Self, ModelError>
    where
        M: Differentiable<T>,
    {
        let (d, k) = (model.input_len(), model.classes());
        let n = x.len() / d.max(1);
        let (mut logits, mut jacobian) = (vec![T::ZERO; n * k], vec![T::ZERO; n * k * d]);
        model.logits_jacobian(x, &mut logits, &mut jacobian)?;
        let singular = |i: usize| {
            let mut values = eigenvalues(&gram(&jacobian, i, n, k, d), k);
            values.sort_by(|a, b| b.total_cmp(a));
            values.truncate(d);
            values.iter().map(|v| v.max(0.0).sqrt()).sum::<f64>() / k.min(d).max(1) as f64
        };
        let mean = (0..n).map(singular).sum::<f64>() / n.max(1) as f64;
        Ok(Self { rule: Rule::Jacobian, ..Self::temperature(model, mean)? })
    }

    /// Hessian-norm scaling (HNS): every sample gets the factor at which cross-entropy is most curved in the input, found
    /// by one Jacobian where an attack first asks for its gradient, as the authors do, and kept until the attack ends.
    /// Asked outside an attack, every gradient costs a Jacobian.
    pub fn hessian_scaled(model: M) -> Self {
        Self::by(model, 1.0, Rule::Hessian)
    }

    /// The model inside.
    pub fn into_inner(self) -> M {
        self.model
    }
}

impl<T: Real, M: Classifier<T>> Classifier<T> for Rescaled<M, T> {
    fn input_len(&self) -> usize {
        self.model.input_len()
    }
    fn classes(&self) -> usize {
        self.model.classes()
    }
    fn input_shape(&self) -> [usize; 3] {
        self.model.input_shape()
    }
    fn logits(&mut self, x: &[T], out: &mut [T]) -> Result<(), ModelError> {
        self.model.logits(x, out)?;
        out.iter_mut().for_each(|z| *z *= self.factor);
        Ok(())
    }
}

impl<T: Real, M: Differentiable<T>> Rescaled<M, T> {
    /// Sets the rows' factors by Hessian-norm scaling.
    fn find_curved(&mut self, x: &[T], n: usize) -> Result<(), ModelError> {
        let (d, k) = (self.model.input_len(), self.model.classes());
        let known = self.rows.len() == n;
        let new: Vec<usize> =
            (0..n).filter(|&i| !known || !self.curved.contains_key(&self.rows[i])).collect();
        let (mut logits, mut jacobian) = (vec![T::ZERO; new.len() * k], vec![T::ZERO; k * new.len() * d]);
        if !new.is_empty() {
            let points: Vec<T> = new.iter().flat_map(|&i| &x[i * d..(i + 1) * d]).copied().collect();
            self.model.logits_jacobian(&points, &mut logits, &mut jacobian)?;
        }
        for (j, (&i, z)) in new.iter().zip(logits.chunks_exact(k)).enumerate() {
            let factor = T::from_f64(most_curved(z, &gram(&jacobian, j, new.len(), k, d)));
            self.factors[i] = factor;
            if known {
                self.curved.insert(self.rows[i], factor);
            }
        }
        if known {
            for (factor, id) in self.factors.iter_mut().zip(&self.rows) {
                *factor = self.curved[id];
            }
        }
        Ok(())
    }
}

impl<T: Real, M: Differentiable<T>> Differentiable<T> for Rescaled<M, T> {
    fn rows_belong_to(&mut self, ids: Option<&[u32]>) {
        self.rows.clear();
        match ids {
            Some(ids) => self.rows.extend_from_slice(ids),
            None => self.curved.clear(),
        }
        self.model.rows_belong_to(ids);
    }

    fn logits_vjp(
        &mut self,
        x: &[T],
        cotangent: &mut dyn FnMut(&[T], &mut [T]),
        logits: &mut [T],
        grad: &mut [T],
    ) -> Result<(), ModelError> {
        let k = self.model.classes();
        self.scaled.resize(logits.len(), T::ZERO);
        self.factors.clear();
        self.factors.resize(logits.len() / k.max(1), self.factor);
        if let Rule::Hessian = self.rule {
            self.find_curved(x, self.factors.len())?;
        }
        let Self { model, factor, rule, scaled, factors, .. } = self;
        let (factor, rule) = (*factor, *rule);
        let mut inner = |z: &[T], cot: &mut [T]| {
            let rows = scaled.chunks_exact_mut(k).zip(z.chunks_exact(k)).zip(&mut *factors);
            for ((scaled, z), row) in rows {
                if let Rule::Jacobian = rule {
                    *row = factor * T::from_f64(desaturating(z, factor.to_f64()));
                }
                scaled.iter_mut().zip(z).for_each(|(s, z)| *s = *z * *row);
            }
            cotangent(scaled, cot);
            for (cot, row) in cot.chunks_exact_mut(k).zip(&*factors) {
                cot.iter_mut().for_each(|c| *c *= *row);
            }
        };
        model.logits_vjp(x, &mut inner, logits, grad)?;
        logits.iter_mut().for_each(|z| *z *= factor);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::curvature::softmax;
    use super::*;
    use crate::model::FnDifferentiable;

    /// `z = W x` for three features and four classes, of singular values 8, 4 and 3.
    const W: [[f64; 3]; 4] = [[8.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]];

    fn linear() -> impl Differentiable<f64> {
        FnDifferentiable::new(
            [3, 1, 1],
            4,
            |x: &[f64], z: &mut [f64]| {
                for (x, z) in x.chunks_exact(3).zip(z.chunks_exact_mut(4)) {
                    (0..4).for_each(|i| z[i] = (0..3).map(|j| W[i][j] * x[j]).sum());
                }
            },
            |_: &[f64], cot: &[f64], grad: &mut [f64]| {
                for (cot, grad) in cot.chunks_exact(4).zip(grad.chunks_exact_mut(3)) {
                    (0..3).for_each(|j| grad[j] = (0..4).map(|i| W[i][j] * cot[i]).sum());
                }
            },
        )
    }

    /// Answer, what the loss saw, and the gradient of `sum_i (i + 1) s_i` of the logits `s` it saw.
    fn ask(model: &mut Rescaled<impl Differentiable<f64>, f64>, x: &[f64]) -> [Vec<f64>; 3] {
        let n = x.len() / 3;
        let (mut z, mut seen, mut grad) = (vec![0.0; 4 * n], Vec::new(), vec![0.0; x.len()]);
        let mut cotangent = |s: &[f64], cot: &mut [f64]| {
            seen = s.to_vec();
            cot.iter_mut().enumerate().for_each(|(i, c)| *c = (i % 4 + 1) as f64);
        };
        model.logits_vjp(x, &mut cotangent, &mut z, &mut grad).unwrap();
        let mut plain = vec![0.0; 4 * n];
        model.logits(x, &mut plain).unwrap();
        assert_eq!(z, plain);
        [z, seen, grad]
    }

    #[test]
    fn jacobian_scaling_raises_saturated_rows_alone() {
        let mut model = Rescaled::jacobian_scaled(linear(), &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]).unwrap();
        // The mean singular value is 5: the rows become (1.6, 0, 0, 0) and (16, 4, 0, 0).
        let [z, seen, grad] = ask(&mut model, &[1.0, 0.0, 0.0, 10.0, 5.0, 0.0]);
        let close = |got: &[f64], want: &[f64]| {
            assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-9), "{got:?} {want:?}");
        };
        close(&z, &[1.6, 0.0, 0.0, 0.0, 16.0, 4.0, 0.0, 0.0]);
        // Saturated: the range becomes ln(0.99 * 3 / 0.01).
        let range = 297f64.ln();
        close(&seen, &[1.6, 0.0, 0.0, 0.0, range, range / 4.0, 0.0, 0.0]);
        // Where all other logits are equal, a hundredth of error signal is left.
        close(&[1.0 - softmax(&[range, 0.0, 0.0, 0.0], 1.0)[0]], &[0.01]);
        // W^T (1, 2, 3, 4) times each row's whole factor.
        let factor = range / 80.0;
        close(&grad, &[8.0 / 5.0, 8.0 / 5.0, 9.0 / 5.0, 8.0 * factor, 8.0 * factor, 9.0 * factor]);
    }

    #[test]
    fn an_attack_finds_the_factor_of_a_sample_once() {
        let (mut model, x) = (Rescaled::hessian_scaled(linear()), [2.0, 0.5, 0.1, 0.2, 0.9, 0.0]);
        let seen = |model: &mut Rescaled<_, f64>, x: &[f64]| ask(model, x)[1].clone();
        let alone = seen(&mut model, &x);
        model.rows_belong_to(None);
        model.rows_belong_to(Some(&[7, 9]));
        assert_eq!(seen(&mut model, &x), alone);
        // Elsewhere, and with the survivors moved up: the factors of the start, not of the place.
        let moved: Vec<f64> = x.iter().map(|x| 3.0 * x).collect();
        model.rows_belong_to(Some(&[9]));
        let later = seen(&mut model, &moved[3..]);
        for (later, first) in later.iter().zip(&alone[4..]) {
            assert!((later - 3.0 * first).abs() < 1e-9, "{later} {first}");
        }
        // The next attack starts afresh: at three times the logits the factor is a third.
        model.rows_belong_to(None);
        let afresh = seen(&mut model, &moved[3..]);
        assert!(afresh.iter().zip(&alone[4..]).all(|(a, b)| (a - b).abs() < 1e-9), "{afresh:?}");
    }

    #[test]
    fn hessian_norm_scaling_takes_the_most_curved_factor_of_its_grid() {
        let (mut model, x) = (Rescaled::hessian_scaled(linear()), [100.0, 0.0, 0.0]);
        let [z, seen, grad] = ask(&mut model, &x);
        assert_eq!(z, [800.0, 0.0, 0.0, 0.0]);
        // By the definition, from the Hessian itself: W^T (diag p - p p^T) W.
        let curvature = |range: f64| {
            let p = softmax(&[range, 0.0, 0.0, 0.0], 1.0);
            let h = |a: usize, b: usize| if a == b { p[a] - p[a] * p[a] } else { -p[a] * p[b] };
            let entry = |i: usize, j: usize| W[i][i] * h(i, j) * W[j][j];
            let square: f64 = (0..9).map(|q| entry(q / 3, q % 3).powi(2)).sum();
            range * range * square.sqrt()
        };
        let (first, last) = ((0.26f64 * 3.0 / 0.74).ln(), (3.0f64 / 1e-72).ln());
        let grid = (0..100).map(|i| first + (last - first) * f64::from(i) / 99.0);
        let best = grid.max_by(|a, b| curvature(*a).total_cmp(&curvature(*b))).unwrap();
        assert!((seen[0] - best).abs() < 1e-9 && best > 1.0 && best < 10.0, "{} {best}", seen[0]);
        assert!((grad[0] - 8.0 * best / 800.0).abs() < 1e-12);
        // Two classes at the same height: no factor tells them apart.
        assert_eq!(most_curved(&[1.0, 1.0], &[1.0, 0.0, 0.0, 1.0]), 1.0);
    }
}
