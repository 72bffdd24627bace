//! Rough durations for `--dry-run`: multiply-accumulates over a rate measured once on two cores.
use attacks::Attack;

use crate::pipeline::NetworkCard;
use crate::recipe::{AttackPart, Recipe};

/// Multiply-accumulates per second and thread of training, measured on `stq_image_s` (two cores of an EPYC 9005).
const TRAIN_RATE: f64 = 45e9;
/// Multiply-accumulates per second and thread of forward passes under attack, measured likewise.
const FORWARD_RATE: f64 = 37e9;
/// A training step costs this many forward passes.
const STEP_PASSES: f64 = 3.0;
/// A step with a Jacobian penalty costs this many plain ones.
const JACOBIAN_FACTOR: f64 = 2.3;
/// Forward passes per sample that the audit may spend.
const AUDIT_PASSES: f64 = 2000.0;

/// Estimated seconds of a run's stages.
pub(super) struct Estimate<'a> {
    recipe: &'a Recipe,
    macs: f64,
    threads: f64,
}

impl<'a> Estimate<'a> {
    pub(super) fn new(recipe: &'a Recipe, network: &NetworkCard) -> Self {
        let threads = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        Self { recipe, macs: network.macs as f64, threads }
    }

    pub(super) fn train(&self, samples: usize) -> f64 {
        let epochs = f64::from(self.recipe.schedule.epochs);
        let every = self.recipe.penalty_every().map(|every| every as f64).reduce(f64::min);
        let factor = every.map_or(1.0, |every| 1.0 + (JACOBIAN_FACTOR - 1.0) / every);
        // A step of the adversary is a forward and an input gradient, two thirds of a training step; TRADES trains on both.
        let adversary = self.recipe.adversarial.as_ref().map_or(0.0, |part| {
            let both = if part.method == attacks::training::Method::Trades { 1.0 } else { 0.0 };
            part.settings().steps as f64 * 2.0 / 3.0 + both
        });
        let factor = factor + adversary;
        samples as f64 * epochs * self.macs * STEP_PASSES * factor / (TRAIN_RATE * self.threads)
    }

    pub(super) fn forward(&self, samples: usize, passes: f64) -> f64 {
        samples as f64 * passes * self.macs / (FORWARD_RATE * self.threads)
    }

    /// An attack on `samples` samples at all its sizes, if none of them gives in early.
    pub(super) fn attack(&self, part: &AttackPart, samples: usize) -> f64 {
        let gradients = |steps: usize| steps as f64 * STEP_PASSES;
        let passes = match &part.attack {
            Attack::Fgsm(_) => gradients(1),
            Attack::Bim(a) => gradients(a.steps),
            Attack::Mim(a) => gradients(a.steps),
            Attack::Pgd(a) => gradients(a.steps * a.restarts),
            Attack::Apgd(a) => gradients(a.steps * a.restarts),
            Attack::ApgdTargeted(a) => gradients(a.steps * a.restarts * a.targets),
            Attack::Square(a) => (a.queries * a.restarts) as f64,
            Attack::Noise(a) => a.draws as f64,
            #[allow(unreachable_patterns, reason = "attacks grow; a guess is enough here")]
            _ => 1000.0,
        };
        self.forward(samples, passes * part.eps.len() as f64)
    }

    pub(super) fn audit(&self, samples: usize) -> f64 {
        self.forward(samples, AUDIT_PASSES)
    }
}
