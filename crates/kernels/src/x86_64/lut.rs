//! AVX2 tiles of up to 64 positions by 4 outputs for the look-up form, and their way through the epilogue.
#![expect(clippy::needless_range_loop, reason = "several arrays of registers share an index")]

use core::arch::x86_64::*;
use core::ops::Range;

use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::ternary::{Lut, OUTPUTS, Table, UNIT};

/// Positions that a panel of outputs meets before the next one, at most.
const POSITIONS: usize = 256;
/// Bytes of the nearest cache, and those of them that codes may fill beside weights and sums.
const CACHE: usize = 48 << 10;
const NEAREST: usize = 20 << 10;
/// Bytes of a long row of outputs.
const LONG: usize = 2048;
/// Positions of a tile, at most: two vectors.
const TILE: usize = 64;
/// Positions of one vector.
const VECTOR: usize = 32;

/// 16-bit sums of 16 outputs. Those of each vector of positions are the even ones, then the odd ones.
#[repr(C, align(64))]
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
    let span = span(offsets.len(), n * size_of::<E::Out>());
    for at in (0..positions).step_by(span) {
        let here = span.min(positions - at);
        for first in (0..n).step_by(PANEL) {
            let columns = first..n.min(first + PANEL);
            // SAFETY: the CPU has AVX2. Every offset plus the positions' vectors lies within the data (asserted).
            unsafe {
                panel(w, first / PANEL, data.as_ptr().add(at), here.div_ceil(VECTOR), offsets, &mut sums)
            };
            for block in (0..here).step_by(VECTOR) {
                let rows = VECTOR.min(here - block);
                let out = &mut out[(at + block) * n..][..rows * n];
                // SAFETY: the CPU has AVX2; `out` has these rows, and the epilogue parameters for `n` outputs; a vector of
                // sums of each output follows its first, `block` being that of a vector.
                unsafe {
                    let sums_of = (sums.0.as_ptr().cast::<i16>().add(block), POSITIONS);
                    if columns.len() == PANEL
                        && epilogue.store_positions(sums_of, first, rows, out.as_mut_ptr().add(first), n)
                    {
                        continue;
                    }
                    for odd in 0..2 {
                        let count = (rows + 1 - odd) / 2;
                        let out = out.as_mut_ptr().add(odd * n);
                        store(&sums, (block + odd * PANEL, count), epilogue, columns.clone(), n, out);
                    }
                }
            }
        }
    }
}

/// Positions that the panels meet one after the other, for rows of outputs of so many bytes.
///
/// The nearest cache holds their codes of all groups, if it can for a tile; if not, a panel meets as many as there may be,
/// block by block of its groups. Long rows are written a tile at a time, lest each lie in a page of its own.
fn span(groups: usize, row: usize) -> usize {
    match groups * TILE {
        codes if codes > CACHE => POSITIONS,
        _ if row >= LONG => TILE,
        _ => (NEAREST / groups / TILE * TILE).clamp(TILE, POSITIONS),
    }
}

/// Sums of a panel of outputs at `vectors` vectors of positions.
///
/// # Safety
/// The CPU has AVX2; the vectors are readable at each offset from `data`, and no more than there are sums of.
#[target_feature(enable = "avx2,fma")]
unsafe fn panel(w: &Lut, panel: usize, data: *const u8, vectors: usize, offsets: &[i32], sums: &mut Sums) {
    let tiles = panel * (PANEL / OUTPUTS)..w.taps().tiles().min((panel + 1) * (PANEL / OUTPUTS));
    let mut groups = 0..0;
    for &end in w.ends(panel) {
        groups = groups.end..end as usize;
        if groups.is_empty() {
            break;
        }
        let offsets = &offsets[groups.clone()];
        for (tile, sums) in tiles.clone().zip(sums.0.chunks_exact_mut(OUTPUTS)) {
            let starts = &w.tile(tile)[groups.clone()];
            let mut v = 0;
            while v < vectors {
                // SAFETY: the CPU has AVX2. The data is promised by the caller; starts are those of tables; `sums` has
                // the tile's rows.
                unsafe {
                    let (data, sums) =
                        (data.add(v * VECTOR), sums.as_mut_ptr().cast::<i16>().add(v * VECTOR));
                    let first = groups.start == 0;
                    if vectors - v >= 2 {
                        look_up::<2>(data, offsets, starts, first, w.tables(), sums);
                        v += 2;
                    } else {
                        look_up::<1>(data, offsets, starts, first, w.tables(), sums);
                        v += 1;
                    }
                }
            }
        }
    }
}

/// Sums of `V` vectors of positions from `data` and four outputs, over some groups; these are the `first` ones, or the sums
/// are added to.
///
/// # Safety
/// The CPU has AVX2. `V` vectors are readable at each offset from `data`; there is a table at each start; `sums` has room for
/// `V` vectors of bytes, widened, every [`POSITIONS`] places, four times.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn look_up<const V: usize>(
    data: *const u8,
    offsets: &[i32],
    starts: &[[u8; OUTPUTS]],
    first: bool,
    tables: &[Table],
    sums: *mut i16,
) {
    assert_eq!(offsets.len(), starts.len(), "a start for each group");
    let tables = tables.as_ptr().cast::<u8>();
    let zero = _mm256_setzero_si256();
    let mut acc = [[zero; V]; OUTPUTS];
    // Two groups a turn: one alone is held up by its jump.
    let pairs = offsets.len() / 2;
    for (turns, step, from) in [(pairs, 2, 0), (offsets.len() % 2, 1, 2 * pairs)] {
        for turn in 0..turns {
            for i in 0..step {
                let i = from + step * turn + i;
                // SAFETY: group `i` is one of the offsets, of which there are as many as starts.
                let (offset, starts) = unsafe { (*offsets.get_unchecked(i), starts.get_unchecked(i)) };
                let mut codes = [zero; V];
                for (v, codes) in codes.iter_mut().enumerate() {
                    // SAFETY: promised by the caller.
                    *codes = unsafe { _mm256_loadu_si256(data.add(offset as usize + v * VECTOR).cast()) };
                }
                for o in 0..OUTPUTS {
                    // SAFETY: there is a table at each start; one is a vector of 16 bytes.
                    let table = unsafe { _mm_load_si128(tables.add(usize::from(starts[o]) * UNIT).cast()) };
                    let table = _mm256_broadcastsi128_si256(table);
                    for v in 0..V {
                        acc[o][v] = _mm256_add_epi8(acc[o][v], _mm256_shuffle_epi8(table, codes[v]));
                    }
                }
            }
        }
    }
    // Signed bytes times 1 or 0: the even ones.
    let even = _mm256_set1_epi16(1);
    for o in 0..OUTPUTS {
        for v in 0..V {
            let halves = [_mm256_maddubs_epi16(even, acc[o][v]), _mm256_srai_epi16::<8>(acc[o][v])];
            for h in 0..2 {
                // SAFETY: promised by the caller; rows of sums are aligned to 32 bytes.
                unsafe {
                    let at = sums.add(o * POSITIONS + v * VECTOR + h * PANEL).cast::<__m256i>();
                    let sum =
                        if first { halves[h] } else { _mm256_add_epi16(_mm256_load_si256(at), halves[h]) };
                    _mm256_store_si256(at, sum);
                }
            }
        }
    }
}

/// Sums of `count` places (at most 16) from `at`, transposed and stored in every other row of `n` from `out` at `columns`.
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
    out: *mut E::Out,
) {
    let halves = [transposed(&sums.0[..8], at), transposed(&sums.0[8..], at)];
    let halves: *const __m128i = halves.as_ptr().cast();
    debug_assert!(count <= PANEL && columns.end <= n);
    if count == PANEL && columns.len() == PANEL {
        // SAFETY: the columns are of the rows.
        let mut row = unsafe { out.add(columns.start) };
        for later in 0..2 {
            for j in 0..8 {
                // SAFETY: as below.
                unsafe {
                    let half = halves.add(2 * j + later);
                    let acc = [_mm256_cvtepi16_epi32(*half), _mm256_cvtepi16_epi32(*half.add(16))];
                    epilogue.store_vectors(acc, columns.start, &mut *row.cast());
                }
                row = row.wrapping_add(2 * n);
            }
        }
        return;
    }
    for position in 0..count {
        // SAFETY: position `j` is half of vector `j % 8` of either array of eight; the row and its columns are promised.
        unsafe {
            let half = halves.add(position % 8 * 2 + position / 8);
            let acc = [_mm256_cvtepi16_epi32(*half), _mm256_cvtepi16_epi32(*half.add(16))];
            let row = out.add(2 * position * n + columns.start);
            if columns.len() == PANEL {
                epilogue.store_vectors(acc, columns.start, &mut *row.cast());
            } else {
                let mut plain = [0_i32; PANEL];
                _mm256_storeu_si256(plain.as_mut_ptr().cast(), acc[0]);
                _mm256_storeu_si256(plain.as_mut_ptr().add(8).cast(), acc[1]);
                epilogue.store(&plain, columns.start, core::slice::from_raw_parts_mut(row, columns.len()));
            }
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
