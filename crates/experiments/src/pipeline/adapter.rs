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

#[cfg(test)]
mod tests {
    use super::*;
    use deploy::lower;
    use qnn::zoo::{self, Twin};
    use qnn::{InputGrid, Model, Predictor};

    #[test]
    fn answers_are_the_trained_network_s() {
        let quantizers = Twin::Stq.quantizers();
        let net = zoo::build("stq_audio_s", [49, 10, 1], InputGrid::STANDARDISED, 12, &quantizers).unwrap();
        let model = Model::new(net, 3).unwrap();
        let mut deployed =
            IntegerProgram::new(Engine::new(lower(&model.network, &model).unwrap().program).unwrap());
        assert_eq!((deployed.input_shape(), deployed.classes()), ([49, 10, 1], 12));
        let x: Vec<f32> =
            (0..3 * 490).map(|i| model.network.grid.value((i * 37 % 256) as u8) + 0.01 / 128.0).collect();
        let (mut ours, mut theirs) = (vec![0.0; 36], vec![0.0; 36]);
        deployed.logits(&x, &mut ours).unwrap();
        Predictor::for_codes(&model).unwrap().logits(&x, &mut theirs).unwrap();
        assert_eq!(ours, theirs);
        assert!(deployed.logits(&x[..490], &mut ours).is_err());
    }
}
