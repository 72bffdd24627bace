//! Layers as functions on the graph: what a network's layers, QKeras' layers and the comparison with both are made of.

mod batch_norm;
mod conv2d_batchnorm;

pub use crate::network::BatchNormQuantizers;
pub use batch_norm::{BatchNorm, Moments};
pub use conv2d_batchnorm::{Conv2dBatchnorm, Folding};

use kernels::{Conv2d, KernelError};
use qtensor::Quantizer;

use crate::graph::{Graph, NodeId, Nonlinearity, Op};
use crate::network::Pad;

/// Stride, padding and dilation of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Padding.
    pub padding: Pad,
    /// Vertical and horizontal distance between the kernel's elements; 1 is dense.
    pub dilation: [usize; 2],
}

impl Window {
    /// Stride 1, dense.
    pub fn new(padding: Pad) -> Self {
        Self { stride: [1, 1], padding, dilation: [1, 1] }
    }
}

/// Convolution of `x` `[n, h, w, cin]` with `w` `[kh, kw, cin, cout]`.
pub fn conv2d(graph: &mut Graph, x: NodeId, w: NodeId, window: &Window) -> Result<NodeId, KernelError> {
    let w = dilate(graph, w, window.dilation)?;
    let g = Conv2d::new(dims(graph, x), dims(graph, w), window.stride, window.padding.into())?;
    Ok(graph.conv2d(g, x, w))
}

/// Depthwise convolution of `x` `[n, h, w, c]` with `w` `[kh, kw, c, m]`: output channel `c * m + j` is input channel
/// `c` with kernel `[.., c, j]`, as in Keras.
pub fn depthwise_conv2d(
    graph: &mut Graph,
    x: NodeId,
    w: NodeId,
    window: &Window,
) -> Result<NodeId, KernelError> {
    let [kh, kw, c, m] = dims(graph, w);
    let (mut x, w) = (x, graph.reshape(w, &[kh, kw, c * m, 1]));
    if m > 1 {
        // Every channel m times over: its broadcast along a new last axis.
        let [n, h, width, channels] = dims(graph, x);
        let flat = graph.reshape(x, &[n * h * width * channels]);
        let repeated = graph.row_broadcast(flat, &[n * h * width * channels, m]);
        x = graph.reshape(repeated, &[n, h, width, channels * m]);
    }
    let w = dilate(graph, w, window.dilation)?;
    let g = Conv2d::depthwise(dims(graph, x), dims(graph, w), window.stride, window.padding.into())?;
    Ok(graph.conv2d(g, x, w))
}

/// `y + bias[c]`
pub fn add_bias(graph: &mut Graph, y: NodeId, bias: NodeId) -> NodeId {
    let shape = graph.shape(y).to_vec();
    let one = graph.fill(1.0, &shape[shape.len() - 1..]);
    graph.channel_affine(&[(y, one)], Some(bias), &shape)
}

/// A quantized tensor that is no kernel (a bias, a statistic): elementwise quantizers keep their own surrogate, those with
/// statistics of the tensor pass gradients straight through.
pub fn quantize(graph: &mut Graph, quantizer: &Quantizer, tag: u64, x: NodeId) -> NodeId {
    match quantizer.elementwise() {
        Some(e) if !quantizer.is_stochastic() => graph.activation(Nonlinearity::Quantizer(e), x),
        _ => graph.quantize_kernel(quantizer, tag, x),
    }
}

/// `w` with `dilation - 1` zeros between neighbours of its first two axes. It is the input gradient of a strided
/// depthwise 1x1 convolution with ones, so that derivatives of every order need nothing new.
fn dilate(graph: &mut Graph, w: NodeId, dilation: [usize; 2]) -> Result<NodeId, KernelError> {
    if dilation == [1, 1] {
        return Ok(w);
    }
    let [kh, kw, ci, co] = dims(graph, w);
    let [h, width] = [kh.saturating_sub(1) * dilation[0] + 1, kw.saturating_sub(1) * dilation[1] + 1];
    let spread = [1, h, width, ci * co];
    let g = Conv2d::depthwise(spread, [1, 1, ci * co, 1], dilation, kernels::Padding::Valid)?;
    let (w, ones) = (graph.reshape(w, &[1, kh, kw, ci * co]), graph.fill(1.0, &[1, 1, ci * co, 1]));
    let spread = graph.push(Op::ConvInputGrad(g), vec![w, ones], spread.to_vec());
    Ok(graph.reshape(spread, &[h, width, ci, co]))
}

/// The four sizes of an image or kernel.
///
/// # Panics
/// If the node has another number of axes; callers check shapes first.
pub(crate) fn dims(graph: &Graph, x: NodeId) -> [usize; 4] {
    graph.shape(x).try_into().expect("shape inference checked for an image")
}
