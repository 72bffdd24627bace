//! Search for a fixed-point line with given steps.
//!
//! With positions `u` along the rising direction, `(m * u + c) >> s` has its k-th step at `t` exactly if
//! `m * t + c >= k << s` and `m * (t - 1) + c < k << s`. For a fixed slope `m` these are an upper and a lower bound on
//! `c`, so the best `c` is known at once; how far the bounds miss each other is a convex function of `m`, whose minimum
//! a ternary search finds. If the bounds do not meet there, no line has these steps.

use super::Steps;
use crate::epilogue::IntegerEpilogue;

/// Fractional bits are chosen so that the slope has about this many.
const SLOPE_BITS: i32 = 30;
/// Codes take 8 bits and accumulators 31: more fractional bits than this could overflow 64.
const MAX_SHIFT: i32 = 40;

/// A line with exactly these steps, if there is one; `slope` in codes per accumulator unit is where the search starts.
pub(super) fn find(steps: &Steps, slope: f64) -> Option<IntegerEpilogue> {
    if !slope.is_finite() {
        return None;
    }
    let shift = (SLOPE_BITS - slope.log2().ceil().max(-100.0) as i32 - 1).clamp(0, MAX_SHIFT) as u8;
    let one = (f64::from(shift)).exp2();
    let nominal = (slope * one).round().min(f64::from(i32::MAX)) as i64;
    let miss = |m: i64| {
        let (low, high) = bounds(steps, m, shift);
        low - high
    };
    let m = if miss(nominal) <= 0 { nominal } else { descend(miss, nominal)? };
    let (low, high) = bounds(steps, m, shift);
    if low > high {
        return None;
    }
    let offset = i64::try_from(low + (high - low) / 2).ok()?;
    let multiplier = i32::try_from(if steps.falling { -m } else { m }).ok()?;
    // The sum must not leave 64 bits anywhere in the range; it is linear, so its ends decide.
    let fits = |u: i32| i64::from(u).checked_mul(m).and_then(|p| p.checked_add(offset)).is_some();
    (fits(steps.range.0) && fits(steps.range.1)).then_some(IntegerEpilogue::Multiplier {
        multiplier,
        offset,
        shift,
    })
}

/// Largest lower and smallest upper bound on the offset for slope `m`.
fn bounds(steps: &Steps, m: i64, shift: u8) -> (i128, i128) {
    let (first, last) = steps.range;
    // Far beyond any bound that matters, and still well inside 64 bits.
    let (mut low, mut high) = (-(1_i128 << 61), 1_i128 << 61);
    for (k, &t) in (1_i128..).zip(&steps.at) {
        let level = k << shift;
        if t <= last {
            low = low.max(level - i128::from(m) * i128::from(t));
        }
        if t > first {
            high = high.min(level - 1 - i128::from(m) * (i128::from(t) - 1));
        }
    }
    (low, high)
}

/// The slope near `nominal` at which `miss` is not positive; `miss` is convex.
fn descend(miss: impl Fn(i64) -> i128, nominal: i64) -> Option<i64> {
    // f32 rounding moves steps by far less than a thousandth of the slope.
    let reach = (nominal >> 10) + 16;
    let (mut from, mut to) = ((nominal - reach).max(0), (nominal + reach).min(i64::from(i32::MAX)));
    while to - from > 2 {
        let third = (to - from) / 3;
        let (a, b) = (from + third, to - third);
        let (at_a, at_b) = (miss(a), miss(b));
        if at_a <= 0 {
            return Some(a);
        }
        if at_b <= 0 {
            return Some(b);
        }
        if at_a < at_b { to = b } else { from = a }
    }
    (from..=to).find(|&m| miss(m) <= 0)
}
