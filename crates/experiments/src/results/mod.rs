//! `results.jsonl`: one row per recipe, run, attack and perturbation size, with the origin of its numbers.
mod gather;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use gather::gather;

use crate::error::StudyError;
use crate::pipeline::AuditReport;
use crate::recipe::{Profile, Role};
use crate::stage::{Lock, write_atomic};

/// What a row measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Accuracy of the trained network without an attack.
    Clean,
    /// Accuracy of the integer program without an attack.
    Deployed,
    /// Accuracy of the trained network under an attack.
    Attack,
}

/// Data behind a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataOrigin {
    /// Task the recipe asked for.
    pub task: String,
    /// Task that was loaded.
    pub name: String,
    /// SHA-256 over the content.
    pub checksum: String,
    /// Where it came from.
    pub origin: String,
    /// Whether generated data stood in.
    pub embedded: bool,
    /// What a reader must know about it.
    pub note: String,
}

/// Size of what ships.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Footprint {
    /// Bytes of flash.
    pub flash: u64,
    /// Bytes of RAM at the peak.
    pub ram: u64,
    /// An integer program; otherwise the sizes are those of f32 values.
    pub integer: bool,
    /// Share of test samples on which it predicts what the trained network predicts.
    pub agreement: Option<f64>,
    /// What equivalence rests on, or why there is no integer program.
    pub note: String,
}

/// One measured number and all that is known about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Table of the report.
    pub study: String,
    /// Position in its table.
    pub order: u32,
    /// Recipe's name.
    pub recipe: String,
    /// Recipe's heading in tables.
    pub title: String,
    /// Profile it was run with.
    pub profile: Profile,
    /// Seed of everything random.
    pub seed: u64,
    /// Fold held out.
    pub fold: Option<u8>,
    /// Network's name and precision, in words.
    pub network: String,
    /// Data behind the number.
    pub data: DataOrigin,
    /// What is measured.
    pub measure: Measure,
    /// The attack's text form; `none` without an attack.
    pub attack: String,
    /// How the attack is meant.
    pub role: Option<Role>,
    /// Norm of the perturbation.
    pub norm: Option<String>,
    /// Largest perturbation; 0 without an attack.
    pub eps: f64,
    /// The same as written in the recipe.
    pub eps_text: String,
    /// Whether the main table shows this size.
    pub headline: bool,
    /// Samples measured.
    pub samples: usize,
    /// Samples that should be measured; more than `samples` while parts are missing.
    pub expected: usize,
    /// Samples classified correctly.
    pub correct: usize,
    /// Of the same samples, those classified correctly without an attack.
    pub clean_correct: usize,
    /// Accuracy.
    pub value: Option<f64>,
    /// Lower end of Wilson's 95 % interval.
    pub lo: Option<f64>,
    /// Upper end of it.
    pub hi: Option<f64>,
    /// Median forward passes per sample.
    pub queries_median: Option<f64>,
    /// Mean forward passes per sample.
    pub queries_mean: Option<f64>,
    /// Median size of the perturbations that succeeded, in the attack's norm.
    #[serde(default)]
    pub norm_median: Option<f64>,
    /// Per class: samples classified correctly (under the attack, if there is one) and samples.
    #[serde(default)]
    pub per_class: Vec<[usize; 2]>,
    /// The audit of this network's robustness.
    pub audit: Option<AuditReport>,
    /// Size of what ships.
    pub footprint: Option<Footprint>,
    /// Multiply-accumulates per sample.
    pub macs: u64,
    /// Trainable and state values.
    pub parameters: u64,
    /// Keys of the stages behind the number.
    pub stages: BTreeMap<String, String>,
    /// Commit the program was built from, if known; `-dirty` if files had changed.
    pub commit: Option<String>,
    /// Version of the program.
    pub version: String,
}

impl Row {
    /// Rows of one run replace each other as a whole.
    fn run(&self) -> (Profile, &str, u64, Option<u8>) {
        (self.profile, &self.recipe, self.seed, self.fold)
    }

    /// Name of the run in file names: `stq_audio_s-fold0-seed1`.
    pub fn run_name(&self) -> String {
        match self.fold {
            None => format!("{}-seed{}", self.recipe, self.seed),
            Some(fold) => format!("{}-fold{fold}-seed{}", self.recipe, self.seed),
        }
    }
}

/// All rows of an output folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    /// Rows in table order.
    pub rows: Vec<Row>,
}

impl Results {
    /// Where an output folder keeps its rows.
    pub fn path(out: &Path) -> PathBuf {
        out.join("results.jsonl")
    }

    /// Reads all rows; none if there is no file.
    ///
    /// # Errors
    /// [`StudyError::Line`] naming the first line that is no row.
    pub fn read(out: &Path) -> Result<Self, StudyError> {
        let path = Self::path(out);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(StudyError::io(&path)(e)),
        };
        let row = |(i, line)| {
            serde_json::from_str(line).map_err(|source| StudyError::Line {
                path: path.clone(),
                line: i + 1,
                source,
            })
        };
        Ok(Self { rows: text.lines().enumerate().map(row).collect::<Result<_, _>>()? })
    }

    /// Replaces all rows of the runs that `rows` belong to. Two processes may do so at once.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn update(out: &Path, rows: Vec<Row>) -> Result<Self, StudyError> {
        let lock = out.join("cache").join("locks").join("results.lock");
        let _lock = Lock::acquire(&lock, &|_| ()).map_err(StudyError::io(&lock))?;
        let mut all = Self::read(out)?;
        all.rows.retain(|old| !rows.iter().any(|new| new.run() == old.run()));
        all.rows.extend(rows);
        all.rows.sort_by(|a, b| {
            let key =
                |r: &Row| (r.profile, r.study.clone(), r.order, r.recipe.clone(), r.fold, r.seed, r.measure);
            // A stable sort: attacks stay in the recipe's order, sizes in the attack's.
            key(a).cmp(&key(b))
        });
        let path = Self::path(out);
        let mut text = String::new();
        for row in &all.rows {
            let line = serde_json::to_string(row)
                .map_err(|source| StudyError::Json { path: path.clone(), source })?;
            text.push_str(&line);
            text.push('\n');
        }
        write_atomic(&path, text.as_bytes())?;
        Ok(all)
    }
}
