//! Carlini and Wagner's L2 attack (2017): Adam in tanh space, binary search on the weight of the margin.
//!
//! foolbox's conventions (the point tested is the one whose gradient was taken, Adam restarts with every weight), except
//! that giving up early is decided per sample, and a sample without success keeps its clean image.

use kernels::Real;

use crate::chunk::Chunk;
use crate::error::AttackError;
use crate::loss::{Goal, best_other};
use crate::spec::CarliniWagner;

/// Keeps `atanh` finite at the faces of the box, as in the authors' code.
const SHRINK: f64 = 0.999_999;
/// Adam's decays and guard.
const BETA: [f64; 2] = [0.9, 0.999];
const GUARD: f64 = 1e-8;
/// Progress below this share counts as none.
const STALL: f64 = 0.9999;

/// One sample's weight of the margin, its bounds, and how the current weight fares.
#[derive(Clone)]
struct Search {
    weight: f64,
    low: f64,
    high: f64,
    succeeded: bool,
    objective: f64,
    last_objective: f64,
}

impl Search {
    /// Ten times the weight until it succeeds, then bisection.
    fn adjust(&mut self) {
        if self.succeeded {
            self.high = self.weight;
        } else {
            self.low = self.weight;
        }
        self.weight = if self.high.is_finite() { 0.5 * (self.low + self.high) } else { 10.0 * self.weight };
    }

    fn stalls(&mut self) -> bool {
        let stalls = self.objective > STALL * self.last_objective;
        self.last_objective = self.objective;
        stalls
    }
}

/// The optimiser's variables in tanh space, indexed by slot.
struct Adam {
    /// Where the clean image lies, and the image that it stands for.
    origin: Vec<f64>,
    image: Vec<f64>,
    shift: Vec<f64>,
    mean: Vec<f64>,
    square: Vec<f64>,
}

pub(crate) fn attack<T: Real>(a: &CarliniWagner, c: &mut Chunk<'_, '_, T>) -> Result<(), AttackError> {
    let size = c.x.len();
    let fresh = Search {
        weight: a.initial_weight,
        low: 0.0,
        high: f64::INFINITY,
        succeeded: false,
        objective: 0.0,
        last_objective: f64::INFINITY,
    };
    let mut searches = vec![fresh; c.len()];
    let origin: Vec<f64> = (0..size)
        .map(|i| {
            let (center, radius) = c.center_radius(i % c.d);
            if radius > 0.0 { (SHRINK * (c.x[i].to_f64() - center) / radius).atanh() } else { 0.0 }
        })
        .collect();
    let image = origin.iter().enumerate().map(|(i, o)| c.value_at(i % c.d, o.tanh())).collect();
    let zeros = || vec![0.0; size];
    let mut adam = Adam { origin, image, shift: zeros(), mean: zeros(), square: zeros() };
    let check = a.steps.div_ceil(10);
    for round in 0..a.search_steps {
        for search in &mut searches {
            if round + 1 == a.search_steps && a.search_steps >= 10 {
                search.weight = search.high.min(1e10);
            }
            (search.succeeded, search.last_objective) = (false, f64::INFINITY);
        }
        adam.shift.fill(0.0);
        adam.mean.fill(0.0);
        adam.square.fill(0.0);
        c.activate_all();
        for step in 0..a.steps {
            adam.place(c);
            c.vjp(|z, goal, s, cot| hinge(z, goal, a.confidence, searches[s].weight, cot))?;
            for j in 0..c.active.len() {
                adam.step(a, c, j, step, &mut searches);
            }
            if a.abort_early && step % check == 0 {
                c.active.retain(|&s| !searches[s].stalls());
            }
            c.tick(round * a.steps + step + 1, a.search_steps * a.steps);
            if c.active.is_empty() {
                break;
            }
        }
        searches.iter_mut().for_each(Search::adjust);
    }
    Ok(())
}

impl Adam {
    /// Writes the current points into the chunk's probe.
    fn place<T: Real>(&self, c: &mut Chunk<'_, '_, T>) {
        let d = c.d;
        for j in 0..c.active.len() {
            let s = c.active[j];
            for i in 0..d {
                let value = c.value_at(i, (self.origin[s * d + i] + self.shift[s * d + i]).tanh());
                c.probe[j * d + i] = T::from_f64(value);
            }
        }
    }

    /// Tests row `j`, then moves it.
    fn step<T: Real>(
        &mut self,
        a: &CarliniWagner,
        c: &mut Chunk<'_, '_, T>,
        j: usize,
        step: usize,
        searches: &mut [Search],
    ) {
        let (s, d) = (c.active[j], c.d);
        let margin = c.values[j];
        let search = &mut searches[s];
        search.objective = round(search.weight) * margin.max(0.0);
        if succeeds(c, j, a.confidence) {
            search.succeeded = true;
            c.keep_smallest(j);
        }
        let [fade, fade2] = BETA;
        let correct = |fade: f64| 1.0 - fade.powi(step as i32 + 1);
        for i in 0..d {
            let (p, q) = (s * d + i, j * d + i);
            let (center, radius) = c.center_radius(i);
            let away = c.probe[q].to_f64() - self.image[p];
            search.objective += away * away;
            let t = if radius > 0.0 { (c.probe[q].to_f64() - center) / radius } else { 1.0 };
            let g = (c.grad[q].to_f64() + 2.0 * away) * radius * (1.0 - t * t);
            self.mean[p] = fade * self.mean[p] + (1.0 - fade) * g;
            self.square[p] = fade2 * self.square[p] + (1.0 - fade2) * g * g;
            let (m, v) = (self.mean[p] / correct(fade), self.square[p] / correct(fade2));
            self.shift[p] -= a.step * m / (v.sqrt() + GUARD);
        }
    }
}

/// foolbox keeps the weights in f32 whatever the model computes in.
fn round(weight: f64) -> f64 {
    f64::from(weight as f32)
}

/// The classes whose logits are to fall and to rise.
fn falls_and_rises<T: Real>(z: &[T], goal: Goal) -> (usize, usize) {
    match goal {
        Goal::Untargeted { label } => (label as usize, best_other(z, label as usize)),
        Goal::Targeted { target, .. } => (best_other(z, target as usize), target as usize),
    }
}

/// `weight * max(margin + confidence, 0)`'s cotangent; returns the margin with its confidence.
fn hinge<T: Real>(z: &[T], goal: Goal, confidence: f64, weight: f64, cot: &mut [T]) -> f64 {
    let (falls, rises) = falls_and_rises(z, goal);
    let margin = z[falls].to_f64() - z[rises].to_f64() + confidence;
    cot.fill(T::ZERO);
    if margin > 0.0 {
        cot[falls] = T::from_f64(round(weight));
        cot[rises] = T::from_f64(-round(weight));
    }
    margin
}

/// Whether row `j` reaches its goal by more than `confidence`.
fn succeeds<T: Real>(c: &Chunk<'_, '_, T>, j: usize, confidence: f64) -> bool {
    c.success(j) && (confidence == 0.0 || c.values[j] <= 0.0)
}
