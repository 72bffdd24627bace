//! Binary quantizers: `binary`, `stochastic_binary` and `bernoulli`. Source: QKeras 0.9.0 and git 78ea90f.

use kernels::Real;

use crate::bits::clip_exponents;
use crate::error::QuantizeError;
use crate::group::{Axes, Scratch};
use crate::math::{self, EPSILON};
use crate::quantizer::{Alpha, Call, Phase};
use crate::stream;

/// Which tensor axes carry scales of their own, where QKeras lets one choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScaleAxes {
    /// Axes with a scale per index; empty: the last axis.
    pub scale_axis: Vec<usize>,
    /// Consecutive indices that share a scale, one entry per axis; empty: 1.
    pub elements_per_scale: Vec<usize>,
}

impl ScaleAxes {
    pub(crate) fn axes(&self) -> Axes {
        if self.scale_axis.is_empty() {
            return Axes::Last;
        }
        let block = |i: usize| self.elements_per_scale.get(i).copied().unwrap_or(1);
        Axes::Listed(self.scale_axis.iter().enumerate().map(|(i, &axis)| (axis, block(i))).collect())
    }
}

/// `binary(use_01, alpha, use_stochastic_rounding, scale_axis, elements_per_scale, min_po2_exponent, max_po2_exponent)`:
/// value = scale * {-1, 1} (or {0, 1}); zero counts as positive.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// Codes {0, 1} instead of {-1, 1}.
    pub use_01: bool,
    /// How the scale is chosen.
    pub alpha: Alpha,
    /// In training, round x to multiples of a quarter of the channel's largest magnitude first, stochastically; zero becomes
    /// either sign.
    pub use_stochastic_rounding: bool,
    /// Axes with scales of their own (auto only).
    pub axes: ScaleAxes,
    /// Smallest and largest exponent of an auto_po2 scale.
    pub po2_exponents: [Option<i32>; 2],
}

/// `stochastic_binary(alpha, temperature, use_real_sigmoid)` and `bernoulli(...)`.
#[derive(Clone, Debug, PartialEq)]
pub struct StochasticBinary {
    /// How the scale is chosen.
    pub alpha: Alpha,
    /// Sharpness of p = sigmoid(temperature x / std).
    pub temperature: f64,
    /// False: the hard sigmoid.
    pub use_real_sigmoid: bool,
    /// `bernoulli`: codes {0, 1}, sampled in both phases.
    pub bernoulli: bool,
}

impl Binary {
    /// Scale per channel and code per element. Codes go to `call.values`.
    pub(crate) fn quantize<T: Real>(&self, call: &mut Call<'_, T>) -> Result<(), QuantizeError> {
        call.scratch.prepare(call.shape, &self.axes.axes())?;
        let po2 = self.alpha == Alpha::AutoPo2;
        let low = if self.use_01 { T::ZERO } else { -T::ONE };
        if self.use_stochastic_rounding && call.phase == Phase::Training {
            round_to_eighths(call, low)?;
        } else {
            for (out, &v) in call.values.iter_mut().zip(call.x) {
                *out = if math::sign_one(v) < T::ZERO { low } else { T::ONE };
            }
            call.scratch.least_squares_of(call.x, &*call.values, po2);
        }
        fixed_scale(call, self.alpha);
        if po2 {
            clip_exponents(&mut call.scratch.scale, self.po2_exponents);
        }
        Ok(())
    }
}

/// A number for alpha replaces whatever scale was computed.
fn fixed_scale<T: Real>(call: &mut Call<'_, T>, alpha: Alpha) {
    if let Some(value) = alpha.fixed() {
        call.scratch.scale.fill(T::from_f64(value));
    }
}

/// Stochastic rounding in training: with m = min(max|x|, 1) and f = 2m, x becomes f times a multiple of 1/8, and a zero
/// becomes either sign. The scale is fitted to the rounded values.
fn round_to_eighths<T: Real>(call: &mut Call<'_, T>, low: T) -> Result<(), QuantizeError> {
    call.scratch.max_abs(call.x)?;
    let Some(rng) = call.rng.as_deref_mut() else { return Err(call.needs_stream()) };
    let po2 = call.quantizer.alpha() == Alpha::AutoPo2;
    let scratch = &mut *call.scratch;
    let eighth = T::from_f64(0.125);
    for peak in &mut scratch.first {
        *peak = T::from_f64(2.0) * if *peak > T::ONE { T::ONE } else { *peak };
    }
    // An all-zero channel is 0/0 = NaN in QKeras; here its codes are random signs and its scale 0.
    let round = |v: T, f: T, u: T| {
        if f > T::ZERO {
            let eighths = v / f * T::from_f64(8.0);
            let floor = math::floor_small(eighths);
            (if u < eighths - floor { floor + T::ONE } else { floor }) * eighth * f
        } else {
            T::ZERO
        }
    };
    let period = scratch.period();
    for (row, out) in call.x.chunks(period).zip(call.values.chunks_mut(period)) {
        let words = &mut scratch.words[..row.len()];
        stream::fill_words(rng, words);
        for (((out, &v), &f), &word) in out.iter_mut().zip(row).zip(&scratch.first).zip(&*words) {
            // 24 bits round; the lowest bit chooses the sign of a zero, kept as the smallest normal number.
            let rounded = round(v, f, T::from_f64(f64::from(stream::unit_f32(word))));
            let tiny = math::min_positive::<T>();
            let coin = if word & 1 == 0 { -tiny } else { tiny };
            *out = if rounded == T::ZERO { coin } else { rounded };
        }
    }
    let code = |v: T| if v < T::ZERO { low } else { T::ONE };
    scratch.least_squares(&*call.values, po2, |v, _| code(v));
    for value in &mut *call.values {
        *value = code(*value);
    }
    Ok(())
}

impl StochasticBinary {
    /// Scale per channel and sampled code per element. Codes go to `call.values`.
    pub(crate) fn quantize<T: Real>(&self, call: &mut Call<'_, T>) -> Result<(), QuantizeError> {
        call.scratch.prepare(call.shape, &Axes::Last)?;
        let low = if self.bernoulli { T::ZERO } else { -T::ONE };
        let po2 = self.alpha == Alpha::AutoPo2;
        for (out, &v) in call.values.iter_mut().zip(call.x) {
            *out = if math::sign_one(v) < T::ZERO { low } else { T::ONE };
        }
        call.scratch.least_squares_of(call.x, &*call.values, po2);
        if !(self.bernoulli || call.phase == Phase::Training) {
            fixed_scale(call, self.alpha);
            return Ok(());
        }
        let temperature = T::from_f64(self.temperature);
        if self.alpha.is_auto() {
            call.scratch.std_dev(call.x);
            for slope in &mut call.scratch.second {
                *slope = temperature / (*slope + T::from_f64(EPSILON));
            }
        } else {
            call.scratch.second.fill(temperature);
        }
        fixed_scale(call, self.alpha);
        if self.use_real_sigmoid {
            draw(call, low, math::sigmoid_f32)
        } else {
            draw(call, low, math::hard_sigmoid)
        }
    }
}

#[inline(always)]
fn draw<T: Real>(call: &mut Call<'_, T>, low: T, sigmoid: impl Fn(f32) -> f32) -> Result<(), QuantizeError> {
    let Some(rng) = call.rng.as_deref_mut() else { return Err(call.needs_stream()) };
    let Scratch { words, second, .. } = &mut *call.scratch;
    let period = second.len();
    for (row, out) in call.x.chunks(period).zip(call.values.chunks_mut(period)) {
        let words = &mut words[..row.len()];
        stream::fill_words(rng, words);
        for (((out, &v), &slope), &word) in out.iter_mut().zip(row).zip(&*second).zip(&*words) {
            let p = sigmoid((v * slope).to_f64() as f32);
            *out = if stream::unit_f32(word) < p { T::ONE } else { low };
        }
    }
    Ok(())
}
