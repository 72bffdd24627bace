//! Model files of format version 1, in which layers had no quantizer for their bias.

use qtensor::Quantizer;
use serde::Deserialize;

use crate::model;
use crate::network::{InputGrid, Layer as NewLayer, LayerOp, Network as NewNetwork};

#[derive(Deserialize)]
pub(super) struct Model {
    network: Network,
    params: Vec<Param>,
}

#[derive(Deserialize)]
struct Network {
    name: String,
    input: [usize; 3],
    grid: InputGrid,
    classes: usize,
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    name: String,
    op: LayerOp,
    inputs: Vec<String>,
}

#[derive(Deserialize)]
struct Param {
    name: String,
    shape: Vec<usize>,
    kind: ParamKind,
    values: Vec<f32>,
}

#[derive(Deserialize)]
enum ParamKind {
    Kernel(Option<Quantizer>),
    Bias,
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
    fn from(Layer { name, op, inputs }: Layer) -> Self {
        Self { name, op, inputs, bias_quantizer: None }
    }
}

impl From<Param> for model::Param {
    fn from(Param { name, shape, kind, values }: Param) -> Self {
        let kind = match kind {
            ParamKind::Kernel(q) => model::ParamKind::Kernel(q),
            ParamKind::Bias => model::ParamKind::Bias(None),
            ParamKind::Gamma => model::ParamKind::Gamma,
            ParamKind::Beta => model::ParamKind::Beta,
            ParamKind::MovingMean => model::ParamKind::MovingMean,
            ParamKind::MovingVariance => model::ParamKind::MovingVariance,
        };
        Self { name, shape, kind, values }
    }
}
