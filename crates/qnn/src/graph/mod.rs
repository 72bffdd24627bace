//! The differentiable graph: built once for fixed shapes, differentiated symbolically, planned, then run many times.

mod build;
mod exec;
mod fuse;
mod fused;
mod grad;
mod math;
mod op;
mod passes;
mod plan;
mod quantized;
mod through;

pub use exec::{Executor, Leaves, RunKey};
pub use math::Element;
pub use op::{Nonlinearity, Op, Random, Unary};
pub use plan::Plan;

use std::collections::HashMap;

/// A node of a [`Graph`]; ids grow in topological order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<NodeId>,
    pub(crate) shape: Vec<usize>,
    /// Index into [`Graph::labels`]: the layer this node belongs to, for error messages.
    pub(crate) label: usize,
}

impl Node {
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A graph of operations on tensors of fixed shape. Equal operations on equal inputs are one node.
#[derive(Clone, Debug)]
pub struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) labels: Vec<String>,
    pub(crate) inputs: usize,
    /// Step and zero point of the external tensors declared to be 8-bit codes, by slot.
    pub(crate) input_grids: HashMap<usize, (f32, u8)>,
    label: usize,
    randoms: u64,
    known: HashMap<Vec<NodeId>, Vec<NodeId>>,
}

impl Default for Graph {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            labels: vec!["graph".into()],
            inputs: 0,
            input_grids: HashMap::new(),
            label: 0,
            randoms: 0,
            known: HashMap::new(),
        }
    }
}

impl Graph {
    /// Shape of a node.
    pub fn shape(&self, id: NodeId) -> &[usize] {
        &self.nodes[id.index()].shape
    }

    /// Name of the layer that nodes made from now on belong to.
    pub fn set_label(&mut self, label: &str) {
        self.label = self.labels.iter().position(|l| l == label).unwrap_or_else(|| {
            self.labels.push(label.to_owned());
            self.labels.len() - 1
        });
    }

    /// The layer a node belongs to.
    pub fn label(&self, id: NodeId) -> &str {
        &self.labels[self.nodes[id.index()].label]
    }

    /// Names of the operations the graph is made of, each once.
    pub fn operations(&self) -> std::collections::BTreeSet<&'static str> {
        self.nodes.iter().map(|n| n.op.name()).collect()
    }

    pub(crate) fn push(&mut self, op: Op, inputs: Vec<NodeId>, shape: Vec<usize>) -> NodeId {
        let same = self.known.entry(inputs.clone()).or_default();
        for &id in same.iter() {
            let node = &self.nodes[id.index()];
            if node.op == op && node.shape == shape {
                return id;
            }
        }
        let id = NodeId(u32::try_from(self.nodes.len()).expect("fewer than 2^32 nodes"));
        same.push(id);
        self.nodes.push(Node { op, inputs, shape, label: self.label });
        id
    }

    pub(crate) fn next_random(&mut self) -> u64 {
        self.randoms += 1;
        self.randoms
    }
}
