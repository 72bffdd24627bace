//! A network with its parameters: latent weights and batch normalisation state, by name.

use qtensor::Quantizer;
use qtensor::stream::{self, Purpose};
use serde::{Deserialize, Serialize};

use crate::QnnError;
use crate::network::{LayerOp, Network};

/// What a parameter is, which decides how it is initialised, trained and stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ParamKind {
    /// Latent kernel, with its quantizer.
    Kernel(Option<Quantizer>),
    /// Additive bias, with its quantizer.
    Bias(Option<Quantizer>),
    /// Batch normalisation scale, with its quantizer.
    Gamma(Option<Quantizer>),
    /// Batch normalisation shift, with its quantizer.
    Beta(Option<Quantizer>),
    /// Moving mean; updated from batches, not by gradients.
    MovingMean,
    /// Moving variance; updated from batches, not by gradients.
    MovingVariance,
}

impl ParamKind {
    /// Whether gradients update it.
    pub fn is_trainable(&self) -> bool {
        !matches!(self, Self::MovingMean | Self::MovingVariance)
    }
}

/// One named tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// `layer/kernel`, `layer/bias`, `layer/gamma`, `layer/beta`, `layer/moving_mean` or `layer/moving_variance`.
    pub name: String,
    /// Shape; row-major.
    pub shape: Vec<usize>,
    /// What it is.
    pub kind: ParamKind,
    /// Values.
    pub values: Vec<f32>,
}

/// A network and its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Topology.
    pub network: Network,
    /// Parameters, in the order of the layers.
    pub params: Vec<Param>,
}

impl Model {
    /// Initialises the parameters from the stream of `seed`: kernels He-normal (Keras: truncated at two standard
    /// deviations, variance 2 / fan-in), gamma and moving variance 1, the rest 0.
    pub fn new(network: Network, seed: u64) -> Result<Self, QnnError> {
        let mut params = layout(&network)?;
        for (index, param) in params.iter_mut().enumerate() {
            let len = param.shape.iter().product();
            param.values = match param.kind {
                ParamKind::Kernel(_) => {
                    let dims = &param.shape;
                    let name = param.name.split('/').next().unwrap_or_default();
                    let depthwise =
                        network.layer(name).is_some_and(|l| matches!(l.op, LayerOp::DepthwiseConv2d { .. }));
                    let fan_in = if depthwise { dims[0] * dims[1] } else { len / dims[dims.len() - 1] };
                    he_normal(seed, index as u64, len, fan_in)
                }
                ParamKind::Gamma(_) | ParamKind::MovingVariance => vec![1.0; len],
                _ => vec![0.0; len],
            };
        }
        Ok(Self { network, params })
    }

    /// Index of the parameter of that name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.params.iter().position(|p| p.name == name)
    }

    /// The parameter of that name.
    pub fn param(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|p| p.name == name)
    }

    /// Checks names, shapes and lengths against the network, and that every value is finite.
    pub fn validate(&self) -> Result<(), QnnError> {
        let expected = layout(&self.network)?;
        if expected.len() != self.params.len() {
            return Err(QnnError::Size {
                what: "parameter list".into(),
                expected: expected.len(),
                got: self.params.len(),
            });
        }
        for (want, have) in expected.iter().zip(&self.params) {
            if (&want.name, &want.shape, &want.kind) != (&have.name, &have.shape, &have.kind) {
                return Err(QnnError::Config(format!(
                    "parameter `{}` {:?} does not fit the network, which has `{}` {:?}",
                    have.name, have.shape, want.name, want.shape
                )));
            }
            // Shape inference has checked that this product does not overflow.
            let need = want.shape.iter().product();
            if need != have.values.len() {
                return Err(QnnError::Size {
                    what: have.name.clone(),
                    expected: need,
                    got: have.values.len(),
                });
            }
            if let Some(i) = have.values.iter().position(|v| !v.is_finite()) {
                return Err(QnnError::Config(format!(
                    "parameter `{}` is not finite at index {i}",
                    have.name
                )));
            }
        }
        Ok(())
    }
}

/// Names, shapes and kinds of a network's parameters, without values: nothing is allocated for a size that a file claims.
fn layout(network: &Network) -> Result<Vec<Param>, QnnError> {
    let shapes = network.shapes()?;
    let mut params = Vec::new();
    for (layer, shape) in network.layers.iter().zip(&shapes) {
        let normalising = match &layer.op {
            LayerOp::BatchNorm { quantizers, .. } => quantizers.as_deref(),
            _ => None,
        };
        for (suffix, dims) in &shape.params {
            let kind = match *suffix {
                "kernel" => ParamKind::Kernel(kernel_quantizer(&layer.op).cloned()),
                "bias" => ParamKind::Bias(layer.bias_quantizer.clone()),
                "gamma" => ParamKind::Gamma(normalising.and_then(|q| q.gamma.clone())),
                "beta" => ParamKind::Beta(normalising.and_then(|q| q.beta.clone())),
                "moving_mean" => ParamKind::MovingMean,
                _ => ParamKind::MovingVariance,
            };
            let name = format!("{}/{suffix}", layer.name);
            params.push(Param { name, shape: dims.clone(), kind, values: Vec::new() });
        }
    }
    Ok(params)
}

/// The kernel quantizer of a layer, if it has a kernel and the kernel is quantized.
pub fn kernel_quantizer(op: &LayerOp) -> Option<&Quantizer> {
    match op {
        LayerOp::Conv2d { quantizer, .. }
        | LayerOp::DepthwiseConv2d { quantizer, .. }
        | LayerOp::Dense { quantizer, .. } => quantizer.as_ref(),
        _ => None,
    }
}

fn he_normal(seed: u64, index: u64, len: usize, fan_in: usize) -> Vec<f32> {
    // 0.8796... is the standard deviation of a unit normal truncated at two.
    let deviation = (2.0 / fan_in as f64).sqrt() / 0.879_625_661_034_239_8;
    let mut rng = stream::stream(seed, Purpose::Weights, &[index]);
    let mut draw = || loop {
        let z = stream::normal_pair(&mut rng)[0];
        if z.abs() <= 2.0 {
            return (z * deviation) as f32;
        }
    };
    (0..len).map(|_| draw()).collect()
}
