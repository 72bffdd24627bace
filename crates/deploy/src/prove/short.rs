//! Lines for microcontrollers, where the 64-bit product of the proved form takes twice the instructions: a 16-bit sum times
//! a 32-bit multiplier, of which the upper 32 bits of 48 are kept (one instruction on Armv7E-M).

use super::Steps;
use crate::epilogue::IntegerEpilogue;

/// `clamp((((sum * multiplier) >> 16) + offset) >> shift, 0, max)` in 32 bits but for the product. The shift is one for all
/// channels of a layer, so that it can be part of the instruction that saturates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// Fixed-point slope.
    pub multiplier: i32,
    /// Fixed-point intercept.
    pub offset: i32,
    /// Fractional bits.
    pub shift: u8,
}

impl Short {
    /// The shifts there are: for slopes up to 2, 16, 128 and 1024, and codes up to 2^(31 - shift) before they are clamped.
    pub const SHIFTS: [u8; 4] = [14, 11, 8, 5];

    /// A short line of `shift` fractional bits equal to `form` on every accumulator in `low..=high`, for sums that are `zero`
    /// more than accumulators. `None` if there is none, or sums leave 16 bits.
    pub fn find(
        form: &IntegerEpilogue,
        (max, shift): (u8, u8),
        zero: i32,
        (low, high): (i32, i32),
    ) -> Option<Self> {
        let IntegerEpilogue::Multiplier { multiplier: long, shift: long_shift, .. } = form else {
            return None;
        };
        let (low, high) = (low.checked_add(zero)?, high.checked_add(zero)?);
        if low < i32::from(i16::MIN) || high > i32::from(i16::MAX) {
            return None;
        }
        let code = |sum: i32| form.code(sum - zero, max);
        let steps = Steps::find(code, low, high, max);
        let slope = f64::from(*long) / f64::from(*long_shift).exp2();
        let nominal = (slope * f64::from(shift + 16).exp2()).round();
        (0..9).flat_map(|d| [d, -d]).find_map(|d| {
            let multiplier = nominal + f64::from(d);
            let fits = multiplier.abs() <= f64::from(i32::MAX) && multiplier * slope >= 0.0;
            let line = fits.then(|| Self::through(&steps, multiplier as i32, shift)).flatten()?;
            steps.witnesses().all(|sum| line.code(sum, max) == code(sum)).then_some(line)
        })
    }

    /// The line with this slope that has these steps, if there is one: each step bounds the intercept from below, what is
    /// before it from above.
    fn through(steps: &Steps, multiplier: i32, shift: u8) -> Option<Self> {
        let (first, last) = steps.range;
        let sign = if steps.falling { -1 } else { 1 };
        let product = |u: i32| (i64::from(sign * u) * i64::from(multiplier)) >> 16;
        let (mut low, mut high) = (i64::from(i32::MIN), i64::from(i32::MAX));
        for (k, &t) in (1_i64..).zip(&steps.at) {
            let level = k << shift;
            if t <= last {
                low = low.max(level - product(t));
            }
            if t > first {
                high = high.min(level - 1 - product(t - 1));
            }
        }
        let offset = i32::try_from(low + (high - low) / 2).ok().filter(|_| low <= high)?;
        // The product is monotone, so the ends tell whether the sum stays within 32 bits.
        let fits = |u: i32| i32::try_from(product(u) + i64::from(offset)).is_ok();
        (fits(first) && fits(last)).then_some(Self { multiplier, offset, shift })
    }

    /// The code of a sum.
    pub fn code(&self, sum: i32, max: u8) -> u8 {
        let product = ((i64::from(sum) * i64::from(self.multiplier)) >> 16) as i32;
        (product.wrapping_add(self.offset) >> self.shift).clamp(0, max.into()) as u8
    }
}
