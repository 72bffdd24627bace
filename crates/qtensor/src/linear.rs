//! `quantized_linear`, the successor of `quantized_bits` in QKeras' git head (78ea90f).

use kernels::Real;

use crate::binary::ScaleAxes;
use crate::elementwise::{Elementwise, Map};
use crate::error::QuantizeError;
use crate::group::Scratch;
use crate::math::{self, EPSILON};
use crate::quantizer::{Alpha, Call};
use crate::stand_in::StandIn;
use crate::stream;

/// `quantized_linear(bits, integer, symmetric, keep_negative, alpha, use_stochastic_rounding, scale_axis, qnoise_factor)`:
/// value = S * round(clip(x / S, lo, hi)). Unlike `quantized_bits`, alpha rescales x and the gradient ends at the clip range.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedLinear {
    /// Bits of a code, sign included, 1..=22. One signed bit is a sign: values +-S/2.
    pub bits: u32,
    /// Bits left of the binary point, sign not counted.
    pub integer: i32,
    /// Leave out the most negative code.
    pub symmetric: bool,
    /// Signed codes.
    pub keep_negative: bool,
    /// S is 2^(integer - bits + keep_negative) times a number, max-abs (auto), or searched (auto_po2).
    pub alpha: Alpha,
    /// Round up with the probability of the fraction in training.
    pub use_stochastic_rounding: bool,
    /// Axes with scales of their own (auto only).
    pub axes: ScaleAxes,
    /// 1: quantized; 0: untouched; between: a mixture.
    pub qnoise_factor: f64,
}

impl QuantizedLinear {
    /// One signed bit.
    pub(crate) fn is_sign(&self) -> bool {
        self.bits == 1 && self.keep_negative
    }

    /// S for alpha none.
    pub(crate) fn data_type_scale(&self) -> f64 {
        math::exp2i(self.integer - self.bits as i32 + i32::from(self.keep_negative))
    }

    /// Smallest and largest x / S that are not clipped.
    pub(crate) fn bounds(&self) -> (f64, f64) {
        if self.is_sign() {
            return (-0.5, 0.5);
        }
        let span = math::exp2i(self.bits as i32 - i32::from(self.keep_negative));
        let lo = if self.keep_negative { -span + f64::from(u8::from(self.symmetric)) } else { 0.0 };
        (lo, span - 1.0)
    }

    /// S from the value of code 1.
    pub(crate) fn step_to_scale(&self) -> f64 {
        // The codes of a sign are +-1, worth S/2 each.
        if self.is_sign() { 2.0 } else { 1.0 }
    }

    pub(crate) fn elementwise(&self) -> Option<Elementwise> {
        let scale = self.alpha.fixed()? * self.data_type_scale();
        let (lo, hi) = self.bounds();
        let map = Map::Linear { scale, sign: self.is_sign() };
        let stand_in = StandIn::Clip { scale, lo, hi, noise: self.qnoise_factor };
        let (lo, hi) = if self.is_sign() { (-1, 1) } else { (lo as i32, hi as i32) };
        Some(
            Elementwise::new(map, scale / self.step_to_scale(), lo, hi, stand_in)
                .mixed(self.qnoise_factor, true),
        )
    }

    /// Derivative of the stand-in (order 1) at an element whose scale S is `scale`.
    pub(crate) fn slope<T: Real>(&self, x: T, scale: T) -> T {
        let (lo, hi) = self.bounds();
        StandIn::Clip { scale: scale.to_f64(), lo, hi, noise: self.qnoise_factor }.derivative(x, 1)
    }

    /// x / S clipped and rounded, in units of S; `u` in [0, 1) rounds stochastically.
    #[inline(always)]
    fn round<T: Real>(&self, x: T, scale: T, bounds: (T, T), u: Option<T>) -> T {
        let shift = if self.is_sign() { T::from_f64(0.5) } else { T::ZERO };
        let p = math::clamp(x / scale, bounds.0, bounds.1) - shift;
        let rounded = match u {
            None => math::round_small(p),
            Some(u) => {
                let floor = math::floor_small(p);
                if u < p - floor { floor + T::ONE } else { floor }
            }
        };
        rounded + shift
    }

    /// Data-dependent scales. Codes go to `call.values`; the scale is the value of code 1.
    pub(crate) fn quantize<T: Real>(&self, call: &mut Call<'_, T>) -> Result<(), QuantizeError> {
        call.scratch.prepare(call.shape, &self.axes.axes())?;
        let (lo, hi) = self.bounds();
        let bounds = (T::from_f64(lo), T::from_f64(hi));
        let range = T::from_f64(hi - lo);
        for (out, &v) in call.values.iter_mut().zip(call.x) {
            // Without negatives the largest element counts, not the largest magnitude.
            *out = if self.keep_negative || v > T::ZERO || math::is_nan(v) { v } else { T::ZERO };
        }
        call.scratch.max_abs_by_slot(call.values)?;
        let po2 = self.alpha == Alpha::AutoPo2;
        let Scratch { scale, first, .. } = &mut *call.scratch;
        for (scale, &peak) in scale.iter_mut().zip(&*first) {
            let double = if self.keep_negative { T::from_f64(2.0) } else { T::ONE };
            let s = math::max(peak * double / range, T::from_f64(EPSILON));
            *scale = if po2 { math::round_to_po2(s) } else { s };
        }
        if po2 {
            let most = if self.is_sign() { 1 } else { 5 };
            for _ in 0..most {
                call.scratch.first.clone_from(&call.scratch.scale);
                self.codes(call, bounds)?;
                call.scratch.least_squares_of(call.x, &*call.values, true);
                if call.scratch.first == call.scratch.scale {
                    break;
                }
            }
        }
        call.scratch.first.clone_from(&call.scratch.scale);
        self.codes(call, bounds)?;
        if self.is_sign() {
            for value in &mut *call.values {
                *value *= T::from_f64(2.0);
            }
            for scale in &mut call.scratch.scale {
                *scale *= T::from_f64(0.5);
            }
        }
        Ok(())
    }

    /// Rounds x by the scales in `first`.
    fn codes<T: Real>(&self, call: &mut Call<'_, T>, bounds: (T, T)) -> Result<(), QuantizeError> {
        let period = call.scratch.period();
        let draws = call.quantizer.draws(call.phase);
        for (row, out) in call.x.chunks(period).zip(call.values.chunks_mut(period)) {
            let words = &mut call.scratch.words[..row.len()];
            if !draws {
                for ((out, &v), &scale) in out.iter_mut().zip(row).zip(&call.scratch.first) {
                    *out = self.round(v, scale, bounds, None);
                }
                continue;
            }
            let Some(rng) = call.rng.as_deref_mut() else { return Err(call.needs_stream()) };
            stream::fill_words(rng, words);
            for (((out, &v), &scale), &word) in out.iter_mut().zip(row).zip(&call.scratch.first).zip(&*words)
            {
                let u = T::from_f64(f64::from(stream::unit_f32(word)));
                *out = self.round(v, scale, bounds, Some(u));
            }
        }
        Ok(())
    }
}
