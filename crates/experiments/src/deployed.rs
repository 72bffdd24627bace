//! What ships as something to attack: an integer program on the host engine answers the attacks' questions.
use attacks::{Classifier, ModelError};
use deploy::Engine;

/// An integer program. It has no gradients, and takes the nearest codes of what it is asked about, as a device would.
#[derive(Debug)]
pub struct Deployed {
    engine: Engine,
    codes: Vec<u8>,
}

impl Deployed {
    /// The program of `engine`.
    pub fn new(engine: Engine) -> Self {
        Self { engine, codes: Vec::new() }
    }
}

impl Classifier for Deployed {
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
        self.engine.logits_f32(&self.codes, x.len() / self.input_len(), out).map_err(ModelError::new)
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
            Deployed::new(Engine::new(lower(&model.network, &model).unwrap().program).unwrap());
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
