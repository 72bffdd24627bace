//! Names and parameters of the quantizers: parsing and printing, in QKeras' order and words.

use std::fmt;
use std::str::FromStr;

use crate::binary::{Binary, ScaleAxes, StochasticBinary};
use crate::bits::QuantizedBits;
use crate::error::ParseError;
use crate::quantizer::Quantizer;
use crate::relu::QuantizedRelu;
use crate::ternary::{Ternary, TernarySampling};
use crate::text::{Arguments, Printer, split_call};

type Build = fn(&Arguments) -> Result<Quantizer, ParseError>;

/// A name, its parameters in positional order, and how to build it.
struct Entry {
    name: &'static str,
    parameters: &'static [&'static str],
    build: Build,
}

const TERNARY: &[&str] = &["alpha", "threshold", "use_stochastic_rounding", "number_of_unrolls"];
const STOCHASTIC_TERNARY: &[&str] =
    &["alpha", "threshold", "temperature", "use_real_sigmoid", "number_of_unrolls"];
const UNBIASED: &[&str] = &["alpha", "number_of_unrolls"];
const STOCHASTIC_BINARY: &[&str] = &["alpha", "temperature", "use_real_sigmoid"];

const ENTRIES: &[Entry] = &[
    Entry { name: "ternary", parameters: TERNARY, build: |a| ternary(a, false) },
    Entry {
        name: "stochastic_ternary",
        parameters: STOCHASTIC_TERNARY,
        build: |a| stochastic_ternary(a, false),
    },
    Entry {
        name: "stochastic_ternary_deterministic",
        parameters: STOCHASTIC_TERNARY,
        build: |a| {
            let mut q = base_ternary(a, false)?;
            q.sampling = TernarySampling::Never { temperature: temperature(a, 8.0)? };
            Ok(Quantizer::Ternary(q))
        },
    },
    Entry { name: "unbiased_stochastic_ternary", parameters: UNBIASED, build: |a| unbiased(a, false) },
    Entry { name: "depthwise_ternary", parameters: TERNARY, build: |a| ternary(a, true) },
    Entry {
        name: "depthwise_stochastic_ternary",
        parameters: STOCHASTIC_TERNARY,
        build: |a| stochastic_ternary(a, true),
    },
    Entry {
        name: "depthwise_unbiased_stochastic_ternary",
        parameters: UNBIASED,
        build: |a| unbiased(a, true),
    },
    Entry {
        name: "binary",
        parameters: &[
            "use_01",
            "alpha",
            "use_stochastic_rounding",
            "scale_axis",
            "elements_per_scale",
            "min_po2_exponent",
            "max_po2_exponent",
        ],
        build: |a| {
            let exponent = |keyword| {
                let whole = |v: f64| v.fract() == 0.0 && v.abs() <= 126.0;
                let found = a.optional_number(keyword, whole, "a whole number from -126 to 126")?;
                Ok(found.map(|v| v as i32))
            };
            Ok(Quantizer::Binary(Binary {
                use_01: a.flag("use_01", false)?,
                alpha: a.alpha()?,
                use_stochastic_rounding: a.flag("use_stochastic_rounding", false)?,
                axes: scale_axes(a, true)?,
                min_po2_exponent: exponent("min_po2_exponent")?,
                max_po2_exponent: exponent("max_po2_exponent")?,
            }))
        },
    },
    Entry {
        name: "stochastic_binary",
        parameters: STOCHASTIC_BINARY,
        build: |a| stochastic_binary(a, false),
    },
    Entry { name: "bernoulli", parameters: STOCHASTIC_BINARY, build: |a| stochastic_binary(a, true) },
    Entry {
        name: "quantized_bits",
        parameters: &[
            "bits",
            "integer",
            "symmetric",
            "keep_negative",
            "alpha",
            "use_stochastic_rounding",
            "scale_axis",
            "qnoise_factor",
            "use_ste",
        ],
        build: |a| {
            let keep_negative = a.flag("keep_negative", true)?;
            let alpha = a.alpha()?;
            Ok(Quantizer::Bits(QuantizedBits {
                bits: bits(a)?,
                integer: integer(a)?,
                symmetric: a.flag("symmetric", false)? || alpha.is_auto(),
                keep_negative,
                alpha,
                use_stochastic_rounding: a.flag("use_stochastic_rounding", false)?,
                axes: scale_axes(a, false)?,
                qnoise_factor: noise(a)?,
                use_ste: a.flag("use_ste", true)?,
            }))
        },
    },
    Entry {
        name: "quantized_relu",
        parameters: &[
            "bits",
            "integer",
            "use_sigmoid",
            "negative_slope",
            "use_stochastic_rounding",
            "relu_upper_bound",
            "is_quantized_clip",
            "qnoise_factor",
            "use_ste",
        ],
        build: |a| {
            let slope = |v: f64| v == 0.0 || (v > 0.0 && v <= 1.0 && v.log2().fract() == 0.0 && v >= 1e-6);
            let negative_slope = a.number("negative_slope", 0.0, slope, "0 or a power of two up to 1")?;
            Ok(Quantizer::Relu(QuantizedRelu {
                bits: bits(a)?,
                integer: integer(a)?,
                use_sigmoid: a.flag("use_sigmoid", false)?,
                negative_slope,
                use_stochastic_rounding: a.flag("use_stochastic_rounding", false)?,
                relu_upper_bound: a.optional_number("relu_upper_bound", |v| v > 0.0, "a positive number")?,
                is_quantized_clip: a.flag("is_quantized_clip", true)?,
                qnoise_factor: noise(a)?,
                use_ste: a.flag("use_ste", true)?,
            }))
        },
    },
];

/// Largest width of a code: f32 then still holds every code exactly and rounding stays in its fast range.
const MAX_BITS: i32 = 22;

fn bits(a: &Arguments) -> Result<u32, ParseError> {
    Ok(a.integer("bits", 8, 1..=MAX_BITS, "a whole number from 1 to 22")? as u32)
}

fn integer(a: &Arguments) -> Result<i32, ParseError> {
    a.integer("integer", 0, -64..=64, "a whole number from -64 to 64")
}

fn noise(a: &Arguments) -> Result<f64, ParseError> {
    a.number("qnoise_factor", 1.0, |v| (0.0..=1.0).contains(&v), "a number from 0 to 1")
}

fn temperature(a: &Arguments, default: f64) -> Result<f64, ParseError> {
    a.number("temperature", default, |v| v >= 0.0, "a number that is not negative")
}

fn unrolls(a: &Arguments) -> Result<u32, ParseError> {
    Ok(a.integer("number_of_unrolls", 5, 1..=1000, "a whole number from 1 to 1000")? as u32)
}

fn scale_axes(a: &Arguments, blocks: bool) -> Result<ScaleAxes, ParseError> {
    let scale_axis = a.indices("scale_axis")?;
    let elements_per_scale = if blocks { a.indices("elements_per_scale")? } else { Vec::new() };
    if !elements_per_scale.is_empty() && elements_per_scale.len() != scale_axis.len() {
        return Err(ParseError::BadValue {
            quantizer: a.name(),
            keyword: "elements_per_scale",
            value: format!("{elements_per_scale:?}"),
            expected: "as long as scale_axis",
        });
    }
    Ok(ScaleAxes { scale_axis, elements_per_scale })
}

fn base_ternary(a: &Arguments, depthwise: bool) -> Result<Ternary, ParseError> {
    Ok(Ternary {
        alpha: a.alpha()?,
        threshold: a.optional_number("threshold", |v| v >= 0.0, "a number that is not negative")?,
        number_of_unrolls: unrolls(a)?,
        sampling: TernarySampling::None,
        depthwise,
    })
}

fn ternary(a: &Arguments, depthwise: bool) -> Result<Quantizer, ParseError> {
    let mut q = base_ternary(a, depthwise)?;
    if a.flag("use_stochastic_rounding", false)? {
        q.sampling = TernarySampling::Rounding;
    }
    Ok(Quantizer::Ternary(q))
}

fn stochastic_ternary(a: &Arguments, depthwise: bool) -> Result<Quantizer, ParseError> {
    let mut q = base_ternary(a, depthwise)?;
    let real = a.flag("use_real_sigmoid", true)?;
    q.sampling = TernarySampling::Sigmoid { temperature: temperature(a, 8.0)?, real };
    Ok(Quantizer::Ternary(q))
}

fn unbiased(a: &Arguments, depthwise: bool) -> Result<Quantizer, ParseError> {
    let mut q = base_ternary(a, depthwise)?;
    q.sampling = TernarySampling::Unbiased;
    Ok(Quantizer::Ternary(q))
}

fn stochastic_binary(a: &Arguments, bernoulli: bool) -> Result<Quantizer, ParseError> {
    Ok(Quantizer::StochasticBinary(StochasticBinary {
        alpha: a.alpha()?,
        temperature: temperature(a, 6.0)?,
        use_real_sigmoid: a.flag("use_real_sigmoid", true)?,
        bernoulli,
    }))
}

impl FromStr for Quantizer {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (name, inside) = split_call(text)?;
        let Some(entry) = ENTRIES.iter().find(|entry| entry.name == name) else {
            let known: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
            return Err(ParseError::UnknownName { name: name.to_owned(), known: known.join(", ") });
        };
        (entry.build)(&Arguments::bind(entry.name, entry.parameters, inside)?)
    }
}

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
            Quantizer::Relu(_) => "quantized_relu",
        }
    }

    /// All names that parse.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ENTRIES.iter().map(|entry| entry.name)
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
                .optional("min_po2_exponent", q.min_po2_exponent.map(f64::from))
                .optional("max_po2_exponent", q.max_po2_exponent.map(f64::from))
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
