//! Quantized convolutions of the forward pass on the integer kernels: codes in, exact accumulators, one scale per channel.
//!
//! A convolution qualifies when its input lies on a grid of at most 8 bits with code 0 at 0 (a quantized ReLU, possibly
//! pooled or reshaped) and its kernel comes from a quantizer with codes of at most 8 bits. Its value is then
//! `f32(accumulator) * (kernel scale * step)`, the same in training, in inference and, up to the integer epilogue, deployed.

use kernels::dispatch::Kernel;
use kernels::epilogue::Scale;
use kernels::int8::{self, Panel16};
use kernels::ternary::{self, Panel8};
use kernels::{Conv2d, KernelError};

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
    Trits(Panel8),
    Bytes(Panel16),
}

/// The integer form of one convolution node.
#[derive(Debug)]
pub(crate) struct IntegerConv {
    /// The node whose [`KernelCodes`] are the weights.
    pub(crate) kernel: NodeId,
    step: f32,
    trits: bool,
    packed: Option<Packed>,
    fresh: bool,
    codes: Vec<u8>,
    scale: Vec<f32>,
    zeros: Vec<f32>,
}

impl IntegerConv {
    /// The integer form of node `id`, if it is a convolution that qualifies.
    pub(crate) fn find(graph: &Graph, id: NodeId) -> Option<Self> {
        let node = &graph.nodes[id.index()];
        let Op::Conv(g) = &node.op else { return None };
        let kernel = through_reshapes(graph, node.inputs[1]);
        let Op::QuantizeKernel(q, _) = &graph.nodes[kernel.index()].op else { return None };
        let step = grid_step(graph, node.inputs[0])? as f32;
        if g.depthwise || q.bits() > 8 {
            return None;
        }
        Some(Self {
            kernel,
            step,
            trits: q.trits(),
            packed: None,
            fresh: false,
            codes: vec![0; g.input_len()],
            scale: vec![0.0; g.out_c],
            zeros: vec![0.0; g.out_c],
        })
    }

    /// Announces that the weights have changed.
    pub(crate) fn forget(&mut self) {
        self.fresh = false;
    }

    /// `y = conv(x, w)` for `x` on the grid.
    pub(crate) fn run(
        &mut self,
        g: &Conv2d,
        x: &[f32],
        w: &KernelCodes<f32>,
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        if !self.fresh {
            match &mut self.packed {
                Some(Packed::Trits(panel)) => panel.repack(&w.codes)?,
                Some(Packed::Bytes(panel)) => panel.repack(&w.codes)?,
                None if self.trits => self.packed = Some(Packed::Trits(Panel8::conv2d(g, &w.codes)?)),
                None => self.packed = Some(Packed::Bytes(Panel16::conv2d(g, &w.codes)?)),
            }
            let scalar = w.scales.len() == 1;
            for (n, s) in self.scale.iter_mut().enumerate() {
                *s = w.scales[if scalar { 0 } else { n }] * self.step;
            }
            self.fresh = true;
        }
        let inverse = 1.0 / self.step;
        pieces(&mut self.codes, |at, codes| {
            for (code, &x) in codes.iter_mut().zip(&x[at..]) {
                // Adding 1.5 * 2^23 leaves the rounded code in the low mantissa bits; this vectorises, `as u8` does not.
                *code = (x * inverse + 12_582_912.0).to_bits() as u8;
            }
        });
        let (kernel, epilogue) = (Kernel::default(), Scale { scale: &self.scale, bias: &self.zeros });
        match self.packed.as_ref().expect("packed above") {
            Packed::Trits(w) => ternary::conv2d(kernel, g, (&self.codes, 0), w, &epilogue, y),
            Packed::Bytes(w) => int8::conv2d(kernel, g, (&self.codes, 0), w, &epilogue, y),
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

/// The step of the 8-bit grid with zero point 0 that a node's values lie on.
fn grid_step(graph: &Graph, id: NodeId) -> Option<f64> {
    let node = &graph.nodes[id.index()];
    match &node.op {
        Op::Reshape | Op::MaxPool(_) => grid_step(graph, node.inputs[0]),
        Op::Activation(Nonlinearity::Quantizer(e)) if e.on_grid() => {
            let grid = e.grid();
            (grid.min_code == 0 && grid.max_code <= 255).then_some(grid.step)
        }
        _ => None,
    }
}
