//! Auto-PGD in L1: sparse steps that become sparser as the perturbation does (Croce and Hein 2021, auto-attack's code).
//!
//! A step of length eps is shared by the features of largest gradient. How many: at first a fifth of all, later two thirds
//! of those in which the best point differs from the sample, looked at every twenty-fifth part of the run. Where that
//! number falls the step is eps again and the search goes on from the best point; where not, the step shrinks by 1.5, to
//! no less than a tenth of eps.

use kernels::Real;

use super::apgd::{Plan, State};
use crate::chunk::Chunk;
use crate::error::AttackError;
use crate::l1;
use crate::random::{Draw, gaussian, stream};
use crate::spec::Start;

/// Share of the features that the first steps of a run move.
const SHARE: f64 = 0.2;
/// By how much the number of features moved stays below that of the perturbation, and by how much a step shrinks.
const SPARSER: f64 = 1.5;
/// A perturbation of less than this part of the features it had counts as sparser.
const FEWER: f64 = 0.95;
/// Least step, as a part of eps.
const LEAST: f64 = 0.1;

impl Plan {
    /// Radii to search in, as multiples of eps, with the steps for each: auto-attack goes from three eps to one.
    fn radii(&self) -> Vec<(f64, usize)> {
        let n = self.steps;
        let part = (3 * n).div_ceil(10);
        if self.shrink && n > 2 * part {
            vec![(3.0, part), (2.0, part), (1.0, n - 2 * part)]
        } else {
            vec![(1.0, n)]
        }
    }
}

impl<T: Real> State<T> {
    /// Run `index` on the active samples; `(done, of)` counts runs for the progress report.
    pub(super) fn run_l1(
        &mut self,
        plan: &Plan,
        c: &mut Chunk<'_, '_, T>,
        index: usize,
        (done, of): (usize, usize),
    ) -> Result<(), AttackError> {
        for &s in &c.active {
            let (point, x) = (&mut self.points[c.at(s)], &c.x[c.at(s)]);
            match plan.start {
                Start::Clean => point.copy_from_slice(x),
                Start::Random | Start::Radial => {
                    let mut rng = stream(c.seed, Draw::Apgd, c.ids[s], index as u64);
                    l1::gaussian_start(point, x, c.lo, c.hi, || gaussian(&mut rng));
                }
            }
        }
        let radii = plan.radii();
        let mut before = done * plan.steps;
        for (phase, &(radius, steps)) in radii.iter().enumerate() {
            // A point of a larger ball is no example: only the last radius is eps.
            let last = phase + 1 == radii.len();
            self.phase(plan, c, radius * c.eps, steps, last, (before, of * plan.steps))?;
            before += steps;
        }
        Ok(())
    }

    /// `steps` steps in the ball of radius `radius`, from the nearest point in it to where the phase before ended.
    fn phase(
        &mut self,
        plan: &Plan,
        c: &mut Chunk<'_, '_, T>,
        radius: f64,
        steps: usize,
        last: bool,
        (before, of): (usize, usize),
    ) -> Result<(), AttackError> {
        for &s in &c.active {
            let at = c.at(s);
            l1::project(&mut self.points[at.clone()], &c.x[at], radius, c.lo, c.hi);
        }
        self.begin(plan, c, last)?;
        for &s in &c.active {
            let at = c.at(s);
            let differences = l1::differences(&self.points[at.clone()], &c.x[at]);
            let sample = &mut self.samples[s];
            sample.step = radius;
            // A run in one radius starts dense: its first point says nothing about the perturbation it will find.
            let dense = differences == 0 || !plan.shrink;
            sample.differences = if dense { c.d } else { differences };
            sample.moved = if dense { SHARE * c.d as f64 } else { differences as f64 / SPARSER };
        }
        let window = (steps * 4 / 100).max(1);
        for i in 0..steps {
            if c.active.is_empty() {
                break;
            }
            for &s in &c.active {
                let at = c.at(s);
                let (point, sample) = (&mut self.points[at.clone()], &self.samples[s]);
                let count = sample.moved.ceil() as usize;
                l1::ascend(point, &self.grad[at.clone()], sample.step, count, None, &mut self.scratch);
                l1::project(point, &c.x[at], radius, c.lo, c.hi);
            }
            c.gather(&self.points);
            if i + 1 < steps {
                c.gradient(plan.loss)?;
            } else {
                c.query(plan.loss)?;
            }
            for j in 0..c.active.len() {
                if last {
                    c.offer(j);
                }
                self.record(c, j);
                if (i + 1) % window == 0 {
                    self.sparsen(c, j, radius);
                }
            }
            if last {
                c.retain_survivors();
            }
            c.tick(before + i + 1, of);
        }
        if !last {
            for &s in &c.active {
                let at = c.at(s);
                self.points[at.clone()].copy_from_slice(&self.best[at]);
            }
        }
        Ok(())
    }

    /// Fits the number of features moved to the best perturbation so far.
    fn sparsen(&mut self, c: &Chunk<'_, '_, T>, j: usize, radius: f64) {
        let (s, at) = (c.active[j], c.at(c.active[j]));
        let differences = l1::differences(&self.best[at.clone()], &c.x[at.clone()]);
        let sample = &mut self.samples[s];
        let fewer = (differences as f64) < FEWER * sample.differences as f64;
        sample.moved = differences as f64 / SPARSER;
        sample.differences = differences;
        sample.step = if fewer { radius } else { (sample.step / SPARSER).max(LEAST * radius) };
        if fewer {
            self.points[at.clone()].copy_from_slice(&self.best[at.clone()]);
            self.grad[at.clone()].copy_from_slice(&self.best_grad[at]);
        }
    }
}
