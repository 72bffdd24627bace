//! `quantized_bits`: fixed-point numbers with a chosen, a max-abs or a searched power-of-two scale. Source: QKeras 0.9.0.

use kernels::Real;

use crate::binary::ScaleAxes;
use crate::elementwise::{Elementwise, Map};
use crate::error::QuantizeError;
use crate::group::Scratch;
use crate::math;
use crate::quantizer::{Alpha, Call};
use crate::stand_in::StandIn;

/// `quantized_bits(bits, integer, symmetric, keep_negative, alpha, use_stochastic_rounding, scale_axis, qnoise_factor,
/// use_ste, elements_per_scale, min_po2_exponent, max_po2_exponent)`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedBits {
    /// Bits of a code, sign included, 1..=22.
    pub bits: u32,
    /// Bits left of the binary point, sign not counted.
    pub integer: i32,
    /// Leave out the most negative code. QKeras forces it for auto scales.
    pub symmetric: bool,
    /// Signed codes. QKeras ignores false for auto scales: negatives survive, and `scale` is halved.
    pub keep_negative: bool,
    /// None or a number: value = alpha * 2^integer * code / 2^ub. auto: max-abs. auto_po2: least squares, power of two.
    pub alpha: Alpha,
    /// Round up with the probability of the fraction in training (fixed alpha only, as in QKeras).
    pub use_stochastic_rounding: bool,
    /// Axes with scales of their own (auto only); blocks for auto_po2 only.
    pub axes: ScaleAxes,
    /// Smallest and largest exponent of an auto_po2 scale (git head only).
    pub po2_exponents: [Option<i32>; 2],
    /// 1: quantized; 0: untouched; between: a mixture (QKeras' QNoiseScheduler moves it).
    pub qnoise_factor: f64,
    /// With a mixture, true gives the derivative 1 and false 1 - qnoise_factor.
    pub use_ste: bool,
}

impl Default for QuantizedBits {
    fn default() -> Self {
        QuantizedBits {
            bits: 8,
            integer: 0,
            symmetric: false,
            keep_negative: true,
            alpha: Alpha::None,
            use_stochastic_rounding: false,
            axes: ScaleAxes::default(),
            po2_exponents: [None; 2],
            qnoise_factor: 1.0,
            use_ste: true,
        }
    }
}

impl QuantizedBits {
    /// Bits without the sign.
    pub(crate) fn magnitude_bits(&self) -> i32 {
        self.bits as i32 - i32::from(self.keep_negative)
    }

    /// 2^integer / 2^ub, the value of code 1 before alpha.
    pub(crate) fn unit(&self) -> f64 {
        math::exp2i(self.integer - self.magnitude_bits())
    }

    /// Largest code of the auto scales.
    fn levels(&self) -> f64 {
        math::exp2i(self.bits as i32 - 1) - 1.0
    }

    /// The elementwise form for alpha none or a number.
    pub(crate) fn elementwise(&self) -> Option<Elementwise> {
        let alpha = self.alpha.fixed()?;
        let magnitude = self.magnitude_bits();
        let (map, lo, hi, unit) = if magnitude == 0 {
            // One bit is a sign: {-1, 1}, or {0, 1} without negatives (bits = 0 is refused earlier).
            (Map::Sign, -1, 1, 1.0)
        } else {
            let codes = 1 << magnitude;
            let lo = if self.keep_negative { -codes + i32::from(self.symmetric) } else { 0 };
            (Map::Round { inverse: 1.0 / self.unit() }, lo, codes - 1, self.unit())
        };
        Some(
            Elementwise::new(map, alpha * unit, lo, hi, StandIn::Identity)
                .mixed(self.qnoise_factor, self.use_ste),
        )
    }

    /// Searched scales. Codes go to `call.values`; the scale is the value of code 1.
    pub(crate) fn quantize<T: Real>(&self, call: &mut Call<'_, T>) -> Result<(), QuantizeError> {
        let blocks = !self.axes.elements_per_scale.is_empty();
        let limited = self.po2_exponents != [None; 2];
        if self.alpha != Alpha::AutoPo2 && (blocks || limited) {
            return Err(call.unsupported("elements_per_scale and po2 exponents need alpha=auto_po2"));
        }
        call.scratch.prepare(call.shape, &self.axes.axes())?;
        if blocks {
            call.scratch.max_abs_by_slot(call.x)?
        } else {
            call.scratch.max_abs(call.x)?
        };
        let whole = T::from_f64(math::exp2i(self.integer));
        let levels = T::from_f64(self.levels());
        let po2 = self.alpha == Alpha::AutoPo2;
        let Scratch { scale, first, .. } = &mut *call.scratch;
        for (scale, &peak) in scale.iter_mut().zip(&*first) {
            // With one bit there is no level but 0: QKeras divides by zero here, so auto gives NaN and auto_po2 zeros.
            let s = peak / whole * T::from_f64(2.0) / (levels + levels);
            *scale = if po2 { math::round_to_po2(s) } else { s };
        }
        let code = |u: T, s: T| {
            // Half away from zero, unlike the fixed scales. NaN (an all-zero channel) gives `levels`, times sign 0.
            let steps = math::abs(u) / s + T::from_f64(0.5);
            math::sign(u) * if steps < levels { math::floor_small(steps) } else { levels }
        };
        for (out, &v) in call.values.iter_mut().zip(call.x) {
            *out = v / whole;
        }
        let scratch = &mut *call.scratch;
        scratch.first.clone_from(&scratch.scale);
        if po2 {
            for _ in 0..UNROLLS {
                scratch.first.clone_from(&scratch.scale);
                scratch.least_squares(&*call.values, true, code);
                clip_exponents(&mut scratch.scale, self.po2_exponents);
            }
            // In QKeras 0.9.0 the codes belong to the scale before the last update; git head, which alone has blocks and
            // exponent limits, recomputes them.
            if blocks || limited {
                scratch.first.clone_from(&scratch.scale);
            }
        }
        let period = scratch.period();
        for row in call.values.chunks_mut(period) {
            for (value, &s) in row.iter_mut().zip(&scratch.first) {
                *value = code(*value, s);
            }
        }
        for scale in &mut scratch.scale {
            *scale *= whole;
        }
        Ok(())
    }
}

/// Alternations between codes and scale for auto_po2.
const UNROLLS: usize = 5;

/// Clips power-of-two scales to the exponents given.
pub(crate) fn clip_exponents<T: Real>(scales: &mut [T], [lowest, highest]: [Option<i32>; 2]) {
    let lowest = lowest.map_or(0.0, math::exp2i);
    let highest = highest.map_or(f64::INFINITY, math::exp2i);
    for scale in scales {
        *scale = math::clamp(*scale, T::from_f64(lowest), T::from_f64(highest));
    }
}
