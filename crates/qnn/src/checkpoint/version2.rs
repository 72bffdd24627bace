//! Model files of format version 2, in which batch normalisations had no quantizers and convolutions neither dilation nor
//! multiplier.

use qtensor::Quantizer;
use serde::Deserialize;

use crate::model;
use crate::network::{InputGrid, Layer as NewLayer, LayerOp, Network as NewNetwork, Pad};

#[derive(Deserialize)]
pub(super) struct Model {
    pub(super) network: Network,
    pub(super) params: Vec<Param>,
}

#[derive(Deserialize)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) input: [usize; 3],
    pub(super) grid: InputGrid,
    pub(super) classes: usize,
    pub(super) layers: Vec<Layer>,
}

#[derive(Deserialize)]
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) op: Op,
    pub(super) inputs: Vec<String>,
    pub(super) bias_quantizer: Option<Quantizer>,
}

#[derive(Deserialize)]
pub(super) enum Op {
    Conv2d {
        filters: usize,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: Pad,
        bias: bool,
        quantizer: Option<Quantizer>,
    },
    DepthwiseConv2d {
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: Pad,
        bias: bool,
        quantizer: Option<Quantizer>,
    },
    Dense {
        units: usize,
        bias: bool,
        quantizer: Option<Quantizer>,
    },
    BatchNorm {
        eps: f32,
        momentum: f32,
    },
    Activation {
        quantizer: Option<Quantizer>,
    },
    MaxPool {
        size: [usize; 2],
        stride: [usize; 2],
    },
    AvgPool {
        size: [usize; 2],
        stride: [usize; 2],
    },
    Add,
    Flatten,
    Dropout {
        rate: f32,
    },
}

#[derive(Deserialize)]
pub(super) struct Param {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) kind: ParamKind,
    pub(super) values: Vec<f32>,
}

#[derive(Deserialize)]
pub(super) enum ParamKind {
    Kernel(Option<Quantizer>),
    Bias(Option<Quantizer>),
    Gamma,
    Beta,
    MovingMean,
    MovingVariance,
}

impl From<Model> for model::Model {
    fn from(old: Model) -> Self {
        let Network { name, input, grid, classes, layers } = old.network;
        let layers = layers.into_iter().map(Into::into).collect();
        let params = old.params.into_iter().map(Into::into).collect();
        Self { network: NewNetwork { name, input, grid, classes, layers }, params }
    }
}

impl From<Layer> for NewLayer {
    fn from(Layer { name, op, inputs, bias_quantizer }: Layer) -> Self {
        Self { name, op: op.into(), inputs, bias_quantizer }
    }
}

impl From<Op> for LayerOp {
    fn from(op: Op) -> Self {
        let dilation = [1, 1];
        match op {
            Op::Conv2d { filters, kernel, stride, padding, bias, quantizer } => {
                Self::Conv2d { filters, kernel, stride, dilation, padding, bias, quantizer }
            }
            Op::DepthwiseConv2d { kernel, stride, padding, bias, quantizer } => {
                Self::DepthwiseConv2d { kernel, stride, dilation, padding, multiplier: 1, bias, quantizer }
            }
            Op::Dense { units, bias, quantizer } => Self::Dense { units, bias, quantizer },
            Op::BatchNorm { eps, momentum } => Self::BatchNorm { eps, momentum, quantizers: None },
            Op::Activation { quantizer } => Self::Activation { quantizer },
            Op::MaxPool { size, stride } => Self::MaxPool { size, stride },
            Op::AvgPool { size, stride } => Self::AvgPool { size, stride },
            Op::Add => Self::Add,
            Op::Flatten => Self::Flatten,
            Op::Dropout { rate } => Self::Dropout { rate },
        }
    }
}

impl From<Param> for model::Param {
    fn from(Param { name, shape, kind, values }: Param) -> Self {
        let kind = match kind {
            ParamKind::Kernel(q) => model::ParamKind::Kernel(q),
            ParamKind::Bias(q) => model::ParamKind::Bias(q),
            ParamKind::Gamma => model::ParamKind::Gamma(None),
            ParamKind::Beta => model::ParamKind::Beta(None),
            ParamKind::MovingMean => model::ParamKind::MovingMean,
            ParamKind::MovingVariance => model::ParamKind::MovingVariance,
        };
        Self { name, shape, kind, values }
    }
}
