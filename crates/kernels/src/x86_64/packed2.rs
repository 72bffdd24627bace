//! One row of codes times trits at two bits each, two panels of 16 outputs at a time.

use core::arch::x86_64::*;

use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::ternary::packed2::{BLOCK, QUAD, Quad};

/// Quads whose sums of digits two bits up fit 16 bits.
const HALF: usize = BLOCK / 2;

/// Outputs `first..first + out.len()` of a row of `codes` (whole quads), whose panels `quads` holds one after the other;
/// `offsets` has what to take off the sums of each block.
///
/// # Panics
/// If a slice is too short.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn row<E: Epilogue>(
    quads: &[Quad],
    codes: &[u8],
    offsets: &[i32],
    epilogue: &E,
    first: usize,
    out: &mut [E::Out],
) {
    let count = codes.len() / QUAD;
    assert!(
        count > 0
            && offsets.len() == count.div_ceil(BLOCK)
            && quads.len() == count * out.len().div_ceil(PANEL)
    );
    let mut panel = 0;
    for out in out.chunks_mut(2 * PANEL) {
        let first = first + panel * PANEL;
        let weights = &quads[panel * count..];
        if out.len() > PANEL {
            // SAFETY: the CPU has AVX2; there are two panels left (asserted).
            let sums = unsafe { sums::<2>(weights, count, codes, offsets) };
            let (low, high) = out.split_at_mut(PANEL);
            store(sums[0], epilogue, first, low);
            store(sums[1], epilogue, first + PANEL, high);
        } else {
            // SAFETY: the CPU has AVX2; there is a panel left (asserted).
            let sums = unsafe { sums::<1>(weights, count, codes, offsets) };
            store(sums[0], epilogue, first, out);
        }
        panel += 2;
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn store<E: Epilogue>(sums: [__m256i; 2], epilogue: &E, first: usize, out: &mut [E::Out]) {
    if let Ok(out) = <&mut [E::Out; PANEL]>::try_from(&mut *out) {
        // SAFETY: the CPU has AVX2; `first` is a multiple of 16, and the epilogue has been checked to have parameters for
        // all outputs, of which these 16 are some.
        unsafe { epilogue.store_vectors(sums, first, out) };
    } else {
        let mut acc = [0_i32; PANEL];
        // SAFETY: `acc` holds two vectors of eight i32; unaligned stores.
        unsafe {
            _mm256_storeu_si256(acc.as_mut_ptr().cast(), sums[0]);
            _mm256_storeu_si256(acc.as_mut_ptr().add(8).cast(), sums[1]);
        }
        epilogue.store(&acc, first, out);
    }
}

/// 32-bit sums of `P` panels.
///
/// # Safety
/// The CPU has AVX2; `quads` holds `P * count` quads, `codes` as many times 16 codes as `count`, `offsets` one a block.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn sums<const P: usize>(
    quads: &[Quad],
    count: usize,
    codes: &[u8],
    offsets: &[i32],
) -> [[__m256i; 2]; P] {
    let zero = _mm256_setzero_si256();
    let ones = _mm256_set1_epi16(1);
    // Digits two bits up are multiplied where they are, and what they give is divided by four when it is added to the rest.
    let (mask, mask_up) = (_mm256_set1_epi8(0b11), _mm256_set1_epi8(0b1100));
    let mut wide = [[zero; 2]; P];
    debug_assert!(quads.len() >= P * count && codes.len() >= count * QUAD);
    for (block, &offset) in offsets.iter().enumerate() {
        let mut narrow = [[zero; 2]; P];
        let end = count.min((block + 1) * BLOCK);
        for from in (block * BLOCK..end).step_by(HALF) {
            // Four codes of 255 by digits of 2 a quad and lane, four times as large: eight quads reach 65280.
            let mut up = [[zero; 2]; P];
            for quad in from..end.min(from + HALF) {
                let mut steps = [zero; 4];
                for (step, codes_of) in steps.iter_mut().enumerate() {
                    // SAFETY: four codes of that quad; an unaligned read.
                    let four =
                        unsafe { codes.as_ptr().add(quad * QUAD + 4 * step).cast::<i32>().read_unaligned() };
                    *codes_of = _mm256_set1_epi32(four);
                }
                for p in 0..P {
                    for h in 0..2 {
                        // SAFETY: quad `quad` of panel `p`; a quad is two aligned vectors.
                        let digits = unsafe {
                            _mm256_load_si256(quads.as_ptr().add(p * count + quad).cast::<__m256i>().add(h))
                        };
                        let later = _mm256_srli_epi16::<4>(digits);
                        for (low, high, digits) in [(0, 1, digits), (2, 3, later)] {
                            let products = _mm256_maddubs_epi16(steps[low], _mm256_and_si256(digits, mask));
                            narrow[p][h] = _mm256_add_epi16(narrow[p][h], products);
                            let products =
                                _mm256_maddubs_epi16(steps[high], _mm256_and_si256(digits, mask_up));
                            up[p][h] = _mm256_add_epi16(up[p][h], products);
                        }
                    }
                }
            }
            for p in 0..P {
                for h in 0..2 {
                    narrow[p][h] = _mm256_add_epi16(narrow[p][h], _mm256_srli_epi16::<2>(up[p][h]));
                }
            }
        }
        let offset = _mm256_set1_epi32(offset);
        for p in 0..P {
            for h in 0..2 {
                // What is left fits 16 bits, so it does not matter that the sums have wrapped.
                let block = _mm256_madd_epi16(_mm256_sub_epi16(narrow[p][h], offset), ones);
                wide[p][h] = _mm256_add_epi32(wide[p][h], block);
            }
        }
    }
    wide
}
