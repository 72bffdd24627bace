//! `quantized_tanh` and `quantized_sigmoid`. Source: QKeras 0.9.0.

use kernels::Real;

use crate::elementwise::{Elementwise, Map};
use crate::math;
use crate::stand_in::{StandIn, tanh_derivative};

/// The function whose value is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Squash {
    /// tanh.
    Tanh,
    /// clip(x, -1, 1), which QKeras calls tanh unless told otherwise.
    HardTanh,
    /// The logistic function.
    Sigmoid,
    /// clip(x/2 + 1/2, 0, 1), which QKeras calls sigmoid unless told otherwise.
    HardSigmoid,
}

impl Squash {
    /// The function (order 0) or a derivative. The hard ones have slope on the closed interval [-1, 1].
    #[inline(always)]
    pub(crate) fn derivative<T: Real>(self, x: T, order: u32) -> T {
        match (self, order) {
            (Squash::Tanh, _) => T::from_f64(tanh_derivative(x.to_f64().tanh(), order)),
            (Squash::Sigmoid, _) => {
                // sigmoid(x) = (1 + tanh(x/2)) / 2.
                let d = tanh_derivative((0.5 * x.to_f64()).tanh(), order)
                    * math::exp2i(-(order.min(900) as i32) - 1);
                T::from_f64(if order == 0 { 0.5 + d } else { d })
            }
            (Squash::HardTanh, 0) => T::from_f64(2.0) * math::hard_sigmoid(x) - T::ONE,
            (Squash::HardSigmoid, 0) => math::hard_sigmoid(x),
            (Squash::HardTanh, 1) if math::abs(x) <= T::ONE => T::ONE,
            (Squash::HardSigmoid, 1) if math::abs(x) <= T::ONE => T::from_f64(0.5),
            _ => T::ZERO,
        }
    }

    fn is_tanh(self) -> bool {
        matches!(self, Squash::Tanh | Squash::HardTanh)
    }
}

/// `quantized_tanh(bits, use_stochastic_rounding, symmetric, use_real_tanh)` and
/// `quantized_sigmoid(bits, symmetric, use_real_sigmoid, use_stochastic_rounding)`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedSquash {
    /// Bits of a code, 1..=22; the sign of tanh is one of them.
    pub bits: u32,
    /// The function.
    pub function: Squash,
    /// Leave out the smallest code.
    pub symmetric: bool,
    /// In training, round stochastically to multiples of half a step.
    pub use_stochastic_rounding: bool,
}

impl QuantizedSquash {
    pub(crate) fn elementwise(&self) -> Elementwise {
        let symmetric = i32::from(self.symmetric);
        let (codes, lo) = if self.function.is_tanh() {
            let codes = 1i32 << (self.bits - 1);
            (codes, -codes + symmetric)
        } else {
            (1i32 << self.bits, symmetric)
        };
        let stand_in = StandIn::Squash { function: self.function, codes, lo };
        Elementwise::new(
            Map::Squash { function: self.function, codes },
            1.0 / f64::from(codes),
            lo,
            codes - 1,
            stand_in,
        )
        .half_steps(self.use_stochastic_rounding)
    }
}
