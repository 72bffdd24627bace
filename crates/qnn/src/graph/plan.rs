//! Which nodes to compute, in which order, and which buffers they may share.

use super::{Graph, NodeId, Op};

/// An execution plan: an order per stage and a buffer ("slot") per node, reused as soon as its last reader is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Nodes computed once, by [`super::Executor::prepare`].
    pub(crate) frozen: Vec<NodeId>,
    /// Nodes computed in every run, stage after stage.
    pub(crate) order: Vec<NodeId>,
    /// End of each stage in `order`.
    pub(crate) stage_ends: Vec<usize>,
    /// Slot of each node; leaves have none.
    pub(crate) slot: Vec<Option<usize>>,
    /// Length of each slot in elements.
    pub(crate) slot_len: Vec<usize>,
    /// Whether the node overwrites the slot of its operand of that position.
    pub(crate) in_place: Vec<Option<usize>>,
    /// The node whose storage a node shares (itself, unless it is a reshape).
    pub(crate) root: Vec<NodeId>,
}

const NEVER: usize = usize::MAX;

impl Plan {
    /// Plans the computation of each stage's outputs. Outputs keep their buffers to the end. With `freeze`, what depends
    /// on parameters alone is computed once (inference with fixed parameters).
    pub fn new(graph: &Graph, stages: &[&[NodeId]], freeze: bool) -> Self {
        let count = graph.nodes.len();
        let mut root: Vec<NodeId> = (0..count).map(|i| NodeId(i as u32)).collect();
        let mut constant = vec![false; count];
        for (i, node) in graph.nodes.iter().enumerate() {
            if node.op == Op::Reshape {
                root[i] = root[node.inputs[0].index()];
            }
            constant[i] = match node.op {
                Op::Param(_) | Op::Fill(_) | Op::OneHot(_) => true,
                Op::Input(_) => false,
                _ => !node.op.is_random() && node.inputs.iter().all(|j| constant[j.index()]),
            };
        }
        let mut done = vec![false; count];
        let (mut frozen, mut order, mut stage_ends) = (Vec::new(), Vec::new(), Vec::new());
        for outputs in stages {
            let mut needed = vec![false; count];
            outputs.iter().for_each(|o| needed[o.index()] = true);
            for i in (0..count).rev() {
                if needed[i] && !done[i] {
                    graph.nodes[i].inputs.iter().for_each(|j| needed[j.index()] = true);
                }
            }
            for i in 0..count {
                let leaf = matches!(graph.nodes[i].op, Op::Input(_) | Op::Param(_));
                if needed[i] && !done[i] && !leaf && graph.nodes[i].op != Op::Reshape {
                    let list = if freeze && constant[i] { &mut frozen } else { &mut order };
                    list.push(NodeId(i as u32));
                }
                done[i] |= needed[i];
            }
            stage_ends.push(order.len());
        }
        let mut plan = Self {
            frozen,
            order,
            stage_ends,
            slot: vec![None; count],
            slot_len: Vec::new(),
            in_place: vec![None; count],
            root,
        };
        plan.assign(graph, stages);
        plan
    }

    fn assign(&mut self, graph: &Graph, stages: &[&[NodeId]]) {
        let mut last_use = vec![0; graph.nodes.len()];
        for (time, id) in self.order.iter().enumerate() {
            for input in &graph.nodes[id.index()].inputs {
                last_use[self.root[input.index()].index()] = time;
            }
        }
        let kept = stages.iter().flat_map(|s| s.iter()).chain(&self.frozen);
        kept.for_each(|id| last_use[self.root[id.index()].index()] = NEVER);
        for id in self.frozen.clone() {
            self.slot[id.index()] = Some(self.slot_len.len());
            self.slot_len.push(graph.nodes[id.index()].len());
        }
        let mut free: Vec<usize> = Vec::new();
        for (time, id) in self.order.clone().into_iter().enumerate() {
            let node = &graph.nodes[id.index()];
            let dying: Vec<NodeId> = {
                let mut roots: Vec<NodeId> = node.inputs.iter().map(|i| self.root[i.index()]).collect();
                roots.sort_unstable();
                roots.dedup();
                roots.retain(|r| self.slot[r.index()].is_some() && last_use[r.index()] == time);
                roots
            };
            let reused = overwritable(&node.op).and_then(|position| {
                let operand = self.root[node.inputs[position].index()];
                let once = node.inputs.iter().filter(|i| self.root[i.index()] == operand).count() == 1;
                (once && dying.contains(&operand)).then_some((position, operand))
            });
            if let Some((position, operand)) = reused {
                self.in_place[id.index()] = Some(position);
                self.slot[id.index()] = self.slot[operand.index()];
                free.extend(dying.iter().filter(|&&r| r != operand).filter_map(|r| self.slot[r.index()]));
                continue;
            }
            self.slot[id.index()] = Some(self.take(&mut free, node.len()));
            free.extend(dying.iter().filter_map(|r| self.slot[r.index()]));
        }
    }

    /// The tightest free slot that is large enough (and not absurdly larger), else a new one.
    fn take(&mut self, free: &mut Vec<usize>, len: usize) -> usize {
        let fits = |s: usize| (len..=len.saturating_mul(2).max(4096)).contains(&self.slot_len[s]);
        let best = (0..free.len()).filter(|&f| fits(free[f])).min_by_key(|&f| self.slot_len[free[f]]);
        match best {
            Some(f) => free.swap_remove(f),
            None => {
                self.slot_len.push(len);
                self.slot_len.len() - 1
            }
        }
    }

    /// Elements held by all buffers together.
    pub fn elements(&self) -> usize {
        self.slot_len.iter().sum()
    }
}

/// The operand an operation may overwrite with its result.
fn overwritable(op: &Op) -> Option<usize> {
    match op {
        Op::ActivationGrad(..) => Some(1),
        Op::Linear(_) | Op::Mul | Op::AddScalar(_) | Op::RowScale | Op::ScalarMul | Op::Dropout(..) => {
            Some(0)
        }
        _ => None,
    }
}
