//! The natural logarithm as a fixed sequence of IEEE operations: the system's differs between processors and libraries in its
//! last bit, and does not run in vectors.
//!
//! x = 2^e · m with m in [√½, √2), and with f = m − 1 (exact) and s = f / (2 + f):
//! ln m = 2 artanh s = f − f²/2 + s · (f²/2 + 2s²/3 + 2s⁴/5 + …). Because |s| <= 3 − 2√2, every term is at most 0.0295 times
//! the one before, and the series ends where the rest is below the rounding. ln 2 is split so that e · `high` is exact.

/// ln x within 1 unit in the last place, of every f32 (see the test).
#[inline(always)]
pub(super) fn single(x: f32) -> f32 {
    const SQRT_HALF: i32 = 0x3f35_04f3;
    // The high part has 15 bits: times an exponent of 8 bits it fits 24.
    const LN2: [f32; 2] = [0.693_145_75, 1.428_606_8e-6];
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * (1u32 << 25) as f32 } else { x };
    let bits = (scaled.to_bits() as i32).wrapping_sub(SQRT_HALF);
    let e = ((bits >> 23) - if tiny { 25 } else { 0 }) as f32;
    let f = f32::from_bits(((bits & 0x007f_ffff) + SQRT_HALF) as u32) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let rest = z * (2.0 / 3.0 + z * (2.0 / 5.0 + z * (2.0 / 7.0 + z * (2.0 / 9.0))));
    let half = 0.5 * f * f;
    let ln = e * LN2[0] - ((half - (s * (half + rest) + e * LN2[1])) - f);
    let finite = if x > 0.0 { ln } else { f32::NAN };
    let finite = if x == 0.0 { f32::NEG_INFINITY } else { finite };
    if x == f32::INFINITY { x } else { finite }
}

/// ln x within 1 unit in the last place of the standard library's.
#[inline(always)]
pub(super) fn double(x: f64) -> f64 {
    const SQRT_HALF: i64 = 0x3fe6_a09e_667f_3bcd;
    // The high part has 32 bits: times an exponent of 11 bits it fits 53.
    const LN2: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];
    let tiny = x < f64::MIN_POSITIVE;
    let scaled = if tiny { x * (1u64 << 54) as f64 } else { x };
    let bits = (scaled.to_bits() as i64).wrapping_sub(SQRT_HALF);
    let e = f64::from((bits >> 52) as i32 - if tiny { 54 } else { 0 });
    let f = f64::from_bits(((bits & 0x000f_ffff_ffff_ffff) + SQRT_HALF) as u64) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let mut rest = 2.0 / 21.0;
    for n in [19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0] {
        rest = 2.0 / n + z * rest;
    }
    let half = 0.5 * f * f;
    let ln = e * LN2[0] - ((half - (s * (half + z * rest) + e * LN2[1])) - f);
    let finite = if x > 0.0 { ln } else { f64::NAN };
    let finite = if x == 0.0 { f64::NEG_INFINITY } else { finite };
    if x == f64::INFINITY { x } else { finite }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Error of `single` at x in units in the last place of the true value.
    fn error(x: f32) -> f64 {
        let truth = f64::from(x).ln();
        let unit = f64::from((truth.abs() as f32).max(f32::MIN_POSITIVE).to_bits() >> 23) - 127.0 - 23.0;
        (f64::from(single(x)) - truth).abs() / unit.exp2()
    }

    #[test]
    fn single_is_within_one_unit_in_the_last_place() {
        // Every mantissa where nothing but the series counts, then every 509th number there is.
        let near_one = (0x3f35_04f3..0x3fb5_04f3).step_by(1);
        let all = (1..0x7f80_0000).step_by(509);
        let worst = near_one.chain(all).map(|bits| error(f32::from_bits(bits))).fold(0.0, f64::max);
        assert!(worst <= 1.0, "{worst}");
    }

    #[test]
    fn double_is_within_one_unit_in_the_last_place_of_the_standard_one() {
        let mut bits = 1u64;
        for i in 0..2_000_000u64 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Half of them between √½ and √2, where the logarithm is small.
            let x = if i % 2 == 0 {
                f64::from_bits(bits % 0x7ff0_0000_0000_0000)
            } else {
                (bits as f64 / u64::MAX as f64 - 0.5).exp2()
            };
            let (ours, theirs) = (double(x), x.ln());
            let distance = (ours.to_bits() as i64).abs_diff(theirs.to_bits() as i64);
            assert!(distance <= 1, "ln {x:e}: {ours:e} {theirs:e}");
        }
    }

    #[test]
    fn what_has_no_logarithm_gives_none() {
        assert_eq!([single(1.0), single(0.0), single(-0.0)], [0.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
        assert_eq!([double(1.0), double(0.0), double(-0.0)], [0.0, f64::NEG_INFINITY, f64::NEG_INFINITY]);
        assert_eq!((single(f32::INFINITY), double(f64::INFINITY)), (f32::INFINITY, f64::INFINITY));
        for x in [-1.0, f32::NAN, f32::NEG_INFINITY, -f32::from_bits(1)] {
            assert!(single(x).is_nan() && double(f64::from(x)).is_nan(), "{x}");
        }
    }
}
