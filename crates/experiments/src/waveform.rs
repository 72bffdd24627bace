//! Attacks on the sound itself: a speech network with its MFCC front end in front, differentiable down to the waveform.
use attacks::{Classifier, Differentiable, ModelError};
use datasets::frontend::{Mfcc, MfccWork, Standardiser};

/// A network on standardised MFCC as a classifier of normalised waveforms (`[samples]`, values in [-1, 1]). Features stay
/// real, as during attacks on the network; a deployed program rounds them to codes.
pub struct Waveform<M> {
    front: Mfcc<f32>,
    work: MfccWork<f32>,
    standardiser: Standardiser,
    model: M,
    features: Vec<f32>,
    feature_grad: Vec<f32>,
}

impl<M: Classifier> Waveform<M> {
    /// `model` behind MLPerf Tiny's front end; the standardiser is that of the data the model was trained on.
    ///
    /// # Errors
    /// When the model does not take as many features as the front end gives.
    pub fn new(standardiser: Standardiser, model: M) -> Result<Self, ModelError> {
        let front = Mfcc::new();
        if model.input_len() != front.features() {
            let message = format!(
                "the model takes {} features, the front end gives {}",
                model.input_len(),
                front.features()
            );
            return Err(ModelError::new(message));
        }
        let work = front.work();
        Ok(Self { front, work, standardiser, model, features: Vec::new(), feature_grad: Vec::new() })
    }

    /// Standardised MFCC of every waveform, in `features`.
    fn analyse(&mut self, x: &[f32]) -> Result<(), ModelError> {
        let (samples, d) = (self.input_len(), self.front.features());
        self.features.resize(x.len() / samples * d, 0.0);
        for (wave, row) in x.chunks_exact(samples).zip(self.features.chunks_exact_mut(d)) {
            self.front.compute(wave, &mut self.work, row).map_err(ModelError::new)?;
            for (n, v) in row.iter_mut().enumerate() {
                let n = n % self.standardiser.mean.len();
                *v = (*v - self.standardiser.mean[n]) / self.standardiser.std[n];
            }
        }
        Ok(())
    }
}

impl<M: Classifier> Classifier for Waveform<M> {
    fn input_len(&self) -> usize {
        self.front.parameters().samples
    }

    fn classes(&self) -> usize {
        self.model.classes()
    }

    fn logits(&mut self, x: &[f32], out: &mut [f32]) -> Result<(), ModelError> {
        self.analyse(x)?;
        self.model.logits(&self.features, out)
    }
}

impl<M: Differentiable> Differentiable for Waveform<M> {
    fn rows_belong_to(&mut self, ids: Option<&[u32]>) {
        self.model.rows_belong_to(ids);
    }

    fn logits_vjp(
        &mut self,
        x: &[f32],
        cotangent: &mut dyn FnMut(&[f32], &mut [f32]),
        logits: &mut [f32],
        grad: &mut [f32],
    ) -> Result<(), ModelError> {
        self.analyse(x)?;
        self.feature_grad.resize(self.features.len(), 0.0);
        self.model.logits_vjp(&self.features, cotangent, logits, &mut self.feature_grad)?;
        let (samples, d) = (self.input_len(), self.front.features());
        let mut scratch = vec![0.0; d];
        let rows = x.chunks_exact(samples).zip(grad.chunks_exact_mut(samples));
        for ((wave, grad), back) in rows.zip(self.feature_grad.chunks_exact_mut(d)) {
            for (n, g) in back.iter_mut().enumerate() {
                *g /= self.standardiser.std[n % self.standardiser.std.len()];
            }
            self.front.vjp(wave, back, &mut self.work, &mut scratch, grad).map_err(ModelError::new)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attacks::{Access, InputBox, Network, Options, Passing, Samples, run};
    use qnn::{InputGrid, Model, zoo};

    #[test]
    fn gradients_reach_the_waveform_and_attacks_move_it() {
        let quantizers = zoo::Twin::Stq.quantizers();
        let network =
            zoo::build("stq_audio_s", [49, 10, 1], InputGrid::STANDARDISED, 12, &quantizers).unwrap();
        let inner = Network::new(&Model::new(network, 1).unwrap(), Passing::Clipped).unwrap();
        // Two clips: chords with a little of everything in between.
        let wave = |clip: usize| {
            (0..16_000).map(move |i| {
                let t = i as f32 / 16_000.0;
                let noise = ((i * 7919 + clip * 104_729) % 997) as f32 / 997.0 - 0.5;
                0.4 * (2000.0 * (1.0 + clip as f32) * t).sin() + 0.2 * (9000.0 * t).cos() + 0.1 * noise
            })
        };
        let x: Vec<f32> = (0..2).flat_map(wave).collect();
        let front = Mfcc::<f32>::new();
        let mut features = vec![0.0; 2 * front.features()];
        for (wave, out) in x.chunks(16_000).zip(features.chunks_mut(490)) {
            front.compute(wave, &mut front.work(), out).unwrap();
        }
        let mut model = Waveform::new(Standardiser::fit(&features, 10), inner).unwrap();
        let mut logits = vec![0.0; 24];
        model.logits(&x, &mut logits).unwrap();
        let labels: Vec<u8> = logits.chunks(12).map(|z| qnn::argmax(z) as u8).collect();
        let samples = Samples::new(&x, &labels, &[0, 1]);
        let attack = "pgd(steps=10, restarts=1, loss=margin)".parse().unwrap();
        let mut options = Options { early_exit: false, ..Options::default() };
        let bounds = InputBox::new(-1.0, 1.0).unwrap();
        let out =
            run(&attack, Access::White(&mut model), &samples, &[0.01], &bounds, 0, &mut options).unwrap();
        for (i, record) in out[0].records.iter().enumerate() {
            let z = &logits[i * 12..(i + 1) * 12];
            let own = z[usize::from(labels[i])];
            let other = z.iter().enumerate().filter(|(k, _)| *k != usize::from(labels[i])).map(|(_, z)| *z);
            let clean = f64::from(other.fold(f32::MIN, f32::max) - own);
            assert!(record.best_loss.unwrap() > clean, "{record:?}: the margin was {clean} before");
            assert!(record.norm > 0.0 && record.norm <= 0.01001);
        }
        assert!(
            Waveform::new(
                Standardiser::fit(&features, 10),
                attacks::FnClassifier::new([3, 1, 1], 2, |_: &[f32], _: &mut [f32]| ())
            )
            .is_err()
        );
    }
}
