//! One row of codes times trits of two outputs a byte, four panels of 16 outputs at a time.

use core::arch::x86_64::*;

use super::packed2::store;
use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::prefetch::line_soon;
use crate::ternary::pairs::{GROUP, LONG, SHORT, STEP, Step};

/// Steps ahead of which a group's bytes are announced: enough to cross a page, where the hardware stops.
const AHEAD: usize = 16;

/// Outputs `first..first + out.len()` of a row of `codes` (whole steps) that add up to `total`, whose groups `steps` holds one
/// after the other.
///
/// # Panics
/// If `steps` is of another length.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn row<E: Epilogue>(
    steps: &[Step],
    codes: &[u8],
    total: i32,
    epilogue: &E,
    first: usize,
    out: &mut [E::Out],
) {
    let count = codes.len() / STEP;
    assert!(steps.len() == count * out.len().div_ceil(PANEL), "steps of every panel");
    let mut rest = steps;
    for (group, out) in out.chunks_mut(GROUP * PANEL).enumerate() {
        let panels = out.len().div_ceil(PANEL);
        let (steps, others) = rest.split_at(panels * count);
        rest = others;
        let mut sums = [[_mm256_setzero_si256(); 2]; GROUP];
        // SAFETY: the CPU has AVX2; `steps` holds as many panels of `count` steps, and `codes` as many codes.
        unsafe {
            match panels {
                1 => sums[..1].copy_from_slice(&products::<1>(steps, codes, total)),
                2 => sums[..2].copy_from_slice(&products::<2>(steps, codes, total)),
                3 => sums[..3].copy_from_slice(&products::<3>(steps, codes, total)),
                _ => sums = products::<GROUP>(steps, codes, total),
            }
        }
        for (panel, (out, sums)) in out.chunks_mut(PANEL).zip(sums).enumerate() {
            store(sums, epilogue, first + (group * GROUP + panel) * PANEL, out);
        }
    }
}

/// 32-bit sums of `P` panels.
///
/// # Safety
/// The CPU has AVX2; `steps` holds `P` steps for every four of `codes`.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn products<const P: usize>(steps: &[Step], codes: &[u8], total: i32) -> [[__m256i; 2]; P] {
    let zero = _mm256_setzero_si256();
    let (ones, mask) = (_mm256_set1_epi16(1), _mm256_set1_epi8(3));
    let (mut low, mut whole) = ([zero; P], [zero; P]);
    debug_assert!(steps.len() >= P * (codes.len() / STEP));
    let mut at = steps.as_ptr();
    for codes in codes.chunks(LONG * STEP) {
        let mut low16 = [zero; P];
        for codes in codes.chunks(SHORT * STEP) {
            let mut whole16 = [zero; P];
            for four in codes.chunks_exact(STEP) {
                // SAFETY: four codes; an unaligned read.
                let four = _mm256_set1_epi32(unsafe { four.as_ptr().cast::<i32>().read_unaligned() });
                for p in 0..P {
                    if p % 2 == 0 {
                        line_soon(at.wrapping_add(AHEAD * P + p));
                    }
                    // SAFETY: a step is an aligned vector; `P` of them for every four codes (the caller).
                    let bytes = unsafe { _mm256_load_si256(at.add(p).cast()) };
                    whole16[p] = _mm256_add_epi16(whole16[p], _mm256_maddubs_epi16(four, bytes));
                    let digits = _mm256_and_si256(bytes, mask);
                    low16[p] = _mm256_add_epi16(low16[p], _mm256_maddubs_epi16(four, digits));
                }
                at = at.wrapping_add(P);
            }
            for p in 0..P {
                whole[p] = _mm256_add_epi32(whole[p], _mm256_madd_epi16(whole16[p], ones));
            }
        }
        for p in 0..P {
            low[p] = _mm256_add_epi32(low[p], _mm256_madd_epi16(low16[p], ones));
        }
    }
    let total = _mm256_set1_epi32(total);
    let mut sums = [[zero; 2]; P];
    for p in 0..P {
        let high = _mm256_srai_epi32::<2>(_mm256_sub_epi32(whole[p], low[p]));
        sums[p] = [_mm256_sub_epi32(low[p], total), high];
    }
    sums
}
