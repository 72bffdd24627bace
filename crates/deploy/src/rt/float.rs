//! IEEE 754 single precision in integer arithmetic, so that a processor without a floating-point unit computes the very
//! bits the training graph does where a fixed-point form cannot match it: residual sums and logits.
//!
//! Values are `u32` bit patterns. Results are those of round-to-nearest-even hardware, subnormals, infinities and the
//! existence (not the payload) of NaN included; only the sign of a zero may differ, which no comparison sees.

/// The quiet NaN every invalid operation gives.
const NAN: u32 = 0x7fc0_0000;
const INFINITY: u32 = 0x7f80_0000;
/// 1.
pub const ONE: u32 = 0x3f80_0000;
const SIGN: u32 = 0x8000_0000;

/// `value` rounded to single precision.
pub fn from_i32(value: i32) -> u32 {
    round(value < 0, u64::from(value.unsigned_abs()), 0)
}

/// `a * b + c` with one rounding. `mul` is `fma(a, b, 0)`, `add` is `fma(a, 1, c)`.
pub fn fma(a: u32, b: u32, c: u32) -> u32 {
    let (special_a, special_b, special_c) = (!finite(a), !finite(b), !finite(c));
    let sign = (a ^ b) & SIGN;
    if special_a || special_b {
        if nan(a) || nan(b) || nan(c) || a << 1 == 0 || b << 1 == 0 {
            return NAN;
        }
        // The product is infinite; an infinity of the other sign cancels it to nothing meaningful.
        return if special_c && c & SIGN != sign { NAN } else { INFINITY | sign };
    }
    if special_c {
        return if nan(c) { NAN } else { c };
    }
    let ((ma, ea), (mb, eb), (mc, ec)) = (parts(a), parts(b), parts(c));
    let product = u64::from(ma) * u64::from(mb);
    if product == 0 {
        return c;
    }
    if mc == 0 {
        return round(sign != 0, product, ea + eb);
    }
    // Both with their highest bit at 61. The one with the smaller exponent has at most 48 significant bits, so it loses
    // bits below bit 0 only where it is far smaller; those only need to be remembered as "something" (the lowest bit).
    let lift = |m: u64, e: i32| (m << (m.leading_zeros() - 2), e + 2 - m.leading_zeros() as i32);
    let ((p, ep), (q, eq)) = (lift(product, ea + eb), lift(u64::from(mc), ec));
    let (mut big, mut small) = ((p, ep, sign), (q, eq, c & SIGN));
    if small.1 > big.1 {
        core::mem::swap(&mut big, &mut small);
    }
    let drop = big.1 - small.1;
    let small_m = match drop {
        63.. => 1,
        _ => (small.0 >> drop) | u64::from(small.0 & ((1 << drop) - 1) != 0),
    };
    if big.2 == small.2 {
        round(big.2 != 0, big.0 + small_m, big.1)
    } else if small_m > big.0 {
        round(small.2 != 0, small_m - big.0, big.1)
    } else {
        round(big.2 != 0, big.0 - small_m, big.1)
    }
}

/// `clamp(round_half_even(value * 2^shift), 0, max)`; NaN gives 0.
pub fn to_code(value: u32, shift: i32, max: u8) -> u8 {
    if value & SIGN != 0 || nan(value) {
        return 0;
    }
    if !finite(value) {
        return max;
    }
    let (m, e) = parts(value);
    let e = e + shift;
    let code = if e >= 9 {
        // At least 2^9 unless the mantissa is zero.
        if m == 0 { 0 } else { 1 << 9 }
    } else if e >= 0 {
        u64::from(m) << e
    } else if e < -25 {
        0
    } else {
        nearest_even(u64::from(m), (-e) as u32)
    };
    code.min(u64::from(max)) as u8
}

/// An integer that orders as the values do (`-0` equal to `0`), NaN below everything.
pub fn order(value: u32) -> i32 {
    if nan(value) {
        i32::MIN
    } else if value & SIGN == 0 {
        value as i32
    } else {
        -((value & !SIGN) as i32)
    }
}

fn finite(v: u32) -> bool {
    v & INFINITY != INFINITY
}

fn nan(v: u32) -> bool {
    !finite(v) && v & 0x007f_ffff != 0
}

/// Mantissa and exponent of a finite value: `mantissa * 2^exponent`.
fn parts(v: u32) -> (u32, i32) {
    let (field, fraction) = ((v >> 23 & 0xff) as i32, v & 0x007f_ffff);
    if field == 0 { (fraction, -149) } else { (fraction | 0x0080_0000, field - 150) }
}

/// `m / 2^drop` to the nearest integer, ties to even; `drop` of 1 to 63.
fn nearest_even(m: u64, drop: u32) -> u64 {
    let (whole, rest, half) = (m >> drop, m & ((1 << drop) - 1), 1 << (drop - 1));
    whole + u64::from(rest > half || (rest == half && whole & 1 == 1))
}

/// `m * 2^exponent` rounded to single precision; `m` below 2^63.
fn round(negative: bool, m: u64, exponent: i32) -> u32 {
    let sign = if negative { SIGN } else { 0 };
    if m == 0 {
        return sign;
    }
    let bits = 64 - m.leading_zeros() as i32;
    let drop = (bits - 24).max(-149 - exponent);
    let (m, exponent) = if drop <= 0 {
        // Fits: move it up to 24 bits, or to the exponent of subnormals.
        (m << -drop, exponent + drop)
    } else if drop > 63 {
        return sign;
    } else {
        (nearest_even(m, drop as u32), exponent + drop)
    };
    if m < 1 << 23 {
        return sign | m as u32;
    }
    let (m, exponent) = if m == 1 << 24 { (1 << 23, exponent + 1) } else { (m, exponent) };
    match exponent + 150 {
        field if field >= 255 => sign | INFINITY,
        field => sign | (field as u32) << 23 | (m as u32 & 0x007f_ffff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(ours: u32, hardware: f32) -> bool {
        let ours = f32::from_bits(ours);
        ours.to_bits() == hardware.to_bits()
            || (ours.is_nan() && hardware.is_nan())
            || (ours == 0.0 && hardware == 0.0)
    }

    /// Bit patterns of every class: any, near each other, tiny, huge, special.
    fn pattern() -> impl Strategy<Value = u32> {
        prop_oneof![
            any::<u32>(),
            (0x3f00_0000_u32..0x4100_0000, any::<bool>()).prop_map(|(v, s)| v | u32::from(s) << 31),
            (0_u32..0x0180_0000, any::<bool>()).prop_map(|(v, s)| v | u32::from(s) << 31),
            prop::sample::select(vec![0, SIGN, ONE, INFINITY, INFINITY | SIGN, NAN, 1, 0x7f7f_ffff]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn arithmetic_is_the_hardware_s(a in pattern(), b in pattern(), c in pattern()) {
            let (x, y, z) = (f32::from_bits(a), f32::from_bits(b), f32::from_bits(c));
            prop_assert!(same(fma(a, b, c), x.mul_add(y, z)), "{x:e} * {y:e} + {z:e}");
            prop_assert!(same(fma(a, b, 0), x * y), "{x:e} * {y:e}");
            prop_assert!(same(fma(a, ONE, c), x + z), "{x:e} + {z:e}");
            // Near-total cancellation: the product's rounding error.
            let p = (x * y).to_bits() ^ SIGN;
            prop_assert!(same(fma(a, b, p), x.mul_add(y, f32::from_bits(p))));
        }

        #[test]
        fn conversions_are_the_hardware_s(v in any::<i32>(), small in -70_000..70_000, shift in -4..12, p in pattern()) {
            prop_assert!(same(from_i32(v), v as f32));
            prop_assert!(same(from_i32(small), small as f32));
            for bits in [p, (small as f32 / 128.0).to_bits()] {
                let x = f32::from_bits(bits);
                for max in [1_u8, 15, 255] {
                    let code = (x * 2.0_f32.powi(shift)).round_ties_even().clamp(0.0, f32::from(max)) as u8;
                    prop_assert_eq!(to_code(bits, shift, max), code, "{:e} << {}", x, shift);
                }
            }
        }

        #[test]
        fn order_is_that_of_the_values(a in pattern(), b in pattern()) {
            let (x, y) = (f32::from_bits(a), f32::from_bits(b));
            if let Some(ordering) = x.partial_cmp(&y) {
                prop_assert_eq!(order(a).cmp(&order(b)), ordering);
            }
        }
    }
}
