//! Arithmetic that gives the same bits on every machine: rounding, powers of two, exp, ln and the logistic function
//! from additions and multiplications only, because the platform's libm may differ in the last place.

use kernels::Real;

/// Keras' epsilon (`K.epsilon()`), added wherever QKeras adds it.
pub(crate) const EPSILON: f64 = 1e-7;

/// Adding and subtracting this rounds to the nearest integer, ties to even.
#[inline(always)]
fn rounder<T: Real>() -> T {
    // Folded at compile time: 1.5 * 2^23 for f32, 1.5 * 2^52 for f64.
    T::from_f64(if size_of::<T>() == 4 { 12_582_912.0 } else { 6_755_399_441_055_744.0 })
}

/// Round half to even for |x| < 2^22 (f32) or 2^51 (f64); vectorises on every target.
#[inline(always)]
pub(crate) fn round_small<T: Real>(x: T) -> T {
    (x + rounder::<T>()) - rounder::<T>()
}

/// Round half to even, any magnitude; NaN and infinities pass through.
#[inline(always)]
pub(crate) fn round_even<T: Real>(x: T) -> T {
    let limit = T::from_f64(if size_of::<T>() == 4 { 4_194_304.0 } else { 2_251_799_813_685_248.0 });
    if abs(x) < limit { round_small(x) } else { x }
}

/// Largest integer not above x, for |x| < 2^22 (f32) or 2^51 (f64).
#[inline(always)]
pub(crate) fn floor_small<T: Real>(x: T) -> T {
    let r = round_small(x);
    if r > x { r - T::ONE } else { r }
}

#[inline(always)]
pub(crate) fn abs<T: Real>(x: T) -> T {
    let negated = -x;
    if x > negated { x } else { negated }
}

#[inline(always)]
#[allow(clippy::eq_op)]
pub(crate) fn is_nan<T: Real>(x: T) -> bool {
    x != x
}

/// The larger; `b` when `a` is NaN.
#[inline(always)]
pub(crate) fn max<T: Real>(a: T, b: T) -> T {
    if a > b { a } else { b }
}

/// Clamps to `[lo, hi]`; NaN stays NaN, so that it is seen downstream.
#[inline(always)]
pub(crate) fn clamp<T: Real>(x: T, lo: T, hi: T) -> T {
    let x = if x < lo { lo } else { x };
    if x > hi { hi } else { x }
}

/// Smallest positive normal number; TensorFlow's CPU kernels treat anything smaller as zero.
#[inline(always)]
pub(crate) fn min_positive<T: Real>() -> T {
    T::from_f64(if size_of::<T>() == 4 { f64::from(f32::MIN_POSITIVE) } else { f64::MIN_POSITIVE })
}

/// -1, 0 or 1; denormals count as zero, as in TensorFlow. NaN gives 0.
#[inline(always)]
pub(crate) fn sign<T: Real>(x: T) -> T {
    let tiny = min_positive::<T>();
    let plus = if x >= tiny { T::ONE } else { T::ZERO };
    let minus = if x <= -tiny { T::ONE } else { T::ZERO };
    plus - minus
}

/// -1 for negative normal numbers, 1 otherwise.
#[inline(always)]
pub(crate) fn sign_one<T: Real>(x: T) -> T {
    if x <= -min_positive::<T>() { -T::ONE } else { T::ONE }
}

/// 2^k for k in -1022..=1023, exactly in f64; rounded to `T`.
#[inline(always)]
pub(crate) fn exp2i(k: i32) -> f64 {
    f64::from_bits(((k.clamp(-1022, 1023) + 1023) as u64) << 52)
}

/// QKeras' power-of-two rounding of a scale, `2^round(log2(s + eps))`; NaN unless s is finite.
///
/// A negative s, which only codes drawn against their elements' signs can cause, counts as 0 (QKeras: NaN).
pub(crate) fn round_to_po2<T: Real>(s: T) -> T {
    let shifted = (max(s, T::ZERO) + T::from_f64(EPSILON)).to_f64();
    if !s.to_f64().is_finite() {
        return T::from_f64(f64::NAN);
    }
    T::from_f64(exp2i(round_even(log2(shifted)) as i32))
}

/// e^x in f32 to about 1e-7 relative; saturates at |x| = 80. The same bits everywhere.
#[inline(always)]
pub(crate) fn exp_f32(x: f32) -> f32 {
    let x = clamp(x, -80.0, 80.0);
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(0x4B40_0000);
    // ln 2 in two parts, so that the reduction loses nothing.
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let p = 1.0
        + r * (1.0
            + r * (0.5 + r * (0.166_666_66 + r * (0.041_666_65 + r * (0.008_333_452 + r * 0.001_398_2)))));
    f32::from_bits(p.to_bits().wrapping_add((exponent as u32) << 23))
}

/// The logistic function in f32, absolute error below 2e-7.
#[inline(always)]
pub(crate) fn sigmoid_f32(x: f32) -> f32 {
    1.0 / (1.0 + exp_f32(-x))
}

/// `clip(x/2 + 1/2, 0, 1)`: the "internal sigmoid" QKeras uses unless told otherwise.
#[inline(always)]
pub(crate) fn hard_sigmoid<T: Real>(x: T) -> T {
    let half = T::from_f64(0.5);
    clamp(half * x + half, T::ZERO, T::ONE)
}

/// Natural logarithm in f64 to a few units in the last place; the same bits everywhere.
/// NaN below zero, -inf at zero.
pub(crate) fn ln(x: f64) -> f64 {
    let (mantissa, exponent) = match split(x) {
        Ok(parts) => parts,
        Err(special) => return special,
    };
    f64::from(exponent) * std::f64::consts::LN_2 + ln_mantissa(mantissa)
}

/// Base-2 logarithm in f64; exact for powers of two. The same bits everywhere.
pub(crate) fn log2(x: f64) -> f64 {
    let (mantissa, exponent) = match split(x) {
        Ok(parts) => parts,
        Err(special) => return special,
    };
    f64::from(exponent) + ln_mantissa(mantissa) * std::f64::consts::LOG2_E
}

/// Mantissa in `[sqrt(1/2), sqrt(2))` and exponent, or the logarithm of a number that has none.
fn split(x: f64) -> Result<(f64, i32), f64> {
    if x.is_nan() || x < 0.0 {
        return Err(f64::NAN);
    }
    if x == 0.0 {
        return Err(f64::NEG_INFINITY);
    }
    if x.is_infinite() {
        return Err(x);
    }
    // Denormals are scaled into the normal range first.
    let (x, bias) = if x < f64::MIN_POSITIVE { (x * exp2i(54), 54) } else { (x, 0) };
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) as i32) - 1023;
    let mut mantissa = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) | 0x3FF0_0000_0000_0000);
    if mantissa >= std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    Ok((mantissa, exponent - bias))
}

/// ln of a mantissa in `[sqrt(1/2), sqrt(2))` as 2 atanh((m-1)/(m+1)).
fn ln_mantissa(m: f64) -> f64 {
    let t = (m - 1.0) / (m + 1.0);
    let square = t * t;
    // |t| <= 0.172: terms up to t^23 leave less than 1e-18.
    let mut sum = 0.0;
    let mut k = 23;
    while k >= 1 {
        sum = sum * square + 1.0 / f64::from(k);
        k -= 2;
    }
    2.0 * t * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_sigmoid_follow_f64() {
        let mut worst = 0.0f64;
        for i in -80_000..=80_000 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp_f32(x)) / exact - 1.0).abs());
        }
        assert!(worst < 5e-7, "relative error {worst:e}");
        assert!((sigmoid_f32(0.0) - 0.5).abs() < 1e-7);
        assert!(sigmoid_f32(-100.0) < 1e-30 && sigmoid_f32(100.0) == 1.0);
    }

    #[test]
    fn logarithms_follow_f64() {
        let mut x = 1e-300f64;
        while x < 1e300 {
            assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(1.0), "{x:e}");
            x *= 1.37;
        }
        for k in -1000..1000 {
            assert_eq!(log2(exp2i(k)), f64::from(k));
        }
        assert_eq!(ln(0.0), f64::NEG_INFINITY);
        assert!(ln(-1.0).is_nan());
    }

    #[test]
    fn rounding_is_half_to_even() {
        for (x, r) in [(0.5, 0.0), (1.5, 2.0), (-0.5, 0.0), (-2.5, -2.0), (2.4999, 2.0), (1e30, 1e30)] {
            assert_eq!(round_even(x as f32), r as f32);
            assert_eq!(round_even::<f64>(x), r);
        }
        assert_eq!(floor_small(-0.25f32), -1.0);
        assert_eq!(floor_small(3.75f32), 3.0);
    }

    #[test]
    fn po2_of_an_empty_channel_is_two_to_minus_23() {
        assert_eq!(round_to_po2(0.0f32), exp2i(-23) as f32);
        assert_eq!(round_to_po2(-3.0f32), exp2i(-23) as f32);
        assert!(round_to_po2(f32::NAN).is_nan() && round_to_po2(f32::INFINITY).is_nan());
    }
}
