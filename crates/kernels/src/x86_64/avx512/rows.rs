//! One row of codes times few outputs' trits at a byte each, 64 codes of all outputs at a time.

use core::arch::x86_64::*;

use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::ternary::rows::{LINE, Line, Tail, width};

/// Outputs `first..first + out.len()` (at most 16) of a row of `codes`, whose last ones that fill no line are in `tail`.
///
/// # Panics
/// If a slice is too short.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
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
    // SAFETY: the CPU has what this function needs; `lines` holds `width` lines for every 64 codes (asserted).
    let sums = unsafe {
        match width {
            2 => sums::<2>(lines, codes, tail),
            4 => sums::<4>(lines, codes, tail),
            6 => sums::<6>(lines, codes, tail),
            8 => sums::<8>(lines, codes, tail),
            10 => sums::<10>(lines, codes, tail),
            12 => sums::<12>(lines, codes, tail),
            14 => sums::<14>(lines, codes, tail),
            _ => sums::<16>(lines, codes, tail),
        }
    };
    // SAFETY: at most 16 outputs of one row, from a multiple of 16, whose parameters are there.
    unsafe { epilogue.store_rows(&[sums], first, out.len(), out.as_mut_ptr(), 0) };
}

/// 32-bit sums of `W` outputs, in as many lanes.
///
/// # Safety
/// The CPU has AVX-512 F, BW, VL, DQ and VNNI; `lines` holds `W` lines for every 64 codes and for the rest of them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn sums<const W: usize>(lines: &[Line], codes: &[u8], tail: &Tail) -> __m512i {
    let whole = codes.len() / LINE;
    debug_assert!(lines.len() >= W * codes.len().div_ceil(LINE));
    let mut acc = [_mm512_setzero_si512(); PANEL];
    for line in 0..whole {
        // SAFETY: 64 codes of the whole lines; an unaligned read.
        let codes = unsafe { _mm512_loadu_si512(codes.as_ptr().add(line * LINE).cast()) };
        for (output, acc) in acc.iter_mut().take(W).enumerate() {
            // SAFETY: a line is one aligned vector, and there are `W` of these codes.
            let trits = unsafe { _mm512_load_si512(lines.as_ptr().add(line * W + output).cast()) };
            *acc = _mm512_dpbusd_epi32(*acc, codes, trits);
        }
    }
    if !codes.len().is_multiple_of(LINE) {
        // SAFETY: the tail is one aligned vector.
        let codes = unsafe { _mm512_load_si512((&raw const *tail).cast()) };
        for (output, acc) in acc.iter_mut().take(W).enumerate() {
            // SAFETY: as above, of the last line.
            let trits = unsafe { _mm512_load_si512(lines.as_ptr().add(whole * W + output).cast()) };
            *acc = _mm512_dpbusd_epi32(*acc, codes, trits);
        }
    }
    totals(&acc)
}

/// The sum of each vector's lanes, in the lane of its number.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn totals(acc: &[__m512i; PANEL]) -> __m512i {
    let mut fours = [_mm512_setzero_si512(); 4];
    for (four, v) in fours.iter_mut().zip(acc.chunks_exact(4)) {
        let pair = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (low, high) = (pair(v[0], v[1]), pair(v[2], v[3]));
        *four = _mm512_add_epi32(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high));
    }
    // Four outputs' sums in every quarter; the quarters are added.
    let halves =
        |a, b| _mm512_add_epi32(_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
    let (low, high) = (halves(fours[0], fours[1]), halves(fours[2], fours[3]));
    _mm512_add_epi32(_mm512_shuffle_i32x4::<0x88>(low, high), _mm512_shuffle_i32x4::<0xdd>(low, high))
}
