//! Epilogues of 16 channels in two vectors: the formulas of `integer::epilogue`, eight channels at a time.

use core::arch::x86_64::*;

use crate::epilogue::{Accumulators, Addend, Quantize, QuantizeSum, Requantize, Scale};
use crate::integer::PANEL;
use crate::integer::epilogue::Sixteen;
use crate::integer::quantize::{Constants, Grid};
use crate::x86_64::planes::transpose;

/// `y = acc`.
///
/// # Safety
/// The CPU has AVX2.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) unsafe fn accumulators(
    _: &Accumulators,
    acc: [__m256i; 2],
    _first: usize,
    out: &mut [i32; PANEL],
) {
    let to: *mut __m256i = out.as_mut_ptr().cast();
    // SAFETY: `out` holds two vectors of eight i32; unaligned stores.
    unsafe {
        _mm256_storeu_si256(to, acc[0]);
        _mm256_storeu_si256(to.add(1), acc[1]);
    }
}

/// `y = f32(acc) * scale + bias`, nothing fused.
///
/// # Safety
/// The CPU has AVX2; there are parameters for channels `first..first + 16`.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) unsafe fn scale(e: &Scale<'_>, acc: [__m256i; 2], first: usize, out: &mut [f32; PANEL]) {
    let (scale, bias) = (&e.scale[first..][..PANEL], &e.bias[first..][..PANEL]);
    for (half, acc) in acc.into_iter().enumerate() {
        let at = 8 * half;
        // SAFETY: all three slices hold 16 f32; unaligned loads and stores.
        unsafe {
            let product = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(scale.as_ptr().add(at)));
            let sum = _mm256_add_ps(product, _mm256_loadu_ps(bias.as_ptr().add(at)));
            _mm256_storeu_ps(out.as_mut_ptr().add(at), sum);
        }
    }
}

/// Fixed-point requantisation to codes.
///
/// # Safety
/// The CPU has AVX2; `first` is a multiple of 16 and there are parameters for channels `first..first + 16`.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) unsafe fn requantize(e: &Requantize, acc: [__m256i; 2], first: usize, out: &mut [u8; PANEL]) {
    if let Some((p, zero_point, range)) = e.real(first) {
        let mut q = [_mm256_setzero_si256(); 2];
        for half in 0..2 {
            // SAFETY: `RealLines` are aligned to 64 bytes, and the halves of their arrays are whole vectors.
            let (slope, intercept) = unsafe {
                (
                    _mm256_load_ps(p.slope[8 * half..].as_ptr()),
                    _mm256_load_ps(p.intercept[8 * half..].as_ptr()),
                )
            };
            // Slopes of at most 1 and intercepts of at most 2^29 keep a value of an accumulator within 32 bits; packing brings
            // it to a byte.
            q[half] = _mm256_cvtps_epi32(_mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[half]), slope, intercept));
        }
        return store_bytes(q, zero_point, range, out);
    }
    let (p, zero_point, [low, high]) = e.sixteen(first);
    let sixteen = |value: i32| _mm256_set1_epi16(value as i16);
    // Saturating to 16 bits leaves alone what the range leaves alone. Packing works within halves; the permutation
    // puts them in order.
    let words = _mm256_packs_epi32(quotients::<0>(acc[0], p), quotients::<1>(acc[1], p));
    let words = _mm256_min_epi16(_mm256_max_epi16(words, sixteen(low)), sixteen(high));
    let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_add_epi16(words, sixteen(zero_point)));
    let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    // SAFETY: `out` holds 16 bytes; an unaligned store.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), bytes) }
}

/// As [`requantize`] where its lines are in f32, of 16 channels at `count` positions: see
/// [`store_positions`](crate::integer::epilogue::Epilogue::store_positions).
///
/// # Safety
/// As there.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) unsafe fn requantize_positions(
    e: &Requantize,
    (sums, stride): (*const i16, usize),
    first: usize,
    count: usize,
    out: *mut u8,
    n: usize,
) -> bool {
    let Some((p, zero_point, [low, high])) = e.real(first) else { return false };
    let zero_point = _mm256_set1_epi16(zero_point);
    let mut rows = [_mm256_setzero_si256(); PANEL];
    for (l, row) in rows.iter_mut().enumerate() {
        let (slope, intercept) = (_mm256_set1_ps(p.slope[l]), _mm256_set1_ps(p.intercept[l]));
        let mut q = [_mm256_setzero_si256(); 4];
        for (i, q) in q.iter_mut().enumerate() {
            // SAFETY: 32 sums of each channel are readable; an unaligned load.
            let acc = unsafe { _mm_loadu_si128(sums.add(l * stride + 8 * i).cast()) };
            let acc = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(acc));
            *q = _mm256_cvtps_epi32(_mm256_fmadd_ps(acc, slope, intercept));
        }
        // Saturation is beyond every code, as in `store_bytes`.
        let even = _mm256_adds_epi16(_mm256_packs_epi32(q[0], q[1]), zero_point);
        let odd = _mm256_adds_epi16(_mm256_packs_epi32(q[2], q[3]), zero_point);
        *row = _mm256_packus_epi16(even, odd);
    }
    if (low, high) != (0, u8::MAX) {
        for row in &mut rows {
            *row = _mm256_min_epu8(*row, _mm256_set1_epi8(high as i8));
            *row = _mm256_max_epu8(*row, _mm256_set1_epi8(low as i8));
        }
    }
    transpose(&mut rows);
    // SAFETY: the places of `count` positions are writable.
    unsafe {
        if count == 2 * PANEL {
            scatter::<true>(&rows, count, out, n);
        } else {
            scatter::<false>(&rows, count, out, n);
        }
    }
    true
}

/// Stores the halves of rows as 16 bytes of `count` positions, `n` apart; `ALL` says that these are all 32.
///
/// # Safety
/// The CPU has AVX2; the bytes are writable.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn scatter<const ALL: bool>(rows: &[__m256i; PANEL], count: usize, out: *mut u8, n: usize) {
    // Packing has put fours of the even positions from 0 and from 16, then of the odd ones, into one half, and the next fours
    // into the other.
    for sixteen in 0..2 {
        for half in 0..2 {
            for two in 0..4 {
                for odd in 0..2 {
                    let position = 16 * sixteen + 8 * half + 2 * two + odd;
                    if !ALL && position >= count {
                        return;
                    }
                    let row = rows[8 * odd + 4 * sixteen + two];
                    // SAFETY: promised by the caller; unaligned stores.
                    unsafe {
                        let to: *mut __m128i = out.add(position * n).cast();
                        if half == 0 {
                            _mm_storeu_si128(to, _mm256_castsi256_si128(row));
                        } else {
                            _mm_storeu_si128(to, _mm256_extracti128_si256::<1>(row));
                        }
                    }
                }
            }
        }
    }
}

/// `floor(((acc + bias) * multiplier + 2^(shift - 1)) / 2^shift)`, which fits 32 bits. What a sum contributes before the
/// shift is at most 2^61 for `acc`, 2^61 for `bias` and 2^61 for the half, around 2^62: no 64-bit number overflows.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn quotients<const HALF: usize>(acc: __m256i, p: &Sixteen) -> __m256i {
    // SAFETY: a `Sixteen` is aligned to 64 bytes, and the halves of its arrays are whole vectors.
    let load = |p: *const __m256i| unsafe { _mm256_load_si256(p) };
    // No `map` over arrays of vectors: its closure would not be compiled for AVX2, and would be called.
    let (four, eight) = (4 * HALF..4 * HALF + 4, 8 * HALF..8 * HALF + 8);
    let [addend, odd_addend] = [0, 1].map(|odd| p.addend[odd][four.clone()].as_ptr().cast());
    let [shift, odd_shift] = [0, 1].map(|odd| p.shift[odd][four.clone()].as_ptr().cast());
    // Products of the even lanes, and of the odd ones moved there.
    let even = _mm256_mul_epi32(acc, load(p.multiplier[eight.clone()].as_ptr().cast()));
    let odd =
        _mm256_mul_epi32(_mm256_srli_epi64::<32>(acc), load(p.odd_multiplier[eight.clone()].as_ptr().cast()));
    let even = _mm256_srlv_epi64(_mm256_add_epi64(even, load(addend)), load(shift));
    let odd = _mm256_srlv_epi64(_mm256_add_epi64(odd, load(odd_addend)), load(odd_shift));
    let shifted = _mm256_blend_epi32::<0b1010_1010>(even, _mm256_shuffle_epi32::<0b10_10_00_00>(odd));
    _mm256_sub_epi32(shifted, load(p.offset[eight].as_ptr().cast()))
}

/// The code of an affine function.
///
/// # Safety
/// As [`requantize`].
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) unsafe fn quantize(e: &Quantize, acc: [__m256i; 2], first: usize, out: &mut [u8; PANEL]) {
    let p = e.affine.sixteen(first);
    store_codes([values::<0>(acc[0], p), values::<1>(acc[1], p)], e.grid, out);
}

/// The code of a sum of two affine functions.
///
/// # Safety
/// As [`requantize`].
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) unsafe fn quantize_sum(
    e: &QuantizeSum<'_>,
    acc: [__m256i; 2],
    first: usize,
    out: &mut [u8; PANEL],
) {
    let (p, other, place) = (e.affine.sixteen(first), e.other.sixteen(first), e.place(out.as_ptr(), PANEL));
    // SAFETY: `place` has checked that the addend holds 16 elements there; unaligned loads.
    let addend = unsafe {
        match e.addend {
            Addend::Codes(codes) => {
                let codes = _mm_loadu_si128(codes.as_ptr().add(place).cast());
                [_mm256_cvtepu8_epi32(codes), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(codes))]
            }
            Addend::Accumulators(acc) => {
                let acc: *const __m256i = acc.as_ptr().add(place).cast();
                [_mm256_loadu_si256(acc), _mm256_loadu_si256(acc.add(1))]
            }
        }
    };
    let low = _mm256_add_ps(values::<0>(acc[0], p), values::<0>(addend[0], other));
    let high = _mm256_add_ps(values::<1>(acc[1], p), values::<1>(addend[1], other));
    store_codes([low, high], e.grid, out);
}

/// The real values of half of 16 channels.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn values<const HALF: usize>(acc: __m256i, p: &Constants) -> __m256 {
    // SAFETY: `Constants` are aligned to 64 bytes, and the halves of their arrays are whole vectors.
    let load = |values: &[f32; PANEL]| unsafe { _mm256_load_ps(values[8 * HALF..].as_ptr()) };
    // SAFETY: as above.
    let zero = unsafe { _mm256_load_si256(p.zero[8 * HALF..].as_ptr().cast()) };
    let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(acc, zero)), load(&p.scale));
    _mm256_fmadd_ps(_mm256_add_ps(scaled, load(&p.bias)), load(&p.a), load(&p.b))
}

/// `round(clamp(values * unit, 0, high))`, ties to even; 0 for what is no number.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn store_codes(values: [__m256; 2], grid: Grid, out: &mut [u8; PANEL]) {
    let (unit, high) = (_mm256_set1_ps(grid.unit), _mm256_set1_ps(grid.high.into()));
    let mut q = [_mm256_setzero_si256(); 2];
    for (q, values) in q.iter_mut().zip(values) {
        // The maximum is its second operand where the first is no number.
        let positive = _mm256_max_ps(_mm256_mul_ps(values, unit), _mm256_setzero_ps());
        *q = _mm256_cvtps_epi32(_mm256_min_ps(positive, high));
    }
    store_bytes(q, 0, [0, grid.high], out);
}

/// Stores integers plus a zero point, brought to `low..=high`.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn store_bytes(q: [__m256i; 2], zero_point: i16, [low, high]: [u8; 2], out: &mut [u8; PANEL]) {
    // What saturates here is beyond every code with the zero point too.
    let words = _mm256_adds_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_set1_epi16(zero_point));
    let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
    let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    let bytes = _mm_max_epu8(_mm_min_epu8(bytes, _mm_set1_epi8(high as i8)), _mm_set1_epi8(low as i8));
    // SAFETY: `out` holds 16 bytes; an unaligned store.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), bytes) }
}
