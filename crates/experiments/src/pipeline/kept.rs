//! Adversarial examples that a study keeps to be checked again: codes in the records of an attack, put together as one file.
use std::path::Path;

use attacks::{Norm, Outcome as AttackOutcome};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qnn::{InputGrid, Model, Predictor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::engine::Selected;
use super::{DataCard, SampleRecord};
use crate::error::StudyError;
use crate::examples::ExampleSet;

/// Samples whose examples an attack keeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep<'a> {
    /// As the attack left them, at the headline size, to be shown.
    pub shown: &'a [u32],
    /// Rounded to codes, at every size, to be checked again.
    pub checked: &'a [u32],
}

/// The codes of one input.
#[derive(Clone, Debug, PartialEq)]
pub struct Codes(pub Vec<u8>);

/// In base64, which is half as long as numbers in JSON.
impl Serialize for Codes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Codes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Codes and the class the deployed network predicts for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// The input.
    pub codes: Codes,
    /// Its class.
    pub class: u8,
}

/// One sample and its examples at all sizes, in the recipe's order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The sample itself.
    pub clean: Predicted,
    /// What the attack made of it.
    pub adversarial: Vec<Predicted>,
}

impl Kept {
    /// Of the samples at `places`, from outcomes that kept their examples.
    pub(super) fn of(
        outcomes: &[AttackOutcome],
        selected: &Selected,
        places: &[usize],
        model: &Path,
    ) -> Result<Vec<Self>, StudyError> {
        let context = || StudyError::work(format!("keeping examples against {}", model.display()));
        let model = Model::load(model).map_err(context())?;
        let mut model = Predictor::for_codes(&model).map_err(context())?;
        let d = model.input_len();
        let codes = rows(&selected.codes, places, d);
        let mut kept = Vec::new();
        for outcome in outcomes {
            let some = AttackOutcome {
                attack: outcome.attack.clone(),
                records: places.iter().map(|place| outcome.records[*place].clone()).collect(),
                adversarial: outcome.adversarial.as_ref().map(|all| rows(all, places, d)),
                ..*outcome
            };
            let set = ExampleSet::of(&some, &codes, &mut model)?;
            let of = |codes: &[u8], class| Predicted { codes: Codes(codes.to_vec()), class };
            for i in 0..places.len() {
                let row = i * d..(i + 1) * d;
                if kept.len() == i {
                    let clean = of(&set.clean[row.clone()], set.clean_predicted[i]);
                    kept.push(Self { clean, adversarial: Vec::new() });
                }
                kept[i].adversarial.push(of(&set.adversarial[row], set.predicted[i]));
            }
        }
        Ok(kept)
    }
}

fn rows<T: Copy>(all: &[T], places: &[usize], d: usize) -> Vec<T> {
    places.iter().flat_map(|place| &all[place * d..(place + 1) * d]).copied().collect()
}

/// The examples that `records` keep at the `size`-th size, within `eps` of their samples; none if none is kept.
pub(crate) fn example_set(
    records: &[SampleRecord],
    size: usize,
    (norm, eps): (Norm, f32),
    data: &DataCard,
) -> Option<ExampleSet> {
    let kept = |r: &'_ SampleRecord| r.kept.as_ref().is_some_and(|k| k.adversarial.len() > size);
    let records: Vec<&SampleRecord> = records.iter().filter(|r| kept(r)).collect();
    let mut set = ExampleSet {
        shape: data.shape,
        grid: InputGrid { scale: data.scale, zero_point: data.zero_point },
        norm,
        eps,
        ids: records.iter().map(|r| r.id).collect(),
        labels: records.iter().map(|r| r.label).collect(),
        clean: Vec::new(),
        adversarial: Vec::new(),
        clean_predicted: Vec::new(),
        predicted: Vec::new(),
    };
    for kept in records.iter().filter_map(|r| r.kept.as_ref()) {
        let moved = &kept.adversarial[size];
        set.clean.extend(&kept.clean.codes.0);
        set.clean_predicted.push(kept.clean.class);
        set.adversarial.extend(&moved.codes.0);
        set.predicted.push(moved.class);
    }
    (!set.is_empty()).then_some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_json_and_damage_is_an_error() {
        let codes = Codes((0..=255).collect());
        let text = serde_json::to_string(&codes).unwrap();
        assert_eq!(serde_json::from_str::<Codes>(&text).unwrap(), codes);
        assert!(serde_json::from_str::<Codes>("\"A\"").is_err());
    }
}
