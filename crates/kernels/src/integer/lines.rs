//! Lines of a requantisation in f32: faster than 64-bit products, and taken where they are proved to give the same codes.

use alloc::vec::Vec;

use crate::integer::PANEL;

/// Lines of 16 channels in f32: `round(fma(f32(acc), slope, intercept))`, rounded to nearest, ties to even, is a code before
/// the zero point is added.
#[derive(Debug, Clone, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct RealLines {
    pub(crate) slope: [f32; PANEL],
    pub(crate) intercept: [f32; PANEL],
}

/// `code = floor((acc * multiplier + offset) / 2^shift)`, the zero point not added.
pub(super) struct Line {
    pub(super) multiplier: i32,
    pub(super) offset: i128,
    pub(super) shift: u8,
}

/// Twins in f32 of the lines of each panel; none for a panel that has a line without one.
pub(super) fn panels(lines: &[Line], range: [i32; 2]) -> Vec<Option<RealLines>> {
    let panel = |lines: &[Line]| {
        let mut reals = RealLines { slope: [0.0; PANEL], intercept: [0.0; PANEL] };
        for (l, line) in lines.iter().enumerate() {
            (reals.slope[l], reals.intercept[l]) = line.real(range)?;
        }
        Some(reals)
    };
    lines.chunks(PANEL).map(panel).collect()
}

impl Line {
    /// A slope (at most 1) and an intercept (at most 2^29) in f32 that give the codes `low` to `high` of this line for every
    /// accumulator.
    ///
    /// Both round a monotone function, so they are equal everywhere if they step at the same accumulators. Where this line
    /// steps is known; the slope is one of some around its own, the intercept the middle of what all steps allow, and what
    /// f32 makes of them is tried on both sides of every step.
    fn real(&self, [low, high]: [i32; 2]) -> Option<(f32, f32)> {
        let falling = self.multiplier < 0;
        let exact = f64::from(self.multiplier).abs() / (1_u64 << self.shift) as f64;
        let m = i128::from(self.multiplier).abs();
        if m == 0 || low == high {
            return None;
        }
        // The first accumulators with codes above `low`, counted in the direction in which codes rise.
        let step = |code: i32| {
            let rise = (i128::from(code) << self.shift) - self.offset;
            let first = -(-rise).div_euclid(m);
            i32::try_from(first).ok().filter(|t| t.abs() < 1 << 24).map(|t| (code as f32, t))
        };
        // Most lines without a twin step too far out, which the last step shows.
        step(high)?;
        let steps: Vec<(f32, i32)> = (low + 1..=high).map(step).collect::<Option<_>>()?;
        // Steps are at whole accumulators, so the slope has some play: a step's worth over all codes.
        let play = exact * exact / f64::from(high - low);
        let ulps = [0_i32, 1, -1, 2, -2, 3, -3, 4, -4]
            .map(|ulps| f32::from_bits((exact as f32).to_bits().wrapping_add_signed(ulps)));
        let wider = [0.125, -0.125, 0.25, -0.25, 0.5, -0.5].map(|part| (exact + part * play) as f32);
        ulps.into_iter().chain(wider).find_map(|slope| {
            let need = |(code, t): &(f32, i32)| f64::from(*code) - 0.5 - f64::from(slope) * f64::from(*t);
            let least = steps.iter().map(need).fold(f64::NEG_INFINITY, f64::max);
            let most = steps.iter().map(need).fold(f64::INFINITY, f64::min) + f64::from(slope);
            let intercept = ((least + most) / 2.0) as f32;
            let code = |t: i32| (t as f32).mul_add(slope, intercept).round_ties_even();
            let equal = slope <= 1.0
                && intercept.abs() <= (1 << 29) as f32
                && steps.iter().all(|&(k, t)| code(t) >= k && code(t - 1) < k);
            // The other direction is the same with accumulators of the opposite sign.
            equal.then_some((if falling { -slope } else { slope }, intercept))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

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
            let [low, high] = [[0, 255], [-3, 31], [0, 3]][i % 3];
            let Some((slope, intercept)) =
                (Line { multiplier, offset: offset.into(), shift }).real([low, high])
            else {
                continue;
            };
            found += 1;
            let span =
                (f64::from(high - low) * 2.0 * (1_u64 << shift) as f64 / f64::from(multiplier.abs())) as i64;
            let around = -offset / i64::from(multiplier);
            for acc in around - span..=around + span {
                let want = ((acc * i64::from(multiplier) + offset) >> shift).clamp(low.into(), high.into());
                let value = (acc as f32).mul_add(slope, intercept).round_ties_even();
                assert_eq!(
                    value.clamp(low as f32, high as f32) as i64,
                    want,
                    "{acc} of {multiplier} {offset} {shift}"
                );
            }
        }
        assert!(found > all * 9 / 10, "{found} of {all}");
    }

    /// Hundredths step at ties, up and down, which f32 does not tell apart with the nearest slope.
    #[test]
    fn ties_are_told_apart() {
        for near in [-1, 0, 1] {
            let (multiplier, shift) = ((0.01 * (1_u64 << 37) as f64) as i32 + near, 37);
            let offset = 1 << (shift - 1);
            let (slope, intercept) = Line { multiplier, offset, shift }.real([-128, 127]).expect("a twin");
            for acc in -14_000..14_000_i32 {
                let want = (i64::from(acc) * i64::from(multiplier) + offset as i64) >> shift;
                let value = (acc as f32).mul_add(slope, intercept).round_ties_even();
                assert_eq!(value.clamp(-128.0, 127.0) as i64, want.clamp(-128, 127), "{acc}");
            }
        }
    }

    #[test]
    fn lines_that_step_out_of_reach_have_no_twin() {
        let real = |multiplier, offset, shift| Line { multiplier, offset, shift }.real([0, 255]);
        assert!(real(1 << 30, 0, 31).is_some());
        assert!(real(0, 0, 31).is_none());
        assert!(real(1, 0, 31).is_none());
        assert!(real(1 << 30, 1 << 60, 31).is_none());
        assert!((Line { multiplier: 1 << 30, offset: 0, shift: 31 }).real([7, 7]).is_none());
    }
}
