//! Packs codes into planes 16 pixels by 32 channels at a time: pairs merged by a multiply-add, bytes transposed.
#![expect(clippy::needless_range_loop, reason = "several arrays of registers share an index")]

use core::arch::x86_64::*;

use crate::ternary::Taps;

/// Pixels and channels of one block.
const PIXELS: usize = 16;
const CHANNELS: usize = 32;

/// As the plain `ternary::planes::pack_row`, except that up to 15 bytes after the last position are written too.
///
/// # Panics
/// If a slice is too short.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn pack_row(taps: &Taps, pixels: &[u8], step: usize, count: usize, plane: usize, to: &mut [u8]) {
    let channels = taps.channels;
    assert!(count > 0 && pixels.len() >= (count - 1) * step * channels + channels, "pixels");
    let groups = taps.tap_groups();
    assert!(to.len() >= (groups - 1) * plane + count.next_multiple_of(PIXELS), "planes");
    for first in (0..count).step_by(PIXELS) {
        let rows = PIXELS.min(count - first);
        for channel in (0..channels).step_by(CHANNELS) {
            let width = CHANNELS.min(channels - channel);
            let from = &pixels[first * step * channels + channel..];
            let group = channel / taps.group;
            let out = &mut to[group * plane + first..];
            let planes = width.div_ceil(taps.group);
            // What is read beyond the row's pixels or channels is a code of another: it meets no output, or trit 0.
            if from.len() >= (PIXELS - 1) * step * channels + CHANNELS {
                // SAFETY: 16 pixels have 32 codes from here, and each of the planes 16 bytes (asserted).
                unsafe { block(taps.group, from.as_ptr(), step * channels, plane, planes, out.as_mut_ptr()) };
            } else {
                let mut copy = [0_u8; PIXELS * CHANNELS];
                for (p, copy) in copy.chunks_exact_mut(CHANNELS).take(rows).enumerate() {
                    copy[..width].copy_from_slice(&from[p * step * channels..][..width]);
                }
                // SAFETY: the copy is a whole block, and each of its planes has 16 bytes.
                unsafe { block(taps.group, copy.as_ptr(), CHANNELS, plane, planes, out.as_mut_ptr()) };
            }
        }
    }
}

/// 16 pixels, `step` bytes apart, of 32 codes each: the first `planes` planes' 16 bytes.
///
/// # Safety
/// The CPU has AVX2; the pixels are readable and the planes writable.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn block(group: usize, from: *const u8, step: usize, plane: usize, planes: usize, to: *mut u8) {
    if group == 2 {
        // Byte g of a pixel: code 2g + 4 * code 2g+1.
        let weights = _mm256_set1_epi16(0x0401);
        let mut rows = [_mm256_setzero_si256(); 8];
        for p in 0..8 {
            // SAFETY: pixels p and p + 8 of the block.
            let (a, b) = unsafe { (load(from.add(p * step)), load(from.add((p + 8) * step))) };
            let (a, b) = (_mm256_maddubs_epi16(a, weights), _mm256_maddubs_epi16(b, weights));
            // Half h: groups 8h.. of pixel p, then of pixel p + 8.
            rows[p] = _mm256_packus_epi16(a, b);
        }
        // Bytes of pixels 2q and 2q+1, then of four, then of eight, side by side.
        let (mut twos, mut fours, mut eights) = (rows, rows, rows);
        for q in 0..4 {
            twos[2 * q] = _mm256_unpacklo_epi8(rows[2 * q], rows[2 * q + 1]);
            twos[2 * q + 1] = _mm256_unpackhi_epi8(rows[2 * q], rows[2 * q + 1]);
        }
        // twos[2q]: groups 0..8 (of each half) of pixels 2q, 2q+1; twos[2q+1]: the same of pixels 8 + 2q, 9 + 2q.
        for half in 0..2 {
            for q in 0..2 {
                let (a, b) = (twos[4 * q + half], twos[4 * q + 2 + half]);
                fours[4 * half + 2 * q] = _mm256_unpacklo_epi16(a, b);
                fours[4 * half + 2 * q + 1] = _mm256_unpackhi_epi16(a, b);
            }
            // fours[4 half + 2q]: groups 0..4 of pixels 4q..4q+4 of that half of the pixels; + 1: groups 4..8.
            for part in 0..2 {
                let (a, b) = (fours[4 * half + part], fours[4 * half + 2 + part]);
                eights[4 * half + 2 * part] = _mm256_unpacklo_epi32(a, b);
                eights[4 * half + 2 * part + 1] = _mm256_unpackhi_epi32(a, b);
            }
        }
        // eights[4 half + i]: groups 2i and 2i+1 (of each vector half) of eight pixels.
        for i in 0..4 {
            let (a, b) = (eights[i], eights[4 + i]);
            let pair = [_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b)];
            for (j, bytes) in pair.iter().enumerate() {
                let g = 2 * i + j;
                // SAFETY: planes g and g + 8, where there are as many.
                unsafe {
                    if g < planes {
                        store(to.add(g * plane), _mm256_castsi256_si128(*bytes));
                    }
                    if g + 8 < planes {
                        store(to.add((g + 8) * plane), _mm256_extracti128_si256::<1>(*bytes));
                    }
                }
            }
        }
    } else {
        // Byte g of a pixel: codes 4g.. at bits 0, 1, 2 and 3. A pixel has 8 bytes.
        let (pairs, fours) = (_mm256_set1_epi16(0x0201), _mm256_set1_epi32(0x0004_0001));
        let mut words = [_mm256_setzero_si256(); 16];
        for (p, word) in words.iter_mut().enumerate() {
            // SAFETY: pixel p of the block.
            let codes = unsafe { load(from.add(p * step)) };
            *word = _mm256_madd_epi16(_mm256_maddubs_epi16(codes, pairs), fours);
        }
        // Four pixels' 32-bit words to bytes: half h has groups 4h.. of pixels p, p+1, p+2 and p+3 in turn.
        let mut bytes = [_mm256_setzero_si256(); 4];
        // Gathers each group's four bytes: (pixel, group) to (group, pixel).
        let turn = _mm256_setr_epi8(
            0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3,
            7, 11, 15,
        );
        for (q, bytes) in bytes.iter_mut().enumerate() {
            let low = _mm256_packs_epi32(words[4 * q], words[4 * q + 1]);
            let high = _mm256_packs_epi32(words[4 * q + 2], words[4 * q + 3]);
            *bytes = _mm256_shuffle_epi8(_mm256_packus_epi16(low, high), turn);
        }
        let (a, b) = (_mm256_unpacklo_epi32(bytes[0], bytes[1]), _mm256_unpackhi_epi32(bytes[0], bytes[1]));
        let (c, d) = (_mm256_unpacklo_epi32(bytes[2], bytes[3]), _mm256_unpackhi_epi32(bytes[2], bytes[3]));
        let quads = [
            _mm256_unpacklo_epi64(a, c),
            _mm256_unpackhi_epi64(a, c),
            _mm256_unpacklo_epi64(b, d),
            _mm256_unpackhi_epi64(b, d),
        ];
        for (g, bytes) in quads.iter().enumerate() {
            // SAFETY: planes g and g + 4, where there are as many.
            unsafe {
                if g < planes {
                    store(to.add(g * plane), _mm256_castsi256_si128(*bytes));
                }
                if g + 4 < planes {
                    store(to.add((g + 4) * plane), _mm256_extracti128_si256::<1>(*bytes));
                }
            }
        }
    }
}

/// # Safety
/// The CPU has AVX2; 32 bytes are readable.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn load(p: *const u8) -> __m256i {
    // SAFETY: promised by the caller.
    unsafe { _mm256_loadu_si256(p.cast()) }
}

/// # Safety
/// The CPU has AVX2; 16 bytes are writable.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn store(p: *mut u8, v: __m128i) {
    // SAFETY: promised by the caller.
    unsafe { _mm_storeu_si128(p.cast(), v) }
}
