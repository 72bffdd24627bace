//! `[network]`: which network of the zoo, with which quantizers, and what it starts from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use qnn::network::BatchNormQuantizers;
use qnn::zoo::{Quantizers, Twin};
use qtensor::Quantizer;
use serde::{Deserialize, Serialize};

use super::Eps;

/// `[network]`: a network of the zoo and its quantizers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkPart {
    /// Name in `qnn::zoo`, such as `stq_image_s`.
    pub name: String,
    /// Precision twin: `stq`, `stq_deterministic`, `stochastic_binary`, `eight_bit` or `float`.
    pub twin: Twin,
    /// Weight quantizer in text form instead of the twin's; `"none"` for float weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Activation quantizer in text form instead of the twin's; `"none"` for a plain ReLU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activations: Option<String>,
    /// Quantizer of all biases in text form, such as `quantized_bits(8, 0)`; they are float without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub biases: Option<String>,
    /// Quantizers of every batch normalisation, QKeras' `QBatchNormalization`; they are float without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_norms: Option<BatchNormPart>,
    /// Quantizers of single layers in text form, such as `conv1 = "quantized_bits(8, 0, alpha=auto)"`, or `"none"`: of a
    /// layer's kernel, or of an activation such as `conv1_act`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub layers: BTreeMap<String, String>,
    /// Dilations of single convolutions, such as `conv3 = [2, 2]`: QKeras' `dilation_rate`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dilations: BTreeMap<String, [usize; 2]>,
    /// Depth multipliers of single depthwise convolutions, such as `dw1 = 2`: QKeras' `depth_multiplier`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub multipliers: BTreeMap<String, usize>,
    /// Parameters to start from instead of random ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartPart>,
    /// Bits per layer chosen from adversarial noise sensitivity, instead of the twin's weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<SensitivityPart>,
}

/// `[network.batch_norms]`: quantizers in text form; what is left out stays float.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNormPart {
    /// True starts from QKeras' defaults (powers of two for all four); the other keys replace them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub qkeras: bool,
    /// Quantizer of the scale, or `"none"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma: Option<String>,
    /// Quantizer of the shift, or `"none"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta: Option<String>,
    /// Quantizer of the mean, batch or moving, or `"none"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<String>,
    /// Quantizer of the variance, batch or moving, or `"none"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variance: Option<String>,
    /// Quantizer of `gamma / sqrt(variance + eps)`, which excludes those of gamma and variance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inverse: Option<String>,
}

/// `[network.start]`: a float or quantized model of the same layers, trained here or elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartPart {
    /// Safetensors file (our names, PyTorch's or Keras'), or a model file of ours.
    pub file: PathBuf,
    /// SHA-256 of the file in hexadecimal digits: the recipe says what it starts from, not only where that lies.
    pub sha256: String,
}

/// `[network.sensitivity]`: bits per layer in the manner of QUANOS, for `stq_image_s` and `stq_image_l`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SensitivityPart {
    /// Direction of the rule, which is not public.
    pub rule: BitRule,
    /// Epochs of training with 8-bit weights before sensitivity is measured.
    pub epochs: u32,
    /// Training samples it is measured on.
    pub samples: usize,
    /// Size of the FGSM perturbation.
    pub eps: Eps,
    /// Fewest bits of a layer.
    pub min_bits: u32,
    /// Most bits of a layer.
    pub max_bits: u32,
}

/// Which layers get more bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BitRule {
    /// Sensitive layers keep precision.
    MoreBitsIfSensitive,
    /// Sensitive layers lose precision, which filters the noise.
    FewerBitsIfSensitive,
}

/// A layer's name and its quantizer, `None` for float.
pub type LayerQuantizer<'a> = (&'a str, Option<Quantizer>);

/// A quantizer's text, `"none"`, or what stands where nothing is said.
fn choose(
    key: &'static str,
    text: &Option<String>,
    otherwise: Option<Quantizer>,
) -> Result<Option<Quantizer>, (&'static str, String)> {
    match text.as_deref() {
        None => Ok(otherwise),
        Some("none") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|e| (key, format!("`{text}`: {e}"))),
    }
}

impl BatchNormPart {
    /// # Errors
    /// The key and what is wrong with its text.
    fn quantizers(&self) -> Result<BatchNormQuantizers, (&'static str, String)> {
        let start = if self.qkeras { BatchNormQuantizers::qkeras() } else { BatchNormQuantizers::default() };
        let all = BatchNormQuantizers {
            gamma: choose("network.batch_norms.gamma", &self.gamma, start.gamma)?,
            beta: choose("network.batch_norms.beta", &self.beta, start.beta)?,
            mean: choose("network.batch_norms.mean", &self.mean, start.mean)?,
            variance: choose("network.batch_norms.variance", &self.variance, start.variance)?,
            inverse: choose("network.batch_norms.inverse", &self.inverse, start.inverse)?,
        };
        match all.fault() {
            Some(reason) => Err(("network.batch_norms.inverse", reason)),
            None => Ok(all),
        }
    }
}

impl NetworkPart {
    /// The quantizers of single layers.
    ///
    /// # Errors
    /// The layer and what is wrong with its text.
    pub fn layer_quantizers(&self) -> Result<Vec<LayerQuantizer<'_>>, (String, String)> {
        let read = |(layer, text): (&'_ String, &'_ String)| match text.as_str() {
            "none" => Ok(None),
            text => text
                .parse::<Quantizer>()
                .map(Some)
                .map_err(|e| (format!("network.layers.{layer}"), format!("`{text}`: {e}"))),
        };
        self.layers.iter().map(|entry| Ok((entry.0.as_str(), read(entry)?))).collect()
    }

    /// The twin's quantizers with this part's own put in their place.
    ///
    /// # Errors
    /// The key and what is wrong with its text.
    pub fn quantizers(&self) -> Result<Quantizers, (&'static str, String)> {
        let twin = self.twin.quantizers();
        Ok(Quantizers {
            weights: choose("network.weights", &self.weights, twin.weights)?,
            activations: choose("network.activations", &self.activations, twin.activations)?,
            biases: choose("network.biases", &self.biases, twin.biases)?,
            batch_norms: self.batch_norms.as_ref().map(BatchNormPart::quantizers).transpose()?,
        })
    }

    /// The precision in words.
    pub fn twin_name(&self) -> &'static str {
        if self.sensitivity.is_some() {
            return "bits by sensitivity";
        }
        match self.twin {
            Twin::Stq => "stochastic ternary",
            Twin::StqDeterministic => "deterministic ternary",
            Twin::StochasticBinary => "stochastic binary",
            Twin::EightBit => "8-bit",
            Twin::Float => "float",
        }
    }
}
