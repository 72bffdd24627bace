//! Seams between the libraries: a dataset as training samples, a trained network as something to attack.
use attacks::{Classifier, Differentiable, ModelError};
use datasets::{Augmentation, Dataset, Part};
use qnn::train::Samples;
use qnn::{Predictor, QnnError};

/// One split of a dataset as `qnn` sees it.
pub(super) struct SplitSamples<'a> {
    pub(super) data: &'a Dataset,
    pub(super) part: Part,
    pub(super) augmentation: Augmentation,
    pub(super) seed: u64,
}

impl Samples for SplitSamples<'_> {
    fn len(&self) -> usize {
        self.data.split(self.part).len()
    }

    fn fill(&self, indices: &[u32], epoch: u64, x: &mut [f32], labels: &mut [u8]) -> Result<(), QnnError> {
        self.data
            .fill_batch(self.part, indices, epoch, self.seed, &self.augmentation, x, labels)
            .map_err(|e| QnnError::Config(e.to_string()))
    }
}

/// Largest number of samples for which [`Predictor`] asks for its cotangent once.
const BATCH: usize = 128;

/// A trained network in its inference phase, with gradients through its surrogates.
#[derive(Debug)]
pub(super) struct Attackable(pub(super) Predictor);

impl Classifier for Attackable {
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

impl Differentiable for Attackable {
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
