//! AVX2 tiles of 64 positions by 4 outputs for the look-up form, and their way through the epilogue.
#![expect(clippy::needless_range_loop, reason = "several arrays of registers share an index")]

use core::arch::x86_64::*;
use core::ops::Range;

use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::ternary::{Lut, OUTPUTS, Table};

/// Positions of a tile, at most: two vectors.
const POSITIONS: usize = 64;
/// Positions of one vector.
const VECTOR: usize = 32;

/// 16-bit sums of 16 outputs at 64 positions.
#[repr(C, align(32))]
struct Sums([[i16; POSITIONS]; PANEL]);

/// `out[p, n] = epilogue(sums)` for as many positions as `out` has rows, `offsets` saying where each group's codes are.
///
/// # Panics
/// If an offset or a position lies outside `data`.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn multiply<E: Epilogue>(w: &Lut, data: &[u8], offsets: &[i32], epilogue: &E, out: &mut [E::Out]) {
    let n = w.taps().n;
    let positions = out.len() / n;
    let furthest = offsets.iter().max().map_or(0, |&o| o as usize);
    assert!(offsets.iter().all(|&o| o >= 0) && offsets.len() == w.taps().groups(), "offsets of groups");
    assert!(furthest + positions.next_multiple_of(VECTOR) <= data.len(), "planes hold every position");
    let mut sums = Sums([[0; POSITIONS]; PANEL]);
    for at in (0..positions).step_by(POSITIONS) {
        let here = POSITIONS.min(positions - at);
        let vectors = here.div_ceil(VECTOR);
        for first in (0..n).step_by(PANEL) {
            let count = PANEL.min(n - first);
            for (tile, sums) in sums.0.chunks_exact_mut(OUTPUTS).enumerate().take(count.div_ceil(OUTPUTS)) {
                let (starts, ends) = w.tile(first / OUTPUTS + tile);
                let sums = sums.as_mut_ptr().cast();
                // SAFETY: the CPU has AVX2. Every offset plus `at` and a tile's vectors lies within the data
                // (asserted); starts lie within the tables; `sums` holds the tile's rows.
                unsafe {
                    let data = data.as_ptr().add(at);
                    if vectors == 2 {
                        look_up::<2>(data, offsets, starts, ends, w.tables(), sums);
                    } else {
                        look_up::<1>(data, offsets, starts, ends, w.tables(), sums);
                    }
                }
            }
            for block in (0..here).step_by(PANEL) {
                let (rows, columns) = (PANEL.min(here - block), first..first + count);
                let out = &mut out[(at + block) * n..][..rows * n];
                // SAFETY: the CPU has AVX2; `out` has these rows, and the epilogue parameters for `n` outputs.
                unsafe { store(&sums, (block, rows), epilogue, columns, n, out.as_mut_ptr()) };
            }
        }
    }
}

/// Sums of `V` vectors of positions from `data` and four outputs.
///
/// # Safety
/// The CPU has AVX2. `V` vectors are readable at each offset from `data`; each start is that of a table; `ends` grow up
/// to the number of groups; `sums` has room for `V` vectors of bytes, widened, every 64 places, four times.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn look_up<const V: usize>(
    data: *const u8,
    offsets: &[i32],
    starts: &[[u16; OUTPUTS]],
    ends: &[u32],
    tables: &[Table],
    sums: *mut i16,
) {
    let tables = tables.as_ptr().cast::<u8>();
    let zero = _mm256_setzero_si256();
    let mut begin = 0;
    for (block, &end) in ends.iter().enumerate() {
        let mut acc = [[zero; V]; OUTPUTS];
        let end = end as usize;
        if block > 0 && end == begin {
            break;
        }
        debug_assert!(begin <= end && end <= starts.len() && end <= offsets.len());
        for i in begin..end {
            let mut codes = [zero; V];
            // SAFETY: group `i` is one of the offsets and starts; the rest is promised by the caller.
            let (offset, starts) = unsafe { (*offsets.get_unchecked(i), starts.get_unchecked(i)) };
            for (v, codes) in codes.iter_mut().enumerate() {
                // SAFETY: promised by the caller.
                *codes = unsafe { _mm256_loadu_si256(data.add(offset as usize + v * VECTOR).cast()) };
            }
            for o in 0..OUTPUTS {
                // SAFETY: tables are vectors aligned to 32 bytes.
                let table = unsafe { _mm256_load_si256(tables.add(usize::from(starts[o])).cast()) };
                for v in 0..V {
                    acc[o][v] = _mm256_add_epi8(acc[o][v], _mm256_shuffle_epi8(table, codes[v]));
                }
            }
        }
        for o in 0..OUTPUTS {
            for v in 0..V {
                let halves = [
                    _mm256_cvtepi8_epi16(_mm256_castsi256_si128(acc[o][v])),
                    _mm256_cvtepi8_epi16(_mm256_extracti128_si256::<1>(acc[o][v])),
                ];
                for h in 0..2 {
                    // SAFETY: promised by the caller; rows of sums are aligned to 32 bytes.
                    unsafe {
                        let at = sums.add(o * POSITIONS + v * VECTOR + h * PANEL).cast::<__m256i>();
                        let sum = if block == 0 {
                            halves[h]
                        } else {
                            _mm256_add_epi16(_mm256_load_si256(at), halves[h])
                        };
                        _mm256_store_si256(at, sum);
                    }
                }
            }
        }
        begin = end;
    }
}

/// Sums of `count` positions (at most 16) from `at`, transposed and stored in rows, `n` apart, from `out` at `columns`.
///
/// # Safety
/// The CPU has AVX2; the rows are writable from `out`, and `columns` are some of the `n`, from a multiple of 16, for which the
/// epilogue has parameters.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn store<E: Epilogue>(
    sums: &Sums,
    (at, count): (usize, usize),
    epilogue: &E,
    columns: Range<usize>,
    n: usize,
    mut out: *mut E::Out,
) {
    let halves = [transposed(&sums.0[..8], at), transposed(&sums.0[8..], at)];
    let halves: *const __m128i = halves.as_ptr().cast();
    debug_assert!(count <= PANEL && columns.end <= n);
    for position in 0..count {
        // SAFETY: position `j` is half of vector `j % 8` of either array of eight; the row and its columns are promised.
        unsafe {
            let half = halves.add(position % 8 * 2 + position / 8);
            let acc = [_mm256_cvtepi16_epi32(*half), _mm256_cvtepi16_epi32(*half.add(16))];
            let row = out.add(columns.start);
            if columns.len() == PANEL {
                epilogue.store_vectors(acc, columns.start, &mut *row.cast());
            } else {
                let mut plain = [0_i32; PANEL];
                _mm256_storeu_si256(plain.as_mut_ptr().cast(), acc[0]);
                _mm256_storeu_si256(plain.as_mut_ptr().add(8).cast(), acc[1]);
                epilogue.store(&plain, columns.start, core::slice::from_raw_parts_mut(row, columns.len()));
            }
            out = out.add(n);
        }
    }
}

/// Vector `j`: 8 rows at position `at + j`, then the same at position `at + j + 8`.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn transposed(rows: &[[i16; POSITIONS]], at: usize) -> [__m256i; 8] {
    let mut r = [_mm256_setzero_si256(); 8];
    for (r, row) in r.iter_mut().zip(rows) {
        // SAFETY: 16 positions from `at`; an unaligned load.
        *r = unsafe { _mm256_loadu_si256(row[at..at + PANEL].as_ptr().cast()) };
    }
    let (mut twos, mut fours, mut eights) = (r, r, r);
    for q in 0..4 {
        twos[q] = _mm256_unpacklo_epi16(r[2 * q], r[2 * q + 1]);
        twos[4 + q] = _mm256_unpackhi_epi16(r[2 * q], r[2 * q + 1]);
    }
    // twos[q]: rows 2q, 2q+1 at positions 0..4; twos[4 + q]: at positions 4..8.
    for h in 0..2 {
        for q in 0..2 {
            let (a, b) = (twos[4 * h + 2 * q], twos[4 * h + 2 * q + 1]);
            fours[4 * h + q] = _mm256_unpacklo_epi32(a, b);
            fours[4 * h + 2 + q] = _mm256_unpackhi_epi32(a, b);
        }
        // fours[4h + q]: rows 4q..4q+4 at positions 4h and 4h+1; fours[4h + 2 + q]: at 4h+2 and 4h+3.
        for p in 0..2 {
            let (a, b) = (fours[4 * h + 2 * p], fours[4 * h + 2 * p + 1]);
            eights[4 * h + 2 * p] = _mm256_unpacklo_epi64(a, b);
            eights[4 * h + 2 * p + 1] = _mm256_unpackhi_epi64(a, b);
        }
    }
    eights
}
