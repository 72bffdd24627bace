//! Quantizers whose value depends on one element only, prepared for fast use: the activation path.

use kernels::Real;
use kernels::dispatch::vectorized;

use crate::math;
use crate::po2::Powers;
use crate::squash::Squash;
use crate::stand_in::StandIn;

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
    /// round(clip(x / scale, lo, hi)); a sign has the codes +-1 of half the scale.
    Linear { scale: f64, sign: bool },
    /// clip(round(codes * function(x)), lo, hi).
    Squash { function: Squash, codes: i32 },
    /// Powers of two; the "code" is the value itself.
    Powers { powers: Powers, relu: bool, slope: f64 },
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
    pub(crate) map: Map,
    pub(crate) step: f64,
    pub(crate) lo: i32,
    pub(crate) hi: i32,
    pub(crate) stand_in: StandIn,
    /// Weight of the quantized value, and of the stand-in's derivative.
    pub(crate) noise: f64,
    pub(crate) slope: f64,
    /// Least first derivative, also where the stand-in is flat; for attacks, never in training.
    pub(crate) leak: f64,
    /// Values end here even if the codes go on (relu_upper_bound off the grid).
    pub(crate) ceiling: f64,
    /// Codes per step in training: 2 when stochastic rounding works in half steps.
    pub(crate) halves: i32,
}

impl Elementwise {
    pub(crate) fn new(map: Map, step: f64, lo: i32, hi: i32, stand_in: StandIn) -> Self {
        Elementwise {
            map,
            step,
            lo,
            hi,
            stand_in,
            noise: 1.0,
            slope: 1.0,
            leak: 0.0,
            ceiling: f64::INFINITY,
            halves: 1,
        }
    }

    pub(crate) fn mixed(mut self, noise: f64, use_ste: bool) -> Self {
        self.noise = noise;
        self.slope = if use_ste { 1.0 } else { 1.0 - noise };
        self
    }

    pub(crate) fn ceiling(mut self, ceiling: f64) -> Self {
        self.ceiling = ceiling;
        self
    }

    /// The same quantizer whose first derivative is at least `leak`: 1 passes every gradient (the identity), a tenth leaks
    /// where the stand-in is flat. What attacks compare surrogates with.
    pub fn leaking(mut self, leak: f64) -> Self {
        self.leak = leak;
        self
    }

    pub(crate) fn half_steps(mut self, stochastic: bool) -> Self {
        self.halves = if stochastic { 2 } else { 1 };
        self
    }

    /// The grid of codes: value = code * step, unless [`Self::on_grid`] is false. `None` for powers of two.
    pub fn grid(&self) -> Option<Grid> {
        if matches!(self.map, Map::Powers { .. }) {
            return None;
        }
        // Two's complement when there are negative codes.
        let largest = self.hi.max(-self.lo - 1).max(0) as u32;
        let bits = 32 - largest.leading_zeros() + u32::from(self.lo < 0);
        Some(Grid { bits: bits.max(1), step: self.step, min_code: self.lo, max_code: self.hi })
    }

    /// True if a value is always code * step: no powers of two, no mixture with the unquantized input.
    pub fn on_grid(&self) -> bool {
        self.noise == 1.0 && self.ceiling == f64::INFINITY && self.grid().is_some()
    }

    /// The value of code 1; 1 for powers of two, whose codes are the values.
    pub(crate) fn step(&self) -> f64 {
        self.step
    }

    /// What QKeras computes as `b + (q - b)` (see [`crate::Quantizer::qkeras_value`]).
    pub(crate) fn through_stand_in(&self, x: f32, q: f32) -> f32 {
        match self.map {
            // These clip and round the stand-in itself.
            Map::Squash { .. } => q,
            Map::Round { inverse } | Map::LeakyRound { inverse, .. }
                if (x * inverse as f32).is_infinite() =>
            {
                f32::NAN
            }
            _ if self.noise != 1.0 => q,
            _ => {
                let b = self.stand_in.unquantized(x);
                b + (q - b)
            }
        }
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
            Map::Linear { scale, sign } => {
                let p = x / T::from_f64(scale);
                if sign {
                    let half = T::from_f64(0.5);
                    let rounded = math::round_small(math::clamp(p, -half, half) - half) + half;
                    return T::from_f64(2.0) * rounded;
                }
                math::round_small(math::clamp(p, lo, hi))
            }
            Map::Squash { function, codes } => {
                let p = function.derivative(x, 0) * T::from_f64(f64::from(codes));
                math::round_small(math::clamp(p, lo, hi))
            }
            Map::Powers { powers, relu, slope } => powers.value(x, relu, slope, None),
        }
    }

    #[inline(always)]
    fn value_of<T: Real>(&self, x: T, code: T, step: T) -> T {
        let quantized = code * step;
        let ceiling = T::from_f64(self.ceiling);
        let quantized = if quantized > ceiling { ceiling } else { quantized };
        if self.noise == 1.0 {
            return quantized;
        }
        let n = T::from_f64(self.noise);
        let b = self.stand_in.unquantized(x);
        b + n * (quantized - b)
    }

    /// The quantized value of x.
    #[inline]
    pub fn value<T: Real>(&self, x: T) -> T {
        self.value_of(x, self.code_real(x), T::from_f64(self.step))
    }

    /// The code of x; NaN gives 0.
    #[inline]
    pub fn code<T: Real>(&self, x: T) -> i32 {
        self.code_real(x).to_f64() as i32
    }

    /// Runs `f(x, code)` over a slice. The common maps have loops of their own, which vectorise; the rest choose per element.
    #[inline(always)]
    pub(crate) fn each<T: Real, O>(&self, x: &[T], out: &mut [O], f: impl Fn(T, T) -> O) {
        let (lo, hi) = (T::from_f64(f64::from(self.lo)), T::from_f64(f64::from(self.hi)));
        let pairs = out.iter_mut().zip(x);
        match self.map {
            Map::Round { inverse } => {
                let inverse = T::from_f64(inverse);
                // A closure small enough to be inlined, and with that compiled for the widest vectors; what it holds by
                // value cannot be what it writes.
                vectorized(move || {
                    for (out, &x) in pairs {
                        *out = f(x, math::round_small(math::clamp(x * inverse, lo, hi)));
                    }
                });
            }
            Map::Sign => {
                pairs.for_each(|(out, &x)| *out = f(x, if math::sign_one(x) < T::ZERO { lo } else { hi }));
            }
            _ => pairs.for_each(|(out, &x)| *out = f(x, self.code_real(x))),
        }
    }

    /// Quantized values of a slice; the shorter length counts.
    pub fn values<T: Real>(&self, x: &[T], out: &mut [T]) {
        let step = T::from_f64(self.step);
        if self.noise == 1.0 && self.ceiling == f64::INFINITY {
            self.each(x, out, |_, code| code * step);
        } else {
            self.each(x, out, |x, code| self.value_of(x, code, step));
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
        if order == 1 && self.leak > 0.0 {
            let (d, leak) = (d * T::from_f64(self.slope), T::from_f64(self.leak));
            return if d > leak { d } else { leak };
        }
        if order == 0 || self.slope == 1.0 { d } else { d * T::from_f64(self.slope) }
    }

    /// True if the first derivative is 1 everywhere.
    pub fn surrogate_is_identity(&self) -> bool {
        self.stand_in == StandIn::Identity && self.slope == 1.0 && self.leak <= 1.0
    }

    /// True if every second derivative is zero.
    pub fn surrogate_is_piecewise_linear(&self) -> bool {
        !matches!(
            self.stand_in,
            StandIn::Tanh | StandIn::Squash { function: Squash::Tanh | Squash::Sigmoid, .. }
        )
    }

    /// First derivatives of a slice; the shorter length counts.
    pub fn slopes<T: Real>(&self, x: &[T], out: &mut [T]) {
        self.each_slope(x, out, |_, slope| slope);
    }

    /// First derivatives of a slice times `g`; the shortest length counts.
    pub fn slopes_times<T: Real>(&self, x: &[T], g: &[T], out: &mut [T]) {
        let len = x.len().min(g.len()).min(out.len());
        let g = &g[..len];
        self.each_slope(&x[..len], &mut out[..len], move |i, slope| g[i] * slope);
    }

    /// Writes `f(i, slope at x[i])`.
    #[inline(always)]
    fn each_slope<T: Real>(&self, x: &[T], out: &mut [T], f: impl Fn(usize, T) -> T) {
        let len = x.len().min(out.len());
        let (x, out) = (&x[..len], &mut out[..len]);
        if let Some(slopes) = self.ramp() {
            vectorized(move || {
                for i in 0..len {
                    out[i] = f(i, slopes.at(x[i]));
                }
            });
        } else {
            out.iter_mut().zip(x).enumerate().for_each(|(i, (out, &x))| *out = f(i, self.surrogate(x, 1)));
        }
    }

    /// From codes drawn by [`Self::stochastic_code`] to values, in place.
    pub(crate) fn finish_stochastic<T: Real>(&self, x: &[T], codes: &mut [T], step: T) {
        for (value, &x) in codes.iter_mut().zip(x) {
            *value = self.value_of(x, *value, step);
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
            Map::Linear { scale, sign } => {
                let p = x / T::from_f64(scale);
                if sign {
                    let half = T::from_f64(0.5);
                    return T::from_f64(2.0) * (round(math::clamp(p, -half, half) - half) + half);
                }
                round(math::clamp(p, lo, hi))
            }
            Map::Squash { function, codes } => {
                let p = function.derivative(x, 0) * T::from_f64(f64::from(codes));
                math::clamp(round(p), lo, hi)
            }
            Map::Powers { powers, relu, slope } => powers.value(x, relu, slope, Some(u.to_f64())),
            Map::Sign | Map::Threshold(_) => self.code_real(x) * halves,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Quantizer;

    fn elementwise(text: &str) -> super::Elementwise {
        text.parse::<Quantizer>().unwrap().elementwise().unwrap()
    }

    #[test]
    fn relu_codes_end_one_below_the_power() {
        let q = elementwise("quantized_relu(4, 2)");
        let grid = q.grid().unwrap();
        assert_eq!((grid.bits, grid.step, grid.min_code, grid.max_code), (4, 0.25, 0, 15));
        assert_eq!(grid.zero_point(), Some(0));
        assert_eq!([-1.0f32, 0.125, 0.375, 3.74, 9.0].map(|x| q.value(x)), [0.0, 0.0, 0.5, 3.75, 3.75]);
        assert!(q.value(f32::NAN).is_nan());
    }

    #[test]
    fn slices_agree_with_single_values() {
        let x: Vec<f32> = (-700..700).map(|i| i as f32 * 0.0137).collect();
        for text in [
            "quantized_relu(8, 2)",
            "quantized_relu(4, 1, negative_slope=0.25)",
            "quantized_relu(4, 2, relu_upper_bound=1.3, is_quantized_clip=0)",
            "quantized_relu(4, use_sigmoid=1)",
            "quantized_bits(8, 2, 1)",
            "quantized_bits(6, 1, qnoise_factor=0.5)",
            "quantized_tanh(8)",
            "quantized_sigmoid(4, use_real_sigmoid=1)",
            "quantized_linear(4, 1, alpha=0.3)",
            "ternary()",
            "binary()",
            "quantized_po2(5)",
        ] {
            let q = elementwise(text);
            let (mut values, mut codes, mut slopes) =
                (vec![0f32; x.len()], vec![0u8; x.len()], vec![0f32; x.len()]);
            q.values_and_codes_u8(&x, &mut values, &mut codes);
            q.slopes(&x, &mut slopes);
            for (i, &x) in x.iter().enumerate() {
                assert_eq!(values[i], q.value(x), "{text} at {x}");
                assert_eq!(slopes[i], q.surrogate(x, 1), "{text} at {x}");
                if let Some(grid) = q.grid() {
                    assert_eq!(i32::from(codes[i]) + grid.min_code, q.code(x), "{text} at {x}");
                    if q.on_grid() {
                        assert_eq!(values[i], q.code(x) as f32 * grid.step as f32, "{text} at {x}");
                    }
                }
            }
        }
    }
}
