//! The one entry point: an attack on a set of samples at a list of eps.

use kernels::Real;

use crate::chunk::{Chunk, Setting};
use crate::error::AttackError;
use crate::geometry::{InputBox, Norm};
use crate::loss::{Goal, argmax};
use crate::model::Access;
use crate::outcome::{Outcome, Record, all_logits};
use crate::spec::Attack;

/// Samples to attack, row-major.
#[derive(Debug, Clone, Copy)]
pub struct Samples<'a, T = f32> {
    /// `[n, input_len]`.
    pub x: &'a [T],
    /// True classes, `n`.
    pub labels: &'a [u8],
    /// Identifiers, `n`: all randomness is keyed by them, so they must not depend on how samples are batched or sharded.
    pub ids: &'a [u32],
    /// Classes to reach, `n`, for a targeted attack; then success means the target is predicted.
    pub targets: Option<&'a [u8]>,
    /// Where attacks that walk along the boundary begin, `[n, input_len]`; see [`with_starts`](Self::with_starts).
    pub starts: Option<&'a [T]>,
}

impl<'a, T: Real> Samples<'a, T> {
    /// Samples of an untargeted attack.
    pub fn new(x: &'a [T], labels: &'a [u8], ids: &'a [u32]) -> Self {
        Self { x, labels, ids, targets: None, starts: None }
    }

    /// The same samples with classes to reach.
    pub fn with_targets(self, targets: &'a [u8]) -> Self {
        Self { targets: Some(targets), ..self }
    }

    /// The same samples with a first point for each, for `boundary` and `hopskipjump`: for a targeted attack, say, images of
    /// the target class, which uniform draws hardly ever hit. A point that is not adversarial gives way to such draws.
    pub fn with_starts(self, starts: &'a [T]) -> Self {
        Self { starts: Some(starts), ..self }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The first `n` samples (all when there are fewer) of `d` features.
    pub(crate) fn first(&self, n: usize, d: usize) -> Self {
        let n = n.min(self.len());
        Self {
            x: &self.x[..n * d],
            labels: &self.labels[..n],
            ids: &self.ids[..n],
            targets: self.targets.map(|t| &t[..n]),
            starts: self.starts.map(|s| &s[..n * d]),
        }
    }

    fn goal(&self, i: usize) -> Goal {
        let label = self.labels[i];
        match self.targets {
            None => Goal::Untargeted { label },
            Some(targets) => Goal::Targeted { label, target: targets[i] },
        }
    }

    /// Checks lengths, classes and the box.
    pub(crate) fn check(
        &self,
        model: &mut Access<'_, T>,
        bounds: Option<&InputBox>,
    ) -> Result<(), AttackError> {
        let (features, classes) = (model.classifier().input_len(), model.classifier().classes());
        let n = self.len();
        let shape = |what, expected, got| {
            if expected == got {
                return Ok(());
            }
            Err(AttackError::Shape { what, expected, got, samples: n, features })
        };
        shape("input", n * features, self.x.len())?;
        shape("identifiers", n, self.ids.len())?;
        shape("targets", n, self.targets.map_or(n, <[u8]>::len))?;
        shape("starting points", n * features, self.starts.map_or(n * features, <[T]>::len))?;
        let image: usize = model.classifier().input_shape().iter().product();
        shape("input shape of the model", features, image)?;
        if classes < 2 {
            return Err(AttackError::Classes { loss: "classification".into(), needed: 2, classes });
        }
        for i in 0..n {
            let label = |what, class: u8| {
                if usize::from(class) < classes {
                    return Ok(());
                }
                Err(AttackError::Label { id: self.ids[i], what, class, classes })
            };
            label("label", self.labels[i])?;
            label("target", self.targets.map_or(0, |t| t[i]))?;
        }
        let Some(bounds) = bounds else { return Ok(()) };
        let (lo, hi) = bounds.expand::<T>(features).or_else(|got| {
            shape("bounds of the input box", features, got).map(|()| (Vec::new(), Vec::new()))
        })?;
        let rows = |x: &'a [T]| x.chunks_exact(features.max(1)).zip(self.ids);
        for (row, &id) in rows(self.x).chain(self.starts.into_iter().flat_map(rows)) {
            for (feature, ((v, lo), hi)) in row.iter().zip(&lo).zip(&hi).enumerate() {
                if !(v >= lo && v <= hi) {
                    let (value, lo, hi) = (v.to_f64(), lo.to_f64(), hi.to_f64());
                    return Err(AttackError::OutsideBox { id, feature, value, lo, hi });
                }
            }
        }
        Ok(())
    }
}

/// Model calls' worth of samples attacked together, at the start.
const CALLS: usize = 8;

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress<'a> {
    /// The attack.
    pub attack: &'a Attack,
    /// The radius being tried.
    pub eps: f32,
    /// Samples of earlier chunks, finished.
    pub done: usize,
    /// Samples to attack at this eps.
    pub total: usize,
    /// Steps made on the current chunk.
    pub step: usize,
    /// Steps it takes at most.
    pub steps: usize,
    /// Samples of the current chunk still standing.
    pub standing: usize,
}

/// How a run is executed; none of it changes a sample's result, except the two flags that say so.
pub struct Options<'a> {
    /// Samples per model call.
    pub batch: usize,
    /// Leave a sample alone as soon as it is broken (default). Without it the best loss is searched to the end.
    pub early_exit: bool,
    /// Attack misclassified samples too (default: they are not robust and cost nothing).
    pub attack_misclassified: bool,
    /// Keep the examples in [`Outcome::adversarial`].
    pub keep_adversarial: bool,
    /// Called after each step.
    pub progress: Option<&'a mut dyn FnMut(&Progress<'_>)>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            batch: 128,
            early_exit: true,
            attack_misclassified: false,
            keep_adversarial: false,
            progress: None,
        }
    }
}

/// Attacks `samples` at each eps and re-checks every example once at the end.
///
/// What happens to a sample is a pure function of (attack, eps, seed, its id, its values and the model): not of the
/// batch, its order, the shard or the number of threads.
///
/// # Errors
/// When the model fails or lacks gradients, a parameter makes no sense, or the samples do not fit the model and the box.
pub fn run<T: Real>(
    attack: &Attack,
    mut model: Access<'_, T>,
    samples: &Samples<'_, T>,
    eps: &[f32],
    bounds: &InputBox,
    seed: u64,
    options: &mut Options<'_>,
) -> Result<Vec<Outcome<T>>, AttackError> {
    attack.validate()?;
    if attack.needs_gradients() && model.differentiable().is_none() {
        return Err(AttackError::NeedsGradients { attack: attack.to_string() });
    }
    attack.check_classes(model.classifier().classes(), samples.targets.is_some())?;
    samples.check(&mut model, Some(bounds))?;
    if let Some(&eps) = eps.iter().find(|e| !(e.is_finite() && **e >= 0.0)) {
        return Err(AttackError::Eps { attack: attack.to_string(), eps });
    }
    let (d, k) = (model.classifier().input_len(), model.classifier().classes());
    let Ok((lo, hi)) = bounds.expand::<T>(d) else { unreachable!("checked with the samples") };
    let batch = options.batch.max(1);
    let clean = all_logits(&mut model, samples.x, batch)?;
    let start = clean_outcome(attack, samples, &clean, k, seed, options.keep_adversarial);
    let todo: Vec<usize> = (0..samples.len())
        .filter(|&i| options.attack_misclassified || start.records[i].clean_correct)
        .collect();

    let mut outcomes = Vec::with_capacity(eps.len());
    // A minimum-norm attack is run once, without a radius, and read off at every eps.
    let radii: Vec<f64> = if attack.is_minimum_norm() && !eps.is_empty() {
        vec![f64::INFINITY]
    } else {
        eps.iter().map(|&e| f64::from(e)).collect()
    };
    for radius in radii {
        let mut outcome = Outcome { eps: radius as f32, ..start.clone() };
        let (norm, early_exit) = (attack.norm(), options.early_exit);
        let setting = Setting { lo: &lo, hi: &hi, norm, eps: radius, seed, early_exit, batch };
        let chunks = if radius > 0.0 { todo.as_slice() } else { &[] };
        // Where samples fall out one by one, what is left of several batches goes on in one.
        let together = if early_exit && attack.shrinks() { CALLS * batch } else { batch };
        for (c, slots) in chunks.chunks(together).enumerate() {
            let mut tick = |step, steps, standing| {
                if let Some(progress) = &mut options.progress {
                    let (done, total, eps) = (c * together, todo.len(), radius as f32);
                    progress(&Progress { attack, eps, done, total, step, steps, standing });
                }
            };
            let x = gather(samples.x, slots, d);
            let ids = slots.iter().map(|&i| samples.ids[i]).collect();
            let goals = slots.iter().map(|&i| samples.goal(i)).collect();
            let logits = gather(&clean, slots, k);
            let mut chunk = Chunk::new(&mut model, &mut tick, &setting, x, ids, goals, logits);
            chunk.starts = samples.starts.map(|starts| gather(starts, slots, d));
            attack.apply(&mut chunk)?;
            chunk.forget();
            let result = Finished::of(chunk);
            result.write(&mut model, slots, norm, batch, &mut outcome)?;
        }
        if radius.is_finite() {
            outcomes.push(outcome);
        } else {
            outcomes.extend(eps.iter().map(|&e| within(&outcome, e, samples.x, d)));
        }
    }
    Ok(outcomes)
}

/// The outcome of doing nothing.
fn clean_outcome<T: Real>(
    attack: &Attack,
    samples: &Samples<'_, T>,
    logits: &[T],
    classes: usize,
    seed: u64,
    keep: bool,
) -> Outcome<T> {
    let record = |(i, z): (usize, &[T])| {
        let (label, prediction) = (samples.labels[i], argmax(z));
        Record {
            id: samples.ids[i],
            label,
            clean_correct: prediction == label,
            adversarial_correct: prediction == label,
            prediction,
            claimed: false,
            norm: 0.0,
            minimum_norm: None,
            queries: 0,
            gradients: 0,
            best_loss: None,
        }
    };
    Outcome {
        attack: attack.clone(),
        norm: attack.norm(),
        eps: 0.0,
        seed,
        targeted: samples.targets.is_some(),
        records: logits.chunks_exact(classes).enumerate().map(record).collect(),
        adversarial: keep.then(|| samples.x.to_vec()),
    }
}

/// What is left of a chunk when its attack is over.
struct Finished<T> {
    x: Vec<T>,
    adv: Vec<T>,
    broken: Vec<bool>,
    loss: Vec<f64>,
    queries: Vec<u64>,
    gradients: Vec<u64>,
}

impl<T: Real> Finished<T> {
    fn of(chunk: Chunk<'_, '_, T>) -> Self {
        let Chunk { x, adv, broken, loss, queries, gradients, .. } = chunk;
        Self { x, adv, broken, loss, queries, gradients }
    }

    /// Puts every example to the model once more and writes the records.
    fn write(
        self,
        model: &mut Access<'_, T>,
        slots: &[usize],
        norm: Norm,
        batch: usize,
        outcome: &mut Outcome<T>,
    ) -> Result<(), AttackError> {
        let (d, k) = (model.classifier().input_len(), model.classifier().classes());
        let logits = all_logits(model, &self.adv, batch)?;
        for (j, &i) in slots.iter().enumerate() {
            let (adv, x) = (&self.adv[j * d..(j + 1) * d], &self.x[j * d..(j + 1) * d]);
            let record = &mut outcome.records[i];
            record.prediction = argmax(&logits[j * k..(j + 1) * k]);
            record.adversarial_correct = record.prediction == record.label;
            record.claimed = self.broken[j];
            record.norm = norm.distance(adv, x);
            record.queries = self.queries[j];
            record.gradients = self.gradients[j];
            // An attack that never ranked a point (a minimum-norm attack that found none) has no loss to report.
            record.best_loss = self.loss[j].is_finite().then_some(self.loss[j]);
            if let Some(all) = &mut outcome.adversarial {
                all[i * d..(i + 1) * d].copy_from_slice(adv);
            }
        }
        Ok(())
    }
}

/// Reads a minimum-norm outcome off at one eps: examples beyond it count as failures.
fn within<T: Real>(found: &Outcome<T>, eps: f32, x: &[T], d: usize) -> Outcome<T> {
    let mut out = Outcome { eps, ..found.clone() };
    for (i, record) in out.records.iter_mut().enumerate() {
        if record.claimed {
            record.minimum_norm = Some(record.norm);
        }
        if !record.claimed || record.norm > f64::from(eps) {
            record.adversarial_correct = record.clean_correct;
            record.claimed = false;
            record.norm = 0.0;
            if record.clean_correct {
                record.prediction = record.label;
            }
            if let Some(all) = &mut out.adversarial {
                all[i * d..(i + 1) * d].copy_from_slice(&x[i * d..(i + 1) * d]);
            }
        }
    }
    out
}

fn gather<T: Real>(rows: &[T], slots: &[usize], width: usize) -> Vec<T> {
    slots.iter().flat_map(|&i| &rows[i * width..(i + 1) * width]).copied().collect()
}
