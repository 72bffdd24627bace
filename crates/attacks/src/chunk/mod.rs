//! The samples an attack works on together: their state, the survivors, and counted access to the model.
//!
//! A chunk may hold more samples than one model call takes: while samples fall, those left still fill whole calls.

mod ask;

use kernels::Real;

use crate::geometry::Norm;
use crate::loss::{Goal, argmax};
use crate::model::Access;

/// Called with (step, steps, survivors) while an attack runs.
pub(crate) type Tick<'a> = dyn FnMut(usize, usize, usize) + 'a;

/// A chunk of samples under attack. State is indexed by slot and never moves; before a model call the survivors'
/// points are gathered into `probe`, so finished samples cost nothing and the model sees a dense batch.
pub(crate) struct Chunk<'a, 'm, T: Real> {
    model: &'a mut Access<'m, T>,
    tick: &'a mut Tick<'a>,
    /// `[height, width, channels]` of a sample.
    pub(crate) shape: [usize; 3],
    /// Rows of a model call at most.
    batch: usize,
    /// Features of a sample.
    pub(crate) d: usize,
    /// Classes.
    pub(crate) k: usize,
    /// Lower bounds, one per feature.
    pub(crate) lo: &'a [T],
    /// Upper bounds, one per feature.
    pub(crate) hi: &'a [T],
    pub(crate) norm: Norm,
    pub(crate) eps: f64,
    pub(crate) seed: u64,
    /// Whether a broken sample is left alone at once.
    pub(crate) early_exit: bool,

    /// Clean samples `[n, d]`.
    pub(crate) x: Vec<T>,
    /// Points to walk from `[n, d]`, if the caller has some.
    pub(crate) starts: Option<Vec<T>>,
    pub(crate) ids: Vec<u32>,
    /// What counts as success.
    pub(crate) goals: Vec<Goal>,
    /// What the loss drives at: the goals, but for attacks that try one target class after the other.
    pub(crate) aims: Vec<Goal>,
    /// Logits of the clean samples `[n, k]`.
    pub(crate) clean_logits: Vec<T>,

    /// The examples to return `[n, d]`.
    pub(crate) adv: Vec<T>,
    pub(crate) broken: Vec<bool>,
    /// Loss of `adv`.
    pub(crate) loss: Vec<f64>,
    /// Distance of the closest adversarial point that a minimum-norm attack found.
    pub(crate) distance: Vec<f64>,
    pub(crate) queries: Vec<u64>,
    pub(crate) gradients: Vec<u64>,

    /// Slots still under attack, in slot order.
    pub(crate) active: Vec<usize>,
    /// Points to put to the model: row `j` belongs to slot `active[j]`.
    pub(crate) probe: Vec<T>,
    /// Logits of `probe`.
    pub(crate) logits: Vec<T>,
    /// Gradients at `probe`, after [`Chunk::gradient`].
    pub(crate) grad: Vec<T>,
    /// Losses at `probe`.
    pub(crate) values: Vec<f64>,
    /// Identifiers of the rows of a model call.
    row_ids: Vec<u32>,
}

/// What every chunk of a run shares.
pub(crate) struct Setting<'a, T: Real> {
    pub(crate) lo: &'a [T],
    pub(crate) hi: &'a [T],
    pub(crate) norm: Norm,
    pub(crate) eps: f64,
    pub(crate) seed: u64,
    pub(crate) early_exit: bool,
    /// Rows of a model call at most.
    pub(crate) batch: usize,
}

impl<'a, 'm, T: Real> Chunk<'a, 'm, T> {
    pub(crate) fn new(
        model: &'a mut Access<'m, T>,
        tick: &'a mut Tick<'a>,
        setting: &Setting<'a, T>,
        x: Vec<T>,
        ids: Vec<u32>,
        goals: Vec<Goal>,
        clean_logits: Vec<T>,
    ) -> Self {
        let classifier = model.classifier();
        let (shape, d, k) = (classifier.input_shape(), classifier.input_len(), classifier.classes());
        let n = ids.len();
        let white = model.differentiable().is_some();
        let mut chunk = Self {
            model,
            tick,
            shape,
            batch: setting.batch,
            d,
            k,
            lo: setting.lo,
            hi: setting.hi,
            norm: setting.norm,
            eps: setting.eps,
            seed: setting.seed,
            early_exit: setting.early_exit,
            adv: x.clone(),
            probe: x.clone(),
            x,
            starts: None,
            ids,
            aims: goals.clone(),
            goals,
            clean_logits,
            broken: vec![false; n],
            loss: vec![f64::NEG_INFINITY; n],
            distance: vec![f64::INFINITY; n],
            queries: vec![0; n],
            gradients: vec![0; n],
            active: (0..n).collect(),
            logits: vec![T::ZERO; n * k],
            grad: if white { vec![T::ZERO; n * d] } else { Vec::new() },
            values: vec![0.0; n],
            row_ids: Vec::new(),
        };
        chunk.forget();
        chunk
    }

    /// Tells the model that an attack begins, or is over.
    pub(crate) fn forget(&mut self) {
        if let Some(model) = self.model.differentiable() {
            model.rows_belong_to(None);
        }
    }

    /// Samples in the chunk.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Range of slot `s` (or row `j`) in arrays of samples.
    pub(crate) fn at(&self, s: usize) -> std::ops::Range<usize> {
        s * self.d..(s + 1) * self.d
    }

    /// Makes the samples still standing the active ones; false when none is.
    pub(crate) fn activate(&mut self) -> bool {
        let broken = &self.broken;
        self.active.clear();
        self.active.extend((0..broken.len()).filter(|&s| !broken[s]));
        !self.active.is_empty()
    }

    /// Makes all samples active, broken or not: a minimum-norm attack goes on after success.
    pub(crate) fn activate_all(&mut self) {
        self.active.clear();
        self.active.extend(0..self.broken.len());
    }

    /// Drops broken samples from the active ones, when early exit allows.
    pub(crate) fn retain_survivors(&mut self) {
        if self.early_exit {
            let broken = &self.broken;
            self.active.retain(|&s| !broken[s]);
        }
    }

    pub(crate) fn tick(&mut self, step: usize, steps: usize) {
        let standing = self.broken.iter().filter(|b| !**b).count();
        (self.tick)(step, steps, standing);
    }

    /// Copies the survivors' rows of `points` (indexed by slot) into `probe`.
    pub(crate) fn gather(&mut self, points: &[T]) {
        let d = self.d;
        for (&s, row) in self.active.iter().zip(self.probe.chunks_exact_mut(d)) {
            row.copy_from_slice(&points[s * d..(s + 1) * d]);
        }
    }

    /// Takes an adversarial point of slot `s` when it is the closest so far and inside eps.
    pub(crate) fn keep_point(&mut self, s: usize, point: &[T]) {
        let at = self.at(s);
        let distance = self.norm.distance(point, &self.x[at.clone()]);
        if distance < self.distance[s] {
            self.distance[s] = distance;
            if distance <= self.eps {
                self.adv[at].copy_from_slice(point);
                self.broken[s] = true;
            }
        }
    }

    /// Whether the clean sample of slot `s` is already what the adversary wants.
    pub(crate) fn goal_reached_clean(&self, s: usize) -> bool {
        self.goals[s].reached(argmax(&self.clean_logits[s * self.k..(s + 1) * self.k]))
    }

    /// Progress of attacks that take one sample after the other.
    pub(crate) fn tick_sample(&mut self, done: usize, standing: usize) {
        let samples = self.len();
        (self.tick)(done, samples, standing);
    }

    /// Middle and half width of a feature's bounds.
    pub(crate) fn center_radius(&self, feature: usize) -> (f64, f64) {
        let (lo, hi) = (self.lo[feature].to_f64(), self.hi[feature].to_f64());
        (0.5 * (lo + hi), 0.5 * (hi - lo))
    }

    /// The value of a feature at `tanh` in [-1, 1] of its bounds.
    pub(crate) fn value_at(&self, feature: usize, tanh: f64) -> f64 {
        let (center, radius) = self.center_radius(feature);
        center + radius * tanh
    }

    /// The class predicted for row `j` of the last model call.
    pub(crate) fn prediction(&self, j: usize) -> u8 {
        argmax(&self.logits[j * self.k..(j + 1) * self.k])
    }

    /// Whether row `j` of the last model call is what the adversary wanted.
    pub(crate) fn success(&self, j: usize) -> bool {
        self.goals[self.active[j]].reached(self.prediction(j))
    }

    /// Takes row `j` as its slot's example: in place of the one held.
    pub(crate) fn settle(&mut self, j: usize, success: bool) {
        let s = self.active[j];
        let (to, from) = (self.at(s), self.at(j));
        self.adv[to].copy_from_slice(&self.probe[from]);
        self.loss[s] = self.values[j];
        self.broken[s] = success;
    }

    /// Offers row `j` to its slot, which takes it when it is adversarial for the first time, or of higher loss
    /// than the one held without being less adversarial. Returns whether it is adversarial.
    pub(crate) fn offer(&mut self, j: usize) -> bool {
        let (s, success) = (self.active[j], self.success(j));
        let better = match (self.broken[s], success) {
            (false, true) => true,
            (true, false) => false,
            _ => self.values[j] > self.loss[s],
        };
        if better {
            self.settle(j, success);
        }
        success
    }

    /// Takes the adversarial row `j` when it is the closest so far and inside eps.
    pub(crate) fn keep_smallest(&mut self, j: usize) {
        let s = self.active[j];
        let distance = self.norm.distance(&self.probe[self.at(j)], &self.x[self.at(s)]);
        if distance < self.distance[s] {
            self.distance[s] = distance;
            if distance <= self.eps {
                self.settle(j, true);
            }
        }
    }
}
