//! Checks of attacks against each other: the audit's own runs, joined by the outcomes it was given, compared sample by sample.

use std::collections::HashSet;

use kernels::Real;

use super::significance::{Evidence as Share, LARGEST_TOLERANCE};
use super::{AuditOptions, Check, Finding};
use crate::error::AttackError;
use crate::geometry::{InputBox, Norm};
use crate::loss::Loss;
use crate::model::{Access, Differentiable};
use crate::outcome::Outcome;
use crate::run::{Options, Samples, run};
use crate::spec::{Apgd, Attack, Bim, Fgsm, Keep, Noise, Pgd, Square, Step};
use crate::stats::Rate;
use crate::surrogate::Bpda;

/// Which samples an attack broke.
type Broken = Vec<bool>;

/// Share of samples on which two attacks may disagree by luck.
const TOLERANCE: f64 = 0.02;
/// Share that more effort may still break before the evidence counts as unfinished.
const UNFINISHED: f64 = LARGEST_TOLERANCE;

/// What every attack broke, by sample.
pub(super) struct Evidence {
    correct: Broken,
    noise: Broken,
    black: Broken,
    gradients: Option<Gradients>,
    transfer: Option<Broken>,
    /// Broken by the model's logits with the surrogate's gradients.
    surrogates: Option<Broken>,
    /// Worst case of the outcomes given; `None` when none matches.
    claimed: Option<Broken>,
}

/// What gradient attacks broke.
struct Gradients {
    single: Broken,
    frozen: usize,
    /// Iterated attacks with the audited loss, all restarts.
    iterated: Broken,
    /// Broken by the fourth or fifth restart only.
    late: Broken,
    more_steps: Broken,
    /// Losses that cannot saturate.
    unsaturated: Broken,
    /// Everything that used gradients, with what was given.
    all: Broken,
    unbounded: Broken,
    /// Broken at half, one and two eps.
    curve: [Broken; 3],
}

/// Runs attacks on the audited samples.
struct Runner<'r, 'm, 's, T: Real> {
    model: &'r mut Access<'m, T>,
    samples: &'r Samples<'s, T>,
    bounds: &'r InputBox,
    options: &'r AuditOptions,
}

impl<T: Real> Runner<'_, '_, '_, T> {
    fn run(&mut self, attack: impl Into<Attack>, eps: &[f32]) -> Result<Vec<Outcome<T>>, AttackError> {
        let mut options = Options { batch: self.options.batch, ..Options::default() };
        let (model, seed) = (self.model.reborrow(), self.options.seed);
        run(&attack.into(), model, self.samples, eps, self.bounds, seed, &mut options)
    }

    fn broken(&mut self, attack: impl Into<Attack>) -> Result<Broken, AttackError> {
        Ok(broken(&self.run(attack, &[self.options.eps])?[0]))
    }
}

fn broken<T: Real>(outcome: &Outcome<T>) -> Broken {
    outcome.records.iter().map(|r| r.clean_correct && !r.adversarial_correct).collect()
}

fn union(into: &mut Broken, other: &[bool]) {
    into.iter_mut().zip(other).for_each(|(a, b)| *a |= b);
}

impl Evidence {
    pub(super) fn gather<T: Real>(
        model: &mut Access<'_, T>,
        surrogate: Option<Access<'_, T>>,
        samples: &Samples<'_, T>,
        bounds: &InputBox,
        outcomes: &[Outcome<T>],
        options: &AuditOptions,
    ) -> Result<Self, AttackError> {
        let norm = options.norm;
        let mut runner = Runner { model, samples, bounds, options };
        let noise = runner.run(Noise { norm, draws: options.draws, loss: Loss::Margin }, &[options.eps])?;
        let correct = noise[0].records.iter().map(|r| r.clean_correct).collect();
        let square = Square { norm, queries: options.queries, rescale: true, ..Square::default() };
        let mut black = runner.broken(square)?;
        let gradients = match runner.model.differentiable() {
            None => None,
            Some(_) => Some(Gradients::gather(&mut runner)?),
        };
        let (mut transfer, mut surrogates) = (None, None);
        if let Some(mut surrogate) = surrogate {
            transfer = Some(transferred(&mut runner, surrogate.reborrow())?);
            if let Some(gradients) = surrogate.differentiable() {
                surrogates = Some(through(&mut runner, gradients)?);
            }
        }
        let mut evidence = Self {
            correct,
            noise: broken(&noise[0]),
            black: Vec::new(),
            gradients,
            transfer,
            surrogates,
            claimed: None,
        };
        for outcome in outcomes.iter().filter(|o| o.norm == norm && o.eps == options.eps && !o.targeted) {
            let given = aligned(outcome, samples.ids);
            union(evidence.claimed.get_or_insert_with(|| vec![false; given.len()]), &given);
            match &mut evidence.gradients {
                Some(g) if outcome.attack.needs_gradients() => union(&mut g.all, &given),
                _ => union(&mut black, &given),
            }
        }
        evidence.black = black;
        Ok(evidence)
    }

    /// Clean accuracy and worst-case robust accuracy.
    pub(super) fn rates(&self) -> (Rate, Rate) {
        let worst = self.worst();
        let robust = self.correct.iter().zip(worst).map(|(c, b)| *c && !b);
        (Rate::of(self.correct.iter().copied()), Rate::of(robust))
    }

    fn worst(&self) -> Broken {
        let mut worst = self.noise.clone();
        union(&mut worst, &self.black);
        if let Some(g) = &self.gradients {
            union(&mut worst, &g.all);
        }
        for part in [&self.transfer, &self.surrogates].into_iter().flatten() {
            union(&mut worst, part);
        }
        worst
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let n = self.correct.iter().filter(|c| **c).count();
        let only = |these: &[bool], not: &[bool]| {
            these.iter().zip(not).zip(&self.correct).filter(|((a, b), c)| **a && !**b && **c).count()
        };
        let judged = |check: Check, count: usize, tolerance| check.judged(Share::share(count, n, tolerance));
        let mut strong = self.black.clone();
        let mut out = Vec::new();
        if let Some(g) = &self.gradients {
            union(&mut strong, &g.all);
            out.push(judged(Check::FrozenIterates, g.frozen, TOLERANCE));
            out.push(judged(Check::SingleStep, only(&g.single, &g.iterated), TOLERANCE));
            out.push(judged(Check::BlackBox, only(&self.black, &g.all), TOLERANCE));
            out.push(judged(Check::LossChoice, only(&g.unsaturated, &g.iterated), UNFINISHED));
            let standing = g.unbounded.iter().zip(&self.correct).filter(|(b, c)| **c && !**b).count();
            out.push(judged(Check::Unbounded, standing, TOLERANCE));
            // Samples that a smaller eps breaks and a larger one does not, against the reverse.
            let rise = |small: &[bool], large: &[bool]| {
                Share::change(only(small, large), only(large, small), n, TOLERANCE)
            };
            let [half, one, two] = &g.curve;
            let (first, second) = (rise(half, one), rise(one, two));
            out.push(Check::Monotone.judged(if second.count > first.count { second } else { first }));
            out.push(judged(Check::MoreSteps, only(&g.more_steps, &g.iterated), UNFINISHED));
            out.push(judged(Check::Restarts, g.late.iter().filter(|b| **b).count(), UNFINISHED));
            if let Some(surrogates) = &self.surrogates {
                out.push(judged(Check::Surrogates, only(surrogates, &g.all), UNFINISHED));
            }
            if let Some(transfer) = &self.transfer {
                out.push(judged(Check::Transfer, only(transfer, &g.all), TOLERANCE));
            }
        }
        out.push(judged(Check::RandomNoise, only(&self.noise, &strong), TOLERANCE));
        if let Some(claimed) = &self.claimed {
            out.push(judged(Check::Claim, only(&self.worst(), claimed), TOLERANCE));
        }
        out
    }
}

impl Gradients {
    fn gather<T: Real>(r: &mut Runner<'_, '_, '_, T>) -> Result<Self, AttackError> {
        let AuditOptions { norm, loss, steps, eps, .. } = *r.options;
        let pgd = |steps, restarts| Pgd {
            norm,
            loss,
            steps,
            restarts,
            step: Step::Relative(0.1),
            ..Pgd::default()
        };
        let single = r.broken(Fgsm { norm, loss, ..Fgsm::default() })?;
        let step = Step::Relative(2.5 / steps.max(1) as f64);
        let bim = r.run(Bim { norm, loss, steps, step, keep: Keep::Last }, &[eps])?.remove(0);
        let frozen = bim.records.iter().filter(|r| r.clean_correct && r.norm == 0.0).count();
        let curve = r.run(pgd(steps, 1), &[0.5 * eps, eps, 2.0 * eps])?;
        let curve = [0, 1, 2].map(|i| broken(&curve[i]));
        let apgd = |loss| Apgd { norm, loss, steps: 2 * steps, ..Apgd::default() };
        let restarts = r.run(pgd(steps, 5), &[eps])?.remove(0);
        // Queries tell the restart: each takes one gradient per step and a last look.
        let early = 3 * (steps as u64 + 1);
        let late =
            restarts.records.iter().map(|r| r.clean_correct && !r.adversarial_correct && r.queries > early);
        let late = late.collect();
        let mut iterated = broken(&restarts);
        union(&mut iterated, &broken(&bim));
        union(&mut iterated, &r.broken(apgd(loss))?);
        let ratio = if r.model.classifier().classes() < 3 { Loss::Margin } else { Loss::Dlr };
        let mut unsaturated = r.broken(apgd(ratio))?;
        union(&mut unsaturated, &r.broken(apgd(Loss::LogOdds))?);
        // The whole box is an L-infinity ball; the step must be able to cross it more than once.
        let whole =
            Pgd { step: Step::Relative(0.1), steps: 2 * steps.max(20), norm: Norm::Linf, ..pgd(1, 1) };
        let unbounded = broken(&r.run(whole, &[r.bounds.width()])?[0]);
        let more_steps = r.broken(pgd(4 * steps, 1))?;
        let mut all = iterated.clone();
        for part in [&single, &unsaturated, &more_steps] {
            union(&mut all, part);
        }
        Ok(Self { single, frozen, late, iterated, more_steps, unsaturated, all, unbounded, curve })
    }
}

/// Which samples an iterated attack breaks that asks the model for logits and the surrogate for gradients.
fn through<T: Real>(
    r: &mut Runner<'_, '_, '_, T>,
    surrogate: &mut dyn Differentiable<T>,
) -> Result<Broken, AttackError> {
    let AuditOptions { norm, steps, eps, seed, batch, .. } = *r.options;
    let attack = Apgd { norm, loss: Loss::LogOdds, steps: 2 * steps, ..Apgd::default() };
    let mut both = Bpda::new(r.model.classifier(), surrogate);
    let mut options = Options { batch, ..Options::default() };
    let access = Access::White(&mut both);
    Ok(broken(&run(&attack.into(), access, r.samples, &[eps], r.bounds, seed, &mut options)?[0]))
}

/// Which samples the surrogate's adversarial examples break on the audited model.
fn transferred<T: Real>(
    r: &mut Runner<'_, '_, '_, T>,
    mut surrogate: Access<'_, T>,
) -> Result<Broken, AttackError> {
    let AuditOptions { norm, steps, eps, seed, batch, .. } = *r.options;
    // Crafted to the end with a margin to spare: an example at the surrogate's boundary transfers badly.
    let mut options = Options {
        batch,
        early_exit: false,
        attack_misclassified: true,
        keep_adversarial: true,
        ..Options::default()
    };
    let attack: Attack = if surrogate.differentiable().is_some() {
        Pgd { norm, steps, restarts: 1, step: Step::Relative(0.1), loss: Loss::Margin, ..Pgd::default() }
            .into()
    } else {
        Square { norm, queries: r.options.queries, rescale: true, ..Square::default() }.into()
    };
    let crafted = run(&attack, surrogate, r.samples, &[eps], r.bounds, seed, &mut options)?;
    match crafted[0].transfer(r.model.reborrow(), r.samples, batch)? {
        Some(outcome) => Ok(broken(&outcome)),
        None => Ok(vec![false; r.samples.len()]),
    }
}

/// What an outcome broke, in the order of `ids`; samples it does not know count as not broken.
fn aligned<T: Real>(outcome: &Outcome<T>, ids: &[u32]) -> Broken {
    let broken: HashSet<u32> = outcome.broken().map(|r| r.id).collect();
    ids.iter().map(|id| broken.contains(id)).collect()
}
