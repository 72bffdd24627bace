//! The Jacobian penalty: which Jacobians, how they are estimated and how much they weigh.

use qnn::graph::{Graph, NodeId};
use qnn::train::Penalty;
use qnn::{Forward, LayerOp, Model, QnnError};
use serde::{Deserialize, Serialize};

use crate::frobenius::{self, Directions};

/// Stands for the network's logits in [`JacobianPenalty::of`].
pub const LOGITS: &str = "logits";
/// Stands for the network's input in [`JacobianPenalty::wrt`].
pub const INPUT: &str = "input";
/// Stands for every activation layer in turn, in either place.
pub const EACH: &str = "each";
/// Stands for the activation before (or the input), in [`JacobianPenalty::wrt`]: each layer's local Jacobian.
pub const PREVIOUS: &str = "previous";

/// How the Frobenius norm is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Projections {
    /// Unbiased estimate from this many random unit vectors per sample.
    Random(u32),
    /// All output directions; as many backward passes as outputs.
    Exact(ExactTag),
}

/// The word `exact`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExactTag {
    /// `projections = "exact"`
    Exact,
}

/// How the weight moves over the epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightSchedule {
    /// Always lambda.
    #[default]
    Constant,
    /// Linearly from 0 in the first epoch to lambda in the last.
    Linear,
}

/// `lambda/2 * mean_b ||d of_b / d wrt_b||_F^2`, summed over the pairs that `of` and `wrt` name.
///
/// | `of` | `wrt` | member of the family |
/// |---|---|---|
/// | `logits` | `input` | input JR (Hoffman et al. 2019) |
/// | `logits` | `each` or a layer | logits with respect to hidden activations |
/// | `each` or a layer | `input` | activations with respect to the input |
/// | `each` or a layer | `previous` | each layer's local Jacobian |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JacobianPenalty {
    /// `logits`, `each`, or a layer's name.
    pub of: String,
    /// `input`, `each`, `previous`, or a layer's name.
    pub wrt: String,
    /// Weight in the loss.
    pub lambda: f64,
    /// Number of random projections, or `"exact"`.
    #[serde(default = "one_projection")]
    pub projections: Projections,
    /// Applied on every k-th step, with k times the weight.
    #[serde(default = "every_step")]
    pub every: u64,
    /// Weight over the epochs.
    #[serde(default)]
    pub schedule: WeightSchedule,
}

fn one_projection() -> Projections {
    Projections::Random(1)
}

fn every_step() -> u64 {
    1
}

impl JacobianPenalty {
    /// Input JR with one random projection.
    pub fn input(lambda: f64) -> Self {
        Self {
            of: LOGITS.into(),
            wrt: INPUT.into(),
            lambda,
            projections: one_projection(),
            every: every_step(),
            schedule: WeightSchedule::Constant,
        }
    }

    /// The pairs (output node, input node) whose Jacobians are penalised.
    fn pairs(&self, model: &Model, forward: &Forward) -> Result<Vec<(NodeId, NodeId)>, QnnError> {
        let layers = &model.network.layers;
        let hidden: Vec<NodeId> = layers
            .iter()
            .zip(&forward.layers)
            .filter(|(l, _)| matches!(l.op, LayerOp::Activation { .. }))
            .map(|(_, n)| *n)
            .collect();
        let named = |name: &str| {
            let at = layers.iter().position(|l| l.name == name);
            at.map(|i| forward.layers[i]).ok_or_else(|| {
                QnnError::Config(format!(
                    "Jacobian penalty: network `{}` has no layer `{name}`",
                    model.network.name
                ))
            })
        };
        let outputs = match self.of.as_str() {
            LOGITS => vec![forward.logits],
            EACH => hidden.clone(),
            name => vec![named(name)?],
        };
        let mut pairs = Vec::new();
        for output in outputs {
            match self.wrt.as_str() {
                INPUT => pairs.push((output, forward.input)),
                EACH => pairs.extend(hidden.iter().filter(|h| **h < output).map(|h| (output, *h))),
                PREVIOUS => {
                    let before = hidden.iter().rev().find(|h| **h < output);
                    pairs.push((output, before.copied().unwrap_or(forward.input)));
                }
                name => pairs.push((output, named(name)?)),
            }
        }
        Ok(pairs)
    }

    /// `1/2 * mean_b ||d output_b / d input_b||_F^2`, exact or estimated.
    fn half_square(&self, graph: &mut Graph, output: NodeId, input: NodeId) -> Result<NodeId, QnnError> {
        let directions = match self.projections {
            Projections::Random(n) => Directions::Random(n),
            Projections::Exact(_) => Directions::Exact,
        };
        frobenius::half_square(graph, output, input, directions)?.ok_or_else(|| {
            QnnError::Config(format!("Jacobian penalty: `{}` does not depend on `{}`", self.of, self.wrt))
        })
    }
}

impl Penalty for JacobianPenalty {
    fn name(&self) -> String {
        format!("jacobian({}, {})", self.of, self.wrt)
    }

    fn build(&self, graph: &mut Graph, model: &Model, forward: &Forward) -> Result<NodeId, QnnError> {
        let mut terms = Vec::new();
        for (output, input) in self.pairs(model, forward)? {
            terms.push((1.0, self.half_square(graph, output, input)?));
        }
        if terms.is_empty() {
            return Err(QnnError::Config(format!("{} names no pair of layers", self.name())));
        }
        Ok(graph.linear(&terms))
    }

    fn weight(&self, epoch: u32, epochs: u32) -> f64 {
        match self.schedule {
            WeightSchedule::Constant => self.lambda,
            WeightSchedule::Linear => self.lambda * f64::from(epoch) / f64::from(epochs.max(2) - 1),
        }
    }

    fn every(&self) -> u64 {
        self.every
    }
}
