//! Models made of models: averages over draws for randomised ones, and borrowed ones.

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
    fn rows_belong_to(&mut self, ids: Option<&[u32]>) {
        self.model.rows_belong_to(ids);
    }
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
    fn rows_belong_to(&mut self, ids: Option<&[u32]>) {
        (**self).rows_belong_to(ids);
    }
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
