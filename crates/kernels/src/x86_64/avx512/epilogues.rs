//! Epilogues of 16 channels in one vector, of several patches at a time: the formulas of `integer::epilogue`.
#![expect(clippy::needless_range_loop, reason = "several arrays of registers share an index")]

use core::arch::x86_64::*;

use crate::epilogue::{Accumulators, Addend, Quantize, QuantizeSum, Requantize, Scale};
use crate::integer::PANEL;
use crate::integer::epilogue::Sixteen;
use crate::integer::quantize::Constants;

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
    if let Some((p, zero_point, [low, high])) = e.real(first) {
        // SAFETY: `RealLines` are aligned to 64 bytes, and their arrays are whole vectors.
        let (slope, intercept) = unsafe {
            (_mm512_load_ps((&raw const p.slope).cast()), _mm512_load_ps((&raw const p.intercept).cast()))
        };
        let (low, high) = (_mm512_set1_epi8(low as i8), _mm512_set1_epi8(high as i8));
        let zero_point = _mm512_set1_epi16(zero_point);
        for r in (0..R).step_by(4) {
            let mut q = [_mm512_setzero_si512(); 4];
            for i in 0..4.min(R - r) {
                // Slopes of at most 1 and intercepts of at most 2^29 keep a value of an accumulator within 32 bits; packing
                // brings it to a byte.
                let value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r + i]), slope, intercept);
                q[i] = _mm512_cvtps_epi32(value);
            }
            // SAFETY: promised by the caller, for the rows from `r`.
            unsafe {
                let codes = _mm512_max_epu8(_mm512_min_epu8(bytes(q, zero_point), high), low);
                store_codes::<R>(codes, r, count, mask, out, stride);
            }
        }
    } else {
        // A copy, so that only what takes this way has its sums in memory.
        let acc = *acc;
        // SAFETY: promised by the caller.
        unsafe { requantize_exactly(e, &acc, first, count, out, stride) };
    }
}

/// As [`requantize`], in integers: where lines in f32 were not found to give the same. Apart, so that the others' few
/// instructions stay within the loops that use them.
///
/// # Safety
/// As [`requantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline(never)]
unsafe fn requantize_exactly<const R: usize>(
    e: &Requantize,
    acc: &[__m512i; R],
    first: usize,
    count: usize,
    out: *mut u8,
    stride: usize,
) {
    let mask = mask(count);
    let (p, zero_point, [low, high]) = e.sixteen(first);
    let p = Vectors::load(p);
    let (low, high) =
        (_mm512_set1_epi8((low + zero_point) as i8), _mm512_set1_epi8((high + zero_point) as i8));
    let zero_point = _mm512_set1_epi16(zero_point as i16);
    for r in (0..R).step_by(4) {
        let mut q = [_mm512_setzero_si512(); 4];
        for i in 0..4.min(R - r) {
            q[i] = quotients(acc[r + i], &p);
        }
        // Saturating to 16 bits, and then to a byte, leaves alone what the range leaves alone.
        let words = [_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3])];
        let words = [_mm512_adds_epi16(words[0], zero_point), _mm512_adds_epi16(words[1], zero_point)];
        let bytes = _mm512_packus_epi16(words[0], words[1]);
        let codes = _mm512_min_epu8(_mm512_max_epu8(bytes, low), high);
        // SAFETY: promised by the caller, for the rows from `r`.
        unsafe { store_codes::<R>(codes, r, count, mask, out, stride) };
    }
}

/// Stores the codes of rows `r..r + 4` (of `R`), four channels of each row side by side within 128 bits.
///
/// # Safety
/// As [`accumulators`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn store_codes<const R: usize>(
    codes: __m512i,
    r: usize,
    count: usize,
    mask: u16,
    out: *mut u8,
    stride: usize,
) {
    let by_row = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let codes = _mm512_permutexvar_epi32(by_row, codes);
    let rows = [
        _mm512_castsi512_si128(codes),
        _mm512_extracti32x4_epi32::<1>(codes),
        _mm512_extracti32x4_epi32::<2>(codes),
        _mm512_extracti32x4_epi32::<3>(codes),
    ];
    for i in 0..4.min(R - r) {
        // SAFETY: row `r + i`, of which the lanes in the mask are written; unaligned stores.
        unsafe {
            let out = out.add((r + i) * stride);
            if count == PANEL {
                _mm_storeu_si128(out.cast(), rows[i]);
            } else {
                _mm_mask_storeu_epi8(out.cast(), mask, rows[i]);
            }
        }
    }
}

/// The code of an affine function.
///
/// # Safety
/// As [`requantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
pub(crate) unsafe fn quantize<const R: usize>(
    e: &Quantize,
    acc: &[__m512i; R],
    first: usize,
    count: usize,
    out: *mut u8,
    stride: usize,
) {
    let (mask, p) = (mask(count), Reals::load(e.affine.sixteen(first)));
    let (unit, high) = (_mm512_set1_ps(e.grid.unit), _mm512_set1_ps(e.grid.high.into()));
    for r in (0..R).step_by(4) {
        let mut q = [_mm512_setzero_si512(); 4];
        for i in 0..4.min(R - r) {
            q[i] = rounded(p.values(acc[r + i]), unit, high);
        }
        // SAFETY: promised by the caller, for the rows from `r`.
        unsafe { store_codes::<R>(bytes(q, _mm512_setzero_si512()), r, count, mask, out, stride) };
    }
}

/// The code of a sum of two affine functions.
///
/// # Safety
/// As [`requantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
pub(crate) unsafe fn quantize_sum<const R: usize>(
    e: &QuantizeSum<'_>,
    acc: &[__m512i; R],
    first: usize,
    count: usize,
    out: *mut u8,
    stride: usize,
) {
    let mask = mask(count);
    let (p, other) = (Reals::load(e.affine.sixteen(first)), Reals::load(e.other.sixteen(first)));
    let (unit, high) = (_mm512_set1_ps(e.grid.unit), _mm512_set1_ps(e.grid.high.into()));
    let place = e.place(out, (R - 1) * stride + count);
    for r in (0..R).step_by(4) {
        let mut q = [_mm512_setzero_si512(); 4];
        for i in 0..4.min(R - r) {
            let at = place + (r + i) * stride;
            // SAFETY: `place` has checked that the addend holds `count` elements for each of the rows; lanes beyond are not
            // read. Unaligned loads.
            let addend = unsafe {
                match e.addend {
                    Addend::Codes(codes) => {
                        _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, codes.as_ptr().add(at).cast()))
                    }
                    Addend::Accumulators(acc) => _mm512_maskz_loadu_epi32(mask, acc.as_ptr().add(at)),
                }
            };
            q[i] = rounded(_mm512_add_ps(p.values(acc[r + i]), other.values(addend)), unit, high);
        }
        // SAFETY: promised by the caller, for the rows from `r`.
        unsafe { store_codes::<R>(bytes(q, _mm512_setzero_si512()), r, count, mask, out, stride) };
    }
}

/// Codes of four rows, plus a zero point, as bytes, four channels of each row side by side within 128 bits.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn bytes(q: [__m512i; 4], zero_point: __m512i) -> __m512i {
    // What saturates here is beyond every code with the zero point too.
    _mm512_packus_epi16(
        _mm512_adds_epi16(_mm512_packs_epi32(q[0], q[1]), zero_point),
        _mm512_adds_epi16(_mm512_packs_epi32(q[2], q[3]), zero_point),
    )
}

/// `round(clamp(values * unit, 0, high))`, ties to even; 0 for what is no number.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn rounded(values: __m512, unit: __m512, high: __m512) -> __m512i {
    // The maximum is its second operand where the first is no number.
    let positive = _mm512_max_ps(_mm512_mul_ps(values, unit), _mm512_setzero_ps());
    _mm512_cvtps_epi32(_mm512_min_ps(positive, high))
}

/// [`Constants`] in registers.
struct Reals {
    zero: __m512i,
    scale: __m512,
    bias: __m512,
    a: __m512,
    b: __m512,
}

impl Reals {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    fn load(p: &Constants) -> Self {
        // SAFETY: `Constants` are aligned to 64 bytes, and their arrays are whole vectors.
        unsafe {
            Self {
                zero: _mm512_load_si512((&raw const p.zero).cast()),
                scale: _mm512_load_ps((&raw const p.scale).cast()),
                bias: _mm512_load_ps((&raw const p.bias).cast()),
                a: _mm512_load_ps((&raw const p.a).cast()),
                b: _mm512_load_ps((&raw const p.b).cast()),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    fn values(&self, acc: __m512i) -> __m512 {
        let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(acc, self.zero)), self.scale);
        _mm512_fmadd_ps(_mm512_add_ps(scaled, self.bias), self.a, self.b)
    }
}

/// A [`Sixteen`] in registers: pairs are for the even channels and for the odd ones.
struct Vectors {
    multiplier: [__m512i; 2],
    addend: [__m512i; 2],
    shift: [__m512i; 2],
    offset: __m512i,
}

impl Vectors {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    fn load(p: &Sixteen) -> Self {
        // SAFETY: a `Sixteen` is aligned to 64 bytes, and its arrays are whole vectors.
        let load = |p: *const __m512i| unsafe { _mm512_load_si512(p) };
        Self {
            multiplier: [load((&raw const p.multiplier).cast()), load((&raw const p.odd_multiplier).cast())],
            addend: [load((&raw const p.addend[0]).cast()), load((&raw const p.addend[1]).cast())],
            shift: [load((&raw const p.shift[0]).cast()), load((&raw const p.shift[1]).cast())],
            offset: load((&raw const p.offset).cast()),
        }
    }
}

/// `floor(((acc + bias) * multiplier + 2^(shift - 1)) / 2^shift)`, which fits 32 bits. What a sum contributes before the
/// shift is at most 2^61 for `acc`, 2^61 for the bias and 2^61 for the half, around 2^62: no 64-bit number overflows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn quotients(acc: __m512i, p: &Vectors) -> __m512i {
    // Products of the even lanes, and of the odd ones moved there.
    let even = _mm512_mul_epi32(acc, p.multiplier[0]);
    let odd = _mm512_mul_epi32(_mm512_srli_epi64::<32>(acc), p.multiplier[1]);
    let even = _mm512_srlv_epi64(_mm512_add_epi64(even, p.addend[0]), p.shift[0]);
    let odd = _mm512_srlv_epi64(_mm512_add_epi64(odd, p.addend[1]), p.shift[1]);
    let shifted = _mm512_mask_shuffle_epi32::<0b10_10_00_00>(even, 0b1010_1010_1010_1010, odd);
    _mm512_sub_epi32(shifted, p.offset)
}
