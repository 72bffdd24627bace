//! What an attack achieved: one record per sample, and the rates drawn from them.

use kernels::Real;
use serde::{Deserialize, Serialize};

use crate::error::AttackError;
use crate::geometry::{InputBox, Norm};
use crate::loss::argmax;
use crate::model::Access;
use crate::run::Samples;
use crate::spec::Attack;
use crate::stats::{Rate, mean, median};

/// One sample under one attack at one eps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The sample's identifier.
    pub id: u32,
    /// Its true class.
    pub label: u8,
    /// Whether the clean sample was classified correctly.
    pub clean_correct: bool,
    /// Whether the returned example was, when put to the model once more at the end.
    pub adversarial_correct: bool,
    /// The class predicted for the returned example.
    pub prediction: u8,
    /// Whether the attack itself believed to have succeeded; differs from the re-check only on randomised models
    /// (and for targeted attacks, where success means the target).
    pub claimed: bool,
    /// Distance of the returned example from the sample, in the attack's norm.
    pub norm: f64,
    /// Smallest perturbation found by a minimum-norm attack, also when it is above eps.
    pub minimum_norm: Option<f64>,
    /// Forward passes the attack spent on this sample (without the clean one and the final re-check).
    pub queries: u64,
    /// Gradients it spent.
    pub gradients: u64,
    /// Loss of the returned example, `None` when the sample was not attacked.
    pub best_loss: Option<f64>,
}

/// An attack at one eps on a set of samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Outcome<T: Real = f32> {
    /// The attack.
    pub attack: Attack,
    /// The norm of eps and of the records.
    pub norm: Norm,
    /// Radius of the ball.
    pub eps: f32,
    /// Seed of everything random.
    pub seed: u64,
    /// Whether the samples had targets.
    pub targeted: bool,
    /// One record per sample, in the order given.
    pub records: Vec<Record>,
    /// Returned examples `[n, input_len]`, when asked for; the clean sample where the attack failed to move inside eps.
    #[serde(skip)]
    pub adversarial: Option<Vec<T>>,
}

impl<T: Real> Outcome<T> {
    /// Accuracy on the clean samples.
    pub fn clean_accuracy(&self) -> Rate {
        Rate::of(self.records.iter().map(|r| r.clean_correct))
    }

    /// Robust accuracy: correct before and after the attack.
    pub fn robust_accuracy(&self) -> Rate {
        Rate::of(self.records.iter().map(Record::robust))
    }

    /// Robust accuracy of each class (over the samples of that class).
    pub fn per_class(&self, classes: usize) -> Vec<Rate> {
        let of = |class| self.records.iter().filter(move |r| r.label as usize == class);
        (0..classes).map(|class| Rate::of(of(class).map(Record::robust))).collect()
    }

    /// Records of the samples the attack broke.
    pub fn broken(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|r| r.clean_correct && !r.adversarial_correct)
    }

    /// Median queries over broken samples.
    pub fn median_queries(&self) -> Option<f64> {
        median(self.broken().map(|r| r.queries as f64))
    }

    /// Mean queries over all attacked samples.
    pub fn mean_queries(&self) -> Option<f64> {
        mean(self.records.iter().filter(|r| r.best_loss.is_some()).map(|r| r.queries as f64))
    }

    /// Median distance over broken samples.
    pub fn median_norm(&self) -> Option<f64> {
        median(self.broken().map(|r| r.norm))
    }

    /// Mean loss of the returned examples over attacked samples.
    pub fn mean_loss(&self) -> Option<f64> {
        mean(self.records.iter().filter_map(|r| r.best_loss))
    }

    /// Puts the kept examples to another model: transfer attacks, and the re-check of a deployed program.
    /// The clean accuracy becomes that of the other model; `None` when the examples were not kept.
    ///
    /// # Errors
    /// When the model fails, or is not of the samples' shape.
    pub fn transfer(
        &self,
        mut model: Access<'_, T>,
        samples: &Samples<'_, T>,
        batch: usize,
    ) -> Result<Option<Self>, AttackError> {
        let Some(adversarial) = &self.adversarial else { return Ok(None) };
        let bounds = None::<&InputBox>;
        samples.check(&mut model, bounds)?;
        let clean = predictions(&mut model, samples.x, batch)?;
        let moved = predictions(&mut model, adversarial, batch)?;
        let mut out = self.clone();
        for ((record, clean), moved) in out.records.iter_mut().zip(clean).zip(moved) {
            record.clean_correct = clean == record.label;
            record.adversarial_correct = moved == record.label;
            record.prediction = moved;
        }
        Ok(Some(out))
    }
}

impl Record {
    /// Correct before and after.
    pub fn robust(&self) -> bool {
        self.clean_correct && self.adversarial_correct
    }
}

/// Robust accuracy against the worst of several attacks, sample by sample (never the least of their rates).
///
/// Outcomes must be of the same samples in the same order; a sample counts as robust when it survives all of them.
pub fn worst_case<'o, T: Real>(outcomes: impl IntoIterator<Item = &'o Outcome<T>>) -> Rate {
    let mut robust: Vec<bool> = Vec::new();
    for outcome in outcomes {
        robust.resize(outcome.records.len().max(robust.len()), true);
        for (all, record) in robust.iter_mut().zip(&outcome.records) {
            *all &= record.robust();
        }
    }
    Rate::of(robust)
}

/// Predicted classes of `x`, `batch` samples at a time.
pub(crate) fn predictions<T: Real>(
    model: &mut Access<'_, T>,
    x: &[T],
    batch: usize,
) -> Result<Vec<u8>, AttackError> {
    let classes = model.classifier().classes();
    Ok(all_logits(model, x, batch)?.chunks_exact(classes).map(argmax).collect())
}

/// Logits of `x`, `batch` samples at a time.
pub(crate) fn all_logits<T: Real>(
    model: &mut Access<'_, T>,
    x: &[T],
    batch: usize,
) -> Result<Vec<T>, AttackError> {
    let (d, k) = (model.classifier().input_len(), model.classifier().classes());
    let mut logits = vec![T::ZERO; x.len() / d.max(1) * k];
    let step = batch.max(1);
    for (x, out) in x.chunks(step * d.max(1)).zip(logits.chunks_mut(step * k)) {
        model.classifier().logits(x, out)?;
    }
    Ok(logits)
}
