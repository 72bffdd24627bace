//! Which nodes to compute, in which order, and which buffers they may share.

use super::fuse::{Fusion, Group, Step};
use super::{Graph, NodeId, Op};

/// An execution plan: steps per stage and a buffer ("slot") per stored node, reused as soon as its last reader is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Nodes computed once, by [`super::Executor::prepare`].
    pub(crate) frozen: Vec<NodeId>,
    /// What every run does, stage after stage.
    pub(crate) steps: Vec<Step>,
    /// End of each stage in `steps`.
    pub(crate) stage_ends: Vec<usize>,
    /// Nodes computed together.
    pub(crate) groups: Vec<Group>,
    /// Slot of each node; leaves, and what is not stored, have none.
    pub(crate) slot: Vec<Option<usize>>,
    /// Length of each slot in elements.
    pub(crate) slot_len: Vec<usize>,
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
        let (mut frozen, mut order, mut ends) = (Vec::new(), Vec::new(), Vec::new());
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
            ends.push(order.len());
        }
        let mut kept = vec![false; count];
        let outputs = stages.iter().flat_map(|s| s.iter()).chain(&frozen);
        outputs.for_each(|id| kept[root[id.index()].index()] = true);
        let fusion = Fusion::new(graph, &root, &order, &kept);
        let (mut steps, mut stage_ends, mut groups, mut start) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for end in ends {
            steps.extend(fusion.stage(&order[start..end], &mut groups));
            stage_ends.push(steps.len());
            start = end;
        }
        let mut plan =
            Self { frozen, steps, stage_ends, groups, slot: vec![None; count], slot_len: Vec::new(), root };
        plan.assign(graph, &kept);
        plan
    }

    /// Tensors that a step reads and writes.
    fn traffic(&self, graph: &Graph, step: Step) -> (Vec<NodeId>, Vec<NodeId>) {
        let (mut reads, writes): (Vec<NodeId>, Vec<NodeId>) = match step {
            Step::Node(id) => (graph.nodes[id.index()].inputs.clone(), vec![id]),
            Step::Group(g) => (self.groups[g].reads().collect(), self.groups[g].writes().collect()),
        };
        reads.iter_mut().for_each(|r| *r = self.root[r.index()]);
        reads.sort_unstable();
        reads.dedup();
        (reads, writes)
    }

    fn assign(&mut self, graph: &Graph, kept: &[bool]) {
        let mut last_use = vec![0; graph.nodes.len()];
        for (time, step) in self.steps.iter().enumerate() {
            self.traffic(graph, *step).0.iter().for_each(|r| last_use[r.index()] = time);
        }
        last_use.iter_mut().zip(kept).filter(|(_, kept)| **kept).for_each(|(last, _)| *last = NEVER);
        for id in self.frozen.clone() {
            self.slot[id.index()] = Some(self.slot_len.len());
            self.slot_len.push(graph.nodes[id.index()].len());
        }
        let mut free: Vec<usize> = Vec::new();
        for (time, step) in self.steps.clone().into_iter().enumerate() {
            let (reads, writes) = self.traffic(graph, step);
            for id in writes {
                self.slot[id.index()] = Some(self.take(&mut free, graph.nodes[id.index()].len()));
            }
            let dying = reads.iter().filter(|r| last_use[r.index()] == time);
            free.extend(dying.filter_map(|r| self.slot[r.index()]));
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
