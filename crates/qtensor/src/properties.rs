//! What a quantizer promises without being applied: surrogate derivative, range, grid, clip, QKeras' own view of it.

use kernels::Real;

use crate::elementwise::{Elementwise, Grid};
use crate::error::QuantizeError;
use crate::group::{Axes, Scratch};
use crate::math::exp2i;
use crate::quantizer::{Alpha, Codes, Phase, Quantizer};
use crate::stand_in::StandIn;

impl Quantizer {
    /// The order-th derivative (0: the function itself) of the differentiable stand-in used in place of the quantizer, at x.
    ///
    /// - alpha none of the binary and ternary families: tanh x; `stochastic_binary` in training and `bernoulli`: x.
    /// - alpha a number or auto, `quantized_bits`, `quantized_po2`: x, also far outside the clip range.
    /// - `quantized_relu`, `quantized_relu_po2`: slope 0 (or the negative slope) for x <= 0, 1 for 0 < x <= cap (closed), 0
    ///   above; cap is the largest value. With `is_quantized_clip=0` it is `relu_upper_bound` or nothing.
    /// - `quantized_linear`: 1 on the closed clip range, 0 outside (auto scales: see [`Self::slopes`]).
    /// - `quantized_tanh`, `quantized_sigmoid`: the function's derivative (1 or 1/2 on the closed [-1, 1] for the hard ones)
    ///   where the rounded code is not clipped.
    ///
    /// Beyond that piecewise linear functions have derivative 0. A mixture (qnoise_factor < 1) with use_ste=0 multiplies
    /// derivatives by 1 - qnoise_factor.
    pub fn surrogate<T: Real>(&self, phase: Phase, x: T, order: u32) -> T {
        if self.identity_in_training(phase) {
            return StandIn::Identity.derivative(x, order);
        }
        match self.elementwise() {
            Some(elementwise) => elementwise.surrogate(x, order),
            None => {
                let d = StandIn::Identity.derivative(x, order);
                if order == 0 { d } else { d * T::from_f64(self.auto_slope()) }
            }
        }
    }

    /// First derivatives of the surrogate for a tensor quantized with `scales` (as [`Self::quantize`] reported them).
    ///
    /// # Errors
    /// Lengths that do not fit the shape.
    pub fn slopes<T: Real>(
        &self,
        x: &[T],
        shape: &[usize],
        phase: Phase,
        scales: &[T],
        scratch: &mut Scratch<T>,
        out: &mut [T],
    ) -> Result<(), QuantizeError> {
        let need = shape.iter().product();
        for (what, got) in [("x", x.len()), ("slopes", out.len())] {
            if got != need {
                return Err(QuantizeError::Length { what, got, shape: shape.to_vec(), need });
            }
        }
        if let Quantizer::Linear(q) = self
            && q.alpha.is_auto()
        {
            scratch.prepare(shape, &q.axes.axes())?;
            if !scratch.recall(scales) {
                return Err(QuantizeError::Length {
                    what: "scales",
                    got: scales.len(),
                    shape: shape.to_vec(),
                    need: scratch.slots(),
                });
            }
            let factor = T::from_f64(q.step_to_scale());
            let period = scratch.period();
            for (row, out) in x.chunks(period).zip(out.chunks_mut(period)) {
                for ((out, &x), &step) in out.iter_mut().zip(row).zip(&scratch.scale) {
                    *out = q.slope(x, step * factor);
                }
            }
            return Ok(());
        }
        match self.elementwise() {
            Some(elementwise) if !self.identity_in_training(phase) => elementwise.slopes(x, out),
            Some(_) => out.fill(T::ONE),
            None => out.fill(T::from_f64(self.auto_slope())),
        }
        Ok(())
    }

    /// `stochastic_binary` drops its tanh in training.
    fn identity_in_training(&self, phase: Phase) -> bool {
        matches!(self, Quantizer::StochasticBinary(_)) && phase == Phase::Training
    }

    /// First derivative of the quantizers with auto scales.
    fn auto_slope(&self) -> f64 {
        match self {
            Quantizer::Bits(q) if !q.use_ste => 1.0 - q.qnoise_factor,
            _ => 1.0,
        }
    }

    /// Weight of the quantized value for auto scales.
    pub(crate) fn auto_noise(&self) -> f64 {
        match self {
            Quantizer::Bits(q) => q.qnoise_factor,
            Quantizer::Linear(q) => q.qnoise_factor,
            _ => 1.0,
        }
    }

    /// True if the first derivative of the surrogate is 1 everywhere (straight-through).
    pub fn surrogate_is_identity(&self, phase: Phase) -> bool {
        self.identity_in_training(phase)
            || match self.elementwise() {
                Some(elementwise) => elementwise.surrogate_is_identity(),
                // `quantized_linear` ends at its clip range.
                None => !matches!(self, Quantizer::Linear(_)) && self.auto_slope() == 1.0,
            }
    }

    /// True if every second derivative of the surrogate is zero.
    pub fn surrogate_is_piecewise_linear(&self) -> bool {
        self.elementwise().is_none_or(|e| e.surrogate_is_piecewise_linear())
    }

    /// The fixed code grid of an elementwise quantizer (inference phase).
    pub fn grid(&self) -> Option<Grid> {
        self.elementwise().filter(Elementwise::on_grid).and_then(|e| e.grid())
    }

    /// All values of an elementwise quantizer, ascending; `None` for data-dependent scales, mixtures, and more than 2^16 values.
    pub fn codebook(&self) -> Option<Vec<f64>> {
        if let Quantizer::Po2(q) = self {
            let (lo, hi) = q.exponents();
            let factor = if q.quadratic_approximation { 2 } else { 1 };
            let cap = q.max_value.unwrap_or(f64::INFINITY);
            let mut powers: Vec<f64> =
                (lo..=hi).map(|e| q.elementwise().value(exp2i(factor * e).min(cap))).collect();
            powers.dedup();
            if !q.relu || q.negative_slope > 0.0 {
                let negatives: Vec<f64> = powers.iter().rev().map(|v| -v).collect();
                return (q.qnoise_factor == 1.0).then(|| [negatives, powers].concat());
            }
            return (q.qnoise_factor == 1.0).then_some(powers);
        }
        let grid = self.grid().filter(|g| g.max_code - g.min_code < 1 << 16)?;
        let two_values =
            matches!(self, Quantizer::Binary(_) | Quantizer::StochasticBinary(_)) || grid.bits == 1;
        let skips_zero =
            |code: i32| code == 0 && grid.min_code == -1 && grid.max_code == 1 && self.bits() == 1;
        let codes = (grid.min_code..=grid.max_code)
            .filter(|&code| !(two_values && skips_zero(code) || skips_zero(code)));
        Some(codes.map(|code| f64::from(code) * grid.step).collect())
    }

    /// Bits per code, as QKeras counts them.
    pub fn bits(&self) -> u32 {
        match self {
            Quantizer::Ternary(_) => 2,
            Quantizer::Binary(_) | Quantizer::StochasticBinary(_) => 1,
            Quantizer::Bits(q) => q.bits,
            Quantizer::Linear(q) => q.bits,
            Quantizer::Relu(q) => q.bits,
            Quantizer::Squash(q) => q.bits,
            Quantizer::Po2(q) => q.bits,
        }
    }

    /// True if codes of a searched scale run from 0 to 2^bits - 1.
    pub(crate) fn unsigned_codes(&self) -> bool {
        matches!(self, Quantizer::Linear(q) if !q.keep_negative)
    }

    /// True if codes are always in {-1, 0, 1}: kernels may store trits.
    pub fn trits(&self) -> bool {
        match self {
            Quantizer::Ternary(_) | Quantizer::Binary(_) | Quantizer::StochasticBinary(_) => true,
            // Two signed bits with a searched scale have the codes -1, 0, 1; one bit has none but 0.
            Quantizer::Bits(q) if q.alpha.is_auto() => q.bits <= 2,
            Quantizer::Linear(q) if q.alpha.is_auto() => {
                q.is_sign() || (q.bits == 2 && q.symmetric && q.keep_negative)
            }
            Quantizer::Bits(_) | Quantizer::Linear(_) => {
                self.grid().is_some_and(|g| g.min_code >= -1 && g.max_code <= 1)
            }
            Quantizer::Relu(_) | Quantizer::Squash(_) | Quantizer::Po2(_) => false,
        }
    }

    /// Bound of the latent weights: layers clip them to [-c, c] after every optimizer step, c = max(1, `max()`).
    pub fn weight_clip(&self) -> Option<f64> {
        Some(self.max().max(1.0))
    }

    /// Which of the scales that [`Self::quantize`] reports, where it reports several, is that of element `index` of a tensor
    /// of `shape`.
    pub fn scale_slot(&self, shape: &[usize], index: usize) -> usize {
        let axes = self.scale_axes();
        let (mut rest, mut slot, mut stride) = (index, 0, 1);
        for (axis, &size) in shape.iter().enumerate().rev() {
            if axes.has(axis, shape.len()) {
                slot += rest % size.max(1) * stride;
                stride *= size;
            }
            rest /= size.max(1);
        }
        slot
    }

    /// True if in this phase every element of a kernel of `shape` is a code from -128 to 127 times one scale of its output
    /// channel, its index on the last `channel_axes` axes: what integer kernels compute with. Powers of two, mixtures
    /// with the unquantized kernel and scales of other axes are not.
    pub fn codes_by_channel(&self, shape: &[usize], channel_axes: usize, phase: Phase) -> bool {
        let axes = self.scale_axes();
        let mut others = (0..shape.len().saturating_sub(channel_axes)).filter(|&axis| shape[axis] > 1);
        let exact = match self.elementwise() {
            Some(elementwise) => elementwise.on_grid(),
            // QKeras' quantized_bits(1, alpha=auto) is not a number.
            None if matches!(self, Quantizer::Bits(q) if q.bits == 1) => false,
            None => self.auto_noise() == 1.0 && !others.any(|axis| axes.has(axis, shape.len())),
        };
        exact && self.check_codes(&Codes::I8(&mut []), phase).is_ok()
    }

    fn scale_axes(&self) -> Axes {
        match self {
            Quantizer::Ternary(q) if q.depthwise => Axes::LastTwo,
            Quantizer::Binary(q) => q.axes.axes(),
            Quantizer::Bits(q) => q.axes.axes(),
            Quantizer::Linear(q) => q.axes.axes(),
            _ => Axes::Last,
        }
    }

    /// What QKeras' `max()` reports: the nominal end of the range, never below 1 for most, not the largest code
    /// (quantized_bits(8) says 1, its largest value is 127/128; see [`Self::codebook`] for the exact ones).
    pub fn max(&self) -> f64 {
        match self {
            Quantizer::Ternary(_) | Quantizer::Binary(_) | Quantizer::StochasticBinary(_) => {
                match self.alpha() {
                    Alpha::Value(value) => value.max(1.0),
                    _ => 1.0,
                }
            }
            Quantizer::Bits(q) if q.magnitude_bits() == 0 => 1.0,
            Quantizer::Bits(q) => exp2i(q.integer).max(1.0),
            Quantizer::Linear(q) => q.bounds().1 * q.data_type_scale() * q.alpha.fixed().unwrap_or(1.0),
            Quantizer::Relu(q) if q.magnitude_bits() == 0 => 1.0,
            Quantizer::Relu(q) => exp2i(q.integer).max(1.0),
            Quantizer::Squash(q) => q.elementwise().value(f64::INFINITY),
            Quantizer::Po2(q) => match q.max_value {
                Some(value) if value != 0.0 => value.max(1.0),
                _ => exp2i(q.exponents().1).max(1.0),
            },
        }
    }

    /// What QKeras' `min()` reports; see [`Self::max`].
    pub fn min(&self) -> f64 {
        match self {
            Quantizer::Binary(q) if q.use_01 => 0.0,
            Quantizer::StochasticBinary(q) if q.bernoulli => 0.0,
            Quantizer::Bits(q) if !q.keep_negative => 0.0,
            Quantizer::Linear(q) => q.bounds().0 * q.data_type_scale() * q.alpha.fixed().unwrap_or(1.0),
            Quantizer::Relu(q) if q.negative_slope == 0.0 => 0.0,
            Quantizer::Relu(q) if q.bits == 1 => -1.0,
            Quantizer::Relu(q) => -q.negative_slope * exp2i(q.integer),
            Quantizer::Squash(q) => q.elementwise().value(f64::NEG_INFINITY),
            Quantizer::Po2(q) if q.relu && (q.negative_slope == 0.0 || q.bits == 1) => exp2i(q.exponents().0),
            Quantizer::Po2(q) if q.relu => {
                exp2i(q.exponents().0).min(-q.negative_slope * exp2i(q.bits as i32 - 1))
            }
            _ => -self.max(),
        }
    }

    /// `min()` and `max()` as QKeras reports them after quantizing with these scales: only `quantized_linear` with an auto
    /// scale changes its answer.
    pub fn qkeras_range<T: Real>(&self, scales: &[T]) -> (f64, f64) {
        match self {
            Quantizer::Linear(q) if q.alpha.is_auto() => {
                let largest = scales.iter().map(|s| s.to_f64()).fold(0.0, f64::max) * q.step_to_scale();
                (q.bounds().0 * largest, q.bounds().1 * largest)
            }
            _ => (self.min(), self.max()),
        }
    }

    /// QKeras' `scale` attribute from our scale: ours is the value of code 1, QKeras' leaves out the fixed-point unit.
    pub fn qkeras_scale<T: Real>(&self, scale: T) -> T {
        match self {
            Quantizer::Bits(q) if q.alpha.is_auto() || q.magnitude_bits() > 0 => {
                scale / T::from_f64(q.unit())
            }
            Quantizer::Linear(q) => scale * T::from_f64(q.step_to_scale() / q.data_type_scale()),
            _ => scale,
        }
    }

    /// The value QKeras returns where we return `q`: it evaluates `b + (q - b)` in f32, b being the stand-in, so that for |b|
    /// far above |q| the result is off by an ulp of b, 0 or even NaN. For comparisons only.
    pub fn qkeras_value(&self, phase: Phase, x: f32, q: f32) -> f32 {
        match self.elementwise() {
            Some(elementwise) if !self.identity_in_training(phase) => elementwise.through_stand_in(x, q),
            _ if self.auto_noise() != 1.0 => q,
            _ => x + (q - x),
        }
    }

    /// True if a layer wraps its initializer in QKeras' `QInitializer` ([`crate::initializer`]): no auto scale.
    pub fn scales_initializer(&self) -> bool {
        !self.alpha().is_auto()
    }
}
