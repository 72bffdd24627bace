//! Quantizers whose value depends on one element only, prepared for fast use: the activation path.

use kernels::Real;

use crate::math;

/// From an element to its code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Map {
    /// clip(round(x inverse), lo, hi).
    Round { inverse: f64 },
    /// Positive side as `Round`, negative side round(x inverse slope); `refine` codes per step.
    LeakyRound { inverse: f64, slope: f64, refine: i32 },
    /// 2 round(codes * hard_sigmoid(x inverse)) - codes, clipped; likewise with `slope` on the negative side.
    SigmoidRound { inverse: f64, codes: i32, slope: f64, refine: i32 },
    /// lo for negative x, hi otherwise.
    Sign,
    /// sign(x) where |x| >= threshold.
    Threshold(f64),
}

/// The differentiable function whose derivative stands for the quantizer's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StandIn {
    /// x.
    Identity,
    /// tanh x.
    Tanh,
    /// Leaky ReLU up to `cap`, constant above.
    Relu { slope: f64, cap: f64 },
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
            _ => T::ZERO,
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

/// The fixed code grid of an elementwise quantizer: value = code * step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Bits that hold any code of the grid.
    pub bits: u32,
    /// The value of code 1.
    pub step: f64,
    /// Smallest code.
    pub min_code: i32,
    /// Largest code.
    pub max_code: i32,
}

impl Grid {
    /// The u8 that stands for value 0 when codes are stored as `code - min_code`; `None` if they do not fit u8.
    pub fn zero_point(&self) -> Option<u8> {
        let span = self.max_code - self.min_code;
        if span > 255 { None } else { u8::try_from(-self.min_code).ok() }
    }
}

/// A quantizer that works element by element, with everything it needs precomputed. Made by
/// [`crate::Quantizer::elementwise`]; deterministic (inference phase).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elementwise {
    map: Map,
    step: f64,
    lo: i32,
    hi: i32,
    stand_in: StandIn,
    /// Weight of the quantized value, and of the stand-in's derivative.
    noise: f64,
    slope: f64,
    /// Codes per step in training: 2 when stochastic rounding works in half steps.
    pub(crate) halves: i32,
}

impl Elementwise {
    pub(crate) fn new(map: Map, step: f64, lo: i32, hi: i32, stand_in: StandIn) -> Self {
        Elementwise { map, step, lo, hi, stand_in, noise: 1.0, slope: 1.0, halves: 1 }
    }

    pub(crate) fn mixed(mut self, noise: f64, use_ste: bool) -> Self {
        self.noise = noise;
        self.slope = if use_ste { 1.0 } else { 1.0 - noise };
        self
    }

    pub(crate) fn half_steps(mut self, stochastic: bool) -> Self {
        self.halves = if stochastic { 2 } else { 1 };
        self
    }

    /// The grid of codes.
    pub fn grid(&self) -> Grid {
        // Two's complement when there are negative codes.
        let largest = self.hi.max(-self.lo - 1).max(0) as u32;
        let bits = 32 - largest.leading_zeros() + u32::from(self.lo < 0);
        Grid { bits: bits.max(1), step: self.step, min_code: self.lo, max_code: self.hi }
    }

    /// True if a value is always code * step (no mixture with the unquantized input).
    pub fn on_grid(&self) -> bool {
        self.noise == 1.0
    }

    /// The code of x as a real number. NaN stays NaN except for sign and threshold maps.
    #[inline(always)]
    pub(crate) fn code_real<T: Real>(&self, x: T) -> T {
        let (lo, hi) = (T::from_f64(f64::from(self.lo)), T::from_f64(f64::from(self.hi)));
        match self.map {
            // Clamping first gives the same code and keeps the rounding in its fast range.
            Map::Round { inverse } => math::round_small(math::clamp(x * T::from_f64(inverse), lo, hi)),
            Map::LeakyRound { inverse, slope, refine } => {
                let refine = T::from_f64(f64::from(refine));
                let p = x * T::from_f64(inverse);
                let code =
                    if x < T::ZERO { math::round_even(p * T::from_f64(slope)) } else { math::round_even(p) };
                math::clamp(code * refine, lo, hi)
            }
            Map::SigmoidRound { inverse, codes, slope, refine } => {
                let codes = T::from_f64(f64::from(codes));
                let refine = T::from_f64(f64::from(refine));
                let two = T::from_f64(2.0);
                let p = codes * math::hard_sigmoid(x * T::from_f64(inverse));
                let positive = math::clamp((two * math::round_even(p) - codes) * refine, T::ZERO, hi);
                if slope == 0.0 {
                    return positive;
                }
                let slope = T::from_f64(slope);
                let negative = two * math::round_even(p * slope) - slope * codes;
                positive + math::clamp(negative * refine, lo, T::ZERO)
            }
            Map::Sign => {
                if math::sign_one(x) < T::ZERO {
                    lo
                } else {
                    hi
                }
            }
            Map::Threshold(threshold) => {
                if math::abs(x) >= T::from_f64(threshold) {
                    math::sign(x)
                } else {
                    T::ZERO
                }
            }
        }
    }

    #[inline(always)]
    fn value_of<T: Real>(&self, x: T, code: T) -> T {
        let quantized = code * T::from_f64(self.step);
        if self.noise == 1.0 {
            return quantized;
        }
        let n = T::from_f64(self.noise);
        let b = self.stand_in.derivative(x, 0);
        b + n * (quantized - b)
    }

    /// The quantized value of x.
    #[inline]
    pub fn value<T: Real>(&self, x: T) -> T {
        self.value_of(x, self.code_real(x))
    }

    /// The code of x; NaN gives 0.
    #[inline]
    pub fn code<T: Real>(&self, x: T) -> i32 {
        self.code_real(x).to_f64() as i32
    }

    /// Runs `f(x, code)` over a slice with the map chosen outside the loop, so that the common ones vectorise.
    #[inline(always)]
    pub(crate) fn each<T: Real, O>(&self, x: &[T], out: &mut [O], f: impl Fn(T, T) -> O) {
        let mut run = |fixed: &Elementwise| {
            for (out, &x) in out.iter_mut().zip(x) {
                *out = f(x, fixed.code_real(x));
            }
        };
        match self.map {
            Map::Round { inverse } => run(&Elementwise { map: Map::Round { inverse }, ..*self }),
            Map::Sign => run(&Elementwise { map: Map::Sign, ..*self }),
            Map::Threshold(t) => run(&Elementwise { map: Map::Threshold(t), ..*self }),
            _ => run(self),
        }
    }

    /// Quantized values of a slice; the shorter length counts.
    pub fn values<T: Real>(&self, x: &[T], out: &mut [T]) {
        if self.noise == 1.0 {
            let step = T::from_f64(self.step);
            self.each(x, out, |_, code| code * step);
        } else {
            self.each(x, out, |x, code| self.value_of(x, code));
        }
    }

    /// Codes of a slice as u8, stored as `code - min_code` (so that [`Grid::zero_point`] means value 0); the shorter length
    /// counts. Codes beyond 255 saturate, NaN gives the smallest: check [`Grid::zero_point`] once beforehand.
    pub fn codes_u8(&self, x: &[f32], out: &mut [u8]) {
        let lo = self.lo as f32;
        self.each(x, out, |_, code| {
            let shifted = math::clamp(code - lo, 0.0, 255.0);
            // Through the rounding constant's mantissa bits: conversions to u8 do not vectorise.
            (shifted + 12_582_912.0).to_bits() as u8
        });
    }

    /// Quantized values and their u8 codes (as in [`Self::codes_u8`]) in one pass; the shortest length counts.
    pub fn values_and_codes_u8(&self, x: &[f32], values: &mut [f32], codes: &mut [u8]) {
        // Blocks small enough to stay in the first-level cache between the two passes.
        for ((x, values), codes) in x.chunks(2048).zip(values.chunks_mut(2048)).zip(codes.chunks_mut(2048)) {
            self.codes_u8(x, codes);
            self.values(x, values);
        }
    }

    /// The order-th derivative of the differentiable stand-in at x; order 0 is the stand-in itself. See
    /// [`crate::Quantizer::surrogate`].
    #[inline]
    pub fn surrogate<T: Real>(&self, x: T, order: u32) -> T {
        let d = self.stand_in.derivative(x, order);
        if order == 0 || self.slope == 1.0 { d } else { d * T::from_f64(self.slope) }
    }

    /// True if the first derivative is 1 everywhere.
    pub fn surrogate_is_identity(&self) -> bool {
        self.stand_in == StandIn::Identity && self.slope == 1.0
    }

    /// True if every second derivative is zero.
    pub fn surrogate_is_piecewise_linear(&self) -> bool {
        !matches!(self.stand_in, StandIn::Tanh)
    }

    /// First derivatives of a slice; the shorter length counts.
    pub fn slopes<T: Real>(&self, x: &[T], out: &mut [T]) {
        match self.stand_in {
            StandIn::Relu { slope, cap } => {
                let (cap, at_zero) = (T::from_f64(cap), T::from_f64(slope * self.slope));
                let one = T::from_f64(self.slope);
                for (out, &x) in out.iter_mut().zip(x) {
                    let below = if x > T::ZERO { one } else { at_zero };
                    *out = if x > cap { T::ZERO } else { below };
                }
            }
            _ => {
                for (out, &x) in out.iter_mut().zip(x) {
                    *out = self.surrogate(x, 1);
                }
            }
        }
    }

    /// From codes drawn by [`Self::stochastic_code`] to values, in place.
    pub(crate) fn finish_stochastic<T: Real>(&self, x: &[T], codes: &mut [T], step: T) {
        let n = T::from_f64(self.noise);
        for (value, &x) in codes.iter_mut().zip(x) {
            let quantized = *value * step;
            *value = if self.noise == 1.0 {
                quantized
            } else {
                let b = self.stand_in.derivative(x, 0);
                b + n * (quantized - b)
            };
        }
    }

    /// Codes drawn by stochastic rounding, in units of 1/`halves` step; `u` is uniform in [0, 1).
    pub(crate) fn stochastic_code<T: Real>(&self, x: T, u: T) -> T {
        let halves = T::from_f64(f64::from(self.halves));
        let round = |p: T| {
            // Beyond the range where a fraction exists, nothing is left to round.
            let limit = T::from_f64(4_194_304.0);
            let p = math::clamp(p * halves, -limit, limit);
            let floor = math::floor_small(p);
            if u < p - floor { floor + T::ONE } else { floor }
        };
        let (lo, hi) = (T::from_f64(f64::from(self.lo)) * halves, T::from_f64(f64::from(self.hi)) * halves);
        match self.map {
            Map::Round { inverse } => math::clamp(round(x * T::from_f64(inverse)), lo, hi),
            Map::LeakyRound { inverse, slope, refine } => {
                let refine = T::from_f64(f64::from(refine));
                let p = x * T::from_f64(inverse);
                let code = if x < T::ZERO { round(p * T::from_f64(slope)) } else { round(p) };
                math::clamp(code * refine, lo, hi)
            }
            Map::SigmoidRound { inverse, codes, slope, refine } => {
                let codes = T::from_f64(f64::from(codes));
                let refine = T::from_f64(f64::from(refine));
                let two = T::from_f64(2.0);
                let p = codes * math::hard_sigmoid(x * T::from_f64(inverse));
                let positive = math::clamp((two * round(p) - codes * halves) * refine, T::ZERO, hi);
                if slope == 0.0 {
                    return positive;
                }
                let slope = T::from_f64(slope);
                let negative = two * round(p * slope) - slope * codes * halves;
                positive + math::clamp(negative * refine, lo, T::ZERO)
            }
            Map::Sign | Map::Threshold(_) => self.code_real(x) * halves,
        }
    }
}
