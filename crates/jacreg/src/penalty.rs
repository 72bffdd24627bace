//! The Jacobian penalty: which Jacobians, in which norm, how they are estimated and how much they weigh.

use std::collections::BTreeMap;

use qnn::QnnError;
use qnn::graph::{Graph, NodeId};
use qnn::train::{Penalty, PenaltyInputs, Term};
use serde::{Deserialize, Serialize};

use crate::frobenius::{self, Directions};
use crate::schedule::WeightSchedule;
use crate::select::{INPUT, LOGITS, Pair, matches, pairs};
use crate::spectral;

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

/// Which norm of a sample's Jacobian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatrixNorm {
    /// Root of the sum of squares, exact or by random projection.
    #[default]
    Frobenius,
    /// Largest singular value, by power iteration.
    Spectral,
}

/// The weight of a penalty: one for all its Jacobians, or one per layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Lambda {
    /// The same for every Jacobian.
    All(f64),
    /// By the name of the layer (or a pattern with `*`; the first that fits in the names' order counts); others are left out.
    PerLayer(BTreeMap<String, f64>),
}

impl Lambda {
    /// Every weight in it.
    pub fn values(&self) -> Vec<f64> {
        match self {
            Self::All(value) => vec![*value],
            Self::PerLayer(layers) => layers.values().copied().collect(),
        }
    }
}

impl From<f64> for Lambda {
    fn from(value: f64) -> Self {
        Self::All(value)
    }
}

/// `lambda/2 * mean_b ||d of_b / d wrt_b||^2`, summed over the pairs that `of` and `wrt` name.
///
/// | `of` | `wrt` | member of the family |
/// |---|---|---|
/// | `logits` | `input` | input JR (Hoffman et al. 2019) |
/// | `logits` | hidden layers | logits with respect to hidden activations |
/// | hidden layers | `input` | activations with respect to the input |
/// | hidden layers | `previous` | each layer's local Jacobian |
///
/// Hidden layers are named by a rule over the activation layers (`each`, `first 2`, `last 2`) or by layer names, separated by
/// commas, in which `*` stands for any characters (`conv1_act`, `conv*_act`). Where batch normalisation uses the statistics
/// of the batch, as in training, cross-sample terms are part of the Jacobian, as in the reference implementation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JacobianPenalty {
    /// `logits`, or hidden layers.
    pub of: String,
    /// `input`, `previous`, or hidden layers.
    pub wrt: String,
    /// Weight in the loss, for all Jacobians or by layer.
    pub lambda: Lambda,
    /// Number of random projections, or `"exact"`; Frobenius norm only.
    #[serde(default = "one_projection")]
    pub projections: Projections,
    /// `frobenius` or `spectral`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub norm: MatrixNorm,
    /// Power iterations; spectral norm only.
    #[serde(default = "two_iterations", skip_serializing_if = "is_two")]
    pub iterations: u32,
    /// Applied on every k-th step, with k times the weight.
    #[serde(default = "every_step")]
    pub every: u64,
    /// Factor on the weight over the epochs.
    #[serde(default)]
    pub schedule: WeightSchedule,
}

fn one_projection() -> Projections {
    Projections::Random(1)
}

fn two_iterations() -> u32 {
    2
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_two(iterations: &u32) -> bool {
    *iterations == two_iterations()
}

fn is_default(norm: &MatrixNorm) -> bool {
    *norm == MatrixNorm::default()
}

pub(crate) fn every_step() -> u64 {
    1
}

impl JacobianPenalty {
    /// Frobenius norms of the Jacobians that `of` and `wrt` name, by one random projection.
    pub fn new(of: &str, wrt: &str, lambda: impl Into<Lambda>) -> Self {
        Self {
            of: of.into(),
            wrt: wrt.into(),
            lambda: lambda.into(),
            projections: one_projection(),
            norm: MatrixNorm::Frobenius,
            iterations: two_iterations(),
            every: every_step(),
            schedule: WeightSchedule::Constant,
        }
    }

    /// Input JR with one random projection.
    pub fn input(lambda: f64) -> Self {
        Self::new(LOGITS, INPUT, lambda)
    }

    /// The penalised pairs with their weights among each other.
    fn weighted(&self, inputs: &PenaltyInputs<'_>) -> Result<Vec<(Pair, f64)>, QnnError> {
        let pairs = pairs(inputs.model, inputs.forward, &self.of, &self.wrt)?;
        let Lambda::PerLayer(layers) = &self.lambda else {
            return Ok(pairs.into_iter().map(|pair| (pair, 1.0)).collect());
        };
        let of_layer = |layer: &str| layers.iter().find(|(name, _)| matches(name, layer)).map(|(_, l)| *l);
        if let Some(name) = layers.keys().find(|name| !pairs.iter().any(|p| matches(name, p.layer()))) {
            let known: Vec<&str> = pairs.iter().map(Pair::layer).collect();
            return Err(QnnError::Config(format!(
                "{}: lambda for `{name}`, but the penalty is about {}",
                self.name(),
                known.join(", ")
            )));
        }
        let weighted = pairs.into_iter().filter_map(|pair| of_layer(pair.layer()).map(|l| (pair, l)));
        Ok(weighted.collect())
    }

    /// `1/2 * mean_b ||d of_b / d wrt_b||^2` of one pair. Pairs of one output share their random directions, kept in `drawn`, so
    /// that one backward pass serves them all.
    fn half_square(
        &self,
        graph: &mut Graph,
        pair: &Pair,
        drawn: &mut BTreeMap<NodeId, Vec<NodeId>>,
    ) -> Result<NodeId, QnnError> {
        let value = match (self.norm, self.projections) {
            (MatrixNorm::Frobenius, Projections::Exact(_)) => {
                frobenius::half_square(graph, pair.of, pair.wrt, Directions::Exact)?
            }
            (MatrixNorm::Frobenius, Projections::Random(n)) => {
                let rows = drawn.entry(pair.of).or_insert_with(|| frobenius::draw(graph, pair.of, n));
                frobenius::half_square(graph, pair.of, pair.wrt, Directions::Given(rows))?
            }
            (MatrixNorm::Spectral, _) => spectral::half_square(graph, pair.of, pair.wrt, self.iterations),
        };
        value.ok_or_else(|| {
            let (of, wrt) = (&pair.of_layer, &pair.wrt_layer);
            QnnError::Config(format!("{}: `{of}` does not depend on `{wrt}`", self.name()))
        })
    }
}

impl Penalty for JacobianPenalty {
    fn name(&self) -> String {
        match self.norm {
            MatrixNorm::Frobenius => format!("jacobian({}, {})", self.of, self.wrt),
            MatrixNorm::Spectral => format!("spectral({}, {})", self.of, self.wrt),
        }
    }

    fn build(&self, graph: &mut Graph, inputs: &PenaltyInputs<'_>) -> Result<Vec<Term>, QnnError> {
        let mut drawn = BTreeMap::new();
        let term = |(pair, weight): (Pair, f64)| {
            let value = self.half_square(graph, &pair, &mut drawn)?;
            Ok(Term { name: pair.layer().to_owned(), weight, value })
        };
        self.weighted(inputs)?.into_iter().map(term).collect()
    }

    fn weight(&self, epoch: u32, epochs: u32) -> f64 {
        let lambda = match self.lambda {
            Lambda::All(lambda) => lambda,
            Lambda::PerLayer(_) => 1.0,
        };
        lambda * self.schedule.factor(epoch, epochs)
    }

    fn every(&self) -> u64 {
        self.every
    }
}
