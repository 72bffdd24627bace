//! Which nodes are computed together, piece by piece, so that what lies between them never reaches memory.
//!
//! A group holds elementwise operations, pools with disjoint windows and sums over channels. It runs over pieces of
//! some image rows: all its operations on one piece, then the next. Values that nobody else reads live in scratch;
//! cheap ones that several groups read (batch normalisation before an activation, a gradient behind one) are computed
//! anew in each. The graph itself knows nothing of this: what is fused is found here, in first and higher derivatives
//! alike, and gives the same bits as one operation after another.

use super::{Graph, NodeId, Op, passes};

/// Most stored results of one group.
pub(crate) const OUTPUTS: usize = 8;
/// Most results of one group that it writes codes of, too.
pub(crate) const CODED: usize = 2;
/// Most operands of one operation in a group.
pub(crate) const OPERANDS: usize = 12;
/// Elements of a piece (of its largest tensor): a few of them fit the first-level cache.
const PIECE: usize = 2048;
/// Elements of the pieces that one task handles.
const PART: usize = 32 * 1024;
/// Operations that may be repeated for one operand.
const REPEATS: usize = 5;

/// Where an operation in a group finds an operand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum From {
    /// Scratch of the group, at an offset; and elements of a unit.
    Local(usize, usize),
    /// A stored result of the group, by position; and elements of a unit.
    Output(usize, usize),
    /// A tensor cut into pieces.
    Cut(NodeId),
    /// A tensor read whole (one value per channel, or one).
    Whole(NodeId),
}

/// Where its result goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    /// Scratch of the group, at an offset.
    Local(usize),
    /// A stored result of the group, by position.
    Output(usize),
    /// Sums of a part, at an offset.
    Sums(usize),
}

/// One operation of a group, or several that are done in one pass.
#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    pub(crate) node: NodeId,
    pub(crate) work: Work,
    pub(crate) from: Vec<From>,
    /// Whether it announces the next piece of its operands `x` and `g`; merged ones only.
    pub(crate) announces: [bool; 2],
    pub(crate) to: To,
}

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Work {
    /// The operation of its node.
    Alone,
    /// The same, an activation or its gradient, of a scale and shift: operands `x, a, b` and the gradient's `g`.
    Through,
    /// Sums over channels of such a gradient times `x`, and at an offset of their own of it alone: operands `x, a, b, g`.
    SumsThrough(NodeId, usize),
    /// Sums over channels of a tensor's squares, and at an offset of their own of it alone: operand `x`.
    Moments(usize),
    /// Scales and shift of such a gradient and `x`: operands `x, a, b, g` and `p, q, r` of `p f(x a + b, g) + q x + r`.
    AffineThrough(NodeId),
}

/// Nodes computed together.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The first axis of its tensors times the equal cuts of the second.
    pub(crate) units: usize,
    /// Units of a piece, and of a part, which is a whole number of pieces.
    pub(crate) piece: usize,
    pub(crate) part: usize,
    /// One for each node.
    pub(crate) singles: Vec<Instruction>,
    /// The same work in as few passes as there are loops for.
    pub(crate) instructions: Vec<Instruction>,
    /// Tensors read in pieces, each once, whose next pieces no instruction announces.
    pub(crate) cuts: Vec<NodeId>,
    /// Nodes whose values are stored.
    pub(crate) outputs: Vec<NodeId>,
    /// Sums over channels: node and offset among the sums of a part.
    pub(crate) sums: Vec<(NodeId, usize)>,
    pub(crate) sums_len: usize,
    pub(crate) scratch: usize,
}

impl Group {
    pub(crate) fn parts(&self) -> usize {
        self.units.div_ceil(self.part)
    }

    /// Tensors it reads.
    pub(crate) fn reads(&self) -> impl Iterator<Item = NodeId> {
        self.singles.iter().flat_map(|i| &i.from).filter_map(|from| match from {
            From::Cut(id) | From::Whole(id) => Some(*id),
            From::Local(..) | From::Output(..) => None,
        })
    }

    /// Tensors it writes.
    pub(crate) fn writes(&self) -> impl Iterator<Item = NodeId> {
        self.outputs.iter().copied().chain(self.sums.iter().map(|s| s.0))
    }
}

/// What a plan executes: one node, or a group by number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Node(NodeId),
    Group(usize),
}

/// A group, or a node by itself, while groups are being formed.
struct Cluster {
    members: Vec<usize>,
    /// Clusters it needs.
    needs: Vec<usize>,
    /// First axis, cuts of the second, and tensors read; of groups only.
    space: Option<(usize, usize)>,
    reads: Vec<usize>,
}

/// Forms the groups of a plan, stage by stage.
pub(crate) struct Fusion<'a> {
    graph: &'a Graph,
    root: &'a [NodeId],
    /// Nodes that several groups compute for themselves.
    repeated: Vec<bool>,
    /// Nodes read outside of the groups (or through a reshape), or kept.
    exposed: Vec<bool>,
    readers: Vec<Vec<usize>>,
}

impl<'a> Fusion<'a> {
    /// `order` is what is computed in every run, in topological order; `kept` are outputs.
    pub(crate) fn new(graph: &'a Graph, root: &'a [NodeId], order: &[NodeId], kept: &[bool]) -> Self {
        let count = graph.nodes.len();
        let mut computed = vec![false; count];
        order.iter().for_each(|id| computed[id.index()] = true);
        let mut readers = vec![Vec::new(); count];
        let mut exposed = kept.to_vec();
        for id in order {
            for input in &graph.nodes[id.index()].inputs {
                let source = root[input.index()];
                readers[source.index()].push(id.index());
                exposed[source.index()] |= source != *input;
            }
        }
        let mut fusion = Self { graph, root, repeated: vec![false; count], exposed, readers };
        let mut repeats = vec![0; count];
        for id in order {
            let (i, node) = (id.index(), &graph.nodes[id.index()]);
            let cheap = matches!(
                node.op,
                Op::ChannelAffine(1, _) | Op::Activation(_) | Op::ActivationGrad(_, 1) | Op::MaxScatter(_)
            );
            if !cheap || fusion.exposed[i] || fusion.space(i).is_none() {
                continue;
            }
            let cost = 1 + node.inputs.iter().map(|j| repeats[j.index()]).sum::<usize>();
            let fit = fusion.readers[i].iter().all(|&r| fusion.space(r).is_some());
            if fit && cost <= REPEATS {
                fusion.repeated[i] = true;
                repeats[i] = cost;
            }
        }
        // One reader alone has it in its group without this, unless that reader is repeated itself.
        for id in order.iter().rev() {
            let i = id.index();
            if let [reader] = fusion.readers[i][..] {
                fusion.repeated[i] &= fusion.repeated[reader];
            }
        }
        fusion
    }

    /// First axis and cuts of the second of an operation that can join a group.
    fn space(&self, i: usize) -> Option<(usize, usize)> {
        let node = &self.graph.nodes[i];
        let shape = match &node.op {
            Op::Linear(_)
            | Op::AddScalar(_)
            | Op::Mul
            | Op::ScalarMul
            | Op::Activation(_)
            | Op::ActivationGrad(..)
            | Op::ChannelAffine(..) => &node.shape,
            Op::ChannelSum | Op::ChannelDot => &self.graph.nodes[node.inputs[0].index()].shape,
            Op::MaxPool(g) | Op::MaxScatter(g) | Op::MaxGather(g) => {
                let disjoint = (g.size_h, g.size_w) == (g.stride_h, g.stride_w);
                let fits = disjoint && g.in_h == g.size_h * g.out_h && g.in_w >= g.size_w * g.out_w;
                return (fits && g.batch * g.out_h > 0).then_some((g.batch, g.out_h));
            }
            _ => return None,
        };
        let [batch, rest @ ..] = &shape[..] else { return None };
        let cuts = if rest.len() > 1 { rest[0] } else { 1 };
        let fits = !rest.is_empty() && batch * cuts > 0 && node.inputs.len() <= OPERANDS;
        fits.then_some((*batch, cuts))
    }

    /// [`Self::space`] of an operation with all that is repeated for it.
    fn whole_space(&self, i: usize) -> Option<(usize, usize)> {
        let (batch, mut cuts) = self.space(i)?;
        for input in &self.graph.nodes[i].inputs {
            let source = self.root[input.index()].index();
            if self.repeated[source] {
                cuts = gcd(cuts, self.whole_space(source)?.1);
            }
        }
        Some((batch, cuts))
    }

    /// Tensors read by `i`, repeated ones replaced by what they are made of.
    fn sources(&self, i: usize, to: &mut Vec<usize>) {
        for input in &self.graph.nodes[i].inputs {
            let source = self.root[input.index()].index();
            if self.repeated[source] { self.sources(source, to) } else { to.push(source) }
        }
    }

    /// The steps that compute `order`, one stage's nodes; groups are appended to `groups`.
    pub(crate) fn stage(&self, order: &[NodeId], groups: &mut Vec<Group>) -> Vec<Step> {
        let mut clusters: Vec<Cluster> = Vec::new();
        let mut home = vec![usize::MAX; self.graph.nodes.len()];
        for id in order {
            let i = id.index();
            if self.repeated[i] {
                continue;
            }
            let mut reads = Vec::new();
            self.sources(i, &mut reads);
            let mut needs: Vec<usize> = reads.iter().map(|&r| home[r]).filter(|&c| c != usize::MAX).collect();
            needs.sort_unstable();
            needs.dedup();
            let space = self.whole_space(i);
            let found = space.and_then(|space| {
                (0..clusters.len()).rev().find(|&c| self.joins(&clusters, c, space, &reads, &needs))
            });
            let c = found.unwrap_or(clusters.len());
            if found.is_none() {
                clusters.push(Cluster { members: Vec::new(), needs: Vec::new(), space, reads: Vec::new() });
            }
            let cluster = &mut clusters[c];
            cluster.members.push(i);
            cluster.needs.extend(needs.into_iter().filter(|&n| n != c));
            cluster.reads.extend(reads);
            if let (Some(old), Some(new)) = (&mut cluster.space, space) {
                old.1 = gcd(old.1, new.1);
            }
            home[i] = c;
        }
        self.sort(&clusters, groups)
    }

    /// Whether an operation may join a cluster, and gains by it.
    fn joins(
        &self,
        clusters: &[Cluster],
        c: usize,
        (batch, cuts): (usize, usize),
        reads: &[usize],
        needs: &[usize],
    ) -> bool {
        let cluster = &clusters[c];
        let Some(space) = cluster.space else { return false };
        let stored = cluster.members.iter().filter(|&&m| !is_sum(&self.graph.nodes[m].op)).count();
        let shared = |r: &usize| cluster.reads.contains(r) || cluster.members.contains(r);
        let size = |i: usize| self.graph.nodes[i].len();
        let large = |r: &usize| size(*r) >= space.0 * space.1;
        if space.0 != batch || stored >= OUTPUTS || !reads.iter().any(|r| large(r) && shared(r)) {
            return false;
        }
        let coarse = batch * gcd(space.1, cuts);
        if cluster.members.iter().chain(reads).any(|&m| size(m) > coarse * 4 * PIECE) {
            return false;
        }
        // Nothing it needs from elsewhere may need the cluster.
        let (mut seen, mut open) = (vec![false; clusters.len()], Vec::new());
        open.extend(needs.iter().copied().filter(|&n| n != c));
        while let Some(n) = open.pop() {
            if n == c {
                return false;
            }
            if !std::mem::replace(&mut seen[n], true) {
                open.extend(&clusters[n].needs);
            }
        }
        true
    }

    /// Clusters in an order in which each follows those it needs, as steps.
    fn sort(&self, clusters: &[Cluster], groups: &mut Vec<Group>) -> Vec<Step> {
        let mut by_end: Vec<usize> = (0..clusters.len()).collect();
        by_end.sort_by_key(|&c| clusters[c].members.last().copied());
        let (mut done, mut steps) = (vec![false; clusters.len()], Vec::new());
        for c in by_end {
            let mut open = vec![c];
            while let Some(&c) = open.last() {
                let missing = clusters[c].needs.iter().copied().find(|&n| !done[n]);
                if let Some(missing) = missing {
                    open.push(missing);
                    continue;
                }
                open.pop();
                if std::mem::replace(&mut done[c], true) {
                    continue;
                }
                let cluster = &clusters[c];
                steps.push(match cluster.space {
                    None => Step::Node(NodeId(cluster.members[0] as u32)),
                    Some(space) => {
                        groups.push(self.program(cluster, space));
                        Step::Group(groups.len() - 1)
                    }
                });
            }
        }
        steps
    }

    /// The instructions of a cluster.
    fn program(&self, cluster: &Cluster, (batch, cuts): (usize, usize)) -> Group {
        let units = batch * cuts;
        let nodes = &self.graph.nodes;
        let largest = cluster.members.iter().chain(&cluster.reads).map(|&i| nodes[i].len() / units).max();
        let largest = largest.unwrap_or(1).max(1);
        let piece = (PIECE / largest).max(1);
        let mut builder = Builder {
            fusion: self,
            cluster,
            places: vec![None; nodes.len()],
            group: Group {
                units,
                piece,
                part: (PART / (largest * piece)).max(1) * piece,
                singles: Vec::new(),
                instructions: Vec::new(),
                cuts: Vec::new(),
                outputs: Vec::new(),
                sums: Vec::new(),
                sums_len: 0,
                scratch: 0,
            },
        };
        cluster.members.iter().for_each(|&i| builder.add(i));
        let mut group = builder.group;
        (group.instructions, group.cuts) = passes::merge(self.graph, &group.singles);
        group
    }
}

struct Builder<'a> {
    fusion: &'a Fusion<'a>,
    cluster: &'a Cluster,
    /// Where the values of nodes are that have been computed in the group.
    places: Vec<Option<From>>,
    group: Group,
}

impl Builder<'_> {
    fn add(&mut self, i: usize) {
        let fusion = self.fusion;
        let node = &fusion.graph.nodes[i];
        let from = (0..node.inputs.len()).map(|k| self.operand(i, k)).collect();
        let group = &mut self.group;
        let to = if is_sum(&node.op) {
            group.sums.push((NodeId(i as u32), group.sums_len));
            group.sums_len += node.len();
            To::Sums(group.sums_len - node.len())
        } else {
            let mut readers = fusion.readers[i].iter();
            let outside = fusion.exposed[i] || readers.any(|r| !self.cluster.members.contains(r));
            if outside && !fusion.repeated[i] {
                group.outputs.push(NodeId(i as u32));
                self.places[i] = Some(From::Output(group.outputs.len() - 1, node.len() / group.units));
                To::Output(group.outputs.len() - 1)
            } else {
                let at = group.scratch;
                group.scratch += node.len() / group.units * group.piece;
                self.places[i] = Some(From::Local(at, node.len() / group.units));
                To::Local(at)
            }
        };
        group.singles.push(Instruction {
            node: NodeId(i as u32),
            work: Work::Alone,
            from,
            announces: [false; 2],
            to,
        });
    }

    fn operand(&mut self, i: usize, position: usize) -> From {
        let node = &self.fusion.graph.nodes[i];
        let id = self.fusion.root[node.inputs[position].index()];
        let whole = match &node.op {
            Op::ChannelAffine(terms, _) => position % 2 == 1 || position == 2 * terms,
            Op::ScalarMul => position == 1,
            _ => false,
        };
        if whole {
            return From::Whole(id);
        }
        if self.places[id.index()].is_none() && self.fusion.repeated[id.index()] {
            self.add(id.index());
        }
        self.places[id.index()].unwrap_or(From::Cut(id))
    }
}

fn is_sum(op: &Op) -> bool {
    matches!(op, Op::ChannelSum | Op::ChannelDot)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
