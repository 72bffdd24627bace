//! From a network to graph nodes: the forward pass in either phase, with every layer's output at hand.

use kernels::{Conv2d, KernelError, Padding, Pool2d};
use qtensor::Phase;

use crate::QnnError;
use crate::graph::{Graph, NodeId, Nonlinearity, Unary};
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
    /// Values per channel.
    pub count: usize,
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
        for (i, layer) in net.layers.iter().enumerate() {
            graph.set_label(&layer.name);
            let at = |e: KernelError| QnnError::Kernel { layer: layer.name.clone(), source: e };
            let sources: Vec<NodeId> =
                net.sources(i)?.into_iter().map(|s| s.map_or(input, |s| layers[s])).collect();
            let x = sources[0];
            let index = |suffix: &str| model.index_of(&format!("{}/{suffix}", layer.name));
            let kernel = |graph: &mut Graph| {
                let k = index("kernel").expect("shape inference gave the layer a kernel");
                crate::model::kernel_quantizer(&layer.op)
                    .map_or(params[k], |q| graph.quantize_kernel(q, k as u64, params[k]))
            };
            let biased = |graph: &mut Graph, y: NodeId| match index("bias") {
                None => y,
                Some(b) => {
                    let shape = graph.shape(y).to_vec();
                    let one = graph.fill(1.0, &shape[shape.len() - 1..]);
                    graph.channel_affine(&[(y, one)], Some(params[b]), &shape)
                }
            };
            let node = match &layer.op {
                LayerOp::Conv2d { stride, padding, .. } => {
                    let w = kernel(graph);
                    let g = Conv2d::new(dims(graph, x), dims(graph, w), *stride, (*padding).into())
                        .map_err(at)?;
                    let y = graph.conv2d(g, x, w);
                    biased(graph, y)
                }
                LayerOp::DepthwiseConv2d { stride, padding, .. } => {
                    let w = kernel(graph);
                    let g = Conv2d::depthwise(dims(graph, x), dims(graph, w), *stride, (*padding).into())
                        .map_err(at)?;
                    let y = graph.conv2d(g, x, w);
                    biased(graph, y)
                }
                LayerOp::Dense { .. } => {
                    let w = kernel(graph);
                    let y = graph.dense(x, w).map_err(at)?;
                    biased(graph, y)
                }
                LayerOp::BatchNorm { eps, momentum } => {
                    let first = index("gamma").expect("shape inference gave the layer its parameters");
                    let (mean, variance) = match statistics {
                        Statistics::Moving => (params[first + 2], params[first + 3]),
                        Statistics::Batch => {
                            let (mean, variance, count) = batch_moments(graph, x);
                            let momentum = *momentum;
                            moments.push(BatchMoments {
                                moving_mean: first + 2,
                                mean,
                                variance,
                                count,
                                momentum,
                            });
                            (mean, variance)
                        }
                    };
                    let shifted = graph.add_scalar(variance, decimal(*eps));
                    let inverse = graph.unary(Unary::Rsqrt, shifted);
                    let a = graph.mul(params[first], inverse);
                    let ma = graph.mul(mean, a);
                    let b = graph.sub(params[first + 1], ma);
                    let shape = graph.shape(x).to_vec();
                    graph.channel_affine(&[(x, a)], Some(b), &shape)
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
            layers.push(node);
        }
        let logits = *layers.last().expect("shape inference refuses an empty network");
        Ok(Self { input, logits, layers, params, moments })
    }
}

/// Mean, biased variance and count over all axes but the last.
fn batch_moments(graph: &mut Graph, x: NodeId) -> (NodeId, NodeId, usize) {
    let shape = graph.shape(x);
    let count: usize = shape[..shape.len() - 1].iter().product();
    let inverse = 1.0 / count as f64;
    let sum = graph.channel_sum(x);
    let square = graph.channel_dot(x, x);
    let mean = graph.scale(inverse, sum);
    let mean_square = graph.scale(inverse, square);
    let squared_mean = graph.mul(mean, mean);
    (mean, graph.sub(mean_square, squared_mean), count)
}

/// The number an `f32` was written as: the same value in single precision, and what a reference in double precision means.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn dims(graph: &Graph, x: NodeId) -> [usize; 4] {
    graph.shape(x).try_into().expect("shape inference checked for an image")
}
