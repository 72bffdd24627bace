//! Reverse-mode differentiation, as a rewriting of the graph into more graph.

use std::collections::HashMap;

use qtensor::Phase;

use super::{Graph, NodeId, Nonlinearity, Op, Unary};

impl Graph {
    /// Gradients of the scalar `y` with respect to each node of `wrt`; `None` where `y` does not depend on it.
    /// The returned nodes can be differentiated again.
    pub fn grad(&mut self, y: NodeId, wrt: &[NodeId]) -> Vec<Option<NodeId>> {
        let one = self.fill(1.0, &[]);
        self.vjp(y, one, wrt)
    }

    /// Vector-Jacobian products: gradients of `<cotangent, y>` with respect to each node of `wrt`, holding the
    /// cotangent fixed.
    pub fn vjp(&mut self, y: NodeId, cotangent: NodeId, wrt: &[NodeId]) -> Vec<Option<NodeId>> {
        let mut depends = vec![false; y.index() + 1];
        for i in 0..=y.index() {
            let id = NodeId(i as u32);
            depends[i] = wrt.contains(&id) || self.nodes[i].inputs.iter().any(|j| depends[j.index()]);
        }
        let mut incoming: HashMap<NodeId, Vec<NodeId>> = HashMap::from([(y, vec![cotangent])]);
        let mut found: HashMap<NodeId, NodeId> = HashMap::new();
        for i in (0..=y.index()).rev() {
            let id = NodeId(i as u32);
            if !depends[i] {
                continue;
            }
            let Some(parts) = incoming.remove(&id) else { continue };
            self.label = self.nodes[i].label;
            let g = self.accumulate(&parts);
            if wrt.contains(&id) {
                found.insert(id, g);
            }
            for (position, input) in self.nodes[i].inputs.clone().into_iter().enumerate() {
                if depends[input.index()]
                    && let Some(part) = self.pull_back(id, position, g)
                {
                    incoming.entry(input).or_default().push(part);
                }
            }
        }
        self.label = 0;
        wrt.iter().map(|w| found.get(w).copied()).collect()
    }

    /// Sums the parts of a gradient. Channel-wise affine parts become one such operation, so that the backward pass of
    /// batch normalisation reads and writes each activation once.
    fn accumulate(&mut self, parts: &[NodeId]) -> NodeId {
        if let [one] = parts {
            return *one;
        }
        let shape = self.shape(parts[0]).to_vec();
        let (mut terms, mut biases, mut rest) = (Vec::<(NodeId, NodeId)>::new(), Vec::new(), Vec::new());
        for &part in parts {
            let node = &self.nodes[part.index()];
            let Op::ChannelAffine(count, _) = node.op else {
                rest.push((1.0, part));
                continue;
            };
            let inputs = node.inputs.clone();
            biases.extend(inputs.get(2 * count).map(|&b| (1.0, b)));
            for pair in inputs[..2 * count].chunks(2) {
                match terms.iter().position(|t| t.0 == pair[0]) {
                    Some(t) => terms[t].1 = self.add(terms[t].1, pair[1]),
                    None => terms.push((pair[0], pair[1])),
                }
            }
        }
        if !terms.is_empty() || !biases.is_empty() {
            let bias = (!biases.is_empty()).then(|| self.linear(&biases));
            rest.push((1.0, self.channel_affine(&terms, bias, &shape)));
        }
        self.linear(&rest)
    }

    /// The part of the gradient that node `id` with output gradient `g` sends to its input number `position`.
    fn pull_back(&mut self, id: NodeId, position: usize, g: NodeId) -> Option<NodeId> {
        let node = self.nodes[id.index()].clone();
        let input = |k: usize| node.inputs[k];
        let other = || node.inputs[1 - position];
        Some(match &node.op {
            Op::Input(_) | Op::Param(_) | Op::Fill(_) | Op::OneHot(_) | Op::Random(..) => return None,
            Op::Linear(c) => self.linear(&[(c[position], g)]),
            Op::AddScalar(_) => g,
            Op::Mul => self.mul(g, other()),
            Op::Unary(Unary::Sign | Unary::Detach) => return None,
            Op::Unary(f) => self.unary_grad(*f, id, input(0), g),
            Op::Activation(f) => self.activation_grad(*f, 1, input(0), g),
            Op::ActivationGrad(f, k) => match position {
                1 => self.activation_grad(*f, *k, input(0), g),
                _ if f.is_piecewise_linear() => return None,
                _ => {
                    let gg = self.mul(g, input(1));
                    self.activation_grad(*f, k + 1, input(0), gg)
                }
            },
            Op::QuantizeKernel(q, _) => match q.elementwise() {
                Some(e) if !q.surrogate_is_identity(Phase::Training) => {
                    self.activation_grad(Nonlinearity::Quantizer(e), 1, input(0), g)
                }
                _ => g,
            },
            Op::ChannelAffine(terms, _) => {
                let shape = node.shape.clone();
                match position {
                    p if p == 2 * terms => self.channel_sum(g),
                    p if p % 2 == 0 => self.channel_affine(&[(g, input(p + 1))], None, &shape),
                    p => self.channel_dot(g, input(p - 1)),
                }
            }
            Op::ChannelDot => {
                let shape = self.shape(input(position)).to_vec();
                self.channel_affine(&[(other(), g)], None, &shape)
            }
            Op::ChannelSum => {
                let shape = self.shape(input(0)).to_vec();
                self.channel_affine(&[], Some(g), &shape)
            }
            Op::RowSum => {
                let shape = self.shape(input(0)).to_vec();
                self.row_broadcast(g, &shape)
            }
            Op::RowDot => self.row_scale(other(), g),
            Op::RowScale if position == 0 => self.row_scale(g, input(1)),
            Op::RowScale => self.row_dot(g, input(0)),
            Op::RowBroadcast => self.row_sum(g),
            Op::SumAll => {
                let shape = self.shape(input(0)).to_vec();
                self.scalar_broadcast(g, &shape)
            }
            Op::DotAll => self.scalar_mul(other(), g),
            Op::ScalarMul if position == 0 => self.scalar_mul(g, input(1)),
            Op::ScalarMul => self.dot_all(g, input(0)),
            Op::ScalarBroadcast => self.sum_all(g),
            Op::LogSumExp => {
                let s = self.softmax(input(0));
                self.row_scale(s, g)
            }
            Op::Softmax => {
                let (sg, d) = (self.mul(id, g), self.row_dot(id, g));
                let sd = self.row_scale(id, d);
                self.sub(sg, sd)
            }
            Op::Conv(c) => {
                let (op, inputs) = match position {
                    0 => (Op::ConvInputGrad(*c), [g, input(1)]),
                    _ => (Op::ConvWeightGrad(*c), [input(0), g]),
                };
                self.like(op, &inputs, input(position))
            }
            Op::ConvInputGrad(c) => {
                let (op, inputs) = match position {
                    0 => (Op::Conv(*c), [g, input(1)]),
                    _ => (Op::ConvWeightGrad(*c), [g, input(0)]),
                };
                self.like(op, &inputs, input(position))
            }
            Op::ConvWeightGrad(c) => {
                let (op, inputs) = match position {
                    0 => (Op::ConvInputGrad(*c), [input(1), g]),
                    _ => (Op::Conv(*c), [input(0), g]),
                };
                self.like(op, &inputs, input(position))
            }
            Op::MaxPool(p) => self.like(Op::MaxScatter(*p), &[input(0), g], input(0)),
            Op::MaxScatter(p) if position == 1 => self.like(Op::MaxGather(*p), &[input(0), g], input(1)),
            Op::MaxGather(p) if position == 1 => self.like(Op::MaxScatter(*p), &[input(0), g], input(1)),
            Op::MaxScatter(_) | Op::MaxGather(_) => return None,
            Op::AvgPool(p) => self.like(Op::AvgAdjoint(*p), &[g], input(0)),
            Op::AvgAdjoint(p) => self.like(Op::AvgPool(*p), &[g], input(0)),
            Op::Reshape => {
                let shape = self.shape(input(0)).to_vec();
                self.reshape(g, &shape)
            }
            Op::Dropout(rate, tag) => self.like(Op::Dropout(*rate, *tag), &[g], g),
        })
    }

    fn unary_grad(&mut self, f: Unary, y: NodeId, x: NodeId, g: NodeId) -> NodeId {
        let derivative = match f {
            Unary::Sign | Unary::Detach => self.scale(0.0, x),
            Unary::Exp => y,
            Unary::Ln => self.unary(Unary::Recip, x),
            Unary::Recip => {
                let square = self.mul(y, y);
                self.scale(-1.0, square)
            }
            Unary::Rsqrt => {
                let square = self.mul(y, y);
                let cube = self.mul(square, y);
                self.scale(-0.5, cube)
            }
        };
        self.mul(g, derivative)
    }
}
