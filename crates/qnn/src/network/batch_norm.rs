//! What quantized batch normalisation quantizes, and with what: QKeras' `QBatchNormalization`.

use qtensor::Quantizer;
use serde::{Deserialize, Serialize};

/// Quantizers of a batch normalisation, all straight-through; a field left out stays float.
///
/// As in QKeras' `QBatchNormalization`: in training the statistics of the batch are quantized and the moving ones are moved by
/// what they were before; in inference the moving ones are quantized. The variance is the biased one throughout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNormQuantizers {
    /// Of the scale.
    pub gamma: Option<Quantizer>,
    /// Of the shift.
    pub beta: Option<Quantizer>,
    /// Of the mean, batch or moving.
    pub mean: Option<Quantizer>,
    /// Of the variance, batch or moving.
    pub variance: Option<Quantizer>,
    /// Of `gamma / sqrt(variance + eps)`, the factor of the input; excludes those of gamma and variance. Of QKeras' main branch
    /// (0.9.0 on PyPI has none).
    pub inverse: Option<Quantizer>,
}

impl BatchNormQuantizers {
    /// What QKeras 0.9.0 uses where a layer is given none: powers of two everywhere, even ones for the variance, whose root is
    /// then a power of two as well. They have no zero: a shift or mean of 0 becomes 2^-8.
    pub fn qkeras() -> Self {
        let parse = |text: &str| Some(text.parse().expect("defaults are valid text"));
        Self {
            gamma: parse("quantized_relu_po2(6, 2048)"),
            beta: parse("quantized_po2(5)"),
            mean: parse("quantized_po2(5)"),
            variance: parse("quantized_relu_po2(6, quadratic_approximation=True)"),
            inverse: None,
        }
    }

    /// Those that are there, by what they quantize.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Quantizer)> {
        let all = [
            ("gamma", &self.gamma),
            ("beta", &self.beta),
            ("mean", &self.mean),
            ("variance", &self.variance),
            ("inverse", &self.inverse),
        ];
        all.into_iter().filter_map(|(name, q)| q.as_ref().map(|q| (name, q)))
    }

    /// What is wrong with the combination, if anything is.
    pub fn fault(&self) -> Option<String> {
        let twice = self.inverse.is_some() && (self.gamma.is_some() || self.variance.is_some());
        twice.then(|| {
            "a quantizer of the inverse deviation takes the place of those of gamma and variance".to_owned()
        })
    }
}

impl std::fmt::Display for BatchNormQuantizers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (name, quantizer)) in self.iter().enumerate() {
            write!(f, "{}{name} {quantizer}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
