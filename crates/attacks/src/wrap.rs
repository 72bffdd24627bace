//! Models made of models: averages over draws for randomised ones, rescaled logits for saturated ones.

use kernels::Real;

use crate::error::ModelError;
use crate::model::{Classifier, Differentiable};

/// Expectation over transformations: logits are means over `draws` passes, gradients are means of the gradients of the
/// loss of each pass (Athalye et al. 2018; auto-attack averages the same, but accepts on the last pass alone).
///
/// Around a classifier without gradients it gives black-box attacks an averaged acceptance.
pub struct Eot<M, T = f32> {
    model: M,
    draws: usize,
    logits: Vec<T>,
    grad: Vec<T>,
}

impl<M, T: Real> Eot<M, T> {
    /// Averages over `draws` passes (at least one). auto-attack's `rand` version uses 20.
    pub fn new(model: M, draws: usize) -> Self {
        Self { model, draws: draws.max(1), logits: Vec::new(), grad: Vec::new() }
    }

    /// The model inside.
    pub fn into_inner(self) -> M {
        self.model
    }
}

fn add<T: Real>(sum: &mut [T], part: &[T]) {
    sum.iter_mut().zip(part).for_each(|(s, p)| *s += *p);
}

fn divide<T: Real>(sum: &mut [T], by: usize) {
    let share = T::from_f64(1.0 / by as f64);
    sum.iter_mut().for_each(|s| *s *= share);
}

impl<T: Real, M: Classifier<T>> Classifier<T> for Eot<M, T> {
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
        self.logits.resize(out.len(), T::ZERO);
        out.fill(T::ZERO);
        for _ in 0..self.draws {
            self.model.logits(x, &mut self.logits)?;
            add(out, &self.logits);
        }
        divide(out, self.draws);
        Ok(())
    }
}

impl<T: Real, M: Differentiable<T>> Differentiable<T> for Eot<M, T> {
    /// `cotangent` is called once per draw, so that each draw's loss is differentiated at its own logits.
    fn logits_vjp(
        &mut self,
        x: &[T],
        cotangent: &mut dyn FnMut(&[T], &mut [T]),
        logits: &mut [T],
        grad: &mut [T],
    ) -> Result<(), ModelError> {
        self.logits.resize(logits.len(), T::ZERO);
        self.grad.resize(grad.len(), T::ZERO);
        logits.fill(T::ZERO);
        grad.fill(T::ZERO);
        for _ in 0..self.draws {
            self.model.logits_vjp(x, cotangent, &mut self.logits, &mut self.grad)?;
            add(logits, &self.logits);
            add(grad, &self.grad);
        }
        divide(logits, self.draws);
        divide(grad, self.draws);
        Ok(())
    }
}

/// Logits times a positive factor: predictions stay, the softmax leaves saturation (Gupta and Ajanthan 2022).
pub struct Rescaled<M, T = f32> {
    model: M,
    factor: T,
    scaled: Vec<T>,
}

impl<M, T: Real> Rescaled<M, T> {
    /// Divides the logits by `temperature`.
    ///
    /// # Errors
    /// When the temperature is not a finite number above 0.
    pub fn temperature(model: M, temperature: f64) -> Result<Self, ModelError> {
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(ModelError::new(format!("temperature {temperature} is not a finite number above 0")));
        }
        Ok(Self { model, factor: T::from_f64(1.0 / temperature), scaled: Vec::new() })
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
        let gaps = logits.chunks_exact(k).map(|z| {
            let mut z: Vec<f64> = z.iter().map(|v| v.to_f64()).collect();
            z.sort_by(|a, b| b.total_cmp(a));
            z.first().zip(z.get(1)).map_or(0.0, |(a, b)| a - b)
        });
        Self::temperature(model, crate::stats::median(gaps).unwrap_or(0.0) / gap)
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

impl<T: Real, M: Differentiable<T>> Differentiable<T> for Rescaled<M, T> {
    fn logits_vjp(
        &mut self,
        x: &[T],
        cotangent: &mut dyn FnMut(&[T], &mut [T]),
        logits: &mut [T],
        grad: &mut [T],
    ) -> Result<(), ModelError> {
        let Self { model, factor, scaled } = self;
        let factor = *factor;
        scaled.resize(logits.len(), T::ZERO);
        let mut inner = |z: &[T], cot: &mut [T]| {
            scaled.iter_mut().zip(z).for_each(|(s, z)| *s = *z * factor);
            cotangent(scaled, cot);
            cot.iter_mut().for_each(|c| *c *= factor);
        };
        model.logits_vjp(x, &mut inner, logits, grad)?;
        logits.copy_from_slice(scaled);
        Ok(())
    }
}

/// A mutable reference to a model is a model, so that a wrapper can borrow.
impl<T: Real, M: Classifier<T> + ?Sized> Classifier<T> for &mut M {
    fn input_len(&self) -> usize {
        (**self).input_len()
    }
    fn classes(&self) -> usize {
        (**self).classes()
    }
    fn input_shape(&self) -> [usize; 3] {
        (**self).input_shape()
    }
    fn logits(&mut self, x: &[T], out: &mut [T]) -> Result<(), ModelError> {
        (**self).logits(x, out)
    }
}

impl<T: Real, M: Differentiable<T> + ?Sized> Differentiable<T> for &mut M {
    fn logits_vjp(
        &mut self,
        x: &[T],
        cotangent: &mut dyn FnMut(&[T], &mut [T]),
        logits: &mut [T],
        grad: &mut [T],
    ) -> Result<(), ModelError> {
        (**self).logits_vjp(x, cotangent, logits, grad)
    }
    fn logits_jacobian(&mut self, x: &[T], logits: &mut [T], jacobian: &mut [T]) -> Result<(), ModelError> {
        (**self).logits_jacobian(x, logits, jacobian)
    }
}
