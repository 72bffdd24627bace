//! The quantizers as one type: what they are called, how they apply, what they promise.

use std::fmt;

use kernels::Real;
use kernels::dispatch::vectorized;
use rand_chacha::ChaCha8Rng;

use crate::binary::{Binary, StochasticBinary};
use crate::bits::QuantizedBits;
use crate::elementwise::{Elementwise, Map};
use crate::error::QuantizeError;
use crate::group::Scratch;
use crate::linear::QuantizedLinear;
use crate::po2::QuantizedPo2;
use crate::relu::QuantizedRelu;
use crate::squash::QuantizedSquash;
use crate::stand_in::StandIn;
use crate::stream;
use crate::ternary::{Ternary, TernarySampling};

/// Which half of a network's life a quantizer runs in. It is explicit in every call; QKeras takes it from Keras' global
/// learning phase, which TensorFlow 2's `fit` leaves at 0 (= `Inference`), so that published "stochastic" results may
/// have been deterministic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Stochastic quantizers draw.
    Training,
    /// Deterministic (except `bernoulli`, which always draws).
    Inference,
}

/// How a scale is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Alpha {
    /// Scale 1. As a *kernel* quantizer QKeras turns it into `AutoPo2`: [`Quantizer::for_kernel`].
    #[default]
    None,
    /// This scale.
    Value(f64),
    /// Least-squares (for `quantized_bits` max-abs) scale per channel.
    Auto,
    /// The same, rounded to a power of two.
    AutoPo2,
}

impl Alpha {
    /// The scale that does not depend on data: 1 for `None`; absent for auto.
    pub fn fixed(self) -> Option<f64> {
        match self {
            Alpha::None => Some(1.0),
            Alpha::Value(value) => Some(value),
            Alpha::Auto | Alpha::AutoPo2 => None,
        }
    }

    /// True for `Auto` and `AutoPo2`.
    pub fn is_auto(self) -> bool {
        self.fixed().is_none()
    }

    pub(crate) fn for_kernel(&mut self) {
        if *self == Alpha::None {
            *self = Alpha::AutoPo2;
        }
    }
}

impl fmt::Display for Alpha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alpha::None => f.write_str("None"),
            Alpha::Value(value) => write!(f, "{value}"),
            Alpha::Auto => f.write_str("auto"),
            Alpha::AutoPo2 => f.write_str("auto_po2"),
        }
    }
}

/// A quantizer: real numbers to (code, scale). Its text form uses QKeras' names and keywords and parses back.
#[derive(Clone, Debug, PartialEq)]
pub enum Quantizer {
    /// `ternary`, `stochastic_ternary` and their variants.
    Ternary(Ternary),
    /// `binary`.
    Binary(Binary),
    /// `stochastic_binary` and `bernoulli`.
    StochasticBinary(StochasticBinary),
    /// `quantized_bits`.
    Bits(QuantizedBits),
    /// `quantized_linear`.
    Linear(QuantizedLinear),
    /// `quantized_relu`.
    Relu(QuantizedRelu),
    /// `quantized_tanh` and `quantized_sigmoid`.
    Squash(QuantizedSquash),
    /// `quantized_po2` and `quantized_relu_po2`.
    Po2(QuantizedPo2),
}

/// Where codes go, if they are wanted.
#[derive(Debug, Default)]
pub enum Codes<'a> {
    /// Nowhere.
    #[default]
    Skip,
    /// One byte each: anything up to 8 bits signed.
    I8(&'a mut [i8]),
    /// Any code.
    I32(&'a mut [i32]),
}

/// Where [`Quantizer::quantize`] writes.
#[derive(Debug)]
pub struct Quantized<'a, T> {
    /// The quantized values themselves, code * scale (not QKeras' x + (q - x)); as long as x.
    pub values: &'a mut [T],
    /// The codes; as long as x.
    pub codes: Codes<'a>,
    /// What the codes are multiplied by: one scale per index of the scaled axes (last axis unless the quantizer says
    /// otherwise), or a single one for elementwise quantizers.
    pub scales: &'a mut Vec<T>,
    /// Working memory to reuse between calls.
    pub scratch: &'a mut Scratch<T>,
}

/// One application, as the families see it. They leave codes (as real numbers) in `values` and scales in `scratch.scale`.
pub(crate) struct Call<'a, T> {
    pub(crate) quantizer: &'a Quantizer,
    pub(crate) x: &'a [T],
    pub(crate) shape: &'a [usize],
    pub(crate) phase: Phase,
    pub(crate) rng: Option<&'a mut ChaCha8Rng>,
    pub(crate) values: &'a mut [T],
    pub(crate) scratch: &'a mut Scratch<T>,
}

impl<T> Call<'_, T> {
    pub(crate) fn unsupported(&self, why: &'static str) -> QuantizeError {
        QuantizeError::Unsupported { quantizer: self.quantizer.to_string(), phase: self.phase, why }
    }

    pub(crate) fn needs_stream(&self) -> QuantizeError {
        QuantizeError::NeedsStream { quantizer: self.quantizer.to_string(), phase: self.phase }
    }
}

impl<T: Real> Call<'_, T> {
    /// From codes to values, mixed with x if `noise` is not 1.
    fn scale_codes(&mut self, noise: f64) {
        let n = T::from_f64(noise);
        let period = self.scratch.period();
        for (row, x) in self.values.chunks_mut(period).zip(self.x.chunks(period)) {
            for ((value, &x), &scale) in row.iter_mut().zip(x).zip(&self.scratch.scale) {
                let quantized = *value * scale;
                *value = if noise == 1.0 { quantized } else { x + n * (quantized - x) };
            }
        }
    }
}

impl Quantizer {
    /// The quantizer a layer really uses when it is given this one for its kernel: alpha none becomes auto_po2 (and
    /// `quantized_bits` symmetric), as in QKeras' `_set_trainable_parameter`. QKeras does it silently by changing the object.
    pub fn for_kernel(mut self) -> Self {
        match &mut self {
            Quantizer::Ternary(q) => q.alpha.for_kernel(),
            Quantizer::Binary(q) => q.alpha.for_kernel(),
            Quantizer::StochasticBinary(q) => q.alpha.for_kernel(),
            Quantizer::Bits(q) => {
                q.alpha.for_kernel();
                q.symmetric |= q.alpha.is_auto();
            }
            Quantizer::Linear(q) => {
                q.symmetric |= q.alpha == Alpha::None;
                q.alpha.for_kernel();
            }
            Quantizer::Relu(_) | Quantizer::Squash(_) | Quantizer::Po2(_) => {}
        }
        self
    }

    /// How the scale is chosen; `None` for quantizers without the parameter.
    pub fn alpha(&self) -> Alpha {
        match self {
            Quantizer::Ternary(q) => q.alpha,
            Quantizer::Binary(q) => q.alpha,
            Quantizer::StochasticBinary(q) => q.alpha,
            Quantizer::Bits(q) => q.alpha,
            Quantizer::Linear(q) => q.alpha,
            Quantizer::Relu(_) | Quantizer::Squash(_) | Quantizer::Po2(_) => Alpha::None,
        }
    }

    /// The prepared inference-phase form of a quantizer whose value depends on one element only; `None` for those with
    /// statistics (auto scales).
    pub fn elementwise(&self) -> Option<Elementwise> {
        // QKeras uses tanh as stand-in when there is no alpha.
        let tanh_unless_scaled = |alpha| if alpha == Alpha::None { StandIn::Tanh } else { StandIn::Identity };
        match self {
            Quantizer::Ternary(q) => {
                let step = q.alpha.fixed()?;
                let map = Map::Threshold(q.threshold_or_default());
                (q.sampling != TernarySampling::Rounding)
                    .then(|| Elementwise::new(map, step, -1, 1, tanh_unless_scaled(q.alpha)))
            }
            Quantizer::Binary(q) => {
                let low = if q.use_01 { 0 } else { -1 };
                let stand_in = tanh_unless_scaled(q.alpha);
                q.alpha.fixed().map(|step| Elementwise::new(Map::Sign, step, low, 1, stand_in))
            }
            Quantizer::StochasticBinary(q) => {
                let low = if q.bernoulli { 0 } else { -1 };
                let stand_in = if q.bernoulli { StandIn::Identity } else { tanh_unless_scaled(q.alpha) };
                q.alpha.fixed().map(|step| Elementwise::new(Map::Sign, step, low, 1, stand_in))
            }
            Quantizer::Bits(q) => q.elementwise(),
            Quantizer::Linear(q) => q.elementwise(),
            Quantizer::Relu(q) => Some(q.elementwise()),
            Quantizer::Squash(q) => Some(q.elementwise()),
            Quantizer::Po2(q) => Some(q.elementwise()),
        }
    }

    /// True if a value depends on its own element only, in both phases.
    pub fn is_elementwise(&self) -> bool {
        let statistics = matches!(self, Quantizer::Binary(q) if q.use_stochastic_rounding);
        !statistics && self.elementwise().is_some()
    }

    /// True if random numbers are drawn in [`Phase::Training`].
    pub fn is_stochastic(&self) -> bool {
        self.draws(Phase::Training)
    }

    /// True if random numbers are drawn in this phase.
    pub fn draws(&self, phase: Phase) -> bool {
        match self {
            Quantizer::Ternary(q) => q.draws(phase),
            Quantizer::Binary(q) => phase == Phase::Training && q.use_stochastic_rounding,
            Quantizer::StochasticBinary(q) => q.bernoulli || phase == Phase::Training,
            Quantizer::Bits(q) => phase == Phase::Training && q.use_stochastic_rounding && !q.alpha.is_auto(),
            Quantizer::Linear(q) => phase == Phase::Training && q.use_stochastic_rounding,
            Quantizer::Relu(q) => phase == Phase::Training && q.use_stochastic_rounding,
            Quantizer::Squash(q) => phase == Phase::Training && q.use_stochastic_rounding,
            Quantizer::Po2(q) => phase == Phase::Training && q.use_stochastic_rounding,
        }
    }

    /// What the inference phase makes of `x` of `shape`, in new memory.
    ///
    /// # Errors
    /// As [`quantize`](Self::quantize).
    pub fn inference_values<T: Real>(&self, x: &[T], shape: &[usize]) -> Result<Vec<T>, QuantizeError> {
        let (mut values, mut scales) = (x.to_vec(), Vec::new());
        let scratch = &mut Scratch::new();
        let out = Quantized { values: &mut values, codes: Codes::Skip, scales: &mut scales, scratch };
        self.quantize(x, shape, Phase::Inference, None, out)?;
        Ok(values)
    }

    /// Quantizes `x` of `shape` (NHWC activations, kernels `[kh, kw, cin, cout]`, dense `[in, out]`, biases `[n]`).
    ///
    /// A rank-1 tensor with an auto scale gets one scale per element, as in QKeras. After the first call with a shape nothing
    /// is allocated. Random numbers are read from `rng` in element order, one 32-bit word per element and unroll.
    ///
    /// # Errors
    /// Wrong slice lengths, a needed but missing `rng`, NaN or infinity where a scale has to be computed, codes that do not fit,
    /// and the combinations QKeras refuses with an assertion (a threshold with an auto scale, sampling without one).
    pub fn quantize<T: Real>(
        &self,
        x: &[T],
        shape: &[usize],
        phase: Phase,
        rng: Option<&mut ChaCha8Rng>,
        out: Quantized<'_, T>,
    ) -> Result<(), QuantizeError> {
        let Quantized { values, mut codes, scales, scratch } = out;
        let need = shape.iter().product();
        let code_count = match &codes {
            Codes::Skip => need,
            Codes::I8(c) => c.len(),
            Codes::I32(c) => c.len(),
        };
        for (what, got) in [("x", x.len()), ("values", values.len()), ("codes", code_count)] {
            if got != need {
                return Err(QuantizeError::Length { what, got, shape: shape.to_vec(), need });
            }
        }
        self.check_codes(&codes, phase)?;
        let draws = self.draws(phase);
        if !draws && let Some(elementwise) = self.elementwise() {
            if !matches!(codes, Codes::Skip) {
                elementwise.each(x, values, |_, code| code);
                store(values, &mut codes);
            }
            elementwise.values(x, values);
            scales.clear();
            scales.push(T::from_f64(elementwise.step()));
            return Ok(());
        }
        if draws && rng.is_none() {
            return Err(QuantizeError::NeedsStream { quantizer: self.to_string(), phase });
        }
        let mut call = Call { quantizer: self, x, shape, phase, rng, values, scratch };
        match self {
            Quantizer::Ternary(q) => q.quantize(&mut call)?,
            Quantizer::Binary(q) => q.quantize(&mut call)?,
            Quantizer::StochasticBinary(q) => q.quantize(&mut call)?,
            Quantizer::Bits(q) if q.alpha.is_auto() => q.quantize(&mut call)?,
            Quantizer::Linear(q) if q.alpha.is_auto() => q.quantize(&mut call)?,
            _ => return self.round_stochastically(&mut call, &mut codes, scales),
        }
        vectorized(|| store(call.values, &mut codes));
        call.scale_codes(self.auto_noise());
        call.scratch.report(scales);
        if self.alpha().fixed().is_some() {
            scales.truncate(1);
        }
        Ok(())
    }

    /// Stochastic rounding of an elementwise quantizer.
    fn round_stochastically<T: Real>(
        &self,
        call: &mut Call<'_, T>,
        codes: &mut Codes<'_>,
        scales: &mut Vec<T>,
    ) -> Result<(), QuantizeError> {
        let Some(elementwise) = self.elementwise() else {
            return Err(call.unsupported("stochastic rounding needs a fixed scale"));
        };
        let Some(rng) = call.rng.as_deref_mut() else { return Err(call.needs_stream()) };
        let mut words = [0u32; 256];
        for (row, out) in call.x.chunks(256).zip(call.values.chunks_mut(256)) {
            let words = &mut words[..row.len()];
            stream::fill_words(rng, words);
            for ((out, &v), &word) in out.iter_mut().zip(row).zip(&*words) {
                *out = elementwise.stochastic_code(v, T::from_f64(f64::from(stream::unit_f32(word))));
            }
        }
        store(call.values, codes);
        let step = elementwise.step() / f64::from(elementwise.halves);
        elementwise.finish_stochastic(call.x, call.values, T::from_f64(step));
        scales.clear();
        scales.push(T::from_f64(step));
        Ok(())
    }

    pub(crate) fn check_codes(&self, codes: &Codes<'_>, phase: Phase) -> Result<(), QuantizeError> {
        let (wanted, limit) = match codes {
            Codes::Skip => return Ok(()),
            Codes::I8(_) => ("i8", 128),
            Codes::I32(_) => ("i32", 1 << 30),
        };
        let fits = match self.elementwise() {
            Some(e) => e.grid().is_some_and(|grid| {
                let halves = if self.draws(phase) { e.halves } else { 1 };
                grid.min_code * halves >= -limit && grid.max_code * halves < limit
            }),
            // Searched scales have codes of at most +-2^(bits - 1), or 0..2^bits without negatives.
            None if self.unsigned_codes() => self.bits() < 8 || limit > 128,
            None => self.bits() <= 8 || limit > 128,
        };
        if fits { Ok(()) } else { Err(QuantizeError::Codes { quantizer: self.to_string(), wanted }) }
    }
}

/// Copies codes held as real numbers to where they are wanted.
#[inline(always)]
fn store<T: Real>(values: &[T], codes: &mut Codes<'_>) {
    match codes {
        Codes::Skip => {}
        Codes::I8(codes) => {
            for (code, &value) in codes.iter_mut().zip(values) {
                // Through i32: only that conversion vectorises everywhere.
                *code = value.to_f64() as i32 as i8;
            }
        }
        Codes::I32(codes) => {
            for (code, &value) in codes.iter_mut().zip(values) {
                *code = value.to_f64() as i32;
            }
        }
    }
}
