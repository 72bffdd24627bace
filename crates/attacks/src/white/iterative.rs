//! FGSM, BIM, PGD and MIM: the same loop of steepest steps with different settings.

use kernels::Real;

use crate::chunk::Chunk;
use crate::error::AttackError;
use crate::geometry::{Norm, ascend, project};
use crate::l1;
use crate::loss::Loss;
use crate::random::{Draw, in_ball, on_sphere, stream, uniform};
use crate::spec::{Bim, Fgsm, Keep, Mim, Pgd, Start, Step};

/// In L1 a step moves one part in this many of the features, those of largest gradient that the box lets move (the sparse
/// descent of Tramèr and Boneh 2019).
const L1_PART: usize = 100;

/// One member of the family.
pub(crate) struct Plan {
    steps: usize,
    restarts: usize,
    step: Step,
    start: Start,
    keep: Keep,
    loss: Loss,
    /// Weight of the accumulated gradient, for MIM.
    decay: Option<f64>,
    /// In L1, whether a step moves only the single largest coordinate (FGSM's exact steepest direction).
    single: bool,
}

impl From<&Fgsm> for Plan {
    fn from(a: &Fgsm) -> Self {
        let (step, start, keep) = (Step::Relative(1.0), Start::Clean, Keep::Last);
        Self { steps: 1, restarts: 1, step, start, keep, loss: a.loss, decay: None, single: true }
    }
}

impl From<&Bim> for Plan {
    fn from(a: &Bim) -> Self {
        let (steps, step, keep, loss) = (a.steps, a.step, a.keep, a.loss);
        Self { steps, restarts: 1, step, start: Start::Clean, keep, loss, decay: None, single: false }
    }
}

impl From<&Pgd> for Plan {
    fn from(a: &Pgd) -> Self {
        let (steps, restarts, step, start, keep) = (a.steps, a.restarts, a.step, a.start, a.keep);
        Self { steps, restarts, step, start, keep, loss: a.loss, decay: None, single: false }
    }
}

impl From<&Mim> for Plan {
    fn from(a: &Mim) -> Self {
        let (steps, step, keep, loss) = (a.steps, a.step, a.keep, a.loss);
        Self {
            steps,
            restarts: 1,
            step,
            start: Start::Clean,
            keep,
            loss,
            decay: Some(a.decay),
            single: false,
        }
    }
}

pub(crate) fn attack<T: Real>(plan: &Plan, c: &mut Chunk<'_, '_, T>) -> Result<(), AttackError> {
    let mut points = c.x.clone();
    let mut momentum = vec![T::ZERO; if plan.decay.is_some() { points.len() } else { 0 }];
    // The last iterate is the answer of the libraries that keep it: nothing may stop before it.
    let best = plan.keep == Keep::Best;
    let length = plan.step.length(c.eps);
    let mut scratch = Vec::new();
    for restart in 0..plan.restarts {
        if !c.activate() {
            break;
        }
        start(plan, c, restart, &mut points);
        momentum.fill(T::ZERO);
        for step in 0..=plan.steps {
            c.gather(&points);
            let last = step == plan.steps;
            if last {
                c.query(plan.loss)?;
            } else {
                c.gradient(plan.loss)?;
            }
            for j in 0..c.active.len() {
                let s = c.active[j];
                if best {
                    c.offer(j);
                } else if last && (restart == 0 || c.success(j)) {
                    c.settle(j, c.success(j));
                }
                if last || (best && c.early_exit && c.broken[s]) {
                    continue;
                }
                let (row, at) = (c.at(j), c.at(s));
                let mut direction = &c.grad[row];
                if let Some(decay) = plan.decay {
                    accumulate(&mut momentum[at.clone()], direction, decay);
                    direction = &momentum[at.clone()];
                }
                let point = &mut points[at.clone()];
                if c.norm == Norm::L1 && !plan.single {
                    let count = c.d / L1_PART;
                    l1::ascend(point, direction, length, count, Some((c.lo, c.hi)), &mut scratch);
                } else {
                    ascend(c.norm, point, direction, length);
                }
                project(c.norm, point, &c.x[at], c.eps, c.lo, c.hi);
            }
            if best {
                c.retain_survivors();
            }
            c.tick(restart * (plan.steps + 1) + step + 1, plan.restarts * (plan.steps + 1));
            if c.active.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

fn start<T: Real>(plan: &Plan, c: &Chunk<'_, '_, T>, restart: usize, points: &mut [T]) {
    for &s in &c.active {
        let (point, x) = (&mut points[c.at(s)], &c.x[c.at(s)]);
        match plan.start {
            Start::Clean => point.copy_from_slice(x),
            Start::Random | Start::Radial => {
                let mut rng = stream(c.seed, Draw::Start, c.ids[s], restart as u64);
                if plan.start == Start::Radial && c.norm == Norm::L2 {
                    let radius = c.eps * uniform(&mut rng);
                    on_sphere(&mut rng, c.norm, radius, point);
                } else {
                    in_ball(&mut rng, c.norm, c.eps, point);
                }
                for (p, &x) in point.iter_mut().zip(x) {
                    *p += x;
                }
                project(c.norm, point, x, c.eps, c.lo, c.hi);
            }
        }
    }
}

/// FGSM's search: growing multiples of `a.search` along the clean sample's gradient; the first that succeeds, else the last.
pub(crate) fn minimal<T: Real>(a: &Fgsm, c: &mut Chunk<'_, '_, T>) -> Result<(), AttackError> {
    c.activate_all();
    c.probe.copy_from_slice(&c.x);
    c.gradient(a.loss)?;
    let grad = c.grad.clone();
    let count = (c.eps * (1.0 + 1e-9) / a.search) as usize;
    for k in 1..=count {
        for (j, &s) in c.active.iter().enumerate() {
            let (row, at) = (c.at(j), c.at(s));
            let point = &mut c.probe[row];
            point.copy_from_slice(&c.x[at.clone()]);
            ascend(c.norm, point, &grad[at.clone()], a.search * k as f64);
            project(c.norm, point, &c.x[at], c.eps, c.lo, c.hi);
        }
        c.query(a.loss)?;
        for j in 0..c.active.len() {
            c.settle(j, c.success(j));
        }
        let broken = &c.broken;
        c.active.retain(|&s| !broken[s]);
        c.tick(k, count);
        if c.active.is_empty() {
            break;
        }
    }
    Ok(())
}

/// `m <- decay * m + g / ||g||_1`; a zero gradient adds nothing (torchattacks makes the momentum NaN for good).
fn accumulate<T: Real>(momentum: &mut [T], grad: &[T], decay: f64) {
    let length = Norm::L1.length(grad);
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    let decay = T::from_f64(decay);
    for (m, g) in momentum.iter_mut().zip(grad) {
        *m = decay * *m + T::from_f64(g.to_f64() * scale);
    }
}
