//! Bits per layer from adversarial noise sensitivity, in the manner of QUANOS (Panda 2020, arXiv 2004.11233).
//!
//! The abstract says that each layer's sensitivity to adversarial noise is measured early in training and scales its
//! precision. Formula and direction of the rule are not public, so both directions are recipes of the study:
//! sensitivity of layer l is `mean ||a_adv - a|| / ||a||` of its activations under FGSM, and bits are spread linearly
//! between the least and the most sensitive layer.
use std::path::Path;

use attacks::{Access, Attack, Fgsm, Network, Options, Samples};
use datasets::Dataset;
use qnn::graph::{Executor, Graph, Leaves, NodeId, RunKey};
use qnn::{Forward, LayerOp, Model, Phase, Predictor, QnnError, Statistics};

use super::engine::{Selected, bounds};
use crate::error::StudyError;
use crate::recipe::{BitRule, SensitivityPart};

/// Samples per forward pass.
const BATCH: usize = 64;
/// Name of the file that keeps the bits for resuming.
pub(super) const BITS_FILE: &str = "bits.json";

/// Bits chosen earlier in this work folder, if any.
pub(super) fn kept_bits(work: &Path) -> Option<Vec<u32>> {
    serde_json::from_slice(&std::fs::read(work.join(BITS_FILE)).ok()?).ok()
}

/// Measures the sensitivity of every weight layer of `model` on the selected samples and chooses their bits.
pub(super) fn choose_bits(
    model: &Model,
    data: &Dataset,
    selected: &Selected,
    part: &SensitivityPart,
    seed: u64,
    work: &Path,
) -> Result<Vec<u32>, StudyError> {
    let context = || StudyError::work("adversarial noise sensitivity");
    let mut network = Network(Predictor::new(model).map_err(context())?);
    let mut options = Options {
        batch: BATCH,
        keep_adversarial: true,
        attack_misclassified: true,
        early_exit: false,
        ..Options::default()
    };
    let samples = Samples::new(&selected.x, &selected.labels, &selected.ids);
    let (fgsm, size) = (Attack::from(Fgsm::default()), [part.eps.value() as f32]);
    let outcomes =
        attacks::run(&fgsm, Access::White(&mut network), &samples, &size, &bounds(data)?, seed, &mut options)
            .map_err(StudyError::work("FGSM for adversarial noise sensitivity"))?;
    let Some(adversarial) = outcomes.into_iter().next().and_then(|o| o.adversarial) else {
        return Err(context()(QnnError::Config("no adversarial examples".into())));
    };
    let sensitivity = sensitivities(model, &selected.x, &adversarial).map_err(context())?;
    let bits = spread(&sensitivity, part);
    let path = work.join(BITS_FILE);
    let text =
        serde_json::to_string(&bits).map_err(|source| StudyError::Json { path: path.clone(), source })?;
    crate::stage::write_atomic(&path, text.as_bytes())?;
    Ok(bits)
}

struct Inputs<'a> {
    model: &'a Model,
    x: &'a [f32],
}

impl Leaves<f32> for Inputs<'_> {
    fn input(&self, _: usize) -> &[f32] {
        self.x
    }

    fn param(&self, index: usize) -> &[f32] {
        &self.model.params[index].values
    }
}

/// Per weight layer: mean over samples of `||a_adv - a|| / ||a||`, where `a` is the first activation at or after the layer
/// (the layer's own output if none follows).
fn sensitivities(model: &Model, clean: &[f32], adversarial: &[f32]) -> Result<Vec<f64>, QnnError> {
    let (layers, [h, w, c]) = (&model.network.layers, model.network.input);
    let mut graph = Graph::default();
    let input = graph.input(&[BATCH, h, w, c]);
    let forward = Forward::build(&mut graph, model, input, Phase::Inference, Statistics::Moving)?;
    let weighted = |op: &LayerOp| matches!(op, LayerOp::Conv2d { .. } | LayerOp::Dense { .. });
    let activation = |from: usize| {
        let next = layers[from + 1..]
            .iter()
            .position(|l| weighted(&l.op) || matches!(l.op, LayerOp::Activation { .. }));
        next.map(|n| from + 1 + n)
            .filter(|i| matches!(layers[*i].op, LayerOp::Activation { .. }))
            .unwrap_or(from)
    };
    let watched: Vec<NodeId> = (0..layers.len())
        .filter(|i| weighted(&layers[*i].op))
        .map(|i| forward.layers[activation(i)])
        .collect();
    let mut exec = Executor::new(graph, &[&watched], Phase::Inference, true);
    exec.prepare(&Inputs { model, x: clean })?;
    let d = h * w * c;
    let mut sums = vec![0.0; watched.len()];
    let whole = clean.len() / (BATCH * d);
    for batch in 0..whole {
        let rows = batch * BATCH * d..(batch + 1) * BATCH * d;
        exec.run(0, &Inputs { model, x: &clean[rows.clone()] }, RunKey::default())?;
        let before: Vec<Vec<f32>> = watched.iter().map(|node| exec.output(*node).to_vec()).collect();
        exec.run(0, &Inputs { model, x: &adversarial[rows] }, RunKey::default())?;
        for ((sum, before), node) in sums.iter_mut().zip(&before).zip(&watched) {
            let after = exec.output(*node);
            let width = before.len() / BATCH;
            for (a, b) in before.chunks(width).zip(after.chunks(width)) {
                let moved: f64 = a.iter().zip(b).map(|(a, b)| f64::from(b - a).powi(2)).sum();
                let length: f64 = a.iter().map(|a| f64::from(*a).powi(2)).sum();
                *sum += (moved / length.max(f64::MIN_POSITIVE)).sqrt();
            }
        }
    }
    Ok(sums.into_iter().map(|s| s / (whole.max(1) * BATCH) as f64).collect())
}

/// Bits between the smallest and largest allowed, linear in sensitivity.
fn spread(sensitivity: &[f64], part: &SensitivityPart) -> Vec<u32> {
    let low = sensitivity.iter().copied().fold(f64::INFINITY, f64::min);
    let high = sensitivity.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let range = f64::from(part.max_bits - part.min_bits);
    let bits = |s: &f64| {
        let share = if high > low { (s - low) / (high - low) } else { 1.0 };
        let share = match part.rule {
            BitRule::MoreBitsIfSensitive => share,
            BitRule::FewerBitsIfSensitive => 1.0 - share,
        };
        part.min_bits + (share * range).round() as u32
    };
    sensitivity.iter().map(bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_follow_sensitivity_in_either_direction() {
        let part = |rule| SensitivityPart {
            rule,
            epochs: 1,
            samples: 64,
            eps: "8/255".parse().unwrap(),
            min_bits: 2,
            max_bits: 8,
        };
        let sensitivity = [0.1, 0.4, 0.7, 0.25];
        assert_eq!(spread(&sensitivity, &part(BitRule::MoreBitsIfSensitive)), [2, 5, 8, 4]);
        assert_eq!(spread(&sensitivity, &part(BitRule::FewerBitsIfSensitive)), [8, 5, 2, 7]);
        assert_eq!(spread(&[0.3, 0.3], &part(BitRule::MoreBitsIfSensitive)), [8, 8]);
    }
}
