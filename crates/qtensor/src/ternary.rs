//! Ternary quantizers: deterministic, stochastic as QKeras samples them, and our better variants under names of their own.
//! Source: QKeras 0.9.0 `ternary` and `stochastic_ternary`; Li et al., arXiv 1605.04711 for the scale search.

use kernels::Real;
use kernels::dispatch::{EveryPath, on_every_path};

use crate::error::QuantizeError;
use crate::group::{Axes, Scratch};
use crate::math::{self, EPSILON};
use crate::quantizer::{Alpha, Call, Phase};
use crate::stream;

/// How a ternary quantizer decides in [`Phase::Training`]. In [`Phase::Inference`] all decide alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TernarySampling {
    /// `ternary`: as at inference.
    None,
    /// `ternary(use_stochastic_rounding=1)`: x/scale is rounded stochastically to multiples of 1/3 in every unroll.
    Rounding,
    /// `stochastic_ternary`: two Bernoulli draws with p = sigmoid(temperature (x -+ scale/2) / std).
    Sigmoid {
        /// Sharpness; larger is closer to deterministic.
        temperature: f64,
        /// False: the hard sigmoid clip(z/2 + 1/2, 0, 1).
        real: bool,
    },
    /// `stochastic_ternary_deterministic`: never samples. It is what QKeras' `stochastic_ternary` does inside TensorFlow 2's
    /// `fit`, where the learning phase stays 0; the temperature is kept for the record and used by nothing.
    Never {
        /// The unused temperature.
        temperature: f64,
    },
    /// `unbiased_stochastic_ternary`: scale = max|x| of the channel and P(sign x) = |x| / scale, so that `E[y] = x`
    /// (TernGrad, arXiv 1705.07878). QKeras' sampling shrinks: `E[y]` is about 0.8 x for normal weights.
    Unbiased,
}

/// A ternary quantizer: value = scale * {-1, 0, 1}.
#[derive(Clone, Debug, PartialEq)]
pub struct Ternary {
    /// How the scale is chosen.
    pub alpha: Alpha,
    /// Dead band |x| < threshold for alpha none or a number; 0.33 if absent. Must be absent for auto scales.
    pub threshold: Option<f64>,
    /// How often the search alternates between threshold and scale; at least 1.
    pub number_of_unrolls: u32,
    /// What happens in training.
    pub sampling: TernarySampling,
    /// True (`depthwise_` names): one scale per channel of a depthwise kernel [kh, kw, c, multiplier], where QKeras has one
    /// for the whole kernel.
    pub depthwise: bool,
}

/// QKeras' dead band for alpha none (not 1/3).
pub(crate) const DEFAULT_THRESHOLD: f64 = 0.33;

impl Ternary {
    pub(crate) fn threshold_or_default(&self) -> f64 {
        self.threshold.unwrap_or(DEFAULT_THRESHOLD)
    }

    pub(crate) fn draws(&self, phase: Phase) -> bool {
        phase == Phase::Training
            && match self.sampling {
                TernarySampling::None | TernarySampling::Never { .. } => false,
                TernarySampling::Rounding | TernarySampling::Sigmoid { .. } | TernarySampling::Unbiased => {
                    true
                }
            }
    }

    /// Scale per channel and trit per element. Codes go to `call.values`.
    pub(crate) fn quantize<T: Real>(&self, call: &mut Call<'_, T>) -> Result<(), QuantizeError> {
        let po2 = match self.alpha {
            Alpha::Auto => false,
            Alpha::AutoPo2 => true,
            // Elementwise; the caller has dealt with the deterministic ones.
            Alpha::None | Alpha::Value(_) => {
                return Err(call.unsupported("sampling needs alpha=auto or auto_po2"));
            }
        };
        let axes = if self.depthwise { Axes::LastTwo } else { Axes::Last };
        call.scratch.prepare(call.shape, &axes)?;
        if call.phase == Phase::Training
            && let TernarySampling::Sigmoid { temperature, real } = self.sampling
        {
            // QKeras ignores the threshold here.
            self.initial_scale(call, po2)?;
            for _ in 0..self.number_of_unrolls {
                search(call.scratch, call.x, po2, |a, threshold| a >= threshold);
            }
            return sample(call, temperature, real);
        }
        if self.threshold.is_some() {
            return Err(call.unsupported("a threshold needs alpha to be absent or a number"));
        }
        match (call.phase, self.sampling) {
            (Phase::Training, TernarySampling::Rounding) => self.round_stochastically(call, po2),
            (Phase::Training, TernarySampling::Unbiased) => unbiased(call, po2),
            _ => {
                self.initial_scale(call, po2)?;
                for _ in 0..self.number_of_unrolls {
                    search(call.scratch, call.x, po2, above);
                }
                // The codes belong to the scale before the last update, as in QKeras.
                let thresholds = &call.scratch.first;
                for (row, out) in
                    call.x.chunks(thresholds.len()).zip(call.values.chunks_mut(thresholds.len()))
                {
                    for ((out, &v), &threshold) in out.iter_mut().zip(row).zip(thresholds) {
                        *out = trit(v, above(math::abs(v), threshold));
                    }
                }
                Ok(())
            }
        }
    }

    /// 2 max|x| / 3 per group, into `scale`: exact for a uniform distribution.
    fn initial_scale<T: Real>(&self, call: &mut Call<'_, T>, po2: bool) -> Result<(), QuantizeError> {
        call.scratch.max_abs(call.x)?;
        let Scratch { scale, first, .. } = &mut *call.scratch;
        for (scale, &peak) in scale.iter_mut().zip(&*first) {
            let s = T::from_f64(2.0) * peak / T::from_f64(3.0);
            *scale = if po2 { math::round_to_po2(s) } else { s };
        }
        Ok(())
    }

    fn round_stochastically<T: Real>(&self, call: &mut Call<'_, T>, po2: bool) -> Result<(), QuantizeError> {
        self.initial_scale(call, po2)?;
        for _ in 0..self.number_of_unrolls {
            let Some(rng) = call.rng.as_deref_mut() else { return Err(call.needs_stream()) };
            let scratch = &mut *call.scratch;
            let period = scratch.period();
            for (row, out) in call.x.chunks(period).zip(call.values.chunks_mut(period)) {
                let words = &mut scratch.words[..row.len()];
                stream::fill_words(rng, words);
                for (((out, &v), &scale), &word) in out.iter_mut().zip(row).zip(&scratch.scale).zip(&*words) {
                    // Multiples of 1/3 at or above 1/2 are those from 2/3 on: |v| = (j + fraction)/3 becomes one of them
                    // when the rounded index is at least 2.
                    let thirds = T::from_f64(3.0) * math::abs(v) / scale;
                    let up = T::from_f64(f64::from(stream::unit_f32(word))) < thirds - T::ONE;
                    *out = trit(v, up);
                }
            }
            scratch.least_squares_of(call.x, &*call.values, po2);
        }
        Ok(())
    }
}

/// One alternation: threshold = scale/2 into `first`, then the least-squares scale of the codes it gives.
#[inline(always)]
fn search<T: Real>(scratch: &mut Scratch<T>, x: &[T], po2: bool, keep: impl Fn(T, T) -> bool) {
    let half = T::from_f64(0.5);
    for (threshold, &scale) in scratch.first.iter_mut().zip(&scratch.scale) {
        *threshold = half * scale;
    }
    scratch.least_squares(x, po2, |v, threshold| trit(v, keep(math::abs(v), threshold)));
}

/// The inference rule: strictly above, and nothing where the scale is 0 (QKeras' x/0 becomes NaN and compares false).
#[inline(always)]
fn above<T: Real>(magnitude: T, threshold: T) -> bool {
    magnitude > threshold && threshold > T::ZERO
}

/// sign(x) if kept, else 0.
#[inline(always)]
fn trit<T: Real>(x: T, keep: bool) -> T {
    let sign = math::sign(x);
    if keep { sign } else { T::ZERO }
}

/// QKeras' two Bernoulli draws as one: P(1) = p0 p1, P(-1) = (1 - p0)(1 - p1), P(0) the rest.
fn sample<T: Real>(call: &mut Call<'_, T>, temperature: f64, real: bool) -> Result<(), QuantizeError> {
    call.scratch.std_dev(call.x);
    let eps = T::from_f64(EPSILON);
    let temperature = T::from_f64(temperature);
    let Scratch { scale, first, second, .. } = &mut *call.scratch;
    for ((slope, offset), &scale) in second.iter_mut().zip(first).zip(&*scale) {
        let deviation = *slope + eps;
        *slope = temperature / deviation;
        *offset = temperature * (scale / (T::from_f64(2.0) * deviation));
    }
    if real { draw(call, math::sigmoid_f32) } else { draw(call, math::hard_sigmoid) }
}

fn draw<T: Real>(call: &mut Call<'_, T>, sigmoid: impl Fn(f32) -> f32 + Copy) -> Result<(), QuantizeError> {
    let Some(rng) = call.rng.as_deref_mut() else { return Err(call.needs_stream()) };
    let scratch = &mut *call.scratch;
    let period = scratch.period();
    for (x, out) in call.x.chunks(period).zip(call.values.chunks_mut(period)) {
        let words = &mut scratch.words[..x.len()];
        stream::fill_words(rng, words);
        on_every_path(Draws { x, words, slopes: &scratch.second, offsets: &scratch.first, sigmoid, out });
    }
    Ok(())
}

/// Draws of one row.
struct Draws<'a, T, F> {
    x: &'a [T],
    words: &'a [u32],
    slopes: &'a [T],
    offsets: &'a [T],
    sigmoid: F,
    out: &'a mut [T],
}

impl<T: Real, F: Fn(f32) -> f32 + Copy> EveryPath for Draws<'_, T, F> {
    #[inline(always)]
    fn run<const FUSED: bool, const WIDE: bool>(self) {
        let Self { x, words, slopes, offsets, sigmoid, out } = self;
        let parameters = slopes.iter().zip(offsets);
        for (((out, &v), (&slope, &offset)), &word) in out.iter_mut().zip(x).zip(parameters).zip(words) {
            let z = (v * slope).to_f64() as f32;
            let w = offset.to_f64() as f32;
            // sigmoid(-z) instead of 1 - sigmoid(z) keeps small probabilities exact.
            let plus = sigmoid(z - w) * sigmoid(z + w);
            let minus = sigmoid(w - z) * sigmoid(-z - w);
            let u = stream::unit_f32(word);
            let up = if u < plus { T::ONE } else { T::ZERO };
            let down = if 1.0 - u <= minus { T::ONE } else { T::ZERO };
            *out = up - down;
        }
    }
}

/// P(sign x) = |x| / max|x|. A power-of-two scale is rounded up, so that no probability exceeds 1.
fn unbiased<T: Real>(call: &mut Call<'_, T>, po2: bool) -> Result<(), QuantizeError> {
    call.scratch.max_abs(call.x)?;
    let Scratch { scale, first, .. } = &mut *call.scratch;
    for (scale, &peak) in scale.iter_mut().zip(&*first) {
        *scale = if po2 && peak > T::ZERO {
            let exponent = math::log2(peak.to_f64());
            let whole = math::round_even(exponent);
            T::from_f64(math::exp2i((if whole < exponent { whole + 1.0 } else { whole }) as i32))
        } else {
            peak
        };
    }
    let Some(rng) = call.rng.as_deref_mut() else { return Err(call.needs_stream()) };
    let scratch = &mut *call.scratch;
    let period = scratch.period();
    for (row, out) in call.x.chunks(period).zip(call.values.chunks_mut(period)) {
        let words = &mut scratch.words[..row.len()];
        stream::fill_words(rng, words);
        for (((out, &v), &scale), &word) in out.iter_mut().zip(row).zip(&scratch.scale).zip(&*words) {
            let u = T::from_f64(f64::from(stream::unit_f32(word)));
            *out = trit(v, u * scale < math::abs(v));
        }
    }
    Ok(())
}
