//! Seams between the libraries: a dataset as training samples, an integer program as something to attack.
use attacks::{Classifier, ModelError};
use datasets::{Augmentation, Dataset, Part};
use deploy::Engine;
use qnn::QnnError;
use qnn::train::Samples;

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

/// A deployed integer program as a classifier: inputs are rounded to its 8-bit grid, as a sensor would deliver them, so
/// whatever an attack finds was found on codes. It gives logits only.
#[derive(Debug)]
pub struct IntegerProgram {
    engine: Engine,
    codes: Vec<u8>,
}

impl IntegerProgram {
    /// The program that `engine` runs.
    pub fn new(engine: Engine) -> Self {
        Self { engine, codes: Vec::new() }
    }
}

impl Classifier for IntegerProgram {
    fn input_len(&self) -> usize {
        self.engine.program().input_len()
    }

    fn classes(&self) -> usize {
        self.engine.program().classes
    }

    fn input_shape(&self) -> [usize; 3] {
        self.engine.program().input
    }

    fn logits(&mut self, x: &[f32], out: &mut [f32]) -> Result<(), ModelError> {
        self.codes.resize(x.len(), 0);
        self.engine.input_codes(x, &mut self.codes).map_err(ModelError::new)?;
        let n = x.len() / self.input_len().max(1);
        self.engine.logits_f32(&self.codes, n, out).map_err(ModelError::new)
    }
}
