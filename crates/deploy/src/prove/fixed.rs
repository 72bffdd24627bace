//! A fixed-point shortcut for residual sums: right wherever its fraction is not near a step; there the f32 operations decide.
//!
//! No fixed-point form rounds as the f32 sum of two accumulators on unrelated scales does, but both are close to the exact
//! sum, and how close is known: every f32 operation is off by at most half a unit in the last place of the largest value it
//! can have on the reachable accumulators. So where the fixed-point value is farther from a step than both errors together,
//! it gives the code the f32 operations give.

use crate::DeployError;
use crate::epilogue::CodeGrid;
use crate::program::{Branch, Tensor};
use crate::prove::interval;

/// The shortcut of one channel: `v = acc[0] * slopes[0] + acc[1] * slopes[1] + offset` in 64 bits, the lower 30 of them
/// fraction. The code is `clamp(v >> 30, 0, max)` if the fraction is at least `margin` from 0 on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedSum {
    /// Codes per accumulator unit of each branch.
    pub slopes: [i32; 2],
    /// Intercept, with the half that rounds to nearest.
    pub offset: i64,
    /// Bound of both errors, in units of 2^-32.
    pub margin: u32,
}

/// Fractional bits: slopes of shortcuts are 1.
const BITS: i32 = 30;

impl FixedSum {
    /// A shortcut that decides nothing.
    pub const NEVER: Self = Self { slopes: [0; 2], offset: 0, margin: 1 << 31 };

    /// The shortcut of channel `c`; [`Self::NEVER`] where constants are too large for it or the margin would leave little
    /// to decide.
    ///
    /// # Errors
    /// Accumulators beyond 2^30.
    pub fn of(
        branches: &[Branch],
        tensors: &[Tensor],
        grid: CodeGrid,
        c: usize,
    ) -> Result<Self, DeployError> {
        let one = f64::from(BITS).exp2();
        // Half a unit in the last place, relative to the value; twice that covers products of such errors.
        const ROUNDING: f64 = 2.0 / (1 << 24) as f64;
        let unit = f64::from(grid.shift).exp2() * one;
        let (mut slopes, mut offset, mut sum, mut error, mut rounded) = ([0; 2], 0.0, 0.0, 0.0, 2.0);
        for (branch, slope) in branches.iter().zip(&mut slopes) {
            let (low, high) = interval(branch, &tensors[branch.input], c)?;
            let reach = f64::from(low).abs().max(f64::from(high).abs());
            let constants = branch.affine.channel(c);
            let (scale, bias) = (f64::from(constants.scale), f64::from(constants.bias.unwrap_or(0.0)));
            let (a, b) = constants.norm.map_or((1.0, 0.0), |(a, b)| (f64::from(a), f64::from(b)));
            // Conversion and product, then the bias, then the normalisation: what each can be, and how far off.
            let product = reach * scale.abs();
            let biased = product + bias.abs();
            let value = biased * a.abs() + b.abs();
            error += (2.0 * product + biased) * ROUNDING * a.abs() + value * ROUNDING;
            sum += value;
            offset += (bias * a + b) * unit;
            let exact = scale * a * unit;
            if exact.abs() > f64::from(i32::MAX) {
                return Ok(Self::NEVER);
            }
            *slope = exact.round() as i32;
            rounded += reach / 2.0 + 1.0;
        }
        // The sum itself; rounding the offset is among the whole units.
        let margin = 4.0 * ((error + sum * ROUNDING) * unit + rounded + offset.abs() / (1_u64 << 50) as f64);
        // Codes stay within 30 bits, and the products' sum within 60.
        if margin >= f64::from(1 << 29) || sum * unit >= (1_u64 << 60) as f64 {
            return Ok(Self::NEVER);
        }
        let offset = (offset + one / 2.0).round() as i64;
        Ok(Self { slopes, offset, margin: margin.ceil() as u32 })
    }

    /// The code of a pair of accumulators, if the shortcut decides it.
    pub fn code(&self, acc: [i32; 2], max: u8) -> Option<u8> {
        let products = acc.iter().zip(self.slopes).map(|(&acc, slope)| i64::from(acc) * i64::from(slope));
        let v = self.offset + products.sum::<i64>();
        let decided = ((v << (32 - BITS)) as u32).wrapping_sub(self.margin)
            < self.margin.wrapping_mul(2).wrapping_neg();
        decided.then(|| (v >> BITS).clamp(0, max.into()) as u8)
    }
}
