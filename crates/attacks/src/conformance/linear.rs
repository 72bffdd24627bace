//! The affine reference model A, whose optima are known.

use super::archive::Archive;
use crate::error::ModelError;
use crate::model::{Classifier, Differentiable};

/// `z = W x + b` on inputs in the order stored.
#[derive(Clone)]
pub(super) struct Affine {
    pub(super) w: Vec<f64>,
    pub(super) b: Vec<f64>,
}

impl Affine {
    pub(super) fn load(models: &Archive) -> Result<Self, String> {
        let (w, b) = (models.values("A_W")?.to_vec(), models.values("A_b")?.to_vec());
        if b.len() < 2 || !w.len().is_multiple_of(b.len()) {
            return Err(format!("A: {} weights for {} classes", w.len(), b.len()));
        }
        Ok(Self { w, b })
    }

    /// Weights of one class.
    pub(super) fn row(&self, class: usize) -> &[f64] {
        let d = self.w.len() / self.b.len();
        &self.w[class * d..(class + 1) * d]
    }
}

impl Classifier<f64> for Affine {
    fn input_len(&self) -> usize {
        self.w.len() / self.b.len()
    }
    fn classes(&self) -> usize {
        self.b.len()
    }
    fn logits(&mut self, x: &[f64], out: &mut [f64]) -> Result<(), ModelError> {
        let d = self.input_len();
        for (x, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(self.b.len())) {
            for ((z, w), b) in out.iter_mut().zip(self.w.chunks_exact(d)).zip(&self.b) {
                *z = b + w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
            }
        }
        Ok(())
    }
}

impl Differentiable<f64> for Affine {
    fn logits_vjp(
        &mut self,
        x: &[f64],
        cotangent: &mut dyn FnMut(&[f64], &mut [f64]),
        logits: &mut [f64],
        grad: &mut [f64],
    ) -> Result<(), ModelError> {
        self.logits(x, logits)?;
        let mut cot = vec![0.0; logits.len()];
        cotangent(logits, &mut cot);
        let d = self.input_len();
        for (g, cot) in grad.chunks_exact_mut(d).zip(cot.chunks_exact(self.b.len())) {
            g.fill(0.0);
            for (w, c) in self.w.chunks_exact(d).zip(cot) {
                g.iter_mut().zip(w).for_each(|(g, w)| *g += c * w);
            }
        }
        Ok(())
    }
}
