//! Cutting the attack stage into parts and putting parts together, in any order and any number of times.
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::StudyError;
use crate::pipeline::SampleRecord;

/// Part `index` of `count`: the samples whose position in the selection is `index` modulo `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Shard {
    /// Which part, from 0.
    pub index: u32,
    /// How many parts.
    pub count: u32,
}

impl Shard {
    /// Everything in one part.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// The members of `selection` that belong to this part, in order.
    pub fn take(self, selection: &[u32]) -> Vec<u32> {
        selection.iter().copied().skip(self.index as usize).step_by(self.count as usize).collect()
    }

    /// Reads the `0of4` at the end of a folder name.
    pub(super) fn from_folder(text: &str) -> Option<Self> {
        let (index, count) = text.split_once("of")?;
        Self::new(index.parse().ok()?, count.parse().ok()?).ok()
    }

    fn new(index: u32, count: u32) -> Result<Self, String> {
        if index < count {
            Ok(Self { index, count })
        } else {
            Err(format!("part {index} of {count} does not exist; parts are numbered from 0"))
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    /// Reads `i/n` with `0 <= i < n`.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not of the form i/n");
        let (index, count) = text.split_once('/').ok_or_else(form)?;
        Self::new(index.trim().parse().map_err(|_| form())?, count.trim().parse().map_err(|_| form())?)
    }
}

/// Joins parts by sample: idempotent, and the same whatever their order or number. Samples come out in `selection`
/// order; those that no part holds are left out. Of what parts keep beside the outcomes, the first is taken.
///
/// # Errors
/// [`StudyError::Conflict`] if two parts disagree about a sample, which deterministic attacks exclude.
pub fn merge_parts(
    selection: &[u32],
    parts: impl IntoIterator<Item = Vec<SampleRecord>>,
) -> Result<Vec<SampleRecord>, StudyError> {
    let mut by_sample: BTreeMap<u32, SampleRecord> = BTreeMap::new();
    for record in parts.into_iter().flatten() {
        if let Some(known) = by_sample.get_mut(&record.id) {
            let found = |r: &SampleRecord| (r.label, r.predicted, r.outcomes.clone());
            if found(known) != found(&record) {
                return Err(StudyError::Conflict { sample: record.id });
            }
            // Parts made by an earlier version may keep less.
            known.example = known.example.take().or(record.example);
            known.kept = known.kept.take().or(record.kept);
        } else {
            by_sample.insert(record.id, record);
        }
    }
    Ok(selection.iter().filter_map(|id| by_sample.remove(id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Outcome;

    fn record(id: u32) -> SampleRecord {
        SampleRecord {
            id,
            label: 1,
            predicted: 1,
            outcomes: vec![Outcome {
                eps: 0.1,
                predicted: 1,
                queries: u64::from(id),
                gradients: 0,
                distance: 0.1,
            }],
            example: None,
            kept: None,
        }
    }

    #[test]
    fn parts_cover_the_selection_once() {
        let selection: Vec<u32> = (10..33).collect();
        for count in 1..6 {
            let mut all: Vec<u32> =
                (0..count).flat_map(|index| Shard { index, count }.take(&selection)).collect();
            all.sort_unstable();
            assert_eq!(all, selection);
        }
    }

    #[test]
    fn merging_ignores_order_repetition_and_how_it_was_cut() {
        let selection = [7, 3, 9, 1, 4, 2];
        let part = |index, count| Shard { index, count }.take(&selection).into_iter().map(record).collect();
        let whole: Vec<SampleRecord> = merge_parts(&selection, [part(0, 1)]).unwrap();
        assert_eq!(whole.iter().map(|r| r.id).collect::<Vec<_>>(), selection);
        assert_eq!(merge_parts(&selection, [part(1, 2), part(0, 2)]).unwrap(), whole);
        assert_eq!(merge_parts(&selection, [part(2, 3), part(0, 2), part(1, 2), part(0, 2)]).unwrap(), whole);
        assert_eq!(merge_parts(&selection, [part(0, 2)]).unwrap().len(), 3);
    }

    #[test]
    fn parts_that_disagree_are_refused() {
        let mut other = record(3);
        other.outcomes[0].predicted = 0;
        assert!(merge_parts(&[3], [vec![record(3)], vec![other]]).is_err());
    }

    #[test]
    fn text_form() {
        assert_eq!("1/4".parse::<Shard>().unwrap(), Shard { index: 1, count: 4 });
        for bad in ["", "1", "4/4", "0/0", "a/b", "-1/2"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }
}
