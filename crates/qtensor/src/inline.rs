//! What the commonest quantizers come down to, for loops of other crates to inline.

use kernels::Real;

use crate::elementwise::{Elementwise, Map};
use crate::math;
use crate::stand_in::StandIn;

/// Slopes that are constant on either side of zero, and zero beyond a cap.
#[derive(Clone, Copy, Debug)]
pub struct Ramp<T> {
    above: T,
    below: T,
    cap: T,
}

impl<T: Real> Ramp<T> {
    /// The slope at `x`.
    #[inline(always)]
    pub fn at(&self, x: T) -> T {
        // A choice between two numbers held in memory would become a gather of their addresses.
        let above = if x > T::ZERO { self.above } else { T::ZERO };
        let below = if x > T::ZERO { T::ZERO } else { self.below };
        if x > self.cap { T::ZERO } else { above + below }
    }
}

/// Rounding to a clipped grid.
#[derive(Clone, Copy, Debug)]
pub struct Rounding<T> {
    inverse: T,
    lo: T,
    hi: T,
    step: T,
}

impl<T: Real> Rounding<T> {
    /// The quantized value of `x`.
    #[inline(always)]
    pub fn value(&self, x: T) -> T {
        math::round_small(math::clamp(x * self.inverse, self.lo, self.hi)) * self.step
    }
}

impl Elementwise {
    /// First derivatives, where they are those of a ramp.
    pub fn ramp<T: Real>(&self) -> Option<Ramp<T>> {
        match self.stand_in {
            StandIn::Relu { slope, cap } if self.leak == 0.0 => Some(Ramp {
                above: T::from_f64(self.slope),
                below: T::from_f64(slope * self.slope),
                cap: T::from_f64(cap),
            }),
            _ => None,
        }
    }

    /// The values, where they are rounded and clipped to a grid and nothing else.
    pub fn rounding<T: Real>(&self) -> Option<Rounding<T>> {
        match self.map {
            Map::Round { inverse } if self.noise == 1.0 && self.ceiling == f64::INFINITY => Some(Rounding {
                inverse: T::from_f64(inverse),
                lo: T::from_f64(f64::from(self.lo)),
                hi: T::from_f64(f64::from(self.hi)),
                step: T::from_f64(self.step),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Quantizer;

    #[test]
    fn inlined_forms_have_the_bits_of_the_quantizer() {
        let texts =
            ["quantized_relu(8, 2)", "quantized_relu(2)", "quantized_relu(4, 1, negative_slope=0.25)"];
        for text in texts {
            let q = text.parse::<Quantizer>().unwrap().elementwise().unwrap();
            let ramp = q.ramp::<f32>().expect("a ramp");
            for i in -3000..3000 {
                let x = i as f32 * 0.003;
                assert_eq!(ramp.at(x), q.surrogate(x, 1), "{text} at {x}");
                if let Some(rounding) = q.rounding::<f32>() {
                    assert_eq!(rounding.value(x), q.value(x), "{text} at {x}");
                }
            }
        }
        let tanh = "quantized_tanh(8)".parse::<Quantizer>().unwrap().elementwise().unwrap();
        assert!(tanh.ramp::<f32>().is_none() && tanh.rounding::<f32>().is_none());
    }
}
