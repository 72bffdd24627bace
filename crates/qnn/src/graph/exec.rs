//! Runs a planned graph: buffers are allocated once, then every run reuses them.

use kernels::parallel::for_each_part;
use kernels::{Buffer, channel, conv2d, depthwise, pool};
use qtensor::stream::{self, Purpose};
use qtensor::{Codes, Phase, Quantized, Scratch};

use super::fuse::{CODED, OPERANDS, OUTPUTS, Step};
use super::fused;
use super::math::{self, Element};
use super::quantized::{InputCodes, IntegerConv, KernelCodes, coded_kernels};
use super::{Graph, NodeId, Op, Plan, Random, Unary};
use crate::QnnError;

/// Where the executor finds the tensors that are not its own.
pub trait Leaves<T>: Sync {
    /// External tensor of a slot, in the order of [`Graph::input`].
    fn input(&self, slot: usize) -> &[T];
    /// Parameter by index.
    fn param(&self, index: usize) -> &[T];
}

/// What every random draw of a run is a function of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunKey {
    /// Seed of the experiment.
    pub seed: u64,
    /// Training step, or any other running number.
    pub step: u64,
}

/// A graph with its plan and buffers.
#[derive(Debug)]
pub struct Executor<T: Element> {
    graph: Graph,
    plan: Plan,
    phase: Phase,
    slots: Vec<Buffer<T>>,
    /// The integer form of convolution nodes that have one (`f32` only).
    integer: Vec<Option<IntegerConv>>,
    /// Codes of the kernels those read.
    codes: Vec<Option<KernelCodes<T>>>,
    /// Codes of their inputs.
    inputs: Vec<InputCodes>,
    /// Per group: which of its outputs it writes codes of too, and where.
    coded: Vec<Vec<(usize, usize)>>,
    frozen: bool,
    scratch: Scratch<T>,
    scales: Vec<T>,
    /// Sums of the parts of the group being run.
    sums: Vec<f64>,
}

impl<T: Element> Executor<T> {
    /// Plans `stages` of outputs and allocates all buffers. `phase` decides whether stochastic quantizers sample;
    /// `freeze` computes what depends on parameters alone only in [`Self::prepare`].
    pub fn new(graph: Graph, stages: &[&[NodeId]], phase: Phase, freeze: bool) -> Self {
        let plan = Plan::new(&graph, stages, freeze);
        let slots = plan.slot_len.iter().map(|&n| Buffer::zeros(n)).collect();
        let mut inputs = Vec::new();
        let mut integer: Vec<Option<IntegerConv>> = (0..graph.nodes.len()).map(|_| None).collect();
        if T::f32s(&[]).is_some() {
            let nodes = plan.steps.iter().filter_map(|s| match s {
                Step::Node(id) => Some(id),
                Step::Group(_) => None,
            });
            for id in nodes.chain(&plan.frozen) {
                integer[id.index()] = IntegerConv::find(&graph, &plan.root, *id, phase, &mut inputs);
            }
        }
        let mut coded = vec![Vec::new(); plan.groups.len()];
        for (group, coded) in plan.groups.iter().zip(&mut coded) {
            for (number, input) in inputs.iter_mut().enumerate() {
                let output = group.outputs.iter().position(|id| *id == input.of);
                if let Some(output) = output.filter(|_| coded.len() < CODED) {
                    input.by_group = true;
                    coded.push((output, number));
                }
            }
        }
        let mut codes: Vec<Option<KernelCodes<T>>> = (0..graph.nodes.len()).map(|_| None).collect();
        for id in coded_kernels(integer.iter().flatten()) {
            let len = graph.nodes[id.index()].len();
            codes[id.index()] = Some(KernelCodes { codes: vec![0; len], scales: Vec::new() });
        }
        let sums = plan.groups.iter().map(|g| g.parts() * g.sums_len).max().unwrap_or(0);
        Self {
            graph,
            plan,
            phase,
            slots,
            integer,
            codes,
            inputs,
            coded,
            frozen: freeze,
            scratch: Scratch::new(),
            scales: Vec::new(),
            sums: vec![0.0; sums],
        }
    }

    /// Undoes the merging of operations into one pass.
    #[cfg(test)]
    pub(crate) fn one_after_another(&mut self) {
        self.plan.groups.iter_mut().for_each(|g| g.instructions.clone_from(&g.singles));
    }

    /// How many instructions the groups have.
    #[cfg(test)]
    pub(crate) fn instructions(&self) -> usize {
        self.plan.groups.iter().map(|g| g.instructions.len()).sum()
    }

    /// The graph being run.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Bytes held by buffers.
    pub fn buffer_bytes(&self) -> usize {
        self.plan.elements() * size_of::<T>()
    }

    /// Computes everything that depends on parameters alone; call again after they change.
    pub fn prepare(&mut self, leaves: &impl Leaves<T>) -> Result<(), QnnError> {
        self.integer.iter_mut().flatten().for_each(IntegerConv::forget);
        for k in 0..self.plan.frozen.len() {
            self.step(Step::Node(self.plan.frozen[k]), leaves, RunKey::default())?;
        }
        Ok(())
    }

    /// Computes the outputs of one stage; stages of one run are called in order.
    pub fn run(&mut self, stage: usize, leaves: &impl Leaves<T>, key: RunKey) -> Result<(), QnnError> {
        let start = if stage == 0 { 0 } else { self.plan.stage_ends[stage - 1] };
        if stage == 0 && !self.frozen {
            self.integer.iter_mut().flatten().for_each(IntegerConv::forget);
        }
        for k in start..self.plan.stage_ends[stage] {
            self.step(self.plan.steps[k], leaves, key)?;
        }
        Ok(())
    }

    /// Runs stage 0 and returns the layer of the first node that is not finite, if any.
    pub fn first_non_finite(
        &mut self,
        leaves: &impl Leaves<T>,
        key: RunKey,
    ) -> Result<Option<String>, QnnError> {
        for k in 0..self.plan.stage_ends[0] {
            let step = self.plan.steps[k];
            self.step(step, leaves, key)?;
            let bad = |id: &NodeId| self.value(*id, leaves).iter().any(|v| !v.to_f64().is_finite());
            let bad = match step {
                Step::Node(id) => Some(id).filter(bad),
                Step::Group(g) if self.plan.groups[g].writes().any(|id| bad(&id)) => {
                    let (graph, plan) = (&self.graph, &self.plan);
                    fused::first_non_finite(graph, &plan.root, &plan.groups[g], |id| self.value(id, leaves))
                }
                Step::Group(_) => None,
            };
            if let Some(id) = bad {
                return Ok(Some(self.graph.label(id).to_owned()));
            }
        }
        Ok(None)
    }

    /// The value of an output (or leaf) after its stage has run.
    pub fn value<'a>(&'a self, id: NodeId, leaves: &'a impl Leaves<T>) -> &'a [T] {
        Values { graph: &self.graph, plan: &self.plan, slots: &self.slots, leaves }.of(id)
    }

    /// The value of a computed output after its stage has run.
    ///
    /// # Panics
    /// If the node is an external tensor or a parameter.
    pub fn output(&self, id: NodeId) -> &[T] {
        let root = self.plan.root[id.index()];
        let slot = self.plan.slot[root.index()].expect("the node is a computed output");
        &self.slots[slot][..self.graph.nodes[root.index()].len()]
    }

    fn step(&mut self, step: Step, leaves: &impl Leaves<T>, key: RunKey) -> Result<(), QnnError> {
        let id = match step {
            Step::Node(id) => id,
            Step::Group(g) => return self.group(g, leaves),
        };
        let slot = self.plan.slot[id.index()].expect("planned nodes have slots");
        let mut buffer = std::mem::take(&mut self.slots[slot]);
        let len = self.graph.nodes[id.index()].len();
        let result = self.compute(id, &mut buffer[..len], leaves, key);
        self.slots[slot] = buffer;
        result
    }

    /// Computes a group: parts in parallel, then the sums over parts in their order.
    fn group(&mut self, number: usize, leaves: &impl Leaves<T>) -> Result<(), QnnError> {
        let (graph, plan) = (&self.graph, &self.plan);
        let group = &plan.groups[number];
        let slot = |id: NodeId| plan.slot[id.index()].expect("stored nodes have slots");
        let mut buffers: [Buffer<T>; OUTPUTS] = Default::default();
        for (buffer, id) in buffers.iter_mut().zip(&group.outputs) {
            *buffer = std::mem::take(&mut self.slots[slot(*id)]);
        }
        let mut chunks = group.outputs.iter().map(|id| graph.nodes[id.index()].len());
        let outputs = buffers.each_mut().map(|buffer| match chunks.next() {
            Some(len) => (&mut buffer[..len], len / group.units * group.part),
            None => (&mut [][..], 0),
        });
        let coded = &self.coded[number];
        let mut codes: [Vec<u8>; CODED] = Default::default();
        let mut grids = [None; CODED];
        for ((codes, grid), (output, input)) in codes.iter_mut().zip(&mut grids).zip(coded) {
            *codes = std::mem::take(&mut self.inputs[*input].codes);
            *grid = Some((*output, self.inputs[*input].grid));
        }
        let bytes = codes.each_mut().map(|codes| {
            let chunk = codes.len() / group.units * group.part;
            (&mut codes[..], chunk)
        });
        let sums = &mut self.sums[..group.parts() * group.sums_len];
        let values = Values { graph, plan, slots: &self.slots, leaves };
        let failure = std::sync::Mutex::new(None);
        for_each_part(group.parts(), outputs, bytes, (sums, group.sums_len), group.scratch, |part| {
            if let Err(error) = fused::run_part(graph, group, grids, |id| values.of(id), part) {
                *failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
            }
        });
        for (buffer, id) in buffers.into_iter().zip(&group.outputs) {
            self.slots[slot(*id)] = buffer;
        }
        for (codes, (_, input)) in codes.into_iter().zip(coded) {
            self.inputs[*input].codes = codes;
        }
        for &(id, at) in &group.sums {
            for (c, out) in self.slots[slot(id)].iter_mut().take(graph.nodes[id.index()].len()).enumerate() {
                let parts = self.sums[..group.parts() * group.sums_len].iter().skip(at + c);
                *out = T::from_f64(parts.step_by(group.sums_len).sum());
            }
        }
        match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            None => Ok(()),
            Some((id, source)) => Err(QnnError::Kernel { layer: graph.label(id).to_owned(), source }),
        }
    }

    fn compute(
        &mut self,
        id: NodeId,
        out: &mut [T],
        leaves: &impl Leaves<T>,
        key: RunKey,
    ) -> Result<(), QnnError> {
        let node = &self.graph.nodes[id.index()];
        let values = Values { graph: &self.graph, plan: &self.plan, slots: &self.slots, leaves };
        let input = |k: usize| values.of(node.inputs[k]);
        let kernel = |r: Result<(), kernels::KernelError>| {
            r.map_err(|source| QnnError::Kernel { layer: self.graph.label(id).to_owned(), source })
        };
        match &node.op {
            Op::Input(_) | Op::Param(_) | Op::Reshape => unreachable!("leaves and views are not computed"),
            Op::OneHot(hot) => {
                math::rows(out, node.shape[0], |_, row| {
                    row.fill(T::ZERO);
                    row[*hot] = T::ONE;
                });
            }
            Op::Fill(v) => out.fill(T::from_f64(*v)),
            Op::Random(kind, tag) => draw(*kind, *tag, key, node.shape[0], out),
            Op::Unary(f) => {
                let f = *f;
                out.iter_mut().zip(input(0)).for_each(|(o, x)| *o = T::from_f64(unary(f, x.to_f64())));
            }
            Op::QuantizeKernel(q, tag) => {
                let mut rng = stream::stream(key.seed, Purpose::Quantizer, &[*tag, key.step]);
                let (codes, scales) = match &mut self.codes[id.index()] {
                    Some(k) => (Codes::I8(&mut k.codes), &mut k.scales),
                    None => (Codes::Skip, &mut self.scales),
                };
                let quantized = Quantized { values: out, codes, scales, scratch: &mut self.scratch };
                q.quantize(input(0), &node.shape, self.phase, Some(&mut rng), quantized).map_err(
                    |source| QnnError::Quantize { layer: self.graph.label(id).to_owned(), source },
                )?;
            }
            Op::ChannelDot => kernel(channel::dot(input(0), input(1), out))?,
            Op::ChannelSum => kernel(channel::sum(input(0), out))?,
            Op::RowSum => {
                let (x, width) = (input(0), input(0).len() / out.len());
                math::rows(out, node.shape[0], |n, o| {
                    o[0] = T::from_f64(x[n * width..][..width].iter().map(|v| v.to_f64()).sum());
                });
            }
            Op::RowDot => {
                let (x, y, width) = (input(0), input(1), input(0).len() / out.len());
                math::rows(out, node.shape[0], |n, o| {
                    let (x, y) = (&x[n * width..][..width], &y[n * width..][..width]);
                    o[0] = T::from_f64(x.iter().zip(y).map(|(a, b)| a.to_f64() * b.to_f64()).sum());
                });
            }
            Op::RowScale => {
                let (x, r) = (input(0), input(1));
                math::rows(out, node.shape[0], |n, o| {
                    let width = o.len();
                    o.iter_mut().zip(&x[n * width..]).for_each(|(o, &x)| *o = x * r[n]);
                });
            }
            Op::RowBroadcast => {
                let r = input(0);
                math::rows(out, node.shape[0], |n, o| o.fill(r[n]));
            }
            Op::SumAll => {
                let x = input(0);
                out[0] = T::from_f64(math::sum(x.len(), |i| x[i].to_f64()));
            }
            Op::DotAll => {
                let (x, y) = (input(0), input(1));
                out[0] = T::from_f64(math::sum(x.len(), |i| x[i].to_f64() * y[i].to_f64()));
            }
            Op::ScalarBroadcast => out.fill(input(0)[0]),
            Op::LogSumExp => {
                let (z, k) = (input(0), input(0).len() / out.len());
                math::rows(out, node.shape[0], |n, o| o[0] = T::from_f64(log_sum_exp(&z[n * k..][..k])));
            }
            Op::Softmax => {
                let z = input(0);
                math::rows(out, node.shape[0], |n, o| {
                    let z = &z[n * o.len()..][..o.len()];
                    let l = log_sum_exp(z);
                    o.iter_mut().zip(z).for_each(|(o, z)| *o = T::from_f64((z.to_f64() - l).exp()));
                });
            }
            Op::Conv(g) if self.integer[id.index()].is_some() => {
                let conv = self.integer[id.index()].as_mut().expect("just checked");
                let codes = self.codes[conv.kernel.index()].as_ref().expect("made for this convolution");
                let (Some(x), Some(y), Some(w)) = (T::f32s(input(0)), T::f32s_mut(out), T::f32_codes(codes))
                else {
                    unreachable!("integer convolutions are planned for f32 only")
                };
                let codes = &mut self.inputs[conv.input];
                codes.update(x);
                kernel(conv.run(g, &codes.codes, w, y))?;
            }
            Op::Conv(g) if g.depthwise => kernel(depthwise::forward(g, input(0), input(1), out))?,
            Op::Conv(g) => kernel(conv2d::forward(g, input(0), input(1), out))?,
            Op::ConvInputGrad(g) if g.depthwise => {
                kernel(depthwise::input_grad(g, input(0), input(1), out))?;
            }
            Op::ConvWeightGrad(g) if g.depthwise => {
                kernel(depthwise::weight_grad(g, input(0), input(1), out))?;
            }
            Op::ConvInputGrad(g) => kernel(conv2d::input_grad(g, input(0), input(1), out))?,
            Op::ConvWeightGrad(g) => kernel(conv2d::weight_grad(g, input(0), input(1), out))?,
            Op::AvgPool(g) => kernel(pool::avg_forward(g, input(0), out))?,
            Op::AvgAdjoint(g) => kernel(pool::avg_adjoint(g, input(0), out))?,
            Op::Dropout(rate, tag) => {
                let (x, keep) = (input(0), 1.0 - rate);
                let scale = T::from_f64(1.0 / keep);
                math::rows(out, node.shape[0], |n, o| {
                    let mut rng = stream::stream(key.seed, Purpose::Dropout, &[*tag, key.step, n as u64]);
                    let x = &x[n * o.len()..][..o.len()];
                    for (o, &x) in o.iter_mut().zip(x) {
                        let kept = f64::from(stream::uniform_f32(&mut rng)) < keep;
                        *o = if kept { x * scale } else { T::ZERO };
                    }
                });
            }
            elementwise => {
                let all = node.shape.first().copied().unwrap_or(1);
                let mut few: [&[T]; OPERANDS] = [&[]; OPERANDS];
                let done = if node.inputs.len() <= OPERANDS {
                    few.iter_mut().enumerate().take(node.inputs.len()).for_each(|(k, x)| *x = input(k));
                    fused::apply(elementwise, (all, all), &few[..node.inputs.len()], out)
                } else {
                    let many: Vec<&[T]> = (0..node.inputs.len()).map(input).collect();
                    fused::apply(elementwise, (all, all), &many, out)
                };
                kernel(done)?;
            }
        }
        Ok(())
    }
}

/// Read access to every computed value.
struct Values<'a, T, L> {
    graph: &'a Graph,
    plan: &'a Plan,
    slots: &'a [Buffer<T>],
    leaves: &'a L,
}

impl<'a, T: Element, L: Leaves<T>> Values<'a, T, L> {
    fn of(&self, id: NodeId) -> &'a [T] {
        let root = self.plan.root[id.index()];
        let node = &self.graph.nodes[root.index()];
        match node.op {
            Op::Input(slot) => self.leaves.input(slot),
            Op::Param(index) => self.leaves.param(index),
            _ => &self.slots[self.plan.slot[root.index()].expect("computed before use")][..node.len()],
        }
    }
}

fn unary(f: Unary, x: f64) -> f64 {
    match f {
        Unary::Rsqrt => 1.0 / x.sqrt(),
        Unary::Recip => 1.0 / x,
        Unary::Exp => x.exp(),
        Unary::Ln => x.ln(),
        Unary::Sign if x == 0.0 => 0.0,
        Unary::Sign => x.signum(),
        Unary::Detach => x,
    }
}

fn log_sum_exp<T: Element>(z: &[T]) -> f64 {
    let max = z.iter().fold(f64::NEG_INFINITY, |m, v| m.max(v.to_f64()));
    if !max.is_finite() {
        return max;
    }
    max + z.iter().map(|v| (v.to_f64() - max).exp()).sum::<f64>().ln()
}

fn draw<T: Element>(kind: Random, tag: u64, key: RunKey, rows: usize, out: &mut [T]) {
    math::rows(out, rows, |n, row| {
        let mut rng = stream::stream(key.seed, Purpose::Projection, &[tag, key.step, n as u64]);
        let mut norm = 0.0;
        for pair in row.chunks_mut(2) {
            for (v, z) in pair.iter_mut().zip(stream::normal_pair(&mut rng)) {
                norm += z * z;
                *v = T::from_f64(z);
            }
        }
        if kind == Random::UnitRows && norm > 0.0 {
            let inverse = T::from_f64(1.0 / norm.sqrt());
            row.iter_mut().for_each(|v| *v *= inverse);
        }
    });
}
