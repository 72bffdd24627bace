//! Packs codes into planes 16 pixels at a time: codes merged into groups of four bits, bytes transposed.
#![expect(clippy::needless_range_loop, reason = "several arrays of registers share an index")]

use core::arch::x86_64::*;

use crate::ternary::{RUN, Taps};

/// Pixels of one block: bytes of a vector.
const PIXELS: usize = 32;
/// Pixels whose bytes are transposed at a time.
const HALF: usize = 16;

/// Pixels of one block of codes: where each starts. What is missing of the last block repeats its last pixel, and meets no
/// output.
struct Pixels {
    codes: *const u8,
    starts: [usize; PIXELS],
    /// Codes from a pixel to the one of the next block.
    ahead: usize,
}

impl Pixels {
    /// 32 codes of pixel `p` from `channel`.
    ///
    /// # Safety
    /// The CPU has AVX2; the codes are readable.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn load(&self, p: usize, channel: usize) -> __m256i {
        // SAFETY: promised by the caller; an unaligned load.
        unsafe { _mm256_loadu_si256(self.codes.add(self.starts[p] + channel).cast()) }
    }
}

/// As the plain `ternary::planes::pack_row`, except that up to 31 bytes after the last position are written too, and that the
/// bits may be those of more codes of `pixels`.
///
/// # Panics
/// If a slice is too short.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn pack_row(
    taps: &Taps,
    pixels: &[u8],
    step: usize,
    count: usize,
    plane: usize,
    to: &mut [u8],
) -> u8 {
    if taps.group == 2 {
        pack::<2>(taps, pixels, step, count, plane, to)
    } else {
        pack::<4>(taps, pixels, step, count, plane, to)
    }
}

/// [`pack_row`] for groups of `GROUP` codes.
#[target_feature(enable = "avx2,fma")]
fn pack<const GROUP: usize>(
    taps: &Taps,
    pixels: &[u8],
    step: usize,
    count: usize,
    plane: usize,
    to: &mut [u8],
) -> u8 {
    assert_eq!(taps.group, GROUP, "codes of a group");
    let channels = taps.channels;
    assert!(count > 0 && pixels.len() >= (count - 1) * step * channels + channels, "pixels");
    assert!(to.len() >= (taps.tap_groups() - 1) * plane + count.next_multiple_of(PIXELS), "planes");
    let mut seen = _mm256_setzero_si256();
    let mut first = 0;
    while first < count {
        // Half a block where no more is left.
        let block = if count - first > HALF { PIXELS } else { HALF };
        let rows = block.min(count - first);
        let codes = &pixels[first * step * channels..];
        let mut from = Pixels { codes: codes.as_ptr(), starts: [0; PIXELS], ahead: block * step * channels };
        for p in 1..block {
            from.starts[p] = from.starts[p - 1] + if p < rows { step * channels } else { 0 };
        }
        let (mut channel, mut to) = (0, &mut to[first..]);
        let gathered = taps.gathered();
        while channel < gathered {
            let blocks = if channel + 2 * RUN * GROUP <= gathered { 2 } else { 1 };
            // SAFETY: the CPU has AVX2. Every pixel has the channels of the runs, and every plane a block's bytes (asserted).
            let read = unsafe {
                match (blocks, block) {
                    (2, PIXELS) => gather::<GROUP, 2, 2>(&from, channel, plane, to.as_mut_ptr()),
                    (2, _) => gather::<GROUP, 2, 1>(&from, channel, plane, to.as_mut_ptr()),
                    (_, PIXELS) => gather::<GROUP, 1, 2>(&from, channel, plane, to.as_mut_ptr()),
                    _ => gather::<GROUP, 1, 1>(&from, channel, plane, to.as_mut_ptr()),
                }
            };
            seen = _mm256_or_si256(seen, read);
            channel += blocks * RUN * GROUP;
            to = to.get_mut(blocks * RUN * plane..).unwrap_or_default();
        }
        while channel < channels {
            let width = RUN.min(channels - channel);
            let planes = width.div_ceil(GROUP);
            // What is read beyond the row's pixels or channels is a code of another: it meets no output, or trit 0.
            let whole = codes.len() >= (rows - 1) * step * channels + channel + RUN;
            for half in (0..block).step_by(HALF) {
                let to = to[half..].as_mut_ptr();
                // SAFETY: the pixels have 32 codes from here where they are `whole`, `width` in any case, and each of the planes a
                // block's bytes (asserted).
                let read = unsafe {
                    if whole {
                        neighbours::<GROUP>(&from, half, channel, plane, planes, to)
                    } else {
                        copied::<GROUP>(&from, half, (channel, width), plane, to)
                    }
                };
                seen = _mm256_or_si256(seen, read);
            }
            channel += width;
            to = to.get_mut(planes * plane..).unwrap_or_default();
        }
        first += block;
    }
    let mut bytes = [0_u8; 32];
    // SAFETY: 32 bytes are a vector; an unaligned store.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), seen) };
    bytes.iter().fold(0, |seen, byte| seen | byte)
}

/// Groups of one code of each run, `B` blocks of runs: `16 W` bytes of `32 B` planes. Returns the bits of the codes.
///
/// # Safety
/// The CPU has AVX2; the codes are readable and the planes writable.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn gather<const GROUP: usize, const B: usize, const W: usize>(
    from: &Pixels,
    channel: usize,
    plane: usize,
    to: *mut u8,
) -> __m256i {
    let mut seen = _mm256_setzero_si256();
    let mut merged = [[_mm256_setzero_si256(); HALF]; W];
    for (p, row) in merged.as_flattened_mut().iter_mut().enumerate() {
        let mut run = |i: usize| {
            // SAFETY: promised by the caller.
            let codes = unsafe { from.load(p, channel + i * RUN) };
            // Two runs are a line: that of the next block is fetched meanwhile.
            if i.is_multiple_of(2) {
                let at = from.codes.wrapping_add(from.starts[p] + channel + i * RUN + from.ahead);
                _mm_prefetch::<_MM_HINT_T0>(at.cast());
            }
            seen = _mm256_or_si256(seen, codes);
            codes
        };
        // The first block's group in the lower four bits, the second's in the upper four. No bit of a
        // code that the form takes leaves its byte.
        let mut bits = run(B * GROUP - 1);
        for i in (0..B * GROUP - 1).rev() {
            bits = if GROUP == 2 { _mm256_slli_epi16::<2>(bits) } else { _mm256_slli_epi16::<1>(bits) };
            bits = _mm256_or_si256(bits, run(i));
        }
        *row = bits;
    }
    for half in 0..2 {
        let mut rows = merged[0];
        if W == 2 {
            // Halves of a vector are those of two pixels, so that a plane gets a vector.
            for p in 0..HALF {
                let (low, high) = (merged[0][p], merged[W - 1][p]);
                rows[p] = if half == 0 {
                    _mm256_permute2x128_si256::<0x20>(low, high)
                } else {
                    _mm256_permute2x128_si256::<0x31>(low, high)
                };
            }
        }
        transpose(&mut rows);
        for (c, &bytes) in rows.iter().enumerate() {
            for b in 0..B {
                let bytes = match (B, b) {
                    (1, _) => bytes,
                    (_, 0) => _mm256_and_si256(bytes, _mm256_set1_epi8(15)),
                    _ => _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(15)),
                };
                // SAFETY: planes c and c + 16 of each block.
                unsafe {
                    if W == 2 {
                        _mm256_storeu_si256(to.add((c + half * HALF + b * RUN) * plane).cast(), bytes);
                    } else {
                        store_halves(to.add((c + b * RUN) * plane), HALF * plane, bytes);
                    }
                }
            }
        }
        if W == 1 {
            break;
        }
    }
    seen
}

/// Byte `c` of each half of 16 rows becomes half of row `c`.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn transpose(rows: &mut [__m256i; HALF]) {
    // Interleaving rows p and p + 8 four times takes byte c of row p to byte p of row c.
    for _ in 0..4 {
        let r = *rows;
        for p in 0..HALF / 2 {
            rows[2 * p] = _mm256_unpacklo_epi8(r[p], r[p + 8]);
            rows[2 * p + 1] = _mm256_unpackhi_epi8(r[p], r[p + 8]);
        }
    }
}

/// Groups of neighbours among 32 codes of 16 pixels: 16 bytes of the first `planes` planes. Returns the bits of the codes.
///
/// # Safety
/// As [`gather`].
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn neighbours<const GROUP: usize>(
    from: &Pixels,
    first: usize,
    channel: usize,
    plane: usize,
    planes: usize,
    to: *mut u8,
) -> __m256i {
    let mut seen = _mm256_setzero_si256();
    let mut load = |p: usize| {
        // SAFETY: promised by the caller.
        let codes = unsafe { from.load(first + p, channel) };
        seen = _mm256_or_si256(seen, codes);
        codes
    };
    if GROUP == 2 {
        // Byte g of a pixel: code 2g + 4 * code 2g+1.
        let weights = _mm256_set1_epi16(0x0401);
        let mut rows = [_mm256_setzero_si256(); 8];
        for p in 0..8 {
            let a = _mm256_maddubs_epi16(load(p), weights);
            let b = _mm256_maddubs_epi16(load(p + 8), weights);
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
            for (j, &bytes) in pair.iter().enumerate() {
                // SAFETY: planes g and g + 8, where there are as many.
                unsafe { store_planes::<8>(2 * i + j, planes, plane, to, bytes) };
            }
        }
    } else {
        // Byte g of a pixel: codes 4g.. at bits 0, 1, 2 and 3. A pixel has 8 bytes.
        let (pairs, fours) = (_mm256_set1_epi16(0x0201), _mm256_set1_epi32(0x0004_0001));
        let mut words = [_mm256_setzero_si256(); 16];
        for (p, word) in words.iter_mut().enumerate() {
            *word = _mm256_madd_epi16(_mm256_maddubs_epi16(load(p), pairs), fours);
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
        for (g, &bytes) in quads.iter().enumerate() {
            // SAFETY: planes g and g + 4, where there are as many.
            unsafe { store_planes::<4>(g, planes, plane, to, bytes) };
        }
    }
    seen
}

/// As [`neighbours`] for `width` codes from `channel`, where 32 may not be readable.
///
/// # Safety
/// The CPU has AVX2; the codes of each pixel are readable and the planes writable.
#[target_feature(enable = "avx2,fma")]
#[cold]
#[inline(never)]
unsafe fn copied<const GROUP: usize>(
    from: &Pixels,
    first: usize,
    (channel, width): (usize, usize),
    plane: usize,
    to: *mut u8,
) -> __m256i {
    let mut copy = [0_u8; HALF * RUN];
    let mut starts = [0; PIXELS];
    for (p, copy) in copy.chunks_exact_mut(RUN).enumerate() {
        starts[p] = p * RUN;
        // SAFETY: promised by the caller.
        let codes =
            unsafe { core::slice::from_raw_parts(from.codes.add(from.starts[first + p] + channel), width) };
        copy[..width].copy_from_slice(codes);
    }
    let copied = Pixels { codes: copy.as_ptr(), starts, ahead: 0 };
    // SAFETY: the copy has 32 codes of each pixel; the planes are promised.
    unsafe { neighbours::<GROUP>(&copied, 0, 0, plane, width.div_ceil(GROUP), to) }
}

/// The halves of `bytes` to planes `g` and `g + APART`, where there are as many as `planes`.
///
/// # Safety
/// The CPU has AVX2; 16 bytes are writable at each.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn store_planes<const APART: usize>(
    g: usize,
    planes: usize,
    plane: usize,
    to: *mut u8,
    bytes: __m256i,
) {
    // SAFETY: promised by the caller.
    unsafe {
        if g + APART < planes {
            store_halves(to.add(g * plane), APART * plane, bytes);
        } else if g < planes {
            _mm_storeu_si128(to.add(g * plane).cast(), _mm256_castsi256_si128(bytes));
        }
    }
}

/// The halves of `bytes` to `to` and `apart` bytes after.
///
/// # Safety
/// The CPU has AVX2; 16 bytes are writable at both.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn store_halves(to: *mut u8, apart: usize, bytes: __m256i) {
    // SAFETY: promised by the caller.
    unsafe {
        _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(bytes));
        _mm_storeu_si128(to.add(apart).cast(), _mm256_extracti128_si256::<1>(bytes));
    }
}

/// As the plain `ternary::planes::copy_row`, in vectors: up to 31 bytes after the last position are written too.
///
/// # Panics
/// If a slice has no room for whole vectors.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn copy_row(
    planes: usize,
    count: usize,
    (from, from_plane): (&[u8], usize),
    (to, plane): (&mut [u8], usize),
) {
    let whole = count.next_multiple_of(32);
    assert!(planes > 0 && from.len() >= (planes - 1) * from_plane + whole, "whole vectors");
    assert!(to.len() >= (planes - 1) * plane + whole, "room for whole vectors");
    for at in (0..count).step_by(32) {
        for g in 0..planes {
            // SAFETY: a whole vector of each plane from `at` is within both (asserted).
            unsafe {
                let bytes = _mm256_loadu_si256(from.as_ptr().add(g * from_plane + at).cast());
                _mm256_storeu_si256(to.as_mut_ptr().add(g * plane + at).cast(), bytes);
            }
        }
    }
}
