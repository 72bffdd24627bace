//! Small files beside `results.jsonl`: training histories and adversarial examples, to be shown and to be checked again.
use std::path::{Path, PathBuf};

use qnn::train::EpochRecord;
use serde::{Deserialize, Serialize};

use crate::error::StudyError;
use crate::examples::ExampleSet;
use crate::pipeline::{DataCard, Example};
use crate::results::Row;
use crate::stage::write_atomic;

/// Adversarial examples of one run and what is needed to draw them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Examples {
    /// The attack that made them.
    pub(crate) attack: String,
    /// Height, width and channels.
    pub(crate) shape: [usize; 3],
    /// Class names.
    pub(crate) classes: Vec<String>,
    /// One item per sample.
    pub(crate) items: Vec<Example>,
}

fn path(out: &Path, row: &Row, suffix: &str) -> PathBuf {
    out.join("artefacts").join(row.profile.name()).join(format!("{}.{suffix}", row.run_name()))
}

/// Copies a training history out of the cache.
pub(crate) fn copy_history(out: &Path, row: &Row, from: &Path) -> Result<(), StudyError> {
    let text = std::fs::read_to_string(from).map_err(StudyError::io(from))?;
    write_atomic(&path(out, row, "history.jsonl"), text.as_bytes())
}

/// Keeps the examples of a run.
pub(crate) fn save_examples(
    out: &Path,
    row: &Row,
    attack: &str,
    data: &DataCard,
    items: Vec<Example>,
) -> Result<(), StudyError> {
    let examples =
        Examples { attack: attack.to_owned(), shape: data.shape, classes: data.classes.clone(), items };
    let path = path(out, row, "examples.json");
    let text =
        serde_json::to_string(&examples).map_err(|source| StudyError::Json { path: path.clone(), source })?;
    write_atomic(&path, text.as_bytes())
}

/// Keeps examples of a run's strongest attack within `eps` as codes, for `ternion verify-adversarial`.
pub(crate) fn save_codes(out: &Path, row: &Row, eps: &str, set: &ExampleSet) -> Result<(), StudyError> {
    let eps = eps.replace('/', "_");
    set.save(&path(out, row, &format!("{}-{eps}.examples.npz", set.norm)))
}

/// The training history of a run, if it was kept.
pub(crate) fn history(out: &Path, row: &Row) -> Result<Option<Vec<EpochRecord>>, StudyError> {
    let path = path(out, row, "history.jsonl");
    let Some(text) = read(&path)? else { return Ok(None) };
    let record = |(i, line)| {
        serde_json::from_str(line).map_err(|source| StudyError::Line {
            path: path.clone(),
            line: i + 1,
            source,
        })
    };
    text.lines().enumerate().map(record).collect::<Result<_, _>>().map(Some)
}

/// The adversarial examples of a run, if they were kept.
pub(crate) fn examples(out: &Path, row: &Row) -> Result<Option<Examples>, StudyError> {
    let path = path(out, row, "examples.json");
    let Some(text) = read(&path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|source| StudyError::Json { path, source })
}

fn read(path: &Path) -> Result<Option<String>, StudyError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StudyError::io(path)(e)),
    }
}
