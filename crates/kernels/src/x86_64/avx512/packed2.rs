//! One row of codes times trits at two bits each, up to four panels of 16 outputs at a time.

use core::arch::x86_64::*;

use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::ternary::packed2::{BLOCK, QUAD, Quad};

/// Outputs `first..first + out.len()` of a row of `codes` (whole quads), whose panels `quads` holds one after the other;
/// `offsets` has, in halves of 16 bits, what the ones added to trits contribute to each block.
///
/// # Panics
/// If a slice is too short.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
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
    // Of all digits together: sums of 32 bits need no blocks. They may wrap until this has been taken off.
    let added = offsets.iter().map(|&o| (o & 0xffff) + (o >> 16 & 0xffff)).fold(0_i32, i32::wrapping_add);
    for (group, out) in out.chunks_mut(4 * PANEL).enumerate() {
        let (weights, first) = (&quads[4 * group * count..], first + 4 * group * PANEL);
        let panels = out.len().div_ceil(PANEL);
        for panel in (0..panels).step_by(if panels == 4 { 4 } else { 1 }) {
            let (weights, first) = (&weights[panel * count..], first + panel * PANEL);
            let out = &mut out[panel * PANEL..];
            if panels == 4 {
                // SAFETY: the CPU has what this function needs; there are four panels (asserted).
                unsafe { store(sums::<4>(weights, count, codes, added), epilogue, first, out) };
            } else {
                // SAFETY: as above, for one panel.
                unsafe { store(sums::<1>(weights, count, codes, added), epilogue, first, out) };
            }
        }
    }
}

/// Stores panels from `first` as far as `out` goes.
///
/// # Safety
/// The CPU has AVX-512 F, BW, VL, DQ and VNNI; `first` is a multiple of 16 and the epilogue has parameters for all of `out`;
/// all but the last panel fit it.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn store<E: Epilogue, const P: usize>(
    sums: [__m512i; P],
    epilogue: &E,
    first: usize,
    out: &mut [E::Out],
) {
    for (p, out) in out.chunks_mut(PANEL).take(P).enumerate() {
        // SAFETY: at most 16 outputs of one row, whose parameters are there.
        unsafe { epilogue.store_rows(&[sums[p]], first + p * PANEL, out.len(), out.as_mut_ptr(), 0) };
    }
}

/// 32-bit sums of `P` panels, less `added`.
///
/// # Safety
/// The CPU has AVX-512 F, BW, VL, DQ and VNNI; `quads` holds `P * count` quads, `codes` as many times 16 codes as `count`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn sums<const P: usize>(quads: &[Quad], count: usize, codes: &[u8], added: i32) -> [__m512i; P] {
    debug_assert!(quads.len() >= P * count && codes.len() >= count * QUAD);
    let mask = _mm512_set1_epi8(3);
    // Two sums each, of every other step, to keep the multipliers busy.
    let mut sums = [[_mm512_set1_epi32(-added), _mm512_setzero_si512()]; P];
    for quad in 0..count {
        // SAFETY: the quad's 16 codes; unaligned reads.
        let codes = unsafe {
            let codes = codes.as_ptr().add(quad * QUAD).cast::<i32>();
            [
                _mm512_set1_epi32(codes.read_unaligned()),
                _mm512_set1_epi32(codes.add(1).read_unaligned()),
                _mm512_set1_epi32(codes.add(2).read_unaligned()),
                _mm512_set1_epi32(codes.add(3).read_unaligned()),
            ]
        };
        for (p, sums) in sums.iter_mut().enumerate() {
            // SAFETY: quad `quad` of panel `p`; a quad is one aligned vector.
            let digits = unsafe { _mm512_load_si512(quads.as_ptr().add(p * count + quad).cast()) };
            let digits = [
                _mm512_and_si512(digits, mask),
                _mm512_and_si512(_mm512_srli_epi16::<2>(digits), mask),
                _mm512_and_si512(_mm512_srli_epi16::<4>(digits), mask),
                _mm512_and_si512(_mm512_srli_epi16::<6>(digits), mask),
            ];
            for step in 0..4 {
                sums[step % 2] = _mm512_dpbusd_epi32(sums[step % 2], codes[step], digits[step]);
            }
        }
    }
    let mut total = [_mm512_setzero_si512(); P];
    for p in 0..P {
        total[p] = _mm512_add_epi32(sums[p][0], sums[p][1]);
    }
    total
}
