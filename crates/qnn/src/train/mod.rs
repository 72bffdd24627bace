//! Training: one deterministic step after another, in epochs that can be interrupted and resumed.

mod adversary;
mod fit;
mod optimizer;
mod penalty;
mod recalibrate;
mod step;
mod tensorboard;

pub use adversary::{Adversary, Batch};
pub use fit::{EpochRecord, Event, FitOutcome, fit};
pub(crate) use optimizer::Step;
pub use optimizer::{Optimizer, OptimizerState, Schedule};
pub use penalty::{Penalty, PenaltyInputs, Probe, Term};
pub use step::cross_entropy;

use qtensor::stream::{self, Purpose};
use serde::{Deserialize, Serialize};

use crate::QnnError;
use crate::graph::RunKey;
use crate::model::Model;
use recalibrate::MomentsGraph;
use step::{StepGraph, StepInputs};

/// Labelled samples, as training and evaluation see them.
pub trait Samples: Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the samples of `indices` to `x` (`[n, h, w, c]`) and `labels`, augmented for `epoch` if this set is
    /// augmented. Must be a pure function of its arguments.
    fn fill(&self, indices: &[u32], epoch: u64, x: &mut [f32], labels: &mut [u8]) -> Result<(), QnnError>;
}

/// Hyper-parameters of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Samples per step; the remainder of an epoch is dropped.
    pub batch: usize,
    /// Epochs in all.
    pub epochs: u32,
    /// Base learning rate.
    pub rate: f64,
    /// Update rule.
    pub optimizer: Optimizer,
    /// Learning-rate schedule, evaluated at every step.
    pub schedule: Schedule,
    /// Share of the target spread evenly over all classes.
    #[serde(default)]
    pub label_smoothing: f32,
    /// Largest global gradient norm; larger gradients are scaled down to it.
    #[serde(default)]
    pub clip_norm: Option<f32>,
    /// Validate and keep an exponential moving average of all parameters with this decay per step (shorter at the start:
    /// at most `(1 + t) / (10 + t)` after t steps) instead of the parameters themselves.
    #[serde(default)]
    pub ema: Option<f32>,
    /// Stop after this many epochs without a better validation accuracy.
    #[serde(default)]
    pub patience: Option<u32>,
    /// After every epoch, estimate the moving statistics of batch normalisation anew from this many batches with the
    /// kernels of the inference phase; 0 keeps the running averages. Stochastic quantizers need it: statistics gathered
    /// from sampled kernels do not fit the deterministic ones.
    #[serde(default)]
    pub recalibrate: usize,
    /// Seed of initial weights, batch order, quantizer draws, dropout and projections.
    pub seed: u64,
}

/// What one epoch of training did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochStats {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Accuracy on the (augmented) training batches.
    pub accuracy: f64,
    /// Mean value of each penalty, before its weight in the loss, over the steps that had it.
    pub penalties: Vec<f64>,
    /// The same for every term of every penalty, by `penalty: term`.
    #[serde(default)]
    pub terms: Vec<(String, f64)>,
    /// Steps done.
    pub steps: u64,
}

/// A model in training.
#[derive(Debug)]
pub struct Trainer {
    config: TrainConfig,
    model: Model,
    state: OptimizerState,
    penalties: Vec<Box<dyn Penalty>>,
    adversary: Option<Box<dyn Adversary>>,
    probes: Vec<Box<dyn Probe>>,
    epoch: u32,
    plain: Option<StepGraph>,
    penalised: Option<StepGraph>,
    moments: Option<MomentsGraph>,
    x: Vec<f32>,
    /// Adversarial samples, with an adversary.
    moved: Vec<f32>,
    labels: Vec<u8>,
    target: Vec<f32>,
    weights: Vec<f32>,
    order: Vec<u32>,
}

impl Trainer {
    /// A trainer for `model` from its current parameters.
    pub fn new(
        model: Model,
        config: TrainConfig,
        penalties: Vec<Box<dyn Penalty>>,
    ) -> Result<Self, QnnError> {
        if config.batch == 0 {
            return Err(QnnError::Config("batch must be at least 1".into()));
        }
        if config.ema.is_some_and(|decay| !(0.0..1.0).contains(&decay)) {
            return Err(QnnError::Config("ema: a decay of at least 0 and below 1 is needed".into()));
        }
        model.validate()?;
        let every = penalties.first().map_or(1, |p| p.every());
        if penalties.iter().any(|p| p.every() != every || every == 0) {
            return Err(QnnError::Config("all penalties of a run must share one `every` >= 1".into()));
        }
        let refs: Vec<&dyn Penalty> = penalties.iter().map(AsRef::as_ref).collect();
        let plain = (refs.is_empty() || every > 1).then(|| StepGraph::new(&model, config.batch, &[], None));
        let penalised = (!refs.is_empty()).then(|| StepGraph::new(&model, config.batch, &refs, None));
        let [h, w, c] = model.network.input;
        let mut state = OptimizerState::new(&config.optimizer, &model);
        if config.ema.is_some() {
            state.average = model.params.iter().map(|p| p.values.clone()).collect();
        }
        Ok(Self {
            state,
            plain: plain.transpose()?,
            penalised: penalised.transpose()?,
            moments: None,
            x: vec![0.0; config.batch * h * w * c],
            moved: Vec::new(),
            adversary: None,
            labels: vec![0; config.batch],
            target: vec![0.0; config.batch * model.network.classes],
            weights: vec![0.0; penalties.len()],
            order: Vec::new(),
            epoch: 0,
            config,
            model,
            penalties,
            probes: Vec::new(),
        })
    }

    /// The same trainer with an adversary in its steps.
    ///
    /// # Errors
    /// If the graph of a step cannot be built.
    pub fn adversarial(mut self, adversary: Box<dyn Adversary>) -> Result<Self, QnnError> {
        if let Some(beta) = adversary.consistency() {
            let refs: Vec<&dyn Penalty> = self.penalties.iter().map(AsRef::as_ref).collect();
            for (graph, penalties) in [(&mut self.plain, &[][..]), (&mut self.penalised, &refs[..])] {
                if graph.is_some() {
                    *graph = Some(StepGraph::new(&self.model, self.config.batch, penalties, Some(beta))?);
                }
            }
        }
        self.moved = vec![0.0; self.x.len()];
        self.adversary = Some(adversary);
        Ok(self)
    }

    /// Adds something that looks at the model after every epoch; what it says goes into the history.
    #[must_use]
    pub fn with_probe(mut self, probe: Box<dyn Probe>) -> Self {
        self.probes.push(probe);
        self
    }

    /// The model as it is now.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model to validate and keep: the moving average where one is asked for.
    pub fn result(&self) -> Model {
        let mut result = self.model.clone();
        for (param, average) in result.params.iter_mut().zip(&self.state.average) {
            param.values.clone_from(average);
        }
        result
    }

    /// Epochs finished.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Hyper-parameters.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Names of the penalties, in the order of [`EpochStats::penalties`].
    pub fn penalty_names(&self) -> Vec<String> {
        self.penalties.iter().map(|p| p.name()).collect()
    }

    /// Steps in one epoch over `samples`.
    pub fn steps_per_epoch(&self, samples: &dyn Samples) -> u64 {
        (samples.len() / self.config.batch) as u64
    }

    /// Bytes of activation and gradient buffers.
    pub fn buffer_bytes(&self) -> usize {
        self.plain.iter().chain(&self.penalised).map(StepGraph::buffer_bytes).sum()
    }

    pub(crate) fn state(&self) -> &OptimizerState {
        &self.state
    }

    /// Continues from a saved state.
    pub(crate) fn restore(
        &mut self,
        model: Model,
        state: OptimizerState,
        epoch: u32,
    ) -> Result<(), QnnError> {
        model.validate()?;
        let fits = |a: &[Vec<f32>], b: &[Vec<f32>]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.len() == b.len())
        };
        if model.network != self.model.network
            || !fits(&state.first, &self.state.first)
            || !fits(&state.second, &self.state.second)
            || !fits(&state.average, &self.state.average)
        {
            return Err(QnnError::Config("the checkpoint is of another network or optimizer".into()));
        }
        (self.model, self.state, self.epoch) = (model, state, epoch);
        Ok(())
    }

    /// Trains for one epoch; `on_step(done, of)` is called after every step.
    pub fn train_epoch(
        &mut self,
        samples: &dyn Samples,
        on_step: &mut dyn FnMut(u64, u64),
    ) -> Result<EpochStats, QnnError> {
        let steps = self.steps_per_epoch(samples);
        if steps == 0 {
            return Err(QnnError::Config(format!(
                "a batch of {} needs at least as many training samples, there are {}",
                self.config.batch,
                samples.len()
            )));
        }
        self.order.clear();
        self.order.extend(0..u32::try_from(samples.len()).expect("fewer than 2^32 samples"));
        let epoch = u64::from(self.epoch);
        stream::shuffle(
            &mut stream::stream(self.config.seed, Purpose::BatchOrder, &[epoch]),
            &mut self.order,
        );
        for (weight, penalty) in self.weights.iter_mut().zip(&self.penalties) {
            *weight = (penalty.weight(self.epoch, self.config.epochs) * penalty.every() as f64) as f32;
        }
        let mut stats =
            EpochStats { penalties: vec![0.0; self.penalties.len()], steps, ..Default::default() };
        if let Some(graph) = &self.penalised {
            let named = |(i, head): (usize, String)| {
                graph.terms(i).map(move |(term, ..)| (format!("{head}: {term}"), 0.0)).collect::<Vec<_>>()
            };
            stats.terms = self.penalty_names().into_iter().enumerate().flat_map(named).collect();
        }
        let mut penalised_steps = 0u64;
        let penalised = self.weights.iter().any(|w| *w != 0.0);
        for step in 0..steps {
            let at = step as usize * self.config.batch;
            let indices = &self.order[at..at + self.config.batch];
            samples.fill(indices, epoch, &mut self.x, &mut self.labels)?;
            let rate = self.config.schedule.rate(
                self.config.rate,
                epoch as f64 + step as f64 / steps as f64,
                self.config.epochs,
            );
            let with_penalty = self.step(epoch * steps + step, rate as f32, penalised)?;
            let graph = if with_penalty { &self.penalised } else { &self.plain };
            let graph = graph.as_ref().expect("built in `new`");
            stats.loss += f64::from(graph.cross_entropy());
            let hits = graph.logits().chunks(self.model.network.classes).zip(&self.labels);
            stats.accuracy += hits.filter(|(z, y)| argmax(z) == usize::from(**y)).count() as f64;
            if with_penalty {
                penalised_steps += 1;
                for (i, sum) in stats.penalties.iter_mut().enumerate() {
                    *sum += graph.terms(i).map(|(_, weight, value)| weight * f64::from(value)).sum::<f64>();
                }
                let terms = (0..self.penalties.len()).flat_map(|i| graph.terms(i));
                terms.zip(&mut stats.terms).for_each(|((_, _, value), sum)| sum.1 += f64::from(value));
            }
            on_step(step + 1, steps);
        }
        self.recalibrate(samples, steps)?;
        stats.loss /= steps as f64;
        stats.accuracy /= (steps as usize * self.config.batch) as f64;
        let sums = stats.penalties.iter_mut().chain(stats.terms.iter_mut().map(|t| &mut t.1));
        sums.for_each(|p| *p /= penalised_steps.max(1) as f64);
        self.epoch += 1;
        Ok(stats)
    }

    /// Replaces the moving statistics by the mean over the first batches of the finished epoch, kernels as in inference.
    fn recalibrate(&mut self, samples: &dyn Samples, steps: u64) -> Result<(), QnnError> {
        let batches = self.config.recalibrate.min(steps as usize);
        if batches == 0 {
            return Ok(());
        }
        if self.moments.is_none() {
            self.moments = Some(MomentsGraph::new(&self.model, self.config.batch)?);
        }
        let averaged = (!self.state.average.is_empty()).then(|| self.result());
        let graph = self.moments.as_mut().expect("just built");
        let mut estimate = |model: &mut Model| {
            graph.start(model)?;
            for indices in self.order.chunks_exact(self.config.batch).take(batches) {
                samples.fill(indices, u64::from(self.epoch), &mut self.x, &mut self.labels)?;
                graph.run(model, &self.x)?;
            }
            graph.finish(model);
            Ok::<(), QnnError>(())
        };
        estimate(&mut self.model)?;
        if let Some(mut averaged) = averaged {
            estimate(&mut averaged)?;
            self.state.average = averaged.params.into_iter().map(|p| p.values).collect();
        }
        Ok(())
    }

    /// What the probes say of the model as it is now.
    pub(crate) fn probe(&mut self) -> Result<Vec<(String, f64)>, QnnError> {
        let mut numbers = Vec::new();
        for probe in &mut self.probes {
            numbers.extend(probe.measure(&self.model)?);
        }
        Ok(numbers)
    }

    /// One update from the batch in the buffers; returns whether penalties took part.
    fn step(&mut self, number: u64, rate: f32, penalised: bool) -> Result<bool, QnnError> {
        soften(&self.labels, self.model.network.classes, self.config.label_smoothing, &mut self.target)?;
        let every = self.penalties.first().map_or(1, |p| p.every());
        let with_penalty = penalised && number.is_multiple_of(every);
        if !with_penalty && self.plain.is_none() {
            // An epoch in which no penalty has a weight.
            let consistency = self.adversary.as_ref().and_then(|a| a.consistency());
            self.plain = Some(StepGraph::new(&self.model, self.config.batch, &[], consistency)?);
        }
        let graph = if with_penalty { &mut self.penalised } else { &mut self.plain };
        let graph = graph.as_mut().expect("built in `new`");
        let key = RunKey { seed: self.config.seed, step: number };
        let mut x = &self.x;
        if let Some(adversary) = &mut self.adversary {
            let (model, seed, labels) = (&self.model, self.config.seed, &self.labels);
            adversary.perturb(&Batch { model, seed, step: number, x, labels }, &mut self.moved)?;
            if adversary.consistency().is_none() {
                x = &self.moved;
            }
        }
        let (target, weights) = (&self.target, &self.weights);
        let together = self.adversary.as_ref().is_some_and(|a| a.consistency().is_some());
        let moved = together.then_some(&self.moved[..]);
        let inputs = StepInputs { model: &self.model, x, target, weights, moved };
        graph.run(&inputs, key)?;
        let mut scale = 1.0;
        if let Some(limit) = self.config.clip_norm {
            let square = |g: &[f32]| g.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>();
            let norm =
                (0..self.model.params.len()).filter_map(|i| graph.gradient(i)).map(square).sum::<f64>();
            let norm = norm.sqrt() as f32;
            if norm > limit {
                scale = limit / norm;
            }
        }
        self.state.updates += 1;
        for i in 0..self.model.params.len() {
            if let Some(g) = graph.gradient(i)
                && self.model.params[i].kind.is_trainable()
            {
                if g.iter().any(|v| !v.is_finite()) {
                    let place = format!("the gradient of `{}`", self.model.params[i].name);
                    return Err(QnnError::NonFinite { step: number, place });
                }
                self.state.update(&self.config.optimizer, i, &mut self.model, g, scale, rate);
            }
        }
        graph.update_moving(&mut self.model);
        if let Some(decay) = self.config.ema {
            self.state.average(decay, &self.model);
        }
        Ok(with_penalty)
    }
}

/// One-hot rows with label smoothing; labels are checked.
fn soften(labels: &[u8], classes: usize, smoothing: f32, target: &mut [f32]) -> Result<(), QnnError> {
    target.fill(smoothing / classes as f32);
    for (row, &label) in target.chunks_mut(classes).zip(labels) {
        let slot = row.get_mut(usize::from(label)).ok_or_else(|| {
            QnnError::Config(format!(
                "label {label} in the training data, but the network has {classes} classes"
            ))
        })?;
        *slot += 1.0 - smoothing;
    }
    Ok(())
}

/// Index of the largest value, the first of equals.
pub fn argmax(z: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in z.iter().enumerate() {
        if *v > z[best] {
            best = i;
        }
    }
    best
}
