//! `quantized_po2` and `quantized_relu_po2`: values +-2^k. Source: QKeras 0.9.0.

use kernels::Real;

use crate::elementwise::{Elementwise, Map};
use crate::math::{self, EPSILON};
use crate::stand_in::StandIn;

/// `quantized_po2(bits, max_value, use_stochastic_rounding, quadratic_approximation, log2_rounding, qnoise_factor, use_ste)`
/// and, with `relu`, `quantized_relu_po2(bits, max_value, negative_slope, ...)`. There is no zero: 0 becomes the smallest power.
/// Codes are exponents, not multiples of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedPo2 {
    /// Bits for the exponent, its sign and (without `relu`) the sign of x; 2..=8.
    pub bits: u32,
    /// Largest magnitude.
    pub max_value: Option<f64>,
    /// `quantized_relu_po2`.
    pub relu: bool,
    /// Slope for x < 0 (relu only): 0 or a power of two.
    pub negative_slope: f64,
    /// In training, choose between the neighbouring powers so that the mean is x.
    pub use_stochastic_rounding: bool,
    /// Even exponents only.
    pub quadratic_approximation: bool,
    /// Round exponents down instead of to nearest (`log2_rounding=floor`).
    pub floor: bool,
    /// 1: quantized; 0: the stand-in; between: a mixture.
    pub qnoise_factor: f64,
    /// With a mixture, true gives the stand-in's derivative and false 1 - qnoise_factor of it.
    pub use_ste: bool,
}

/// From a magnitude to a power of two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Powers {
    pub(crate) lo: i32,
    pub(crate) hi: i32,
    max_value: f64,
    quadratic: bool,
    floor: bool,
}

impl QuantizedPo2 {
    /// Range of exponents, before the doubling of the quadratic form.
    pub(crate) fn exponents(&self) -> (i32, i32) {
        let sign = self.max_value.is_none_or(|m| m > 1.0);
        let bits = self.bits as i32 - i32::from(!self.relu) - i32::from(sign);
        let span = 1 << bits.max(0);
        let hi = span - 1;
        (-span, if self.quadratic_approximation { 2 * (hi / 2) } else { hi })
    }

    fn powers(&self) -> Powers {
        let (lo, hi) = self.exponents();
        Powers {
            lo,
            hi,
            max_value: self.max_value.unwrap_or(f64::INFINITY),
            quadratic: self.quadratic_approximation,
            floor: self.floor,
        }
    }

    pub(crate) fn elementwise(&self) -> Elementwise {
        let stand_in = if self.relu {
            StandIn::Relu { slope: self.negative_slope, cap: self.max_value.unwrap_or(f64::INFINITY) }
        } else {
            StandIn::Identity
        };
        let map = Map::Powers { powers: self.powers(), relu: self.relu, slope: self.negative_slope };
        Elementwise::new(map, 1.0, 0, 0, stand_in).mixed(self.qnoise_factor, self.use_ste)
    }
}

impl Powers {
    /// The power of two for a magnitude; `u` in [0, 1) draws between the neighbours, `None` rounds.
    pub(crate) fn nearest<T: Real>(self, magnitude: T, u: Option<f64>) -> T {
        if magnitude < T::from_f64(EPSILON) {
            // Not doubled in the quadratic form: QKeras' 0 is larger than its smallest power there.
            return T::from_f64(math::exp2i(self.lo));
        }
        let a = magnitude.to_f64();
        let a = if a < self.max_value { a } else { self.max_value };
        let a = if self.quadratic { a.sqrt() } else { a };
        let exponent = match u {
            Some(u) => drawn(a, u),
            None if self.floor => {
                let log = math::log2(a);
                let near = math::round_even(log);
                if near > log { near - 1.0 } else { near }
            }
            None => math::round_even(math::log2(a)),
        };
        T::from_f64(math::exp2i(
            self.scaled(math::clamp(exponent, f64::from(self.lo), f64::from(self.hi)) as i32),
        ))
    }

    fn scaled(self, exponent: i32) -> i32 {
        if self.quadratic { 2 * exponent } else { exponent }
    }

    /// A value from the whole real line.
    pub(crate) fn value<T: Real>(self, x: T, relu: bool, slope: f64, u: Option<f64>) -> T {
        if !relu {
            return math::sign_one(x) * self.nearest(math::abs(x), u);
        }
        if x < T::ZERO && slope > 0.0 {
            return -self.nearest(-x * T::from_f64(slope), u);
        }
        self.nearest(if x > T::ZERO { x } else { T::ZERO }, u)
    }
}

/// Exponent of 2^l or 2^(l+1) around a, drawn so that the mean is a; QKeras' `stochastic_round_po2`.
fn drawn(a: f64, u: f64) -> f64 {
    let near = math::round_even(math::log2(a + EPSILON));
    let left = if math::exp2i(near as i32) > a { near - 1.0 } else { near };
    let (low, high) = (math::exp2i(left as i32), math::exp2i(left as i32 + 1));
    if a < low + u * (high - low) { left } else { left + 1.0 }
}
