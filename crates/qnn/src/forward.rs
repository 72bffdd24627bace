//! From a network to graph nodes: the forward pass in either phase, with every layer's output at hand.

use kernels::{KernelError, Padding, Pool2d};
use qtensor::Phase;

use crate::QnnError;
use crate::graph::{Graph, NodeId, Nonlinearity};
use crate::layer::{self, BatchNorm, Moments, Window, dims};
use crate::model::Model;
use crate::network::LayerOp;

/// Which statistics batch normalisation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// Those of the batch; gradients run through them, cross-sample terms included.
    Batch,
    /// The moving ones, constants to gradients.
    Moving,
}

/// Batch statistics of one normalisation, for updating the moving ones.
#[derive(Clone, Debug)]
pub struct BatchMoments {
    /// Index of `moving_mean` among the model's parameters; `moving_variance` follows it.
    pub moving_mean: usize,
    /// Mean `[c]`.
    pub mean: NodeId,
    /// Biased variance `[c]`.
    pub variance: NodeId,
    /// What the variance is multiplied by before it enters the moving one (Keras: unbiased for images).
    pub bessel: f32,
    /// Momentum of the moving statistics.
    pub momentum: f32,
}

/// The nodes of a forward pass.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Input `[n, h, w, c]`.
    pub input: NodeId,
    /// Logits `[n, classes]`.
    pub logits: NodeId,
    /// Output of every layer, in order.
    pub layers: Vec<NodeId>,
    /// One node per model parameter; unused ones are never computed.
    pub params: Vec<NodeId>,
    /// Batch statistics, when [`Statistics::Batch`] was asked for.
    pub moments: Vec<BatchMoments>,
}

impl Forward {
    /// Appends the forward pass of `model` on `input` (`[n, h, w, c]`) to `graph`. Dropout is active in the training
    /// phase only; whether stochastic quantizers sample is the executor's phase.
    pub fn build(
        graph: &mut Graph,
        model: &Model,
        input: NodeId,
        phase: Phase,
        statistics: Statistics,
    ) -> Result<Self, QnnError> {
        let net = &model.network;
        net.shapes()?;
        let params: Vec<NodeId> =
            model.params.iter().enumerate().map(|(i, p)| graph.param(i, &p.shape)).collect();
        let (mut layers, mut moments) = (Vec::<NodeId>::with_capacity(net.layers.len()), Vec::new());
        for (i, node) in net.layers.iter().enumerate() {
            graph.set_label(&node.name);
            let at = |e: KernelError| QnnError::Kernel { layer: node.name.clone(), source: e };
            let sources: Vec<NodeId> =
                net.sources(i)?.into_iter().map(|s| s.map_or(input, |s| layers[s])).collect();
            let x = sources[0];
            let index = |suffix: &str| model.index_of(&format!("{}/{suffix}", node.name));
            let kernel = |graph: &mut Graph| {
                let k = index("kernel").expect("shape inference gave the layer a kernel");
                crate::model::kernel_quantizer(&node.op)
                    .map_or(params[k], |q| graph.quantize_kernel(q, k as u64, params[k]))
            };
            let biased = |graph: &mut Graph, y: NodeId| match index("bias") {
                None => y,
                Some(b) => {
                    let bias = match &node.bias_quantizer {
                        Some(q) => layer::quantize(graph, q, b as u64, params[b]),
                        None => params[b],
                    };
                    layer::add_bias(graph, y, bias)
                }
            };
            let output = match &node.op {
                LayerOp::Conv2d { stride, dilation, padding, .. } => {
                    let w = kernel(graph);
                    let window = Window { stride: *stride, padding: *padding, dilation: *dilation };
                    let y = layer::conv2d(graph, x, w, &window).map_err(at)?;
                    biased(graph, y)
                }
                LayerOp::DepthwiseConv2d { stride, dilation, padding, .. } => {
                    let w = kernel(graph);
                    let window = Window { stride: *stride, padding: *padding, dilation: *dilation };
                    let y = layer::depthwise_conv2d(graph, x, w, &window).map_err(at)?;
                    biased(graph, y)
                }
                LayerOp::Dense { .. } => {
                    let w = kernel(graph);
                    let y = graph.dense(x, w).map_err(at)?;
                    biased(graph, y)
                }
                LayerOp::BatchNorm { eps, momentum, quantizers } => {
                    let first = index("gamma").expect("shape inference gave the layer its parameters");
                    let (mean, variance) = match statistics {
                        Statistics::Moving => (params[first + 2], params[first + 3]),
                        Statistics::Batch => {
                            let batch = Moments::of(graph, x);
                            // Keras' fused kernel takes images; on flat vectors, and in QKeras' layer, both statistics are biased.
                            let fused = graph.shape(x).len() == 4 && quantizers.is_none();
                            let bessel = if fused { batch.bessel() } else { 1.0 };
                            moments.push(BatchMoments {
                                moving_mean: first + 2,
                                mean: batch.mean,
                                variance: batch.variance,
                                bessel,
                                momentum: *momentum,
                            });
                            (batch.mean, batch.variance)
                        }
                    };
                    let (gamma, beta) = (Some(params[first]), Some(params[first + 1]));
                    let norm = BatchNorm { gamma, beta, mean, variance, eps: decimal(*eps) };
                    match quantizers {
                        None => norm.apply(graph, x),
                        Some(q) => norm.apply_quantized(graph, q, first as u64, x),
                    }
                }
                LayerOp::Activation { quantizer } => {
                    let f = match quantizer {
                        None => Nonlinearity::Relu,
                        Some(q) => Nonlinearity::Quantizer(
                            q.elementwise().expect("shape inference refuses other activations"),
                        ),
                    };
                    graph.activation(f, x)
                }
                LayerOp::MaxPool { size, stride } => {
                    let g = Pool2d::new(dims(graph, x), *size, *stride, Padding::Valid).map_err(at)?;
                    graph.max_pool(g, x)
                }
                LayerOp::AvgPool { size, stride } => {
                    let g = Pool2d::new(dims(graph, x), *size, *stride, Padding::Valid).map_err(at)?;
                    graph.avg_pool(g, x)
                }
                LayerOp::Add => graph.add(x, sources[1]),
                LayerOp::Flatten => {
                    let n = graph.shape(x)[0];
                    let len = graph.shape(x)[1..].iter().product();
                    graph.reshape(x, &[n, len])
                }
                LayerOp::Dropout { rate } => match phase {
                    Phase::Training => graph.dropout(f64::from(*rate), x),
                    Phase::Inference => x,
                },
            };
            layers.push(output);
        }
        let logits = *layers.last().expect("shape inference refuses an empty network");
        Ok(Self { input, logits, layers, params, moments })
    }
}

/// The number an `f32` was written as: the same value in single precision, and what a reference in double precision means.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
