//! Recipes: one experiment each, written in TOML, strict about every key.
//!
//! A recipe may extend another (`extends = "base/cifar10"`), and holds overrides per profile
//! (`[profile.quick.schedule] epochs = 12`). Tables merge key by key, anything else is replaced, and a profile's
//! overrides come last, whether they were inherited or not. What the stages see is the [`Recipe`] resolved
//! for one profile; stage keys are computed from it, so two files that say the same share their results.
mod builtin;
mod eps;
mod error;
mod load;
mod network;
mod validate;

use std::fmt;

use attacks::Attack;
use attacks::audit::AuditOptions;
use attacks::training::{AdversarialTraining, Method};
use datasets::{Augmentation, Task};
use jacreg::{CurvaturePenalty, JacobianPenalty};
use qnn::train::{Optimizer, Schedule};
use serde::{Deserialize, Serialize};

pub use builtin::{builtin_names, builtin_text};
pub use eps::Eps;
pub use error::RecipeError;
pub use load::{RecipeSet, parse_recipe};
pub use network::{BatchNormPart, BitRule, LayerQuantizer, NetworkPart, SensitivityPart, StartPart};

/// How much of the study to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Minutes, on any data: proves that every stage runs.
    Smoke,
    /// Half an hour on two cores, on real data: the study in small.
    Quick,
    /// Hours: the study at the paper's size.
    Full,
}

impl Profile {
    /// All profiles, smallest first.
    pub const ALL: [Self; 3] = [Self::Smoke, Self::Quick, Self::Full];

    /// The profile's name in recipes and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One experiment, resolved for one profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Identifier: lower-case letters, digits and underscores. Results are filed under it.
    pub name: String,
    /// The row's heading in tables.
    pub title: String,
    /// Which table of the report the recipe belongs to, such as `cifar10`.
    pub study: String,
    /// Position of the row in its table.
    #[serde(default)]
    pub order: u32,
    /// Profiles that run this recipe when none is named.
    #[serde(default)]
    pub profiles: Vec<Profile>,
    /// Data to train and test on.
    pub dataset: DatasetPart,
    /// Network to train.
    pub network: NetworkPart,
    /// Jacobian penalties added to the loss; none by default.
    #[serde(default)]
    pub jacobian: Vec<JacobianPenalty>,
    /// Adversarial training; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<AdversarialPart>,
    /// Curvature penalties (CURE) added to the loss; none by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curvature: Vec<CurvaturePenalty>,
    /// Optimiser and its constants.
    pub optimizer: Optimizer,
    /// Length of training and learning rate.
    pub schedule: SchedulePart,
    /// Augmentation of training samples; none by default.
    #[serde(default)]
    pub augmentation: Augmentation,
    /// Attacks to run against the trained network.
    #[serde(default)]
    pub attacks: Vec<AttackPart>,
    /// How much to measure.
    #[serde(default)]
    pub evaluate: EvaluatePart,
    /// One independent training run per seed.
    pub seeds: Vec<u64>,
}

/// `[dataset]`: the task and how much of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetPart {
    /// Task in text form. Its embedded twin stands in, with a loud banner, when its files are not found.
    pub task: Task,
    /// Folds to hold out in turn, for `speech_commands_5fold`.
    #[serde(default)]
    pub folds: Vec<u8>,
    /// At most this many training samples, every class shrunk alike; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_samples: Option<usize>,
    /// At most this many validation samples; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_samples: Option<usize>,
}

impl Recipe {
    /// Every how many steps each penalty is applied.
    pub(crate) fn penalty_every(&self) -> impl Iterator<Item = u64> {
        let jacobian = self.jacobian.iter().map(|term| term.every);
        jacobian.chain(self.curvature.iter().map(|term| term.every))
    }
}

/// `[adversarial]`: what samples are moved by while training. Whatever is left out is as its authors had it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdversarialPart {
    /// `pgd`, `fgsm_rs` or `trades`.
    pub method: Method,
    /// Radius of the L-infinity ball, in units of the network's input.
    pub eps: Eps,
    /// Steps of the attack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Length of a step as a share of eps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// Weight of TRADES' divergence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// Training steps between two checks of `fgsm_rs` for catastrophic overfitting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_every: Option<u64>,
}

impl AdversarialPart {
    /// The settings with the authors' defaults.
    pub fn settings(&self) -> AdversarialTraining {
        let default = AdversarialTraining::new(self.method, self.eps.value() as f32);
        AdversarialTraining {
            steps: self.steps.unwrap_or(default.steps),
            step: self.step.unwrap_or(default.step),
            beta: self.beta.unwrap_or(default.beta),
            check_every: self.check_every.unwrap_or(default.check_every),
            ..default
        }
    }
}

/// `[schedule]`: epochs, batch and learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchedulePart {
    /// Passes over the training samples.
    pub epochs: u32,
    /// Samples per step.
    pub batch: usize,
    /// Base learning rate.
    pub lr: f64,
    /// How the rate moves, such as `{ kind = "cosine", floor = 0.01 }`; constant by default.
    #[serde(default = "constant")]
    pub shape: Schedule,
    /// Share of the target spread over all classes.
    #[serde(default)]
    pub label_smoothing: f32,
    /// Largest global gradient norm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f32>,
    /// Decay per step of a moving average of all parameters, which is then what is validated, kept and reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f32>,
    /// Stop after this many epochs without a better validation accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<u32>,
}

/// Whether an attack imitates weak published settings or tries as hard as it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Settings such as papers with weak evaluations use; shown so that the difference can be seen.
    PaperStyle,
    /// Settings meant to find an adversarial example if there is one.
    Strong,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PaperStyle => "paper-style",
            Self::Strong => "strong",
        })
    }
}

/// One `[[attacks]]` entry: an attack at several perturbation sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttackPart {
    /// The attack in text form, such as `pgd(norm=linf, steps=50, restarts=5)`.
    pub attack: Attack,
    /// Perturbation sizes, in units of the network's input.
    pub eps: Vec<Eps>,
    /// The size whose result goes into the main table; the middle one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<Eps>,
    /// How the attack is meant.
    pub role: Role,
    /// Fewer samples than `evaluate.attack_samples`, for slow attacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
}

impl AttackPart {
    /// The perturbation size shown in the main table.
    pub fn headline_eps(&self) -> Option<&Eps> {
        self.headline.as_ref().or_else(|| self.eps.get(self.eps.len() / 2))
    }
}

/// `[evaluate]`: sample counts; everything by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluatePart {
    /// Test samples for clean accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Test samples for attacks; the same ones for every recipe and attack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack_samples: Option<usize>,
    /// Test samples for the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_samples: Option<usize>,
    /// Steps of the audit's iterative attacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_steps: Option<usize>,
    /// Queries of the audit's black-box attack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_queries: Option<usize>,
}

impl EvaluatePart {
    /// The audit's defaults with this part's effort.
    pub(crate) fn audit_options(&self) -> AuditOptions {
        let default = AuditOptions::default();
        AuditOptions {
            steps: self.audit_steps.unwrap_or(default.steps),
            queries: self.audit_queries.unwrap_or(default.queries),
            ..default
        }
    }
}

fn constant() -> Schedule {
    Schedule::Constant
}
