//! The differentiable functions that stand in for quantizers in the backward pass, with derivatives of every order.

use kernels::Real;

use crate::math;
use crate::squash::Squash;

/// The differentiable function whose derivative stands for the quantizer's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StandIn {
    /// x.
    Identity,
    /// tanh x.
    Tanh,
    /// Leaky ReLU up to `cap`, constant above.
    Relu { slope: f64, cap: f64 },
    /// (1 - noise) x + noise * clip(x, lo scale, hi scale).
    Clip { scale: f64, lo: f64, hi: f64, noise: f64 },
    /// The function, constant where its rounded code leaves lo..codes.
    Squash { function: Squash, codes: i32, lo: i32 },
}

impl StandIn {
    /// The stand-in (order 0) or its derivative.
    #[inline(always)]
    pub(crate) fn derivative<T: Real>(self, x: T, order: u32) -> T {
        match (self, order) {
            (StandIn::Identity, 0) => x,
            (StandIn::Identity, 1) => T::ONE,
            (StandIn::Tanh, _) => {
                let t = x.to_f64().tanh();
                T::from_f64(tanh_derivative(t, order))
            }
            (StandIn::Relu { slope, cap }, 0 | 1) => {
                let slope = T::from_f64(slope);
                if x > T::from_f64(cap) {
                    return if order == 0 { T::from_f64(cap) } else { T::ZERO };
                }
                match (x > T::ZERO, order) {
                    (true, 0) => x,
                    (true, _) => T::ONE,
                    (false, 0) => x * slope,
                    (false, _) => slope,
                }
            }
            (StandIn::Clip { scale, lo, hi, noise }, 0 | 1) => {
                let (scale, noise) = (T::from_f64(scale), T::from_f64(noise));
                let (lo, hi) = (T::from_f64(lo), T::from_f64(hi));
                let p = x / scale;
                if order == 0 {
                    return x + noise * (math::clamp(p, lo, hi) * scale - x);
                }
                let inside = if p >= lo && p <= hi { T::ONE } else { T::ZERO };
                T::ONE + noise * (inside - T::ONE)
            }
            (StandIn::Squash { function, codes, lo }, _) => {
                let m = T::from_f64(f64::from(codes));
                let (lo, hi) = (T::from_f64(f64::from(lo)), T::from_f64(f64::from(codes - 1)));
                let code = math::round_even(function.derivative(x, 0) * m);
                if order == 0 {
                    math::clamp(function.derivative(x, 0), lo / m, hi / m)
                } else if code >= lo && code <= hi {
                    function.derivative(x, order)
                } else {
                    T::ZERO
                }
            }
            _ => T::ZERO,
        }
    }

    /// What a mixture mixes the quantized value with.
    #[inline(always)]
    pub(crate) fn unquantized<T: Real>(self, x: T) -> T {
        match self {
            StandIn::Clip { .. } => x,
            _ => self.derivative(x, 0),
        }
    }
}

/// The order-th derivative of tanh where tanh = t: polynomials P_0 = t, P_{n+1} = P_n' (1 - t^2).
pub(crate) fn tanh_derivative(t: f64, order: u32) -> f64 {
    let s = 1.0 - t * t;
    match order {
        0 => t,
        1 => s,
        2 => -2.0 * t * s,
        3 => s * (6.0 * t * t - 2.0),
        _ => {
            // Coefficients of P_n, lowest power first.
            let mut p = vec![0.0, 1.0];
            for _ in 0..order {
                let derivative: Vec<f64> = (1..p.len()).map(|k| k as f64 * p[k]).collect();
                p = vec![0.0; derivative.len() + 2];
                for (k, d) in derivative.iter().enumerate() {
                    p[k] += d;
                    p[k + 2] -= d;
                }
            }
            p.iter().rev().fold(0.0, |sum, c| sum * t + c)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_follow_finite_differences() {
        let stand_ins = [
            StandIn::Identity,
            StandIn::Tanh,
            StandIn::Relu { slope: 0.25, cap: 1.5 },
            StandIn::Clip { scale: 0.25, lo: -4.0, hi: 3.0, noise: 0.5 },
            StandIn::Squash { function: Squash::Tanh, codes: 128, lo: -128 },
            StandIn::Squash { function: Squash::Sigmoid, codes: 256, lo: 0 },
            StandIn::Squash { function: Squash::HardTanh, codes: 128, lo: -128 },
            StandIn::Squash { function: Squash::HardSigmoid, codes: 256, lo: 0 },
        ];
        let h = 1e-5;
        for stand_in in stand_ins {
            for order in 0..5 {
                for x in [-2.03f64, -0.71, -0.13, 0.22, 0.68, 1.31, 1.9] {
                    let slope =
                        (stand_in.derivative(x + h, order) - stand_in.derivative(x - h, order)) / (2.0 * h);
                    let exact = stand_in.derivative(x, order + 1);
                    assert!(
                        (slope - exact).abs() < 1e-6,
                        "{stand_in:?} order {order} at {x}: {slope} {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn intervals_are_closed_where_documented() {
        let relu = StandIn::Relu { slope: 0.0, cap: 0.9375 };
        assert_eq!(
            [-1.0f32, 0.0, 1e-20, 0.9375, 0.94].map(|x| relu.derivative(x, 1)),
            [0.0, 0.0, 1.0, 1.0, 0.0]
        );
        let tanh = StandIn::Squash { function: Squash::HardTanh, codes: 8, lo: -8 };
        // The slope ends where the code does: 7.5 rounds to 8, beyond the largest code 7.
        assert_eq!([-1.01f32, -1.0, 0.93, 0.9375].map(|x| tanh.derivative(x, 1)), [0.0, 1.0, 1.0, 0.0]);
    }
}
