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
mod validate;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use builtin::{builtin_names, builtin_text};
pub use eps::Eps;
pub use error::RecipeError;
pub use load::{RecipeSet, parse_recipe};

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
    pub jacobian: Vec<JacobianTerm>,
    /// Optimiser and its constants.
    pub optimizer: OptimizerPart,
    /// Length of training and learning rate.
    pub schedule: SchedulePart,
    /// Augmentation of training samples, in `datasets`' form.
    #[serde(default)]
    pub augmentation: toml::Table,
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
    /// Task by name, as `datasets` spells it.
    pub task: String,
    /// Embedded task used, with a loud banner, when the real data are not found.
    pub fallback: String,
    /// Folds to hold out in turn, for a cross-validation task.
    #[serde(default)]
    pub folds: Vec<u32>,
    /// At most this many training samples (the first of the official order); all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_samples: Option<usize>,
}

/// `[network]`: a network of the zoo and its quantizers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkPart {
    /// Name in `qnn::zoo`, such as `stq_image_s`.
    pub name: String,
    /// Precision twin: `stq`, `stq_deterministic`, `stochastic_binary`, `eight_bit` or `float`.
    pub twin: String,
    /// Weight quantizer in text form instead of the twin's; `"none"` for float weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Activation quantizer in text form instead of the twin's; `"none"` for a plain ReLU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activations: Option<String>,
}

/// One `[[jacobian]]` penalty: lambda times half the squared Frobenius norm of d`of`/d`wrt`, averaged over the batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JacobianTerm {
    /// What is differentiated: `logits` or a layer's name.
    pub of: String,
    /// With respect to what: `input` or a layer's name.
    pub wrt: String,
    /// Weight of the penalty in the loss.
    pub lambda: f64,
    /// Random projections per sample; 0 for the exact norm.
    #[serde(default = "one")]
    pub projections: u32,
    /// Apply at every n-th step.
    #[serde(default = "one")]
    pub every: u32,
}

/// `[optimizer]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerPart {
    /// `adam`, `adamw` or `sgd`.
    pub name: String,
    /// Momentum of `sgd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f32>,
    /// L2 penalty (`adam`, `sgd`) or decoupled decay (`adamw`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f32>,
}

/// `[schedule]`: epochs, batch and learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchedulePart {
    /// Passes over the training samples.
    pub epochs: u32,
    /// Samples per step.
    pub batch: usize,
    /// Learning rate at the start.
    pub lr: f32,
    /// How the rate falls: `constant`, `cosine` (to `final_lr`) or `exponential` (by `decay` per epoch).
    pub shape: ScheduleShape,
    /// Learning rate at the end of a cosine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_lr: Option<f32>,
    /// Factor per epoch of an exponential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<f32>,
}

/// Shape of the learning rate over training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleShape {
    /// The same rate throughout.
    Constant,
    /// Half a cosine from `lr` to `final_lr`.
    Cosine,
    /// `lr * decay^epoch`.
    Exponential,
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
    /// The attack in `attacks`' text form, such as `pgd(norm=linf, steps=50, restarts=5)`.
    pub attack: String,
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
}

fn one() -> u32 {
    1
}
