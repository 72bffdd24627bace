//! A trained network of `qnn` as something to attack.

use qnn::{LayerOp, Model, Predictor, QnnError};

use crate::error::ModelError;
use crate::model::{Classifier, Differentiable};
use crate::text::words;

/// Largest number of samples for which [`Predictor`] asks for its cotangent once.
const BATCH: usize = 128;

/// A network in its inference phase, with gradients through its surrogates, deterministic unless made by [`Network::sampling`].
#[derive(Debug)]
pub struct Network(pub Predictor);

words! {
    /// What an activation quantizer passes backward where its own surrogate is flat.
    Passing {
        /// Nothing: the clipped straight-through gradient that training uses.
        Clipped = "clipped",
        /// Everything.
        Identity = "identity",
        /// A tenth.
        Leaky = "leaky",
    }
}

impl Network {
    /// A model with the surrogate gradients that `passing` names; its logits do not depend on them. Where all kernels are
    /// float, batch normalisations are folded into them: the same function up to rounding, and faster.
    ///
    /// # Errors
    /// If the model's parameters do not fit its network.
    pub fn new(model: &Model, passing: Passing) -> Result<Self, QnnError> {
        let leak = passing.leak();
        let float = |op: &LayerOp| match op {
            LayerOp::Conv2d { quantizer, .. }
            | LayerOp::DepthwiseConv2d { quantizer, .. }
            | LayerOp::Dense { quantizer, .. } => quantizer.is_none(),
            _ => true,
        };
        if model.network.layers.iter().all(|layer| float(&layer.op)) {
            return Predictor::leaking(&model.fold_batch_norm()?, leak).map(Self);
        }
        Predictor::leaking(model, leak).map(Self)
    }

    /// The model as a randomised defence: its stochastic kernels are drawn anew in every pass, as in training. Rows of one
    /// call (up to 128) share a draw; give attacks batches of at most so many, and wrap it in [`crate::Eot`].
    ///
    /// # Errors
    /// As [`Self::new`], and if no quantizer of the model samples.
    pub fn sampling(model: &Model, passing: Passing, seed: u64) -> Result<Self, QnnError> {
        Predictor::sampling(model, passing.leak(), seed).map(Self)
    }
}

impl Passing {
    /// The least derivative of an activation quantizer.
    fn leak(self) -> f64 {
        match self {
            Self::Clipped => 0.0,
            Self::Identity => 1.0,
            Self::Leaky => 0.1,
        }
    }
}

impl Classifier for Network {
    fn input_len(&self) -> usize {
        self.0.input_len()
    }

    fn classes(&self) -> usize {
        self.0.model().network.classes
    }

    fn input_shape(&self) -> [usize; 3] {
        self.0.model().network.input
    }

    fn logits(&mut self, x: &[f32], out: &mut [f32]) -> Result<(), ModelError> {
        self.0.logits(x, out).map_err(ModelError::new)
    }
}

impl Differentiable for Network {
    fn logits_vjp(
        &mut self,
        x: &[f32],
        cotangent: &mut dyn FnMut(&[f32], &mut [f32]),
        logits: &mut [f32],
        grad: &mut [f32],
    ) -> Result<(), ModelError> {
        let (d, k) = (self.input_len(), self.classes());
        if x.len() <= BATCH * d {
            return self.0.logits_vjp(x, cotangent, logits, grad).map_err(ModelError::new);
        }
        // The caller's closure must see all rows at once, the predictor works in batches: forward first, then again.
        self.0.logits(x, logits).map_err(ModelError::new)?;
        let mut cotangents = vec![0.0; logits.len()];
        cotangent(logits, &mut cotangents);
        let rows = x.chunks(BATCH * d).zip(grad.chunks_mut(BATCH * d));
        let outputs = logits.chunks_mut(BATCH * k).zip(cotangents.chunks(BATCH * k));
        for ((x, grad), (logits, given)) in rows.zip(outputs) {
            self.0
                .logits_vjp(x, &mut |_, out| out.copy_from_slice(given), logits, grad)
                .map_err(ModelError::new)?;
        }
        Ok(())
    }
}
