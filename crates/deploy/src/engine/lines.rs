//! A program's lines as an epilogue of the kernels, in f32 wherever that is proved to give the same codes.

use kernels::epilogue::Requantize;

use crate::epilogue::IntegerEpilogue;

/// A line on accumulators with the zero point not yet subtracted.
struct Line {
    multiplier: i32,
    offset: i64,
    shift: u8,
}

/// Lines of all channels, shifts brought up to what the kernels take. `None` if a channel has no line or a slope of 1 or more.
pub(super) fn requantize(channels: &[IntegerEpilogue], zero: &[i32], max: u8) -> Option<Requantize> {
    let lines: Vec<Line> = channels.iter().zip(zero).map(|(c, &z)| Line::new(c, z)).collect::<Option<_>>()?;
    let of = |f: fn(&Line) -> i32| -> Vec<i32> { lines.iter().map(f).collect() };
    let offsets: Vec<i64> = lines.iter().map(|l| l.offset).collect();
    let shifts: Vec<u8> = lines.iter().map(|l| l.shift).collect();
    let integers = Requantize::lines(&of(|l| l.multiplier), &offsets, &shifts, max).ok()?;
    let reals: Vec<_> = lines.iter().map(|line| line.real(max)).collect();
    integers.with_reals(&reals).ok()
}

impl Line {
    fn new(channel: &IntegerEpilogue, zero: i32) -> Option<Self> {
        let IntegerEpilogue::Multiplier { multiplier, offset, shift } = channel else {
            return None;
        };
        let up = Requantize::SHIFTS.start().saturating_sub(*shift);
        let offset = offset.checked_sub(i64::from(*multiplier).checked_mul(zero.into())?)?;
        Some(Self {
            multiplier: i32::try_from(i64::from(*multiplier) << up).ok()?,
            offset: offset.checked_mul(1 << up)?,
            shift: shift + up,
        })
    }

    /// A slope and an intercept in f32 that give the codes 0 to `max` of this line for every accumulator.
    ///
    /// Both round a monotone function, so they are equal everywhere if they step at the same accumulators. Where this line
    /// steps is known; the slope is one of a few around its own, the intercept the middle of what all steps allow, and what
    /// f32 makes of them is tried on both sides of every step.
    fn real(&self, max: u8) -> Option<(f32, f32)> {
        let falling = self.multiplier < 0;
        let exact = f64::from(self.multiplier) / (1_u64 << self.shift) as f64;
        // The first accumulators with codes 1 to `max`, counted in the direction in which codes rise.
        let m = i128::from(self.multiplier).abs();
        if m == 0 {
            return None;
        }
        let steps: Vec<(f32, i32)> = (1..=max)
            .map(|code| {
                let rise = (i128::from(code) << self.shift) - i128::from(self.offset);
                let first = -(-rise).div_euclid(m);
                i32::try_from(first).ok().filter(|t| t.abs() < 1 << 24).map(|t| (f32::from(code), t))
            })
            .collect::<Option<_>>()?;
        let around = [0_i32, 1, -1, 2, -2, 3, -3, 4, -4];
        around.into_iter().find_map(|ulps| {
            let slope = f32::from_bits((exact.abs() as f32).to_bits().wrapping_add_signed(ulps));
            let need = |(code, t): &(f32, i32)| f64::from(*code) - 0.5 - f64::from(slope) * f64::from(*t);
            let low = steps.iter().map(need).fold(f64::NEG_INFINITY, f64::max);
            let high = steps.iter().map(need).fold(f64::INFINITY, f64::min) + f64::from(slope);
            let intercept = ((low + high) / 2.0) as f32;
            let code = |t: i32| (t as f32).mul_add(slope, intercept).round_ties_even();
            let equal = steps.iter().all(|&(k, t)| code(t) >= k && code(t - 1) < k);
            // The other direction is the same with accumulators of the opposite sign.
            equal.then_some((if falling { -slope } else { slope }, intercept))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random lines, rising and falling: most have a twin in f32, and every twin has the same codes at every accumulator.
    #[test]
    fn lines_in_f32_give_the_same_codes() {
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let (mut found, all) = (0, 200);
        for i in 0..all {
            let shift = 31 + (random() % 6) as u8;
            // Slopes of 1/1024 to 1.
            let magnitude = ((1_u64 << shift) >> (1 + random() % 10)) + random() % (1 << 20);
            let multiplier = (magnitude as i64).min(i32::MAX.into()) as i32 * if i % 3 == 0 { -1 } else { 1 };
            let offset = (random() as i64 - (1 << 30)) << (shift - 24);
            let max = [255, 31, 3][i % 3];
            let line = Line { multiplier, offset, shift };
            let Some((slope, intercept)) = line.real(max) else { continue };
            found += 1;
            let span = (f64::from(max) * 2.0 * (1_u64 << shift) as f64 / f64::from(multiplier.abs())) as i64;
            let around = -offset / i64::from(multiplier);
            for acc in around - span..=around + span {
                let want = ((acc * i64::from(multiplier) + offset) >> shift).clamp(0, max.into());
                let value = (acc as f32).mul_add(slope, intercept).round_ties_even();
                assert_eq!(
                    value.clamp(0.0, max.into()) as i64,
                    want,
                    "{acc} of {multiplier} {offset} {shift}"
                );
            }
        }
        assert!(found > all * 9 / 10, "{found} of {all}");
    }
}
