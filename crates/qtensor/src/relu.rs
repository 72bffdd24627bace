//! `quantized_relu`: the activation quantizer of most networks. Source: QKeras 0.9.0.

use crate::elementwise::{Elementwise, Map};
use crate::math;
use crate::stand_in::StandIn;

/// `quantized_relu(bits, integer, use_sigmoid, negative_slope, use_stochastic_rounding, relu_upper_bound, is_quantized_clip,
/// qnoise_factor, use_ste)`: codes 0..2^bits with step 2^(integer - bits). Note that quantized_relu(8) ends at 255/256.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedRelu {
    /// Bits of a code, 1..=22; with a negative slope one of them is the sign.
    pub bits: u32,
    /// Bits left of the binary point: values end just below 2^integer.
    pub integer: i32,
    /// Pass x through the hard sigmoid first.
    pub use_sigmoid: bool,
    /// Slope for x < 0: 0 or a power of two.
    pub negative_slope: f64,
    /// In training, round stochastically to multiples of half a step (QKeras' precision 0.5).
    pub use_stochastic_rounding: bool,
    /// Upper end of the stand-in if `is_quantized_clip` is false.
    pub relu_upper_bound: Option<f64>,
    /// The stand-in ends at the largest code, so that saturated inputs get no gradient.
    pub is_quantized_clip: bool,
    /// 1: quantized; 0: the stand-in; between: a mixture.
    pub qnoise_factor: f64,
    /// With a mixture, true gives the stand-in's derivative and false 1 - qnoise_factor of it.
    pub use_ste: bool,
}

impl Default for QuantizedRelu {
    fn default() -> Self {
        QuantizedRelu {
            bits: 8,
            integer: 0,
            use_sigmoid: false,
            negative_slope: 0.0,
            use_stochastic_rounding: false,
            relu_upper_bound: None,
            is_quantized_clip: true,
            qnoise_factor: 1.0,
            use_ste: true,
        }
    }
}

impl QuantizedRelu {
    /// Bits without the sign.
    pub(crate) fn magnitude_bits(&self) -> i32 {
        self.bits as i32 - i32::from(self.negative_slope != 0.0)
    }

    pub(crate) fn elementwise(&self) -> Elementwise {
        let magnitude = self.magnitude_bits();
        let codes = 1i32 << magnitude;
        let unit = math::exp2i(self.integer - magnitude);
        let slope = self.negative_slope;
        // The lowest value is -slope 2^integer; when that is less than a step, codes are counted in parts of a step.
        let refine = if slope > 0.0 { (1.0 / (slope * f64::from(codes))).max(1.0) as i32 } else { 1 };
        let step = unit / f64::from(refine);
        let hi = (codes - 1) * refine;
        let lo = -(slope * f64::from(codes) * f64::from(refine)) as i32;
        let whole = math::exp2i(self.integer);
        let map = match (self.use_sigmoid, slope > 0.0) {
            (false, false) => Map::Round { inverse: 1.0 / unit },
            (false, true) => Map::LeakyRound { inverse: 1.0 / unit, slope, refine },
            (true, _) => Map::SigmoidRound { inverse: 1.0 / whole, codes, slope, refine },
        };
        let bound = if self.is_quantized_clip { None } else { self.relu_upper_bound };
        let cap = if self.is_quantized_clip { whole - unit } else { bound.unwrap_or(f64::INFINITY) };
        // A bound on the grid is the largest code; one between two codes ends the values, not the codes.
        let last = bound.map_or(hi, |bound| (bound / step).ceil().min(f64::from(hi)) as i32);
        let ceiling = bound.filter(|bound| f64::from(last) * step > *bound).unwrap_or(f64::INFINITY);
        Elementwise::new(map, step, lo, last, StandIn::Relu { slope, cap })
            .ceiling(ceiling)
            .mixed(self.qnoise_factor, self.use_ste)
            .half_steps(self.use_stochastic_rounding)
    }
}
