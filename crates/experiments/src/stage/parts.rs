//! Reading and resuming the JSONL parts of an attack.
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use super::Stage;
use super::key::Key;
use super::shard::merge_parts;
use super::store::Store;
use crate::error::StudyError;
use crate::pipeline::SampleRecord;

/// A finished part's file.
pub(super) const PART_FILE: &str = "part.jsonl";
/// What a part holds while it is being made.
const PARTIAL_FILE: &str = "partial.jsonl";

/// All samples that any part of an attack holds, in `selection` order.
pub(crate) fn attacked(store: &Store, key: &Key, selection: &[u32]) -> Result<Vec<SampleRecord>, StudyError> {
    let mut parts = Vec::new();
    for entry in store.parts(Stage::Attack, key)? {
        let path = entry.path(PART_FILE);
        let text = std::fs::read_to_string(&path).map_err(StudyError::io(&path))?;
        let line = |(i, line)| {
            serde_json::from_str(line).map_err(|source| StudyError::Line {
                path: path.clone(),
                line: i + 1,
                source,
            })
        };
        parts.push(text.lines().enumerate().map(line).collect::<Result<Vec<_>, _>>()?);
    }
    merge_parts(selection, parts)
}

/// Whether every one of `ids` is held by some part.
pub(super) fn covers(store: &Store, key: &Key, ids: &[u32]) -> Result<bool, StudyError> {
    Ok(attacked(store, key, ids)?.len() == ids.len())
}

/// Samples of a part done before an interruption. A last line cut short is dropped.
pub(super) fn resume(work: &Path) -> Result<Vec<SampleRecord>, StudyError> {
    let path = work.join(PARTIAL_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(StudyError::io(&path)(e)),
    };
    let records: Vec<SampleRecord> = text.lines().map_while(|line| serde_json::from_str(line).ok()).collect();
    std::fs::remove_file(&path).map_err(StudyError::io(&path))?;
    append(work, &records)?;
    Ok(records)
}

/// Adds finished samples to a part in the making.
pub(super) fn append(work: &Path, records: &[SampleRecord]) -> Result<(), StudyError> {
    let path = work.join(PARTIAL_FILE);
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(lines(records).as_bytes()).and_then(|()| file.sync_data()))
        .map_err(StudyError::io(&path))
}

/// Turns a part in the making into a finished one.
pub(super) fn finish(work: &Path, records: &[SampleRecord]) -> Result<(), StudyError> {
    let (partial, part) = (work.join(PARTIAL_FILE), work.join(PART_FILE));
    std::fs::write(&part, lines(records)).map_err(StudyError::io(&part))?;
    match std::fs::remove_file(&partial) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StudyError::io(&partial)(e)),
        _ => Ok(()),
    }
}

fn lines(records: &[SampleRecord]) -> String {
    records
        .iter()
        .map(|r| serde_json::to_string(r).expect("records hold only numbers and text") + "\n")
        .collect()
}
