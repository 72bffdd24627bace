//! Networks by name. The topologies called `stq_*` are ours: those of arXiv 2503.08973 are not public.

mod mlperf;
mod quanos;
mod stq;

pub use mlperf::{ds_cnn, resnet8};
pub use quanos::quanos;
pub use stq::{stq_audio, stq_image};

use qtensor::Quantizer;
use serde::{Deserialize, Serialize};

use crate::QnnError;
use crate::network::{BatchNormQuantizers, InputGrid, Network};

/// Width of an `stq_*` network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// Small: at most 96 KB deployed for images, 32 KB for audio.
    S,
    /// Large: at most 410 KB deployed, the size arXiv 2503.08973 reports.
    L,
}

/// Quantizers of a network's kernels and activations; `None` is float.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantizers {
    /// Kernel quantizer of every convolution and dense layer.
    pub weights: Option<Quantizer>,
    /// Elementwise quantizer after every batch normalisation; `None` is plain ReLU.
    pub activations: Option<Quantizer>,
    /// Quantizer of every bias; no twin has one.
    #[serde(default)]
    pub biases: Option<Quantizer>,
    /// Quantizers of every batch normalisation; no twin has any.
    #[serde(default)]
    pub batch_norms: Option<BatchNormQuantizers>,
}

/// The precision variants ("twins") of one topology that the study compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Twin {
    /// Stochastic ternary weights, sampled while training, deterministic at inference; 8-bit activations.
    Stq,
    /// The other reading of STQ: the same scale search, never sampled (what QKeras does in TensorFlow 2 `fit`).
    StqDeterministic,
    /// Stochastic binary weights, sampled while training; 8-bit activations.
    StochasticBinary,
    /// 8-bit weights with one scale per output channel; 8-bit activations.
    EightBit,
    /// Float weights and ReLU.
    Float,
}

impl Twin {
    /// The quantizers of this twin.
    pub fn quantizers(self) -> Quantizers {
        let weights = match self {
            Self::Stq => "stochastic_ternary(alpha=auto)",
            Self::StqDeterministic => "stochastic_ternary_deterministic(alpha=auto)",
            Self::StochasticBinary => "stochastic_binary(alpha=auto)",
            Self::EightBit => "quantized_bits(8, 0, alpha=auto)",
            Self::Float => return Quantizers::default(),
        };
        let parse = |s: &str| s.parse::<Quantizer>().expect("zoo quantizers are valid text");
        Quantizers {
            weights: Some(parse(weights)),
            activations: Some(parse("quantized_relu(8, 2)")),
            biases: None,
            batch_norms: None,
        }
    }
}

/// Names accepted by [`build`].
pub const NAMES: [&str; 6] =
    ["stq_image_s", "stq_image_l", "stq_audio_s", "stq_audio_l", "resnet8", "ds_cnn"];

/// Builds a network by name for an input of shape `[h, w, c]` on `grid` with `classes` classes.
pub fn build(
    name: &str,
    input: [usize; 3],
    grid: InputGrid,
    classes: usize,
    q: &Quantizers,
) -> Result<Network, QnnError> {
    let mut net = match name {
        "stq_image_s" => stq_image(Size::S, input, grid, classes, q),
        "stq_image_l" => stq_image(Size::L, input, grid, classes, q),
        "stq_audio_s" => stq_audio(Size::S, input, grid, classes, q),
        "stq_audio_l" => stq_audio(Size::L, input, grid, classes, q),
        "resnet8" => resnet8(input, grid, classes, q),
        "ds_cnn" => ds_cnn(input, grid, classes, q),
        _ => {
            return Err(QnnError::Config(format!("no network `{name}`; there are {}", NAMES.join(", "))));
        }
    };
    net.quantize_biases(&q.biases);
    net.quantize_batch_norms(&q.batch_norms);
    net.shapes()?;
    Ok(net)
}
