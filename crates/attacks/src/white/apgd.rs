//! Auto-PGD: step sizes that halve themselves when progress stalls (Croce and Hein 2020, auto-attack's code).
//!
//! One difference is on by default: the first comparison of losses is with the start's loss. auto-attack reads a row of
//! zeros there; `zero_reference` (preset `auto-attack`) restores it. Broken samples stop at once when the run allows,
//! which changes no robust accuracy since samples are independent. L1 has an algorithm of its own, in `apgd_l1`.

use kernels::Real;

use crate::chunk::Chunk;
use crate::error::AttackError;
use crate::geometry::{Norm, clamp, clip, sign};
use crate::loss::{Goal, Loss, ranked};
use crate::random::{Draw, on_sphere, stream};
use crate::spec::{Apgd, ApgdTargeted, Start};

/// What both variants share.
pub(super) struct Plan {
    pub(super) steps: usize,
    pub(super) loss: Loss,
    rho: f64,
    pub(super) start: Start,
    zero_reference: bool,
    /// In L1, larger radii first.
    pub(super) shrink: bool,
}

pub(crate) fn attack<T: Real>(a: &Apgd, c: &mut Chunk<'_, '_, T>) -> Result<(), AttackError> {
    let Apgd { steps, loss, rho, start, zero_reference, shrink, .. } = *a;
    let plan = Plan { steps, loss, rho, start, zero_reference, shrink };
    let mut state = State::new(c);
    for restart in 0..a.restarts {
        if !c.activate() {
            break;
        }
        state.run(&plan, c, restart, (restart, a.restarts))?;
    }
    Ok(())
}

/// One run per target class, in falling order of the clean logits; a sample is broken by any wrong class.
pub(crate) fn targeted<T: Real>(a: &ApgdTargeted, c: &mut Chunk<'_, '_, T>) -> Result<(), AttackError> {
    let ApgdTargeted { steps, loss, rho, start, zero_reference, shrink, .. } = *a;
    let plan = Plan { steps, loss, rho, start, zero_reference, shrink };
    let targets = a.targets.min(c.k - 1);
    let mut state = State::new(c);
    for run in 0..a.restarts * targets {
        if !c.activate() {
            break;
        }
        c.aim_at_rank(1 + run % targets);
        state.run(&plan, c, run, (run, a.restarts * targets))?;
    }
    c.aims.clone_from(&c.goals);
    Ok(())
}

impl<T: Real> Chunk<'_, '_, T> {
    /// Aims every sample at the class of rank `r` (0 = the predicted one) by clean logit.
    pub(crate) fn aim_at_rank(&mut self, r: usize) {
        for s in 0..self.len() {
            let target = ranked(&self.clean_logits[s * self.k..(s + 1) * self.k], r) as u8;
            self.aims[s] = Goal::Targeted { label: self.goals[s].label(), target };
        }
    }
}

/// Keeps auto-attack's quotients finite.
const TINY: f64 = 1e-12;

/// auto-attack's L2 projection and clip. It shrinks points inside the ball by a trillionth too, which the DLR loss
/// (ill-conditioned beyond the boundary) amplifies within 50 steps: another formula gives other pixels.
fn into_ball<T: Real>(point: &mut [T], x: &[T], eps: f64, lo: &[T], hi: &[T]) {
    let length = Norm::L2.distance(point, x);
    let (radius, length) = (T::from_f64(length.min(eps)), T::from_f64(length + TINY));
    for (p, &x) in point.iter_mut().zip(x) {
        *p = x + (*p - x) / length * radius;
    }
    clip(point, lo, hi);
}

/// Per-sample memory of a run, indexed by slot.
pub(super) struct State<T> {
    pub(super) points: Vec<T>,
    previous: Vec<T>,
    pub(super) grad: Vec<T>,
    pub(super) best: Vec<T>,
    pub(super) best_grad: Vec<T>,
    pub(super) samples: Vec<Sample>,
    pub(super) scratch: Vec<T>,
}

#[derive(Clone)]
pub(super) struct Sample {
    pub(super) step: f64,
    last_loss: f64,
    best_loss: f64,
    best_at_check: f64,
    increases: usize,
    reduced_at_check: bool,
    /// In L1: features that a step moves, and in which the best point differed at the last check.
    pub(super) moved: f64,
    pub(super) differences: usize,
}

impl<T: Real> State<T> {
    fn new(c: &Chunk<'_, '_, T>) -> Self {
        let sample = Sample {
            step: 0.0,
            last_loss: 0.0,
            best_loss: 0.0,
            best_at_check: 0.0,
            increases: 0,
            reduced_at_check: true,
            moved: 0.0,
            differences: 0,
        };
        let zeros = || vec![T::ZERO; c.x.len()];
        Self {
            points: zeros(),
            previous: zeros(),
            grad: zeros(),
            best: zeros(),
            best_grad: zeros(),
            samples: vec![sample; c.len()],
            scratch: Vec::new(),
        }
    }

    /// Run `index` on the active samples; `(done, of)` counts runs for the progress report.
    fn run(
        &mut self,
        plan: &Plan,
        c: &mut Chunk<'_, '_, T>,
        index: usize,
        (done, of): (usize, usize),
    ) -> Result<(), AttackError> {
        if c.norm == Norm::L1 {
            return self.run_l1(plan, c, index, (done, of));
        }
        self.start(plan, c, index)?;
        let n = plan.steps;
        let share = |percent: usize| n * percent / 100;
        let (mut window, shrink, least) = (share(22).max(1), share(3).max(1), share(6).max(1));
        let mut since_check = 0;
        for i in 0..n {
            if c.active.is_empty() {
                break;
            }
            self.advance(c, if i == 0 { 1.0 } else { 0.75 });
            c.gather(&self.points);
            if i + 1 < n {
                c.gradient(plan.loss)?;
            } else {
                c.query(plan.loss)?;
            }
            since_check += 1;
            let check = since_check == window;
            for j in 0..c.active.len() {
                c.offer(j);
                self.record(c, j);
                if check {
                    self.check(c, j, plan.rho, window);
                }
            }
            if check {
                window = window.saturating_sub(shrink).max(least);
                since_check = 0;
            }
            c.retain_survivors();
            c.tick(done * n + i + 1, of * n);
        }
        Ok(())
    }

    fn start(&mut self, plan: &Plan, c: &mut Chunk<'_, '_, T>, index: usize) -> Result<(), AttackError> {
        for &s in &c.active {
            let (point, x) = (&mut self.points[c.at(s)], &c.x[c.at(s)]);
            match plan.start {
                Start::Clean => point.copy_from_slice(x),
                Start::Random | Start::Radial => {
                    on_sphere(&mut stream(c.seed, Draw::Apgd, c.ids[s], index as u64), c.norm, c.eps, point);
                    point.iter_mut().zip(x).for_each(|(p, &x)| *p += x);
                }
            }
            clip(point, c.lo, c.hi);
        }
        self.begin(plan, c, true)
    }

    /// Takes the points where they are as the first of a run, and as examples if they may be.
    pub(super) fn begin(
        &mut self,
        plan: &Plan,
        c: &mut Chunk<'_, '_, T>,
        offer: bool,
    ) -> Result<(), AttackError> {
        c.gather(&self.points);
        c.gradient(plan.loss)?;
        for j in 0..c.active.len() {
            if offer {
                c.offer(j);
            }
            let (s, at, row, value) = (c.active[j], c.at(c.active[j]), c.at(j), c.values[j]);
            self.previous[at.clone()].copy_from_slice(&self.points[at.clone()]);
            self.best[at.clone()].copy_from_slice(&self.points[at.clone()]);
            self.grad[at.clone()].copy_from_slice(&c.grad[row.clone()]);
            self.best_grad[at].copy_from_slice(&c.grad[row]);
            self.samples[s] = Sample {
                step: 2.0 * c.eps,
                last_loss: if plan.zero_reference { 0.0 } else { value },
                best_loss: value,
                best_at_check: value,
                increases: 0,
                // The rule "no better since the last check" must not fire at the first check.
                reduced_at_check: true,
                moved: 0.0,
                differences: 0,
            };
        }
        c.retain_survivors();
        Ok(())
    }

    /// Moves every active point: a projected step `u`, then a mean of it and of the last movement, projected again.
    fn advance(&mut self, c: &mut Chunk<'_, '_, T>, alpha: f64) {
        let (a, b) = (T::from_f64(alpha), T::from_f64(1.0 - alpha));
        for (j, &s) in c.active.iter().enumerate() {
            let at = c.at(s);
            let (x, grad, row) = (&c.x[at.clone()], &self.grad[at.clone()], c.at(j));
            let (point, previous) = (&mut self.points[at.clone()], &mut self.previous[at]);
            let step = self.samples[s].step;
            if c.norm == Norm::Linf {
                let (eps, step) = (T::from_f64(c.eps), T::from_f64(step));
                for i in 0..x.len() {
                    let inside = |v| clamp(clamp(v, x[i] - eps, x[i] + eps), c.lo[i], c.hi[i]);
                    let (p, old) = (point[i], previous[i]);
                    let u = inside(p + step * sign(grad[i]));
                    previous[i] = p;
                    point[i] = inside(p + (u - p) * a + (p - old) * b);
                }
                continue;
            }
            let u = &mut c.probe[row];
            u.copy_from_slice(point);
            let length = Norm::L2.length(grad) + TINY;
            u.iter_mut().zip(grad).for_each(|(u, g)| *u += T::from_f64(step * (g.to_f64() / length)));
            into_ball(u, x, c.eps, c.lo, c.hi);
            for ((u, p), old) in u.iter_mut().zip(point.iter()).zip(previous.iter()) {
                *u = *p + (*u - *p) * a + (*p - *old) * b;
            }
            into_ball(u, x, c.eps, c.lo, c.hi);
            previous.copy_from_slice(point);
            point.copy_from_slice(u);
        }
    }

    /// Takes note of the loss and gradient just computed for row `j`.
    pub(super) fn record(&mut self, c: &Chunk<'_, '_, T>, j: usize) {
        let (s, value) = (c.active[j], c.values[j]);
        let (at, row) = (c.at(s), c.at(j));
        self.grad[at.clone()].copy_from_slice(&c.grad[row]);
        let sample = &mut self.samples[s];
        sample.increases += usize::from(value > sample.last_loss);
        sample.last_loss = value;
        if value > sample.best_loss {
            sample.best_loss = value;
            self.best[at.clone()].copy_from_slice(&self.points[at.clone()]);
            self.best_grad[at.clone()].copy_from_slice(&self.grad[at]);
        }
    }

    /// Halves the step and returns to the best point when the window brought too few increases, or nothing new.
    fn check(&mut self, c: &Chunk<'_, '_, T>, j: usize, rho: f64, window: usize) {
        let (s, at) = (c.active[j], c.at(c.active[j]));
        let sample = &mut self.samples[s];
        let oscillates = sample.increases as f64 <= rho * window as f64;
        let stalls = !sample.reduced_at_check && sample.best_at_check >= sample.best_loss;
        sample.reduced_at_check = oscillates || stalls;
        sample.best_at_check = sample.best_loss;
        sample.increases = 0;
        if sample.reduced_at_check {
            sample.step *= 0.5;
            self.points[at.clone()].copy_from_slice(&self.best[at.clone()]);
            self.grad[at.clone()].copy_from_slice(&self.best_grad[at]);
        }
    }
}
