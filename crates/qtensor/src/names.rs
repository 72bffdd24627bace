//! Names and parameters of the quantizers, in QKeras' order and words: reading the text form.

use std::str::FromStr;

use crate::binary::{Binary, ScaleAxes, StochasticBinary};
use crate::bits::QuantizedBits;
use crate::error::ParseError;
use crate::linear::QuantizedLinear;
use crate::po2::QuantizedPo2;
use crate::quantizer::Quantizer;
use crate::relu::QuantizedRelu;
use crate::squash::{QuantizedSquash, Squash};
use crate::ternary::{Ternary, TernarySampling};
use crate::text::{Arguments, split_call};

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
            Ok(Quantizer::Binary(Binary {
                use_01: a.flag("use_01", false)?,
                alpha: a.alpha()?,
                use_stochastic_rounding: a.flag("use_stochastic_rounding", false)?,
                axes: scale_axes(a, true)?,
                po2_exponents: exponents(a)?,
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
            "elements_per_scale",
            "min_po2_exponent",
            "max_po2_exponent",
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
                axes: scale_axes(a, true)?,
                po2_exponents: exponents(a)?,
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
            Ok(Quantizer::Relu(QuantizedRelu {
                bits: bits(a)?,
                integer: integer(a)?,
                use_sigmoid: a.flag("use_sigmoid", false)?,
                negative_slope: negative_slope(a)?,
                use_stochastic_rounding: a.flag("use_stochastic_rounding", false)?,
                relu_upper_bound: a.optional_number("relu_upper_bound", |v| v > 0.0, "a positive number")?,
                is_quantized_clip: a.flag("is_quantized_clip", true)?,
                qnoise_factor: noise(a)?,
                use_ste: a.flag("use_ste", true)?,
            }))
        },
    },
    Entry {
        name: "quantized_linear",
        parameters: &[
            "bits",
            "integer",
            "symmetric",
            "keep_negative",
            "alpha",
            "use_stochastic_rounding",
            "scale_axis",
            "qnoise_factor",
        ],
        build: |a| {
            Ok(Quantizer::Linear(QuantizedLinear {
                bits: bits(a)?,
                integer: integer(a)?,
                symmetric: a.flag("symmetric", true)?,
                keep_negative: a.flag("keep_negative", true)?,
                alpha: a.alpha()?,
                use_stochastic_rounding: a.flag("use_stochastic_rounding", false)?,
                axes: scale_axes(a, false)?,
                qnoise_factor: noise(a)?,
            }))
        },
    },
    Entry {
        name: "quantized_tanh",
        parameters: &["bits", "use_stochastic_rounding", "symmetric", "use_real_tanh"],
        build: |a| {
            let function = if a.flag("use_real_tanh", false)? { Squash::Tanh } else { Squash::HardTanh };
            squash(a, function)
        },
    },
    Entry {
        name: "quantized_sigmoid",
        parameters: &["bits", "symmetric", "use_real_sigmoid", "use_stochastic_rounding"],
        build: |a| {
            let function =
                if a.flag("use_real_sigmoid", false)? { Squash::Sigmoid } else { Squash::HardSigmoid };
            squash(a, function)
        },
    },
    Entry {
        name: "quantized_po2",
        parameters: &[
            "bits",
            "max_value",
            "use_stochastic_rounding",
            "quadratic_approximation",
            "log2_rounding",
            "qnoise_factor",
            "use_ste",
        ],
        build: |a| po2(a, false, 0.0),
    },
    Entry {
        name: "quantized_relu_po2",
        parameters: &[
            "bits",
            "max_value",
            "negative_slope",
            "use_stochastic_rounding",
            "quadratic_approximation",
            "log2_rounding",
            "qnoise_factor",
            "use_ste",
        ],
        build: |a| po2(a, true, negative_slope(a)?),
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

fn exponents(a: &Arguments) -> Result<[Option<i32>; 2], ParseError> {
    let exponent = |keyword| {
        let whole = |v: f64| v.fract() == 0.0 && v.abs() <= 126.0;
        let found = a.optional_number(keyword, whole, "a whole number from -126 to 126")?;
        Ok(found.map(|v| v as i32))
    };
    Ok([exponent("min_po2_exponent")?, exponent("max_po2_exponent")?])
}

fn negative_slope(a: &Arguments) -> Result<f64, ParseError> {
    let allowed = |v: f64| v == 0.0 || ((1e-6..=1.0).contains(&v) && v.log2().fract() == 0.0);
    a.number("negative_slope", 0.0, allowed, "0 or a power of two up to 1")
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

fn squash(a: &Arguments, function: Squash) -> Result<Quantizer, ParseError> {
    Ok(Quantizer::Squash(QuantizedSquash {
        bits: bits(a)?,
        function,
        symmetric: a.flag("symmetric", false)?,
        use_stochastic_rounding: a.flag("use_stochastic_rounding", false)?,
    }))
}

fn po2(a: &Arguments, relu: bool, negative_slope: f64) -> Result<Quantizer, ParseError> {
    // Exponents of more than 8 bits leave the range of f32 altogether.
    let bits = a.integer("bits", 8, 2..=8, "a whole number from 2 to 8")? as u32;
    Ok(Quantizer::Po2(QuantizedPo2 {
        bits,
        max_value: a.optional_number("max_value", |v| v > 0.0, "a positive number")?,
        relu,
        negative_slope,
        use_stochastic_rounding: a.flag("use_stochastic_rounding", false)?,
        quadratic_approximation: a.flag("quadratic_approximation", false)?,
        floor: a.word("log2_rounding", &["rnd", "floor"], "rnd or floor")? == "floor",
        qnoise_factor: noise(a)?,
        use_ste: a.flag("use_ste", true)?,
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
    /// All names that parse.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ENTRIES.iter().map(|entry| entry.name)
    }
}
