//! The forward pass of a case, layer by layer as its Keras model has them.

use std::collections::HashMap;

use super::{Reference, Weights};
use crate::conformance::compare::Arguments;
use crate::conformance::layer::{activation, batch_norm_quantizers, kernel_quantizer, window};
use crate::conformance::run::{self, Tensors};
use crate::graph::{Graph, NodeId};
use crate::layer::{self, BatchNorm, Moments, add_bias};
use crate::network::Pad;

/// Statistics of one normalisation that training moves.
pub(super) struct Moved {
    pub(super) mean: usize,
    pub(super) variance: usize,
    pub(super) batch: Moments,
    pub(super) momentum: f32,
    pub(super) bessel: f32,
}

/// The forward pass of a case.
pub(super) struct Built {
    pub(super) graph: Graph,
    pub(super) input: NodeId,
    pub(super) params: Vec<NodeId>,
    outputs: Vec<(String, NodeId)>,
    pub(super) moved: Vec<Moved>,
}

impl Built {
    pub(super) fn new(reference: &Reference<'_>, weights: &Weights, training: bool) -> Result<Self, String> {
        let mut graph = Graph::default();
        let input = graph.input(&reference.tensor("x")?.shape);
        let params = weights.shapes.iter().enumerate().map(|(i, shape)| graph.param(i, shape)).collect();
        let mut built = Self { graph, input, params, outputs: Vec::new(), moved: Vec::new() };
        let mut x = input;
        for value in reference.layers()? {
            let arguments = Arguments(value);
            let name = arguments.text("name").ok_or("a layer without a name")?;
            built.graph.set_label(name);
            x = built
                .layer(&arguments, name, weights, training, x)
                .map_err(|why| format!("{name}: {why}"))?;
            built.outputs.push((name.to_owned(), x));
        }
        Ok(built)
    }

    fn layer(
        &mut self,
        arguments: &Arguments<'_>,
        name: &str,
        weights: &Weights,
        training: bool,
        x: NodeId,
    ) -> Result<NodeId, String> {
        let failed = |e: kernels::KernelError| e.to_string();
        let kind = arguments.text("type").ok_or("no type")?;
        let y = match kind {
            "QConv2D" | "Conv2D" | "QDepthwiseConv2D" | "DepthwiseConv2D" | "QDense" | "Dense" => {
                let index = weights.kernel(name).ok_or("no kernel")?;
                let kernel = self.params[index];
                let graph = &mut self.graph;
                let kernel = match kernel_quantizer(arguments)? {
                    Some(q) => graph.quantize_kernel(&q, index as u64, kernel),
                    None => kernel,
                };
                let y = match kind {
                    "QDense" | "Dense" => graph.dense(x, kernel),
                    "QDepthwiseConv2D" | "DepthwiseConv2D" => {
                        layer::depthwise_conv2d(graph, x, kernel, &window(arguments)?)
                    }
                    _ => layer::conv2d(graph, x, kernel, &window(arguments)?),
                };
                let y = y.map_err(failed)?;
                match (weights.bias(name), arguments.quantizer("bias_quantizer")?) {
                    (None, _) => y,
                    (Some(b), None) => add_bias(graph, y, self.params[b]),
                    (Some(b), Some(q)) => {
                        let bias = layer::quantize(graph, &q, b as u64, self.params[b]);
                        add_bias(graph, y, bias)
                    }
                }
            }
            "BatchNormalization" | "QBatchNormalization" => {
                self.batch_norm(arguments, name, weights, training, x)?
            }
            "QActivation" | "Activation" | "ReLU" => x,
            "MaxPooling2D" | "AveragePooling2D" => {
                let size = arguments.pair("pool_size")?.unwrap_or([2, 2]);
                let stride = arguments.pair("strides")?.unwrap_or(size);
                let padding = match arguments.text("padding") {
                    Some("same") => Pad::Same,
                    _ => Pad::Valid,
                };
                let dims = self.graph.shape(x).try_into().map_err(|_| "pools an image only")?;
                let g = kernels::Pool2d::new(dims, size, stride, padding.into()).map_err(failed)?;
                match kind {
                    "MaxPooling2D" => self.graph.max_pool(g, x),
                    _ => self.graph.avg_pool(g, x),
                }
            }
            "GlobalAveragePooling2D" => {
                let dims: [usize; 4] = self.graph.shape(x).try_into().map_err(|_| "pools an image only")?;
                let size = [dims[1], dims[2]];
                let g = kernels::Pool2d::new(dims, size, size, kernels::Padding::Valid).map_err(failed)?;
                let pooled = self.graph.avg_pool(g, x);
                self.graph.reshape(pooled, &[dims[0], dims[3]])
            }
            "Flatten" => {
                let shape = self.graph.shape(x).to_vec();
                self.graph.reshape(x, &[shape[0], shape[1..].iter().product()])
            }
            // Reference cases are deterministic: dropout is off in them.
            "Dropout" | "InputLayer" => x,
            other => return Err(format!("unknown layer type `{other}`")),
        };
        if kind == "ReLU" {
            return Ok(self.graph.activation(crate::graph::Nonlinearity::Relu, y));
        }
        activation(&mut self.graph, arguments, y)
    }

    fn batch_norm(
        &mut self,
        arguments: &Arguments<'_>,
        name: &str,
        weights: &Weights,
        training: bool,
        x: NodeId,
    ) -> Result<NodeId, String> {
        let index = |suffix: &str| weights.find(name, suffix);
        let need = |suffix: &str| index(suffix).ok_or_else(|| format!("no `{suffix}`"));
        let (mean, variance) = (need("moving_mean")?, need("moving_variance")?);
        let node = |i: usize| self.params[i];
        let mut norm = BatchNorm {
            gamma: index("gamma").map(node),
            beta: index("beta").map(node),
            mean: node(mean),
            variance: node(variance),
            eps: arguments.number("epsilon").unwrap_or(1e-3),
        };
        let quantized = arguments.text("type") == Some("QBatchNormalization");
        if training {
            let batch = Moments::of(&mut self.graph, x);
            (norm.mean, norm.variance) = (batch.mean, batch.variance);
            let fused = !quantized && self.graph.shape(x).len() == 4;
            let bessel = if fused { batch.bessel() } else { 1.0 };
            let momentum = arguments.number("momentum").unwrap_or(0.99) as f32;
            self.moved.push(Moved { mean, variance, batch, momentum, bessel });
        }
        Ok(if quantized {
            norm.apply_quantized(&mut self.graph, &batch_norm_quantizers(arguments)?, 0, x)
        } else {
            norm.apply(&mut self.graph, x)
        })
    }

    pub(super) fn logits(&self) -> Result<NodeId, String> {
        self.outputs.last().map(|o| o.1).ok_or_else(|| "a model without layers".to_owned())
    }
}

/// Outputs of every layer in inference, quantized kernels and their scales.
pub(super) fn forward(
    reference: &Reference<'_>,
    weights: &Weights,
    got: &mut HashMap<String, Vec<f32>>,
) -> Result<(), String> {
    let built = Built::new(reference, weights, false)?;
    let x = reference.tensor("x")?;
    let leaves = Tensors { inputs: vec![x.data], params: &weights.values };
    let nodes: Vec<NodeId> = built.outputs.iter().map(|o| o.1).collect();
    let values = run::values(&built.graph, &nodes, &leaves)?;
    got.extend(built.outputs.iter().zip(values).map(|(o, v)| (format!("out:{}", o.0), v)));
    for value in reference.layers()? {
        let arguments = Arguments(value);
        let name = arguments.text("name").unwrap_or_default();
        if let (Some(index), Some(q)) = (weights.kernel(name), kernel_quantizer(&arguments)?) {
            let (values, scales) = run::quantize(&q, &weights.values[index], &weights.shapes[index])?;
            got.insert(format!("q:{name}"), values);
            got.insert(format!("scale:{name}"), scales);
        }
    }
    Ok(())
}
