//! Which attack, with which parameters: one enum that prints as text and reads it back.

use std::fmt;
use std::str::FromStr;

use kernels::Real;
use serde::{Deserialize, Serialize};

use crate::auto;
use crate::black::{boundary, hop_skip_jump, noise, square, zoo};
use crate::chunk::Chunk;
use crate::error::{AttackError, ParseError};
use crate::geometry::Norm;
use crate::loss::Loss;
pub use crate::parameters::*;
use crate::text::split;
use crate::white::{apgd, carlini, deepfool, fab, iterative};

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
    /// A walk along the boundary, from decisions.
    Boundary,
    /// Steps along the estimated normal of the boundary, from decisions.
    HopSkipJump,
    /// Finite differences of the logits.
    Zoo,
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
            Attack::CarliniWagner(_) | Attack::Boundary(_) | Attack::Zoo(_) => Norm::L2,
            Attack::HopSkipJump(a) => a.norm,
            Attack::DeepFool(a) => a.norm,
            Attack::Fab(a) => a.norm,
            Attack::AutoAttack(a) => a.norm,
        }
    }

    /// Whether the attack uses gradients.
    pub fn needs_gradients(&self) -> bool {
        !self.is_black_box()
    }

    /// Whether the attack uses logits or decisions alone.
    pub fn is_black_box(&self) -> bool {
        matches!(
            self,
            Attack::Noise(_)
                | Attack::Square(_)
                | Attack::Boundary(_)
                | Attack::HopSkipJump(_)
                | Attack::Zoo(_)
        )
    }

    /// Whether the attack looks for the smallest perturbation (one run then answers for every eps).
    pub fn is_minimum_norm(&self) -> bool {
        matches!(
            self,
            Attack::CarliniWagner(_)
                | Attack::DeepFool(_)
                | Attack::Fab(_)
                | Attack::Boundary(_)
                | Attack::HopSkipJump(_)
                | Attack::Zoo(_)
        )
    }

    /// Whether samples drop out while the attack goes on, and no model call is larger than the samples left.
    pub(crate) fn shrinks(&self) -> bool {
        match self {
            Attack::Noise(_)
            | Attack::Bim(_)
            | Attack::Pgd(_)
            | Attack::Mim(_)
            | Attack::Apgd(_)
            | Attack::ApgdTargeted(_)
            | Attack::Square(_) => true,
            // The version `plus` takes Jacobians.
            Attack::AutoAttack(a) => a.version != Version::Plus,
            _ => false,
        }
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
            Attack::Fgsm(a) => self.check("search", a.search, a.search >= 0.0, "at least 0"),
            Attack::Bim(a) => positive("steps", a.steps).and(finite("step", a.step.number())),
            Attack::Pgd(a) => positive("steps", a.steps)
                .and(positive("restarts", a.restarts))
                .and(finite("step", a.step.number())),
            Attack::Mim(a) => positive("steps", a.steps)
                .and(finite("step", a.step.number()))
                .and(self.check("decay", a.decay, a.decay.is_finite() && a.decay >= 0.0, "at least 0")),
            Attack::Apgd(a) => positive("steps", a.steps)
                .and(positive("restarts", a.restarts))
                .and(self.check("rho", a.rho, (0.0..=1.0).contains(&a.rho), "in [0, 1]")),
            Attack::ApgdTargeted(a) => positive("steps", a.steps)
                .and(positive("restarts", a.restarts))
                .and(positive("targets", a.targets))
                .and(self.check("rho", a.rho, (0.0..=1.0).contains(&a.rho), "in [0, 1]")),
            Attack::Square(a) => positive("queries", a.queries)
                .and(positive("restarts", a.restarts))
                .and(self.check("p_init", a.p_init, a.p_init > 0.0 && a.p_init <= 1.0, "in (0, 1]")),
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
                .and(positive("first", a.first)),
            Attack::Boundary(a) => positive("steps", a.steps)
                .and(positive("candidates", a.candidates))
                .and(positive("trials", a.trials))
                .and(finite("delta", a.delta))
                .and(finite("epsilon", a.epsilon))
                .and(self.check("adapt", a.adapt, a.adapt > 0.0 && a.adapt < 1.0, "in (0, 1)")),
            Attack::HopSkipJump(a) => positive("initial_evals", a.initial_evals)
                .and(positive("max_evals", a.max_evals))
                .and(finite("gamma", a.gamma))
                .and(self.only(&[Norm::Linf, Norm::L2])),
            Attack::Zoo(a) => positive("search_steps", a.search_steps)
                .and(positive("steps", a.steps))
                .and(positive("coordinates", a.coordinates))
                .and(finite("step", a.step))
                .and(finite("h", a.h))
                .and(finite("initial_weight", a.initial_weight))
                .and(self.check("confidence", a.confidence, a.confidence >= 0.0, "at least 0")),
            Attack::AutoAttack(a) => positive("queries", a.queries),
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
            Attack::CarliniWagner(_)
            | Attack::DeepFool(_)
            | Attack::Fab(_)
            | Attack::Boundary(_)
            | Attack::HopSkipJump(_)
            | Attack::Zoo(_) => Loss::Margin,
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
            Attack::Fgsm(a) if a.search > 0.0 => iterative::minimal(a, c),
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
            Attack::Boundary(a) => boundary::attack(a, c),
            Attack::HopSkipJump(a) => hop_skip_jump::attack(a, c),
            Attack::Zoo(a) => zoo::attack(a, c),
            Attack::AutoAttack(a) => auto::attack(a, c),
        }
    }
}
