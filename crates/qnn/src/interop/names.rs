//! Where a file keeps each parameter: under which names, in which layout.

use std::collections::BTreeMap;

use super::Weights;
use super::weights::Tensor;
use crate::QnnError;
use crate::network::{LayerOp, Network};

/// Whose names a file uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `layer.kernel` (or `layer/kernel`), Keras' layouts.
    Ours,
    /// `layer.weight`, PyTorch's layouts.
    Torch,
    /// `conv2d_3.kernel`: Keras' automatic names, Keras' layouts.
    Keras,
}

/// Candidates for one parameter, and how to read what is found.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) names: Vec<String>,
    pub(super) layout: Layout,
}

/// How a tensor of the file becomes one of ours.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layout {
    Same,
    /// `[o, i, h, w]` to `[h, w, i, o]`; depthwise `[c, 1, h, w]` to `[h, w, c, 1]` moves the same axes otherwise.
    Conv,
    Depthwise,
    /// `[o, i]` to `[i, o]`, with `i` in the order `(c, h, w)` of this `[h, w, c]` to be put in the order `(h, w, c)`.
    Dense([usize; 3]),
}

impl Naming {
    /// The naming that fits most of the network's layers.
    pub(super) fn of(weights: &Weights, network: &Network) -> Self {
        let count = |suffix: &[&str]| {
            let has = |l: &&crate::Layer| {
                suffix.iter().any(|s| weights.tensor(&format!("{}{s}", l.name)).is_some())
            };
            network.layers.iter().filter(has).count()
        };
        let (ours, torch) = (count(&[".kernel", "/kernel", ".gamma", "/gamma"]), count(&[".weight"]));
        match (ours, torch) {
            (0, 0) => Self::Keras,
            (o, t) if t > o => Self::Torch,
            _ => Self::Ours,
        }
    }
}

/// One source per parameter, in the order of [`crate::Model::params`].
pub(super) fn sources(network: &Network, naming: Naming) -> Result<Vec<Source>, QnnError> {
    let shapes = network.shapes()?;
    let mut created = BTreeMap::<&str, usize>::new();
    let mut sources = Vec::new();
    for (i, (layer, shape)) in network.layers.iter().zip(&shapes).enumerate() {
        let class = match layer.op {
            LayerOp::Conv2d { .. } => "conv2d",
            LayerOp::DepthwiseConv2d { .. } => "depthwise_conv2d",
            LayerOp::Dense { .. } => "dense",
            LayerOp::BatchNorm { .. } => "batch_normalization",
            _ => continue,
        };
        let number = created.entry(class).or_default();
        let keras = if *number == 0 { class.to_owned() } else { format!("{class}_{number}") };
        *number += 1;
        for (suffix, _) in &shape.params {
            let name = &layer.name;
            let (names, layout) = match naming {
                Naming::Ours => (vec![format!("{name}.{suffix}"), format!("{name}/{suffix}")], Layout::Same),
                Naming::Keras => {
                    let kernel = *suffix == "kernel" && class == "depthwise_conv2d";
                    let variable = if kernel { "depthwise_kernel" } else { suffix };
                    (vec![format!("{keras}.{variable}"), format!("{keras}/{variable}")], Layout::Same)
                }
                Naming::Torch => {
                    let variable = match *suffix {
                        "kernel" | "gamma" => "weight",
                        "bias" | "beta" => "bias",
                        "moving_mean" => "running_mean",
                        _ => "running_var",
                    };
                    let layout = match (&layer.op, *suffix) {
                        (LayerOp::Conv2d { .. }, "kernel") => Layout::Conv,
                        (LayerOp::DepthwiseConv2d { .. }, "kernel") => Layout::Depthwise,
                        (LayerOp::Dense { .. }, "kernel") => Layout::Dense(flattened(network, &shapes, i)?),
                        _ => Layout::Same,
                    };
                    (vec![format!("{name}.{variable}")], layout)
                }
            };
            sources.push(Source { names, layout });
        }
    }
    Ok(sources)
}

/// The image `[h, w, c]` that a dense layer sees flattened; `[1, 1, n]` if there is none.
fn flattened(
    network: &Network,
    shapes: &crate::network::Shapes,
    dense: usize,
) -> Result<[usize; 3], QnnError> {
    let mut at = dense;
    loop {
        match (network.sources(at)?[0], &network.layers[at].op) {
            (_, LayerOp::Flatten) => return Ok(shapes[at].input),
            (Some(before), LayerOp::Dropout { .. } | LayerOp::Activation { .. }) => at = before,
            (Some(before), LayerOp::Dense { .. }) if at == dense => at = before,
            _ => return Ok([1, 1, shapes[dense].input.iter().product()]),
        }
    }
}

impl Layout {
    /// The tensor's values in our order, for a parameter of `shape`.
    pub(super) fn to_ours(self, tensor: &Tensor, shape: &[usize]) -> Result<Vec<f32>, String> {
        let theirs: Vec<usize> = match (self, shape) {
            (Self::Conv, &[h, w, i, o]) => vec![o, i, h, w],
            (Self::Depthwise, &[h, w, c, m]) => vec![c * m, 1, h, w],
            (Self::Dense(_), &[i, o]) => vec![o, i],
            _ => shape.to_vec(),
        };
        if tensor.shape != theirs || tensor.values.len() != shape.iter().product::<usize>() {
            return Err(format!("has shape {:?} where {theirs:?} is needed", tensor.shape));
        }
        let v = &tensor.values;
        let at = |index: &dyn Fn([usize; 4]) -> usize, dims: [usize; 4]| {
            let [a, b, c, d] = dims;
            let mut out = Vec::with_capacity(v.len());
            for n in 0..a * b * c * d {
                out.push(v[index([n / (b * c * d), n / (c * d) % b, n / d % c, n % d])]);
            }
            out
        };
        Ok(match (self, shape) {
            (Self::Conv, &[h, w, i, o]) => {
                at(&|[y, x, ci, co]| ((co * i + ci) * h + y) * w + x, [h, w, i, o])
            }
            (Self::Depthwise, &[h, w, c, m]) => {
                at(&|[y, x, ci, k]| ((ci * m + k) * h + y) * w + x, [h, w, c, m])
            }
            (Self::Dense([h, w, c]), &[i, o]) => {
                at(&|[y, x, ci, co]| co * i + (ci * h + y) * w + x, [h, w, c, o])
            }
            _ => v.clone(),
        })
    }
}
