//! Planes of bits of codes, 256 codes at a time: products of eight by eight bits, whose columns are codes, with unit vectors.
#![expect(clippy::needless_range_loop, reason = "several arrays of registers share an index")]

use core::arch::x86_64::*;

use crate::ternary::signs::BYTE;

/// Of three operands, the bits any has.
const ANY: i32 = 0xfe;
/// Vectors of codes that fill one of bits: a half of it a plane.
const VECTORS: usize = 4;
/// Codes of a vector.
const WIDTH: usize = 64;
/// Bytes of a plane that [`VECTORS`] make.
const HALF: usize = VECTORS * WIDTH / BYTE;

/// Packs runs of `run` codes, one after the other, into two planes of bits: of run `i`, the lowest bits of eight codes at a
/// time become the bytes from `first + i * step` of one plane, and the next bits those of the other. Answers which bits the
/// codes have.
///
/// # Panics
/// If the planes do not hold the runs.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,gfni")]
pub(crate) fn pack(codes: &[u8], run: usize, planes: [&mut [u8]; 2], (first, step): (usize, usize)) -> u8 {
    let Some(last) = (codes.len() / run).checked_sub(1) else { return 0 };
    let end = first + last * step + run.div_ceil(BYTE);
    assert!(planes.iter().all(|plane| end <= plane.len()), "planes hold the runs");
    let planes = planes.map(<[u8]>::as_mut_ptr);
    let mut any = _mm512_setzero_si512();
    for (i, codes) in codes.chunks_exact(run).enumerate() {
        // SAFETY: the run's bytes are within both planes (asserted).
        let mut to = planes.map(|plane| unsafe { plane.add(first + i * step) });
        let (blocks, rest) = codes.as_chunks::<{ VECTORS * WIDTH }>();
        for codes in blocks {
            // SAFETY: whole vectors of codes, and half a vector of bits in each plane; unaligned.
            unsafe {
                let load = |v: usize| _mm512_loadu_si512(codes.as_ptr().add(v * WIDTH).cast());
                let vectors = [load(0), load(1), load(2), load(3)];
                any = union(any, vectors);
                let [low, high] = halves(bits(vectors));
                _mm256_storeu_si256(to[0].cast(), low);
                _mm256_storeu_si256(to[1].cast(), high);
                to = [to[0].add(HALF), to[1].add(HALF)];
            }
        }
        if !rest.is_empty() {
            let mut vectors = [_mm512_setzero_si512(); VECTORS];
            for v in 0..rest.len().div_ceil(WIDTH) {
                let left = WIDTH.min(rest.len() - v * WIDTH);
                // SAFETY: of the codes from `64 v` those within the run are read; an unaligned load.
                vectors[v] = unsafe {
                    let from = rest.as_ptr().add(v * WIDTH);
                    _mm512_maskz_loadu_epi8(u64::MAX >> (WIDTH - left), from.cast())
                };
            }
            any = union(any, vectors);
            let [low, high] = halves(bits(vectors));
            let bytes = u32::MAX >> (HALF - rest.len().div_ceil(BYTE));
            // SAFETY: the bytes in the mask are the run's last in both planes; unaligned stores.
            unsafe {
                _mm256_mask_storeu_epi8(to[0].cast(), bytes, low);
                _mm256_mask_storeu_epi8(to[1].cast(), bytes, high);
            }
        }
    }
    let any = _mm256_or_si256(_mm512_castsi512_si256(any), _mm512_extracti64x4_epi64::<1>(any));
    let any = _mm_or_si128(_mm256_castsi256_si128(any), _mm256_extracti128_si256::<1>(any));
    let any = (_mm_cvtsi128_si64(any) | _mm_extract_epi64::<1>(any)) as u64;
    any.to_le_bytes().into_iter().fold(0, |any, byte| any | byte)
}

/// The bits any has.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,gfni")]
#[inline]
fn union(any: __m512i, [a, b, c, d]: [__m512i; VECTORS]) -> __m512i {
    let any = _mm512_ternarylogic_epi32::<ANY>(any, a, b);
    _mm512_ternarylogic_epi32::<ANY>(any, c, d)
}

/// Bits of either plane.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,gfni")]
#[inline]
fn halves(bits: __m512i) -> [__m256i; 2] {
    [_mm512_castsi512_si256(bits), _mm512_extracti64x4_epi64::<1>(bits)]
}

/// The lowest bits of 256 codes in their order, and then the next bits.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,gfni")]
#[inline]
fn bits(codes: [__m512i; VECTORS]) -> __m512i {
    // Eight codes are a matrix of bits; its product with a unit vector has a bit of each, the last code's lowest. Vector `v`
    // goes to byte `v` of each eight, and its next bits four bytes further.
    let unit = 0x0000_0002_0000_0001_i64;
    let mut all = [_mm512_setzero_si512(); VECTORS];
    for v in 0..VECTORS {
        let units = _mm512_set1_epi64(unit << (8 * v));
        all[v] = _mm512_gf2p8affine_epi64_epi8::<0>(units, codes[v]);
    }
    let [a, b, c, d] = all;
    let all = _mm512_or_si512(_mm512_ternarylogic_epi32::<ANY>(a, b, c), d);
    // The first code's bit the lowest, and bytes in the order of the codes.
    let reversed =
        _mm512_gf2p8affine_epi64_epi8::<0>(all, _mm512_set1_epi64(0x8040_2010_0804_0201_u64 as i64));
    // SAFETY: an aligned vector.
    let order = unsafe { _mm512_load_si512((&raw const ORDER.0).cast()) };
    _mm512_permutexvar_epi8(order, reversed)
}

/// Where byte `i` of the first plane is, and byte `i - 32` of the second: byte `v` or `4 + v` of group `q` for vector `v`.
static ORDER: Order = Order({
    let mut order = [0; WIDTH];
    let mut i = 0;
    while i < WIDTH {
        let (plane, v, q) = (i / HALF, i % HALF / BYTE, i % BYTE);
        order[i] = (BYTE * q + VECTORS * plane + v) as u8;
        i += 1;
    }
    order
});

#[repr(align(64))]
struct Order([u8; WIDTH]);
