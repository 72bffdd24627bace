//! What a study asks of the model-facing libraries, and the plain data that goes through it.
//!
//! Stages, caching and reports see only the [`Engine`] trait and the types here. The engine behind `ternion` is
//! [`Pipeline`]; tests of the stages use one that computes nothing.
mod adapter;
mod deployment;
mod engine;
mod kept;
mod sensitivity;
mod training;

use std::path::Path;

use datasets::Task;
use serde::{Deserialize, Serialize};

use crate::error::StudyError;
use crate::recipe::{AttackPart, Recipe};

pub use adapter::IntegerProgram;
pub use engine::Pipeline;
pub(crate) use kept::example_set;
pub use kept::{Codes, Keep, Kept, Predicted};

/// What a dataset is, without its samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataCard {
    /// Name of the task that was loaded.
    pub name: String,
    /// SHA-256 over the content.
    pub checksum: String,
    /// `official`, `official subset` or `embedded`.
    pub origin: String,
    /// Whether generated data stand in for the data asked for.
    pub embedded: bool,
    /// What a reader must know about it.
    pub note: String,
    /// Height, width and channels of one sample.
    pub shape: [usize; 3],
    /// Real size of one input code.
    pub scale: f32,
    /// Input code of the real value 0.
    pub zero_point: u8,
    /// Class names.
    pub classes: Vec<String>,
    /// Samples in the training, validation and test splits.
    pub counts: [usize; 3],
    /// Identifiers of the test samples in the split's order.
    #[serde(skip)]
    pub test_ids: Vec<u32>,
}

/// What a network is, without its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkCard {
    /// The network's description; part of the training stage's key.
    pub description: serde_json::Value,
    /// Multiply-accumulates per sample.
    pub macs: u64,
    /// Trainable and state values.
    pub parameters: u64,
}

/// One independent experiment: a recipe on one task with one seed.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The recipe, resolved for the profile.
    pub recipe: &'a Recipe,
    /// Its task, with the fold held out.
    pub task: Task,
    /// The data found for it.
    pub data: &'a DataCard,
    /// Seed of everything random.
    pub seed: u64,
}

/// Clean accuracy on the test split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Samples measured.
    pub samples: usize,
    /// Samples classified correctly.
    pub correct: usize,
    /// Per class: correct and total.
    pub per_class: Vec<[usize; 2]>,
}

/// One sample under one attack at every perturbation size: a line of a part file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// Identifier of the sample.
    pub id: u32,
    /// True class.
    pub label: u8,
    /// Class predicted without an attack.
    pub predicted: u8,
    /// One outcome per perturbation size, in the recipe's order.
    pub outcomes: Vec<Outcome>,
    /// Kept for the first few samples, to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Example>,
    /// Kept for the first few samples, to be checked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// What an attack did to one sample within one perturbation size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Largest perturbation allowed.
    pub eps: f64,
    /// Class predicted for the attack's result.
    pub predicted: u8,
    /// Forward passes spent.
    pub queries: u64,
    /// Gradients spent.
    pub gradients: u64,
    /// Size of the perturbation, in the attack's norm; 0 if the sample was left alone.
    pub distance: f64,
}

impl SampleRecord {
    /// Whether the sample is classified correctly, without the attack and under it, at the `size`-th size.
    pub fn robust(&self, size: usize) -> bool {
        let fooled = |o: &Outcome| o.predicted != self.label;
        self.predicted == self.label && self.outcomes.get(size).is_some_and(|o| !fooled(o))
    }
}

/// An adversarial example with what it was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Identifier of the sample.
    pub id: u32,
    /// Perturbation size as written in the recipe.
    pub eps: String,
    /// True class.
    pub label: u8,
    /// Class predicted for the clean sample.
    pub predicted: u8,
    /// Class predicted for the adversarial sample.
    pub adversarial: u8,
    /// The clean sample's codes.
    pub clean_codes: Vec<u8>,
    /// The adversarial sample on the same scale, not rounded to codes.
    pub adversarial_codes: Vec<f32>,
}

/// A finished attack, as the audit sees it.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// The attack and its sizes.
    pub attack: &'a AttackPart,
    /// All its samples.
    pub records: Vec<SampleRecord>,
}

/// The audit's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditReport {
    /// `sound`, `masked` or `inconclusive`.
    pub verdict: String,
    /// What it rests on.
    pub findings: Vec<Finding>,
}

/// One check of the audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The check's name.
    pub check: String,
    /// Whether it speaks against the measured robustness.
    pub suspicious: bool,
    /// The measured number.
    pub value: f64,
    /// What the number means, in a sentence.
    pub sentence: String,
}

/// What ships, and how it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Whether the network was lowered to an integer program; otherwise the sizes are those of its f32 values.
    pub integer: bool,
    /// Why it was not lowered, or what its equivalence to the trained network rests on.
    pub note: String,
    /// Bytes of flash: weights, tables and code.
    pub flash: u64,
    /// Bytes of RAM at the peak.
    pub ram: u64,
    /// Test samples run on the integer program.
    pub samples: usize,
    /// Samples it classified correctly.
    pub correct: usize,
    /// Samples on which it agrees with the trained network.
    pub agree: usize,
}

/// Name of the trained model's file in a training stage's folder.
pub const MODEL_FILE: &str = "model.qnn";
/// Name of the training history's file: one [`qnn::train::EpochRecord`] per line.
pub const HISTORY_FILE: &str = "history.jsonl";

/// Told how far a stage has got: steps done, steps in all, current figures.
pub type Tick<'a> = &'a dyn Fn(u64, u64, &str);

/// The model-facing side of a study. Every method is deterministic in its arguments.
pub trait Engine {
    /// Finds and verifies the data of a task.
    ///
    /// # Errors
    /// If neither the data nor its stand-in can be loaded.
    fn data(&self, task: &Task) -> Result<DataCard, StudyError>;

    /// Describes the network a job trains.
    ///
    /// # Errors
    /// If the recipe names no network of the zoo, or wrong quantizers.
    fn network(&self, job: &Job<'_>) -> Result<NetworkCard, StudyError>;

    /// Trains, leaving [`MODEL_FILE`] and [`HISTORY_FILE`] in `work`; continues from a checkpoint found there.
    ///
    /// # Errors
    /// If training fails or a file cannot be written.
    fn train(&self, job: &Job<'_>, work: &Path, tick: Tick<'_>) -> Result<(), StudyError>;

    /// Measures clean accuracy on the test samples `ids`.
    ///
    /// # Errors
    /// If the model cannot be read or run.
    fn evaluate(
        &self,
        job: &Job<'_>,
        model: &Path,
        ids: &[u32],
        tick: Tick<'_>,
    ) -> Result<Evaluation, StudyError>;

    /// Attacks the test samples `ids`, keeping the examples that `keep` asks for. Nothing about a sample depends on the others.
    ///
    /// # Errors
    /// If the model cannot be read or the attack refuses it.
    fn attack(
        &self,
        job: &Job<'_>,
        model: &Path,
        attack: &AttackPart,
        ids: &[u32],
        keep: Keep<'_>,
    ) -> Result<Vec<SampleRecord>, StudyError>;

    /// Checks whether the measured robustness can be believed.
    ///
    /// # Errors
    /// If the model cannot be read or run.
    fn audit(
        &self,
        job: &Job<'_>,
        model: &Path,
        ids: &[u32],
        evidence: &[Evidence<'_>],
        tick: Tick<'_>,
    ) -> Result<AuditReport, StudyError>;

    /// Lowers, measures and stores the integer program in `work`, and runs it on the test samples `ids`.
    ///
    /// # Errors
    /// If lowering fails for another reason than a float network.
    fn deploy(
        &self,
        job: &Job<'_>,
        model: &Path,
        work: &Path,
        ids: &[u32],
        tick: Tick<'_>,
    ) -> Result<Deployment, StudyError>;
}
