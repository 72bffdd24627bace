//! The seam through which regularisers that need derivatives of the network join the loss.

use std::fmt::Debug;

use crate::QnnError;
use crate::forward::{Forward, Statistics};
use crate::graph::{Graph, NodeId};
use crate::model::Model;

/// What a penalty is built from: the nodes of the training step it joins.
#[derive(Clone, Copy, Debug)]
pub struct PenaltyInputs<'a> {
    /// The network being trained.
    pub model: &'a Model,
    /// Its forward pass on the batch.
    pub forward: &'a Forward,
    /// Soft targets `[batch, classes]`.
    pub target: NodeId,
    /// Which statistics batch normalisation uses in that pass.
    pub statistics: Statistics,
}

/// One summand of a penalty.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// What it measures, for histories: a layer, for penalties that have one term per layer.
    pub name: String,
    /// Weight among the terms of its penalty.
    pub weight: f64,
    /// Its value, a scalar node.
    pub value: NodeId,
}

/// A term added to the training loss, built from graph nodes, so that its gradients are exact.
pub trait Penalty: Send + Sync + Debug {
    /// Short name for histories and reports.
    fn name(&self) -> String;

    /// Appends the penalty to the graph of a training step; its value is the weighted sum of the terms.
    ///
    /// # Errors
    /// If the network has not what the penalty asks for.
    fn build(&self, graph: &mut Graph, inputs: &PenaltyInputs<'_>) -> Result<Vec<Term>, QnnError>;

    /// Weight in the loss during `epoch` of `epochs`.
    fn weight(&self, epoch: u32, epochs: u32) -> f64;

    /// Applied on every k-th step only, with k times the weight.
    fn every(&self) -> u64 {
        1
    }
}

/// Looks at the model after every epoch, without taking part in training.
pub trait Probe: Send + Sync + Debug {
    /// Named numbers for the history; a pure function of the model.
    ///
    /// # Errors
    /// If the model cannot be run.
    fn measure(&mut self, model: &Model) -> Result<Vec<(String, f64)>, QnnError>;
}
