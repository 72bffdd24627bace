//! The quantizers' text form: names, printing, serde.

use std::fmt;

use crate::quantizer::Quantizer;
use crate::squash::Squash;
use crate::ternary::TernarySampling;
use crate::text::Printer;

impl Quantizer {
    /// The name before the parenthesis of the text form.
    pub fn name(&self) -> &'static str {
        match self {
            Quantizer::Ternary(q) => match (q.sampling, q.depthwise) {
                (TernarySampling::None | TernarySampling::Rounding, false) => "ternary",
                (TernarySampling::None | TernarySampling::Rounding, true) => "depthwise_ternary",
                (TernarySampling::Sigmoid { .. }, false) => "stochastic_ternary",
                (TernarySampling::Sigmoid { .. }, true) => "depthwise_stochastic_ternary",
                (TernarySampling::Never { .. }, _) => "stochastic_ternary_deterministic",
                (TernarySampling::Unbiased, false) => "unbiased_stochastic_ternary",
                (TernarySampling::Unbiased, true) => "depthwise_unbiased_stochastic_ternary",
            },
            Quantizer::Binary(_) => "binary",
            Quantizer::StochasticBinary(q) if q.bernoulli => "bernoulli",
            Quantizer::StochasticBinary(_) => "stochastic_binary",
            Quantizer::Bits(_) => "quantized_bits",
            Quantizer::Linear(_) => "quantized_linear",
            Quantizer::Relu(_) => "quantized_relu",
            Quantizer::Squash(q) => match q.function {
                Squash::Tanh | Squash::HardTanh => "quantized_tanh",
                Squash::Sigmoid | Squash::HardSigmoid => "quantized_sigmoid",
            },
            Quantizer::Po2(q) if q.relu => "quantized_relu_po2",
            Quantizer::Po2(_) => "quantized_po2",
        }
    }
}

impl fmt::Display for Quantizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = Printer::new(f, self.name());
        match self {
            Quantizer::Ternary(q) => {
                let p = p.alpha(q.alpha).optional("threshold", q.threshold);
                let p = match q.sampling {
                    TernarySampling::None | TernarySampling::Unbiased => p,
                    TernarySampling::Rounding => p.flag("use_stochastic_rounding", true, false),
                    TernarySampling::Sigmoid { temperature, real } => {
                        p.keyword("temperature", temperature, 8.0).flag("use_real_sigmoid", real, true)
                    }
                    TernarySampling::Never { temperature } => p.keyword("temperature", temperature, 8.0),
                };
                p.keyword("number_of_unrolls", q.number_of_unrolls, 5).finish()
            }
            Quantizer::Binary(q) => p
                .flag("use_01", q.use_01, false)
                .alpha(q.alpha)
                .flag("use_stochastic_rounding", q.use_stochastic_rounding, false)
                .indices("scale_axis", &q.axes.scale_axis)
                .indices("elements_per_scale", &q.axes.elements_per_scale)
                .exponents(q.po2_exponents)
                .finish(),
            Quantizer::StochasticBinary(q) => p
                .alpha(q.alpha)
                .keyword("temperature", q.temperature, 6.0)
                .flag("use_real_sigmoid", q.use_real_sigmoid, true)
                .finish(),
            Quantizer::Bits(q) => p
                .positional(q.bits)
                .positional(q.integer)
                .positional(u8::from(q.symmetric))
                .flag("keep_negative", q.keep_negative, true)
                .alpha(q.alpha)
                .flag("use_stochastic_rounding", q.use_stochastic_rounding, false)
                .indices("scale_axis", &q.axes.scale_axis)
                .keyword("qnoise_factor", q.qnoise_factor, 1.0)
                .flag("use_ste", q.use_ste, true)
                .indices("elements_per_scale", &q.axes.elements_per_scale)
                .exponents(q.po2_exponents)
                .finish(),
            Quantizer::Linear(q) => p
                .positional(q.bits)
                .positional(q.integer)
                .positional(u8::from(q.symmetric))
                .flag("keep_negative", q.keep_negative, true)
                .alpha(q.alpha)
                .flag("use_stochastic_rounding", q.use_stochastic_rounding, false)
                .indices("scale_axis", &q.axes.scale_axis)
                .keyword("qnoise_factor", q.qnoise_factor, 1.0)
                .finish(),
            Quantizer::Squash(q) => p
                .positional(q.bits)
                .flag("symmetric", q.symmetric, false)
                .flag("use_real_tanh", q.function == Squash::Tanh, false)
                .flag("use_real_sigmoid", q.function == Squash::Sigmoid, false)
                .flag("use_stochastic_rounding", q.use_stochastic_rounding, false)
                .finish(),
            Quantizer::Po2(q) => p
                .positional(q.bits)
                .optional("max_value", q.max_value)
                .keyword("negative_slope", q.negative_slope, 0.0)
                .flag("use_stochastic_rounding", q.use_stochastic_rounding, false)
                .flag("quadratic_approximation", q.quadratic_approximation, false)
                .keyword("log2_rounding", if q.floor { "floor" } else { "rnd" }, "rnd")
                .keyword("qnoise_factor", q.qnoise_factor, 1.0)
                .flag("use_ste", q.use_ste, true)
                .finish(),
            Quantizer::Relu(q) => p
                .positional(q.bits)
                .positional(q.integer)
                .flag("use_sigmoid", q.use_sigmoid, false)
                .keyword("negative_slope", q.negative_slope, 0.0)
                .flag("use_stochastic_rounding", q.use_stochastic_rounding, false)
                .optional("relu_upper_bound", q.relu_upper_bound)
                .flag("is_quantized_clip", q.is_quantized_clip, true)
                .keyword("qnoise_factor", q.qnoise_factor, 1.0)
                .flag("use_ste", q.use_ste, true)
                .finish(),
        }
    }
}

impl serde::Serialize for Quantizer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Quantizer {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
