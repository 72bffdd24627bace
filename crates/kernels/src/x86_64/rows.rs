//! One row of codes times few outputs' trits at a byte each, 32 codes of up to 12 outputs at a time.

use core::arch::x86_64::*;

use super::packed2::store;
use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::ternary::rows::{BLOCK, LINE, Line, Tail, width};

/// Outputs `first..first + out.len()` (at most 16) of a row of `codes`, whose last ones that fill no line are in `tail`.
///
/// # Panics
/// If a slice is too short.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn row<E: Epilogue>(
    lines: &[Line],
    codes: &[u8],
    tail: &Tail,
    epilogue: &E,
    first: usize,
    out: &mut [E::Out],
) {
    let width = width(out.len());
    assert!((2..=PANEL).contains(&width) && lines.len() == codes.len().div_ceil(LINE) * width);
    let mut acc = [_mm256_setzero_si256(); PANEL];
    let (a, b) = acc.split_at_mut(8);
    // As many outputs at once as there are registers for.
    // SAFETY: the CPU has AVX2; `lines` holds `width` lines for every 64 codes (asserted), of which each call reads some.
    unsafe {
        match width {
            2 => sums::<2, 2>(lines, 0, codes, tail, a),
            4 => sums::<4, 4>(lines, 0, codes, tail, a),
            6 => sums::<6, 6>(lines, 0, codes, tail, a),
            8 => sums::<8, 8>(lines, 0, codes, tail, a),
            10 => sums::<10, 10>(lines, 0, codes, tail, &mut acc),
            12 => sums::<12, 12>(lines, 0, codes, tail, &mut acc),
            14 => {
                sums::<14, 8>(lines, 0, codes, tail, a);
                sums::<14, 6>(lines, 8, codes, tail, b);
            }
            _ => {
                sums::<16, 8>(lines, 0, codes, tail, a);
                sums::<16, 8>(lines, 8, codes, tail, b);
            }
        }
    }
    let four = |i: usize| totals(&acc[i], &acc[i + 1], &acc[i + 2], &acc[i + 3]);
    let sums = [_mm256_set_m128i(four(4), four(0)), _mm256_set_m128i(four(12), four(8))];
    store(sums, epilogue, first, out);
}

/// 32-bit sums of `W` outputs from `first` of a group with `S` lines for every 64 codes, spread over the lanes of `wide`.
///
/// # Safety
/// The CPU has AVX2; `lines` holds `S` lines for every 64 codes and for the rest of them; `first + W <= S`.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn sums<const S: usize, const W: usize>(
    lines: &[Line],
    first: usize,
    codes: &[u8],
    tail: &Tail,
    wide: &mut [__m256i],
) {
    let (count, whole) = (codes.len().div_ceil(LINE), codes.len() / LINE);
    debug_assert!(lines.len() >= S * count && first + W <= S && wide.len() >= W);
    let ones = _mm256_set1_epi16(1);
    for block in (0..count).step_by(BLOCK) {
        let mut narrow = [_mm256_setzero_si256(); W];
        for line in block..count.min(block + BLOCK) {
            let codes: *const u8 = if line < whole { codes[line * LINE..].as_ptr() } else { tail.0.as_ptr() };
            for half in 0..2 {
                // SAFETY: 64 codes of a whole line, or the tail's; an unaligned read.
                let codes = unsafe { _mm256_loadu_si256(codes.cast::<__m256i>().add(half)) };
                for (output, narrow) in narrow.iter_mut().enumerate() {
                    let at = line * S + first + output;
                    // SAFETY: a line is two aligned vectors, and `at` is below `S * count`.
                    let trits =
                        unsafe { _mm256_load_si256(lines.as_ptr().add(at).cast::<__m256i>().add(half)) };
                    *narrow = _mm256_add_epi16(*narrow, _mm256_maddubs_epi16(codes, trits));
                }
            }
        }
        for (wide, narrow) in wide.iter_mut().zip(narrow) {
            *wide = _mm256_add_epi32(*wide, _mm256_madd_epi16(narrow, ones));
        }
    }
}

/// The sum of each vector's lanes.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn totals(a: &__m256i, b: &__m256i, c: &__m256i, d: &__m256i) -> __m128i {
    let fours = _mm256_hadd_epi32(_mm256_hadd_epi32(*a, *b), _mm256_hadd_epi32(*c, *d));
    _mm_add_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256::<1>(fours))
}
