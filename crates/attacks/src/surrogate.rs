//! Gradients of another model: backward-pass differentiable approximation (Athalye et al. 2018).

use kernels::Real;

use crate::error::ModelError;
use crate::model::{Classifier, Differentiable};

/// Logits of one model, gradients of another at the same points: the exact quantized network forward, and backward a twin
/// whose quantizers pass gradients otherwise (or none at all, as an integer program does).
pub struct Bpda<M, S, T = f32> {
    model: M,
    surrogate: S,
    scratch: Vec<T>,
}

impl<M, S, T: Real> Bpda<M, S, T> {
    /// Both must take the same inputs and tell the same classes; [`crate::run`] fails otherwise.
    pub fn new(model: M, surrogate: S) -> Self {
        Self { model, surrogate, scratch: Vec::new() }
    }
}

impl<T: Real, M: Classifier<T>, S: Differentiable<T>> Classifier<T> for Bpda<M, S, T> {
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
        self.model.logits(x, out)
    }
}

impl<T: Real, M: Classifier<T>, S: Differentiable<T>> Differentiable<T> for Bpda<M, S, T> {
    fn rows_belong_to(&mut self, ids: Option<&[u32]>) {
        self.surrogate.rows_belong_to(ids);
    }
    /// The loss is differentiated at the model's own logits, the network at the surrogate's.
    fn logits_vjp(
        &mut self,
        x: &[T],
        cotangent: &mut dyn FnMut(&[T], &mut [T]),
        logits: &mut [T],
        grad: &mut [T],
    ) -> Result<(), ModelError> {
        if (self.model.input_len(), self.model.classes())
            != (self.surrogate.input_len(), self.surrogate.classes())
        {
            return Err(ModelError::new("the surrogate takes other inputs or tells other classes"));
        }
        self.model.logits(x, logits)?;
        let mut given = vec![T::ZERO; logits.len()];
        cotangent(logits, &mut given);
        self.scratch.resize(logits.len(), T::ZERO);
        self.surrogate.logits_vjp(x, &mut |_, cot| cot.copy_from_slice(&given), &mut self.scratch, grad)
    }
}
