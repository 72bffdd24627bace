//! Quantized convolutions of the forward pass on the integer kernels: codes in, exact accumulators, one scale per channel.
//!
//! A convolution qualifies when its input lies on a grid of at most 8 bits (a quantized ReLU, possibly pooled or reshaped,
//! or a network input declared to be codes) and its kernel's quantizer gives codes of at most 8 bits with one scale per
//! channel. Its value is then `f32(accumulator) * (kernel scale * step)`, in training, in inference and, up to the integer
//! epilogue, deployed.

use kernels::dispatch::{Kernel, vectorized};
use kernels::epilogue::{Accumulators, Epilogue, Scale};
use kernels::int8;
use kernels::ternary;
use kernels::{Conv2d, KernelError};
use qtensor::Phase;

use super::math::pieces;
use super::{Graph, NodeId, Nonlinearity, Op};

/// Codes and scales of a quantized kernel, beside its values.
#[derive(Clone, Debug)]
pub(crate) struct KernelCodes<T> {
    pub(crate) codes: Vec<i8>,
    pub(crate) scales: Vec<T>,
}

#[derive(Debug)]
enum Packed {
    Trits(ternary::Packed),
    Bytes(int8::Packed),
    Depthwise(Vec<i8>),
}

/// The integer form of one convolution node.
#[derive(Debug)]
pub(crate) struct IntegerConv {
    /// The node whose [`KernelCodes`] are the weights.
    pub(crate) kernel: NodeId,
    /// Which [`InputCodes`] it reads.
    pub(crate) input: usize,
    /// Per output channel, which of several scales is its.
    slots: Vec<usize>,
    /// With a dilation: the codes with zeros between them, and the geometry that spreads them.
    spread: Option<(Conv2d, Vec<i8>)>,
    grid: Grid,
    trits: bool,
    packed: Option<Packed>,
    fresh: bool,
    scale: Vec<f32>,
    zeros: Vec<f32>,
    /// With a zero point: what it adds to every accumulator of a channel, and room for accumulators.
    offsets: Vec<i32>,
    accumulators: Vec<i32>,
}

/// `x = (code - zero_point) * step`
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grid {
    step: f32,
    zero_point: u8,
    /// Largest code.
    largest: u8,
}

impl Grid {
    /// Codes of values on the grid; the shorter length counts.
    pub(crate) fn encode(self, x: &[f32], codes: &mut [u8]) {
        let (inverse, zero) = (1.0 / self.step, f32::from(self.zero_point));
        vectorized(move || {
            for (code, &x) in codes.iter_mut().zip(x) {
                // Adding 1.5 * 2^23 leaves the rounded code in the low mantissa bits; this vectorises, `as u8` does not.
                *code = ((x * inverse + zero).clamp(0.0, 255.0) + 12_582_912.0).to_bits() as u8;
            }
        });
    }
}

/// Codes of a tensor that integer convolutions read.
#[derive(Debug)]
pub(crate) struct InputCodes {
    /// The node that is stored.
    pub(crate) of: NodeId,
    pub(crate) grid: Grid,
    pub(crate) codes: Vec<u8>,
    /// Whether the group that computes the node writes them, while the values are near.
    pub(crate) by_group: bool,
}

impl InputCodes {
    /// Makes the codes of `x`, unless they are there.
    pub(crate) fn update(&mut self, x: &[f32]) {
        if !self.by_group {
            let grid = self.grid;
            pieces(&mut self.codes, |at, codes| grid.encode(&x[at..], codes));
        }
    }
}

impl IntegerConv {
    /// The integer form of node `id`, if it is a convolution that qualifies; `inputs` gets the codes it reads, which those
    /// of the same stored node share. `root` says which node stores one.
    pub(crate) fn find(
        graph: &Graph,
        root: &[NodeId],
        id: NodeId,
        phase: Phase,
        inputs: &mut Vec<InputCodes>,
    ) -> Option<Self> {
        let node = &graph.nodes[id.index()];
        let Op::Conv(g) = &node.op else { return None };
        let (kernel, spread) = dense_kernel(graph, node.inputs[1]);
        let Op::QuantizeKernel(q, _) = &graph.nodes[kernel.index()].op else { return None };
        let shape = graph.shape(kernel);
        let grid = grid(graph, node.inputs[0])?;
        let shifted = grid.zero_point != 0;
        if !q.codes_by_channel(shape, if g.depthwise { 2 } else { 1 }, phase) {
            return None;
        }
        let of = root[node.inputs[0].index()];
        let known = inputs.iter().position(|i| i.of == of && i.grid == grid);
        let input = known.unwrap_or_else(|| {
            inputs.push(InputCodes { of, grid, codes: vec![0; g.input_len()], by_group: false });
            inputs.len() - 1
        });
        Some(Self {
            kernel,
            input,
            slots: (0..g.out_c).map(|n| q.scale_slot(shape, n)).collect(),
            spread: spread.map(|s| (s, vec![0; g.kernel_len()])),
            grid,
            trits: q.trits(),
            packed: None,
            fresh: false,
            scale: vec![0.0; g.out_c],
            zeros: vec![0.0; g.out_c],
            offsets: vec![0; g.out_c],
            accumulators: if shifted { vec![0; g.output_len()] } else { Vec::new() },
        })
    }

    /// Announces that the weights have changed.
    pub(crate) fn forget(&mut self) {
        self.fresh = false;
    }

    /// `y = conv(x, w)` for the codes of `x`.
    pub(crate) fn run(
        &mut self,
        g: &Conv2d,
        x: &[u8],
        w: &KernelCodes<f32>,
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        if !self.fresh {
            let codes = match &mut self.spread {
                Some((geometry, codes)) => {
                    spread(geometry, &w.codes, codes);
                    &codes[..]
                }
                None => &w.codes[..],
            };
            match &mut self.packed {
                Some(Packed::Trits(panel)) => panel.repack(codes)?,
                Some(Packed::Bytes(panel)) => panel.repack(codes)?,
                Some(Packed::Depthwise(kept)) => kept.copy_from_slice(codes),
                None if g.depthwise => self.packed = Some(Packed::Depthwise(codes.to_vec())),
                None if self.trits => {
                    let packed = ternary::Packed::chosen(self.grid.largest, g, codes)?;
                    self.packed = Some(Packed::Trits(packed));
                }
                None => self.packed = Some(Packed::Bytes(int8::Packed::conv2d(g, codes)?)),
            }
            let scalar = w.scales.len() == 1;
            for (s, &slot) in self.scale.iter_mut().zip(&self.slots) {
                *s = w.scales[if scalar { 0 } else { slot }] * self.grid.step;
            }
            self.offsets.fill(0);
            for row in w.codes.chunks(g.out_c) {
                for (offset, &w) in self.offsets.iter_mut().zip(row) {
                    *offset += i32::from(w) * i32::from(self.grid.zero_point);
                }
            }
            self.fresh = true;
        }
        if self.grid.zero_point == 0 {
            let epilogue = Scale { scale: &self.scale, bias: &self.zeros };
            return self.convolve(g, x, &epilogue, y);
        }
        let mut accumulators = std::mem::take(&mut self.accumulators);
        let result = self.convolve(g, x, &Accumulators, &mut accumulators);
        let c = g.out_c;
        pieces(y, |at, y| {
            for (i, y) in y.iter_mut().enumerate() {
                let n = (at + i) % c;
                *y = (accumulators[at + i] - self.offsets[n]) as f32 * self.scale[n];
            }
        });
        self.accumulators = accumulators;
        result
    }

    fn convolve<E: Epilogue>(
        &self,
        g: &Conv2d,
        x: &[u8],
        epilogue: &E,
        y: &mut [E::Out],
    ) -> Result<(), KernelError> {
        let x = (x, self.grid.zero_point);
        match self.packed.as_ref().expect("packed before") {
            Packed::Trits(w) => ternary::conv2d(Kernel::default(), g, x, w, epilogue, y),
            Packed::Bytes(w) => int8::conv2d(Kernel::default(), g, x, w, epilogue, y),
            Packed::Depthwise(w) => int8::depthwise(Kernel::default(), g, x, w, epilogue, y),
        }
    }
}

/// Kernel-quantizing nodes whose codes some integer convolution reads.
pub(crate) fn coded_kernels<'a>(convs: impl Iterator<Item = &'a IntegerConv>) -> Vec<NodeId> {
    convs.map(|c| c.kernel).collect()
}

fn through_reshapes(graph: &Graph, mut id: NodeId) -> NodeId {
    while graph.nodes[id.index()].op == Op::Reshape {
        id = graph.nodes[id.index()].inputs[0];
    }
    id
}

/// The kernel behind reshapes and a dilation, and the geometry of the dilation: a depthwise 1x1 convolution with ones whose
/// input gradient puts zeros between the kernel's elements.
fn dense_kernel(graph: &Graph, id: NodeId) -> (NodeId, Option<Conv2d>) {
    let id = through_reshapes(graph, id);
    let node = &graph.nodes[id.index()];
    match &node.op {
        Op::ConvInputGrad(g)
            if g.depthwise
                && (g.kernel_h, g.kernel_w) == (1, 1)
                && graph.nodes[node.inputs[1].index()].op == Op::Fill(1.0) =>
        {
            (through_reshapes(graph, node.inputs[0]), Some(*g))
        }
        _ => (id, None),
    }
}

/// Codes with zeros between them, as the input gradient of `g` spreads their values.
fn spread(g: &Conv2d, codes: &[i8], to: &mut [i8]) {
    to.fill(0);
    let width = g.in_c;
    for (i, from) in codes.chunks_exact(width).enumerate() {
        let (y, x) = (i / g.out_w * g.stride_h, i % g.out_w * g.stride_w);
        to[(y * g.in_w + x) * width..][..width].copy_from_slice(from);
    }
}

/// The 8-bit grid that a node's values lie on.
fn grid(graph: &Graph, id: NodeId) -> Option<Grid> {
    let node = &graph.nodes[id.index()];
    match &node.op {
        Op::Reshape | Op::MaxPool(_) | Op::RowBroadcast => grid(graph, node.inputs[0]),
        Op::Activation(Nonlinearity::Quantizer(e)) if e.on_grid() => {
            let levels = e.grid()?;
            let largest = u8::try_from(levels.max_code).ok().filter(|_| levels.min_code == 0)?;
            Some(Grid { step: levels.step as f32, zero_point: 0, largest })
        }
        Op::Input(slot) => {
            let (step, zero_point) = *graph.input_grids.get(slot)?;
            Some(Grid { step, zero_point, largest: u8::MAX })
        }
        _ => None,
    }
}
