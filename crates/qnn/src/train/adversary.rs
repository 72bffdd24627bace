//! The seam through which adversarial samples join training: in place of a step's samples, or beside them.

use std::fmt::Debug;

use crate::QnnError;
use crate::model::Model;

/// The samples of one step, before they are trained on.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The model as it is now.
    pub model: &'a Model,
    /// Seed of the run.
    pub seed: u64,
    /// Number of the step since the start of the run.
    pub step: u64,
    /// Samples `[n, h, w, c]`.
    pub x: &'a [f32],
    /// Their classes.
    pub labels: &'a [u8],
}

/// An adversary in the training loop. Everything it does must follow from the batch alone, so that a resumed run goes on
/// as if it had not stopped.
pub trait Adversary: Send + Sync + Debug {
    /// Writes the adversarial samples to `moved`.
    ///
    /// # Errors
    /// If the model cannot be attacked, or the training shows that attacking it so is of no use.
    fn perturb(&mut self, batch: &Batch<'_>, moved: &mut [f32]) -> Result<(), QnnError>;

    /// `None`: train on the adversarial samples. `Some(beta)`: train on the clean ones, with `beta` times the
    /// Kullback-Leibler divergence from the clean to the adversarial predictions (TRADES, Zhang et al. 2019).
    fn consistency(&self) -> Option<f64> {
        None
    }

    /// All settings as text; runs that differ in it do not continue each other.
    fn settings(&self) -> String;
}
