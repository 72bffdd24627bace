//! Which attack, with which parameters: one enum that prints as text and reads it back.

use std::fmt;
use std::str::FromStr;

use kernels::Real;
use serde::{Deserialize, Serialize};

use crate::auto;
use crate::black::{noise, square};
use crate::chunk::Chunk;
use crate::error::{AttackError, ParseError};
use crate::geometry::Norm;
use crate::loss::Loss;
use crate::text::{parameters, split, words};
use crate::white::{apgd, carlini, deepfool, fab, iterative};

/// Length of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// A multiple of eps: `rel 0.25`.
    Relative(f64),
    /// In input units: `abs 0.01`.
    Absolute(f64),
}

impl Step {
    pub(crate) fn length(self, eps: f64) -> f64 {
        match self {
            Step::Relative(r) => r * eps,
            Step::Absolute(a) => a,
        }
    }

    fn number(self) -> f64 {
        match self {
            Step::Relative(v) | Step::Absolute(v) => v,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Relative(r) => write!(f, "rel {r}"),
            Step::Absolute(a) => write!(f, "abs {a}"),
        }
    }
}

impl FromStr for Step {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError::new(text, "expected `rel NUMBER` (of eps) or `abs NUMBER` (input units)");
        let (kind, number) = text.split_once(' ').ok_or_else(error)?;
        let number: f64 = number.trim().parse().map_err(|_| error())?;
        match kind {
            "rel" => Ok(Step::Relative(number)),
            "abs" => Ok(Step::Absolute(number)),
            _ => Err(error()),
        }
    }
}

words! {
    /// Where an iterative attack starts.
    Start {
        /// At the clean sample.
        Clean = "clean",
        /// Uniformly in the ball.
        Random = "random",
    }
}

words! {
    /// Which iterate an iterative attack returns.
    Keep {
        /// The first misclassified one (the highest loss when there is none, or without early exit).
        Best = "best",
        /// The last one, whatever an earlier one achieved (ART, foolbox, torchattacks).
        Last = "last",
    }
}

parameters! {
    /// Control: uniform draws in the ball, the highest loss kept. An attack that is not clearly stronger is broken.
    Noise = "noise" {
        /// Norm of the ball.
        norm: Norm = Norm::Linf,
        /// Draws per sample.
        draws: usize = 100,
        /// Loss by which draws are ranked.
        loss: Loss = Loss::Margin,
    }
}

parameters! {
    /// Fast gradient (sign) method, one steepest step of length eps (Goodfellow et al. 2015).
    Fgsm = "fgsm" {
        /// Norm of the ball.
        norm: Norm = Norm::Linf,
        /// Loss to increase.
        loss: Loss = Loss::CrossEntropy,
    }
}

parameters! {
    /// Basic iterative method: PGD from the clean sample, one run (Kurakin et al. 2017).
    Bim = "bim" {
        /// Norm of the ball.
        norm: Norm = Norm::Linf,
        /// Steps (gradients).
        steps: usize = 10,
        /// Length of a step.
        step: Step = Step::Relative(0.2),
        /// Which iterate is returned.
        keep: Keep = Keep::Best,
        /// Loss to increase.
        loss: Loss = Loss::CrossEntropy,
    }
}

parameters! {
    /// Projected gradient ascent (Madry et al. 2018).
    Pgd = "pgd" {
        /// Norm of the ball.
        norm: Norm = Norm::Linf,
        /// Steps (gradients) per restart.
        steps: usize = 50,
        /// Runs; each attacks what the ones before left standing.
        restarts: usize = 5,
        /// Length of a step.
        step: Step = Step::Relative(0.25),
        /// Where each run starts.
        start: Start = Start::Random,
        /// Which iterate is returned.
        keep: Keep = Keep::Best,
        /// Loss to increase.
        loss: Loss = Loss::CrossEntropy,
    }
}

parameters! {
    /// Momentum iterative method: accumulates `g / ||g||_1` (Dong et al. 2018; torchattacks and ART agree).
    Mim = "mim" {
        /// Norm of the ball.
        norm: Norm = Norm::Linf,
        /// Steps (gradients).
        steps: usize = 20,
        /// Length of a step.
        step: Step = Step::Relative(0.1),
        /// Weight of the accumulated gradient.
        decay: f64 = 1.0,
        /// Which iterate is returned.
        keep: Keep = Keep::Best,
        /// Loss to increase.
        loss: Loss = Loss::CrossEntropy,
    }
}

parameters! {
    /// Square attack: random search with square windows, no gradients (Andriushchenko et al. 2020; auto-attack's parameters).
    Square = "square" {
        /// Norm of the ball, `linf` or `l2`.
        norm: Norm = Norm::Linf,
        /// Forward passes per sample and restart.
        queries: usize = 5000,
        /// Share of the features in the first windows.
        p_init: f64 = 0.8,
        /// Whether the window schedule, made for 10,000 queries, is rescaled to `queries`.
        rescale: bool = false,
        /// Runs; each attacks what the ones before left standing.
        restarts: usize = 1,
        /// Loss that a proposal must increase.
        loss: Loss = Loss::Margin,
    }
}

parameters! {
    /// Auto-PGD (Croce and Hein 2020): momentum and step sizes that halve themselves.
    Apgd = "apgd" {
        /// Norm of the ball, `linf` or `l2`.
        norm: Norm = Norm::Linf,
        /// Steps (gradients) per restart.
        steps: usize = 100,
        /// Runs; each attacks what the ones before left standing.
        restarts: usize = 1,
        /// Loss to increase.
        loss: Loss = Loss::CrossEntropy,
        /// Share of steps of a window that must increase the loss.
        rho: f64 = 0.75,
        /// Where each run starts; random means on the surface of the ball.
        start: Start = Start::Random,
        /// Compare the first loss with 0 instead of the start's, as auto-attack's code does.
        zero_reference: bool = false,
    }
}

parameters! {
    /// Auto-PGD against one target class after the other, with the targeted DLR loss.
    ApgdTargeted = "apgd_t" {
        /// Norm of the ball, `linf` or `l2`.
        norm: Norm = Norm::Linf,
        /// Steps (gradients) per restart and target.
        steps: usize = 100,
        /// Rounds over the targets.
        restarts: usize = 1,
        /// Target classes, those of highest clean logit first; at most one less than there are classes.
        targets: usize = 9,
        /// Loss to increase.
        loss: Loss = Loss::Dlr,
        /// Share of steps of a window that must increase the loss.
        rho: f64 = 0.75,
        /// Where each run starts; random means on the surface of the ball.
        start: Start = Start::Random,
        /// Compare the first loss with 0 instead of the start's, as auto-attack's code does.
        zero_reference: bool = false,
    }
}

parameters! {
    /// Carlini and Wagner's smallest L2 perturbation (2017), foolbox's defaults.
    CarliniWagner = "cw" {
        /// Values of the margin's weight that are tried.
        search_steps: usize = 9,
        /// Adam steps for each.
        steps: usize = 1000,
        /// Adam's step in tanh space.
        step: f64 = 0.01,
        /// Margin by which the goal must be reached, in logits.
        confidence: f64 = 0.0,
        /// First weight.
        initial_weight: f64 = 1e-3,
        /// Leave a weight when a tenth of the steps brought no progress.
        abort_early: bool = true,
    }
}

parameters! {
    /// DeepFool's small perturbation (Moosavi-Dezfooli et al. 2016), foolbox's defaults.
    DeepFool = "deepfool" {
        /// Norm to be small, `linf` or `l2`.
        norm: Norm = Norm::L2,
        /// Steps at most.
        steps: usize = 50,
        /// How far beyond the boundary, as a share of the perturbation.
        overshoot: f64 = 0.02,
        /// Classes considered, those of highest clean logit.
        candidates: usize = 10,
    }
}

parameters! {
    /// FAB's smallest perturbation (Croce and Hein 2020), auto-attack's parameters.
    Fab = "fab" {
        /// Norm to be small, `linf` or `l2`.
        norm: Norm = Norm::Linf,
        /// Steps per restart and target.
        steps: usize = 100,
        /// Rounds; the first starts at the sample.
        restarts: usize = 1,
        /// Boundaries tried one by one, those of the classes of highest clean logit; 0 looks at all classes in each step.
        targets: usize = 0,
        /// Largest share of the pull towards the sample.
        alpha_max: f64 = 0.1,
        /// Overshoot beyond the boundary.
        eta: f64 = 1.05,
        /// Share of the perturbation kept after success.
        beta: f64 = 0.9,
    }
}

words! {
    /// AutoAttack's versions.
    Version {
        /// APGD-CE, targeted APGD-DLR, targeted FAB, Square.
        Standard = "standard",
        /// More restarts, and untargeted APGD-DLR and FAB too.
        Plus = "plus",
        /// APGD-CE and APGD-DLR for randomised models.
        Rand = "rand",
    }
}

parameters! {
    /// AutoAttack (Croce and Hein 2020): a sequence of attacks, each on the survivors of the ones before.
    AutoAttack = "autoattack" {
        /// Norm of the ball, `linf` or `l2`.
        norm: Norm = Norm::Linf,
        /// Which sequence.
        version: Version = Version::Standard,
        /// Queries of its Square attack.
        queries: usize = 5000,
    }
}

macro_rules! attacks {
    ($($(#[$meta:meta])* $variant:ident,)*) => {
        /// An attack with its parameters; `pgd(steps=20, norm=l2)` in text, missing parameters at their defaults.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum Attack {
            $($(#[$meta])* $variant($variant),)*
        }

        impl Attack {
            /// Names that [`FromStr`] knows.
            pub const NAMES: &'static [&'static str] = &[$($variant::NAME,)*];

            /// The attack's name without its parameters.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $variant::NAME,)* }
            }
        }

        impl fmt::Display for Attack {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Self::$variant(a) => a.fmt(f),)* }
            }
        }

        impl FromStr for Attack {
            type Err = ParseError;
            fn from_str(text: &str) -> Result<Self, ParseError> {
                let (name, mut fields) = split(text)?;
                let preset = fields.raw("preset");
                let attack = match name {
                    $($variant::NAME => {
                        let base = match preset {
                            None => $variant::default(),
                            Some(preset) => match crate::presets::find(name, preset) {
                                Some(Attack::$variant(base)) => base,
                                _ => return Err(crate::presets::unknown(text, name, preset)),
                            },
                        };
                        Attack::$variant($variant::read(base, &mut fields)?)
                    })*
                    _ => {
                        let known = Attack::NAMES.join(", ");
                        return Err(ParseError::new(text, format!("unknown attack `{name}`, known: {known}")));
                    }
                };
                fields.finish()?;
                attack.validate().map_err(|e| ParseError::new(text, e.to_string()))?;
                Ok(attack)
            }
        }

        $(impl From<$variant> for Attack {
            fn from(attack: $variant) -> Self {
                Attack::$variant(attack)
            }
        })*
    };
}

attacks! {
    /// Random draws, the control.
    Noise,
    /// One gradient step.
    Fgsm,
    /// Iterated steps from the clean sample.
    Bim,
    /// Projected gradient with random restarts.
    Pgd,
    /// Iterated steps with momentum.
    Mim,
    /// Step sizes that adapt themselves.
    Apgd,
    /// The same against one class after the other.
    ApgdTargeted,
    /// Random search, no gradients.
    Square,
    /// Smallest L2 perturbation by optimisation.
    CarliniWagner,
    /// Small perturbation by linearisation.
    DeepFool,
    /// Smallest perturbation by projections.
    Fab,
    /// The standard sequence.
    AutoAttack,
}

impl From<Attack> for String {
    fn from(attack: Attack) -> Self {
        attack.to_string()
    }
}

impl TryFrom<String> for Attack {
    type Error = ParseError;
    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl Attack {
    /// The norm in which the perturbation is measured.
    pub fn norm(&self) -> Norm {
        match self {
            Attack::Noise(a) => a.norm,
            Attack::Fgsm(a) => a.norm,
            Attack::Bim(a) => a.norm,
            Attack::Pgd(a) => a.norm,
            Attack::Mim(a) => a.norm,
            Attack::Apgd(a) => a.norm,
            Attack::ApgdTargeted(a) => a.norm,
            Attack::Square(a) => a.norm,
            Attack::CarliniWagner(_) => Norm::L2,
            Attack::DeepFool(a) => a.norm,
            Attack::Fab(a) => a.norm,
            Attack::AutoAttack(a) => a.norm,
        }
    }

    /// Whether the attack uses gradients.
    pub fn needs_gradients(&self) -> bool {
        !matches!(self, Attack::Noise(_) | Attack::Square(_))
    }

    /// Whether the attack looks for the smallest perturbation (one run then answers for every eps).
    pub fn is_minimum_norm(&self) -> bool {
        matches!(self, Attack::CarliniWagner(_) | Attack::DeepFool(_) | Attack::Fab(_))
    }

    /// Checks the parameters against each other; [`crate::run`] does it first.
    ///
    /// # Errors
    /// [`AttackError::Parameter`] or [`AttackError::Norm`].
    pub fn validate(&self) -> Result<(), AttackError> {
        let positive = |parameter, value: usize| self.check(parameter, value, value >= 1, "at least 1");
        let finite = |parameter, value: f64| {
            self.check(parameter, value, value.is_finite() && value > 0.0, "a finite number above 0")
        };
        match self {
            Attack::Noise(a) => positive("draws", a.draws),
            Attack::Fgsm(_) => Ok(()),
            Attack::Bim(a) => positive("steps", a.steps).and(finite("step", a.step.number())),
            Attack::Pgd(a) => positive("steps", a.steps)
                .and(positive("restarts", a.restarts))
                .and(finite("step", a.step.number())),
            Attack::Mim(a) => positive("steps", a.steps)
                .and(finite("step", a.step.number()))
                .and(self.check("decay", a.decay, a.decay.is_finite() && a.decay >= 0.0, "at least 0")),
            Attack::Apgd(a) => positive("steps", a.steps)
                .and(positive("restarts", a.restarts))
                .and(self.check("rho", a.rho, (0.0..=1.0).contains(&a.rho), "in [0, 1]"))
                .and(self.only(&[Norm::Linf, Norm::L2])),
            Attack::ApgdTargeted(a) => positive("steps", a.steps)
                .and(positive("restarts", a.restarts))
                .and(positive("targets", a.targets))
                .and(self.check("rho", a.rho, (0.0..=1.0).contains(&a.rho), "in [0, 1]"))
                .and(self.only(&[Norm::Linf, Norm::L2])),
            Attack::Square(a) => positive("queries", a.queries)
                .and(positive("restarts", a.restarts))
                .and(self.check("p_init", a.p_init, a.p_init > 0.0 && a.p_init <= 1.0, "in (0, 1]"))
                .and(self.only(&[Norm::Linf, Norm::L2])),
            Attack::CarliniWagner(a) => positive("search_steps", a.search_steps)
                .and(positive("steps", a.steps))
                .and(finite("step", a.step))
                .and(finite("initial_weight", a.initial_weight))
                .and(self.check("confidence", a.confidence, a.confidence >= 0.0, "at least 0")),
            Attack::DeepFool(a) => positive("steps", a.steps)
                .and(self.check("overshoot", a.overshoot, a.overshoot >= 0.0, "at least 0"))
                .and(self.check("candidates", a.candidates, a.candidates >= 2, "at least 2"))
                .and(self.only(&[Norm::Linf, Norm::L2])),
            Attack::Fab(a) => positive("steps", a.steps)
                .and(positive("restarts", a.restarts))
                .and(self.check("alpha_max", a.alpha_max, (0.0..=1.0).contains(&a.alpha_max), "in [0, 1]"))
                .and(finite("eta", a.eta))
                .and(finite("beta", a.beta))
                .and(self.only(&[Norm::Linf, Norm::L2])),
            Attack::AutoAttack(a) => positive("queries", a.queries).and(self.only(&[Norm::Linf, Norm::L2])),
        }
    }

    fn check(
        &self,
        parameter: &'static str,
        value: impl fmt::Display,
        ok: bool,
        expected: &'static str,
    ) -> Result<(), AttackError> {
        if ok {
            return Ok(());
        }
        Err(AttackError::Parameter {
            attack: self.name().into(),
            parameter,
            value: value.to_string(),
            expected,
        })
    }

    fn only(&self, norms: &[Norm]) -> Result<(), AttackError> {
        if norms.contains(&self.norm()) {
            return Ok(());
        }
        Err(AttackError::Norm { attack: self.name(), norm: self.norm() })
    }
}

impl Attack {
    /// Fails when the attack's loss is undefined for so few classes.
    pub(crate) fn check_classes(&self, classes: usize, targeted: bool) -> Result<(), AttackError> {
        let loss = match self {
            Attack::Noise(a) => a.loss,
            Attack::Fgsm(a) => a.loss,
            Attack::Bim(a) => a.loss,
            Attack::Pgd(a) => a.loss,
            Attack::Mim(a) => a.loss,
            Attack::Apgd(a) => a.loss,
            Attack::ApgdTargeted(a) => return a.loss.check(classes, true),
            Attack::Square(a) => a.loss,
            Attack::CarliniWagner(_) | Attack::DeepFool(_) | Attack::Fab(_) => Loss::Margin,
            Attack::AutoAttack(a) => {
                return a.sequence().iter().try_for_each(|part| part.check_classes(classes, targeted));
            }
        };
        loss.check(classes, targeted)
    }

    /// Runs the attack on a chunk.
    pub(crate) fn apply<T: Real>(&self, c: &mut Chunk<'_, '_, T>) -> Result<(), AttackError> {
        match self {
            Attack::Noise(a) => noise::attack(a, c),
            Attack::Fgsm(a) => iterative::attack(&a.into(), c),
            Attack::Bim(a) => iterative::attack(&a.into(), c),
            Attack::Pgd(a) => iterative::attack(&a.into(), c),
            Attack::Mim(a) => iterative::attack(&a.into(), c),
            Attack::Apgd(a) => apgd::attack(a, c),
            Attack::ApgdTargeted(a) => apgd::targeted(a, c),
            Attack::Square(a) => square::attack(a, c),
            Attack::CarliniWagner(a) => carlini::attack(a, c),
            Attack::DeepFool(a) => deepfool::attack(a, c),
            Attack::Fab(a) => fab::attack(a, c),
            Attack::AutoAttack(a) => auto::attack(a, c),
        }
    }
}
