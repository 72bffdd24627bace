//! Epilogues of 16 channels in one vector, of several patches at a time: the formulas of `integer::epilogue`.

use core::arch::x86_64::*;

use crate::epilogue::{Accumulators, Requantize, Scale};
use crate::integer::PANEL;

/// The first `count` of 16 lanes.
#[inline(always)]
fn mask(count: usize) -> u16 {
    debug_assert!((1..=PANEL).contains(&count));
    u16::MAX >> (PANEL - count)
}

/// `y = acc`.
///
/// # Safety
/// The CPU has AVX-512 F; `count` (1 to 16) values are writable at `out` and every `stride` values after, `R` times.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
pub(crate) unsafe fn accumulators<const R: usize>(
    _: &Accumulators,
    acc: &[__m512i; R],
    _first: usize,
    count: usize,
    out: *mut i32,
    stride: usize,
) {
    let mask = mask(count);
    for r in 0..R {
        // SAFETY: row `r`, of which the lanes in the mask are written; unaligned stores.
        unsafe {
            let out = out.add(r * stride);
            if count == PANEL {
                _mm512_storeu_si512(out.cast(), acc[r]);
            } else {
                _mm512_mask_storeu_epi32(out, mask, acc[r]);
            }
        }
    }
}

/// `y = f32(acc) * scale + bias`, nothing fused.
///
/// # Safety
/// As [`accumulators`]; there are parameters for channels `first..first + count`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
pub(crate) unsafe fn scale<const R: usize>(
    e: &Scale<'_>,
    acc: &[__m512i; R],
    first: usize,
    count: usize,
    out: *mut f32,
    stride: usize,
) {
    let mask = mask(count);
    let (scale, bias) = (&e.scale[first..][..count], &e.bias[first..][..count]);
    // SAFETY: both hold `count` values; lanes beyond are not read. Unaligned loads.
    let (scale, bias) =
        unsafe { (_mm512_maskz_loadu_ps(mask, scale.as_ptr()), _mm512_maskz_loadu_ps(mask, bias.as_ptr())) };
    for r in 0..R {
        let y = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(acc[r]), scale), bias);
        // SAFETY: row `r`, of which the lanes in the mask are written; unaligned stores.
        unsafe {
            let out = out.add(r * stride);
            if count == PANEL {
                _mm512_storeu_ps(out, y);
            } else {
                _mm512_mask_storeu_ps(out, mask, y);
            }
        }
    }
}

/// Fixed-point requantisation to codes.
///
/// # Safety
/// As [`accumulators`]; `first` is a multiple of 16 and there are parameters for channel `first`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
pub(crate) unsafe fn requantize<const R: usize>(
    e: &Requantize,
    acc: &[__m512i; R],
    first: usize,
    count: usize,
    out: *mut u8,
    stride: usize,
) {
    let mask = mask(count);
    let (p, zero_point, [low, high]) = e.sixteen(first);
    // SAFETY: a `Sixteen` is aligned to 64 bytes, and its arrays are whole vectors.
    let load = |p: *const __m512i| unsafe { _mm512_load_si512(p) };
    let multiplier = [load((&raw const p.multiplier).cast()), load((&raw const p.odd_multiplier).cast())];
    let addend = [load((&raw const p.addend[0]).cast()), load((&raw const p.addend[1]).cast())];
    let shift = [load((&raw const p.shift[0]).cast()), load((&raw const p.shift[1]).cast())];
    let offset = load((&raw const p.offset).cast());
    let zero_point = _mm_set1_epi8(zero_point as i8);
    let (low, high) = (_mm512_set1_epi32(low), _mm512_set1_epi32(high));
    for r in 0..R {
        // Products of the even lanes, and of the odd ones moved there. What a sum contributes before the shift is at most
        // 2^61 for `acc`, 2^61 for the bias and 2^61 for the half, around 2^62: no 64-bit number overflows.
        let even = _mm512_mul_epi32(acc[r], multiplier[0]);
        let odd = _mm512_mul_epi32(_mm512_srli_epi64::<32>(acc[r]), multiplier[1]);
        let even = _mm512_srlv_epi64(_mm512_add_epi64(even, addend[0]), shift[0]);
        let odd = _mm512_srlv_epi64(_mm512_add_epi64(odd, addend[1]), shift[1]);
        let quotient = _mm512_mask_shuffle_epi32::<0b10_10_00_00>(even, 0b1010_1010_1010_1010, odd);
        let quotient = _mm512_sub_epi32(quotient, offset);
        let quotient = _mm512_min_epi32(_mm512_max_epi32(quotient, low), high);
        // A code is a byte, so that the low bytes are all it takes.
        let code = _mm_add_epi8(_mm512_cvtepi32_epi8(quotient), zero_point);
        // SAFETY: row `r`, of which the lanes in the mask are written; unaligned stores.
        unsafe {
            let out = out.add(r * stride);
            if count == PANEL {
                _mm_storeu_si128(out.cast(), code);
            } else {
                _mm_mask_storeu_epi8(out.cast(), mask, code);
            }
        }
    }
}
