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

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use attacks::Attack;
use attacks::audit::AuditOptions;
use attacks::training::{AdversarialTraining, Method};
use datasets::{Augmentation, Task};
use jacreg::{CurvaturePenalty, JacobianPenalty};
use qnn::network::BatchNormQuantizers;
use qnn::train::{Optimizer, Schedule};
use qnn::zoo::{Quantizers, Twin};
use qtensor::Quantizer;
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

/// `[network]`: a network of the zoo and its quantizers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkPart {
    /// Name in `qnn::zoo`, such as `stq_image_s`.
    pub name: String,
    /// Precision twin: `stq`, `stq_deterministic`, `stochastic_binary`, `eight_bit` or `float`.
    pub twin: Twin,
    /// Weight quantizer in text form instead of the twin's; `"none"` for float weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Activation quantizer in text form instead of the twin's; `"none"` for a plain ReLU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activations: Option<String>,
    /// Quantizer of all biases in text form, such as `quantized_bits(8, 0)`; they are float without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub biases: Option<String>,
    /// Quantizers of every batch normalisation, QKeras' `QBatchNormalization`; they are float without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_norms: Option<BatchNormPart>,
    /// Quantizers of single layers in text form, such as `conv1 = "quantized_bits(8, 0, alpha=auto)"`, or `"none"`: of a
    /// layer's kernel, or of an activation such as `conv1_act`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub layers: BTreeMap<String, String>,
    /// Parameters to start from instead of random ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartPart>,
    /// Bits per layer chosen from adversarial noise sensitivity, instead of the twin's weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<SensitivityPart>,
}

/// `[network.batch_norms]`: quantizers in text form; what is left out stays float.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNormPart {
    /// True starts from QKeras' defaults (powers of two for all four); the other keys replace them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub qkeras: bool,
    /// Quantizer of the scale, or `"none"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma: Option<String>,
    /// Quantizer of the shift, or `"none"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta: Option<String>,
    /// Quantizer of the mean, batch or moving, or `"none"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<String>,
    /// Quantizer of the variance, batch or moving, or `"none"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variance: Option<String>,
    /// Quantizer of `gamma / sqrt(variance + eps)`, which excludes those of gamma and variance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inverse: Option<String>,
}

/// `[network.start]`: a float or quantized model of the same layers, trained here or elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartPart {
    /// Safetensors file (our names, PyTorch's or Keras'), or a model file of ours.
    pub file: PathBuf,
    /// SHA-256 of the file in hexadecimal digits: the recipe says what it starts from, not only where that lies.
    pub sha256: String,
}

/// `[network.sensitivity]`: bits per layer in the manner of QUANOS, for `stq_image_s` and `stq_image_l`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SensitivityPart {
    /// Direction of the rule, which is not public.
    pub rule: BitRule,
    /// Epochs of training with 8-bit weights before sensitivity is measured.
    pub epochs: u32,
    /// Training samples it is measured on.
    pub samples: usize,
    /// Size of the FGSM perturbation.
    pub eps: Eps,
    /// Fewest bits of a layer.
    pub min_bits: u32,
    /// Most bits of a layer.
    pub max_bits: u32,
}

/// Which layers get more bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BitRule {
    /// Sensitive layers keep precision.
    MoreBitsIfSensitive,
    /// Sensitive layers lose precision, which filters the noise.
    FewerBitsIfSensitive,
}

impl Recipe {
    /// Every how many steps each penalty is applied.
    pub(crate) fn penalty_every(&self) -> impl Iterator<Item = u64> {
        let jacobian = self.jacobian.iter().map(|term| term.every);
        jacobian.chain(self.curvature.iter().map(|term| term.every))
    }
}

/// A layer's name and its quantizer, `None` for float.
pub type LayerQuantizer<'a> = (&'a str, Option<Quantizer>);

/// A quantizer's text, `"none"`, or what stands where nothing is said.
fn choose(
    key: &'static str,
    text: &Option<String>,
    otherwise: Option<Quantizer>,
) -> Result<Option<Quantizer>, (&'static str, String)> {
    match text.as_deref() {
        None => Ok(otherwise),
        Some("none") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|e| (key, format!("`{text}`: {e}"))),
    }
}

impl BatchNormPart {
    /// # Errors
    /// The key and what is wrong with its text.
    fn quantizers(&self) -> Result<BatchNormQuantizers, (&'static str, String)> {
        let start = if self.qkeras { BatchNormQuantizers::qkeras() } else { BatchNormQuantizers::default() };
        let all = BatchNormQuantizers {
            gamma: choose("network.batch_norms.gamma", &self.gamma, start.gamma)?,
            beta: choose("network.batch_norms.beta", &self.beta, start.beta)?,
            mean: choose("network.batch_norms.mean", &self.mean, start.mean)?,
            variance: choose("network.batch_norms.variance", &self.variance, start.variance)?,
            inverse: choose("network.batch_norms.inverse", &self.inverse, start.inverse)?,
        };
        match all.fault() {
            Some(reason) => Err(("network.batch_norms.inverse", reason)),
            None => Ok(all),
        }
    }
}

impl NetworkPart {
    /// The quantizers of single layers.
    ///
    /// # Errors
    /// The layer and what is wrong with its text.
    pub fn layer_quantizers(&self) -> Result<Vec<LayerQuantizer<'_>>, (String, String)> {
        let read = |(layer, text): (&'_ String, &'_ String)| match text.as_str() {
            "none" => Ok(None),
            text => text
                .parse::<Quantizer>()
                .map(Some)
                .map_err(|e| (format!("network.layers.{layer}"), format!("`{text}`: {e}"))),
        };
        self.layers.iter().map(|entry| Ok((entry.0.as_str(), read(entry)?))).collect()
    }

    /// The twin's quantizers with this part's own put in their place.
    ///
    /// # Errors
    /// The key and what is wrong with its text.
    pub fn quantizers(&self) -> Result<Quantizers, (&'static str, String)> {
        let twin = self.twin.quantizers();
        Ok(Quantizers {
            weights: choose("network.weights", &self.weights, twin.weights)?,
            activations: choose("network.activations", &self.activations, twin.activations)?,
            biases: choose("network.biases", &self.biases, twin.biases)?,
            batch_norms: self.batch_norms.as_ref().map(BatchNormPart::quantizers).transpose()?,
        })
    }

    /// The precision in words.
    pub fn twin_name(&self) -> &'static str {
        if self.sensitivity.is_some() {
            return "bits by sensitivity";
        }
        match self.twin {
            Twin::Stq => "stochastic ternary",
            Twin::StqDeterministic => "deterministic ternary",
            Twin::StochasticBinary => "stochastic binary",
            Twin::EightBit => "8-bit",
            Twin::Float => "float",
        }
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
