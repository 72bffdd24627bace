//! The seam through which regularisers that need derivatives of the network join the loss.

use std::fmt::Debug;

use crate::QnnError;
use crate::forward::Forward;
use crate::graph::{Graph, NodeId};
use crate::model::Model;

/// A term added to the training loss, built from graph nodes, so that its gradients are exact.
pub trait Penalty: Send + Sync + Debug {
    /// Short name for histories and reports.
    fn name(&self) -> String;

    /// Appends the unweighted penalty, a scalar node, to the graph of a training step.
    fn build(&self, graph: &mut Graph, model: &Model, forward: &Forward) -> Result<NodeId, QnnError>;

    /// Weight in the loss during `epoch` of `epochs`.
    fn weight(&self, epoch: u32, epochs: u32) -> f64;

    /// Applied on every k-th step only, with k times the weight.
    fn every(&self) -> u64 {
        1
    }
}
