//! What a network consists of: shapes, parameters, bits, multiply-accumulates, the data type of every edge, and what
//! quantization does to each kernel of a model.

mod statistics;
mod table;

pub use statistics::KernelStatistics;

use qtensor::Quantizer;
use serde::Serialize;

use crate::QnnError;
use crate::model::{Model, kernel_quantizer};
use crate::network::{INPUT, Layer, LayerOp, Network};

/// What flows along an edge of the network, in the inference phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EdgeType {
    /// Integer codes of at most 8 bits: real value `(code - zero_point) * step`.
    Codes {
        /// Bits of a code.
        bits: u32,
        /// Whether codes can be negative.
        signed: bool,
        /// Real size of one code step.
        step: f64,
        /// Code of the real value 0.
        zero_point: u8,
    },
    /// Exact i32 accumulators of a quantized layer that reads codes, one real scale per output channel.
    Accumulators,
    /// Means of codes: integer sums times a common factor.
    CodeMeans,
    /// Real values.
    F32,
}

impl std::fmt::Display for EdgeType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Codes { bits, signed, .. } => write!(f, "{}{bits}", if *signed { "i" } else { "u" }),
            Self::Accumulators => f.write_str("i32"),
            Self::CodeMeans => f.write_str("i32 mean"),
            Self::F32 => f.write_str("f32"),
        }
    }
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerSummary {
    /// Its name.
    pub name: String,
    /// What it computes.
    pub kind: &'static str,
    /// Distance of a convolution's taps, vertical and horizontal; 1 is dense.
    pub dilation: Option<[usize; 2]>,
    /// Output channels per input channel of a depthwise convolution.
    pub multiplier: Option<usize>,
    /// What it reads, and what flows there.
    pub reads: Vec<(String, EdgeType)>,
    /// Shape of its output for one sample: `[h, w, c]`, or `[n]`.
    pub output: Vec<usize>,
    /// What it puts out.
    pub output_type: EdgeType,
    /// Parameters, statistics of batch normalisation included.
    pub parameters: u64,
    /// Weights of its kernel.
    pub weights: u64,
    /// Bits of one weight (32 for float kernels, 0 without kernel).
    pub weight_bits: u32,
    /// Bits of all its parameters, each with its quantizer or 32; scales not counted.
    pub parameter_bits: u64,
    /// Kernel or activation quantizer; those of a batch normalisation, as `gamma .., beta .., mean .., variance ..`.
    pub quantizer: Option<String>,
    /// Quantizer of the bias.
    pub bias_quantizer: Option<String>,
    /// Multiply-accumulates of one sample.
    pub macs: u64,
    /// What quantization does to its kernel, for a model.
    pub statistics: Option<KernelStatistics>,
}

/// A whole network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Its name.
    pub network: String,
    /// Shape of one input, `[h, w, c]`.
    pub input: [usize; 3],
    /// Type of the input.
    pub input_type: EdgeType,
    /// Layers, in order.
    pub layers: Vec<LayerSummary>,
    /// Parameters in all.
    pub parameters: u64,
    /// Those that gradients update.
    pub trainable: u64,
    /// Bits of all kernels together, scales not counted.
    pub kernel_bits: u64,
    /// Bits of all parameters together, scales not counted.
    pub parameter_bits: u64,
    /// Multiply-accumulates of one sample.
    pub macs: u64,
}

impl Summary {
    /// Of a topology; no statistics.
    pub fn of_network(network: &Network) -> Result<Self, QnnError> {
        Self::new(network, None)
    }

    /// Of a model, with the statistics of its kernels.
    pub fn of_model(model: &Model) -> Result<Self, QnnError> {
        Self::new(&model.network, Some(model))
    }

    fn new(network: &Network, model: Option<&Model>) -> Result<Self, QnnError> {
        let shapes = network.shapes()?;
        let grid = network.grid;
        let step = f64::from(grid.scale);
        let input_type = EdgeType::Codes { bits: 8, signed: false, step, zero_point: grid.zero_point };
        let mut summary = Self {
            network: network.name.clone(),
            input: network.input,
            input_type,
            layers: Vec::with_capacity(network.layers.len()),
            parameters: 0,
            trainable: 0,
            kernel_bits: 0,
            parameter_bits: 0,
            macs: 0,
        };
        for (i, (layer, shape)) in network.layers.iter().zip(&shapes).enumerate() {
            let reads: Vec<(String, EdgeType)> = (network.sources(i)?.into_iter())
                .map(|source| match source {
                    None => (INPUT.to_owned(), summary.input_type.clone()),
                    Some(s) => (network.layers[s].name.clone(), summary.layers[s].output_type.clone()),
                })
                .collect();
            let count = |wanted: &dyn Fn(&str) -> bool| -> u64 {
                let chosen = shape.params.iter().filter(|(name, _)| wanted(name));
                chosen.map(|(_, dims)| dims.iter().product::<usize>() as u64).sum()
            };
            let weights = count(&|name| name == "kernel");
            let kernel = kernel_quantizer(&layer.op);
            let weight_bits = if weights == 0 { 0 } else { kernel.map_or(32, Quantizer::bits) };
            let parameters = count(&|_| true);
            summary.parameters += parameters;
            summary.trainable += count(&|name| !name.starts_with("moving_"));
            summary.kernel_bits += weights * u64::from(weight_bits);
            let bits = |name: &str| u64::from(parameter_quantizer(layer, name).map_or(32, Quantizer::bits));
            let parameter_bits = count_bits(&shape.params, bits);
            summary.parameter_bits += parameter_bits;
            summary.macs += shape.macs;
            let statistics = match (model, kernel) {
                (Some(model), Some(q)) => Some(KernelStatistics::of(model, &layer.name, q)?),
                _ => None,
            };
            let [h, w, c] = shape.output;
            summary.layers.push(LayerSummary {
                name: layer.name.clone(),
                kind: kind(&layer.op),
                dilation: dilation(&layer.op),
                multiplier: multiplier(&layer.op),
                output_type: output_type(layer, &reads),
                reads,
                output: if shape.flat { vec![c] } else { vec![h, w, c] },
                parameters,
                weights,
                weight_bits,
                parameter_bits,
                quantizer: quantizer(&layer.op),
                bias_quantizer: layer.bias_quantizer.as_ref().map(ToString::to_string),
                macs: shape.macs,
                statistics,
            });
        }
        Ok(summary)
    }
}

/// The quantizer of a layer's parameter, if it has one.
fn parameter_quantizer<'a>(layer: &'a Layer, name: &str) -> Option<&'a Quantizer> {
    let normalising = match &layer.op {
        LayerOp::BatchNorm { quantizers, .. } => quantizers.as_deref(),
        _ => None,
    };
    match name {
        "kernel" => kernel_quantizer(&layer.op),
        "bias" => layer.bias_quantizer.as_ref(),
        "gamma" => normalising?.gamma.as_ref(),
        "beta" => normalising?.beta.as_ref(),
        "moving_mean" => normalising?.mean.as_ref(),
        _ => normalising?.variance.as_ref(),
    }
}

fn count_bits(params: &[(&'static str, Vec<usize>)], bits: impl Fn(&str) -> u64) -> u64 {
    params.iter().map(|(name, dims)| dims.iter().product::<usize>() as u64 * bits(name)).sum()
}

fn kind(op: &LayerOp) -> &'static str {
    match op {
        LayerOp::Conv2d { .. } => "conv2d",
        LayerOp::DepthwiseConv2d { .. } => "depthwise_conv2d",
        LayerOp::Dense { .. } => "dense",
        LayerOp::BatchNorm { .. } => "batch_norm",
        LayerOp::Activation { .. } => "activation",
        LayerOp::MaxPool { .. } => "max_pool",
        LayerOp::AvgPool { .. } => "avg_pool",
        LayerOp::Add => "add",
        LayerOp::Flatten => "flatten",
        LayerOp::Dropout { .. } => "dropout",
    }
}

fn dilation(op: &LayerOp) -> Option<[usize; 2]> {
    match op {
        LayerOp::Conv2d { dilation, .. } | LayerOp::DepthwiseConv2d { dilation, .. } => Some(*dilation),
        _ => None,
    }
}

fn multiplier(op: &LayerOp) -> Option<usize> {
    match op {
        LayerOp::DepthwiseConv2d { multiplier, .. } => Some(*multiplier),
        _ => None,
    }
}

fn quantizer(op: &LayerOp) -> Option<String> {
    if let LayerOp::BatchNorm { quantizers: Some(q), .. } = op {
        return Some(q.to_string());
    }
    let activation = match op {
        LayerOp::Activation { quantizer } => quantizer.as_ref(),
        _ => None,
    };
    kernel_quantizer(op).or(activation).map(ToString::to_string)
}

fn output_type(layer: &Layer, reads: &[(String, EdgeType)]) -> EdgeType {
    let first = &reads[0].1;
    match &layer.op {
        LayerOp::Activation { quantizer: Some(q) } => match q.grid() {
            Some(grid) if grid.max_code <= 255 && grid.min_code >= -128 => {
                EdgeType::Codes { bits: q.bits(), signed: grid.min_code < 0, step: grid.step, zero_point: 0 }
            }
            _ => EdgeType::F32,
        },
        LayerOp::Conv2d { quantizer, .. }
        | LayerOp::DepthwiseConv2d { quantizer, .. }
        | LayerOp::Dense { quantizer, .. } => match (first, quantizer) {
            (EdgeType::Codes { .. }, Some(q)) if q.bits() <= 8 => EdgeType::Accumulators,
            _ => EdgeType::F32,
        },
        LayerOp::MaxPool { .. } | LayerOp::Flatten | LayerOp::Dropout { .. } => first.clone(),
        LayerOp::AvgPool { .. } if matches!(first, EdgeType::Codes { .. }) => EdgeType::CodeMeans,
        _ => EdgeType::F32,
    }
}

#[cfg(test)]
mod tests;
