//! Model files of format version 1, in which layers had no quantizer for their bias.

use qtensor::Quantizer;
use serde::Deserialize;

use super::version2;
use crate::network::InputGrid;

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
    op: version2::Op,
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

impl From<Model> for version2::Model {
    fn from(old: Model) -> Self {
        let Network { name, input, grid, classes, layers } = old.network;
        let layers = layers.into_iter().map(Into::into).collect();
        let params = old.params.into_iter().map(Into::into).collect();
        Self { network: version2::Network { name, input, grid, classes, layers }, params }
    }
}

impl From<Layer> for version2::Layer {
    fn from(Layer { name, op, inputs }: Layer) -> Self {
        Self { name, op, inputs, bias_quantizer: None }
    }
}

impl From<Param> for version2::Param {
    fn from(Param { name, shape, kind, values }: Param) -> Self {
        let kind = match kind {
            ParamKind::Kernel(q) => version2::ParamKind::Kernel(q),
            ParamKind::Bias => version2::ParamKind::Bias(None),
            ParamKind::Gamma => version2::ParamKind::Gamma,
            ParamKind::Beta => version2::ParamKind::Beta,
            ParamKind::MovingMean => version2::ParamKind::MovingMean,
            ParamKind::MovingVariance => version2::ParamKind::MovingVariance,
        };
        Self { name, shape, kind, values }
    }
}
