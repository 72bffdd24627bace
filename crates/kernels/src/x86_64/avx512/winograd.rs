//! Winograd's F(4x4, 3x3) on codes and trits: transforms of 32 channels or 16 outputs at a time, and products of 16-bit numbers
//! in pairs (`vpdpwssd`) for up to 8 tiles by 32 outputs.
#![expect(clippy::needless_range_loop, reason = "several arrays of registers share an index")]

use core::arch::x86_64::*;

use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::scratch::Scratch;
use crate::ternary::winograd::{CHANNELS, Codes, GROUP, NINTH, POINTS, Place, SIDE, Step, TILE, Winograd};

/// Transforms a patch, rows `stride` apart, as tile `t` of `count`.
///
/// # Panics
/// If the patch or the memory for transformed codes is too short.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) fn transform(
    patch: &[u8],
    stride: usize,
    channels: usize,
    (t, count): (usize, usize),
    codes: &mut Codes<'_>,
) {
    let filled = codes.filled;
    assert!(patch.len() >= (SIDE - 1) * stride + SIDE * channels, "a patch");
    assert!(
        t < count && codes.data.len() >= POINTS * count * filled && filled >= channels,
        "memory for its points"
    );
    assert!(filled.is_multiple_of(CHANNELS), "whole vectors");
    for c in (0..filled).step_by(CHANNELS) {
        let mask = match channels.saturating_sub(c) {
            0 => 0,
            left @ 1..CHANNELS => u32::MAX >> (CHANNELS - left),
            _ => u32::MAX,
        };
        let mut rows = [[_mm512_setzero_si512(); SIDE]; SIDE];
        for i in 0..SIDE {
            let mut d = [_mm512_setzero_si512(); SIDE];
            for j in 0..SIDE {
                // SAFETY: the lanes in the mask are channels `c..` below `channels` of position `(i, j)`, within the patch
                // (asserted); others are not read. An unaligned load.
                let bytes = unsafe {
                    let at = patch.as_ptr().wrapping_add(i * stride + j * channels + c);
                    _mm256_maskz_loadu_epi8(mask, at.cast())
                };
                d[j] = _mm512_cvtepu8_epi16(bytes);
            }
            rows[i] = code_points(d);
        }
        for j in 0..SIDE {
            let mut d = [_mm512_setzero_si512(); SIDE];
            for i in 0..SIDE {
                d[i] = rows[i][j];
            }
            let column = code_points(d);
            for i in 0..SIDE {
                let at = ((i * SIDE + j) * count + t) * filled + c;
                // SAFETY: 32 elements from `at`, below `POINTS * count * filled` (asserted); an unaligned store.
                unsafe { _mm512_storeu_si512(codes.data.as_mut_ptr().add(at).cast(), column[i]) };
            }
        }
    }
}

/// `B' d`, see `ternary::winograd`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn code_points(d: [__m512i; SIDE]) -> [__m512i; SIDE] {
    let (add, sub) = (_mm512_add_epi16, _mm512_sub_epi16);
    let (even, odd) = (sub(d[4], d[2]), sub(d[1], d[3]));
    let far = sub(d[4], _mm512_slli_epi16::<2>(d[2]));
    let near = sub(d[3], _mm512_slli_epi16::<2>(d[1]));
    let twice = add(odd, odd);
    [
        add(_mm512_slli_epi16::<2>(sub(d[0], d[2])), even),
        add(far, near),
        sub(far, near),
        sub(even, twice),
        add(even, twice),
        add(_mm512_slli_epi16::<2>(odd), sub(d[5], d[3])),
    ]
}

/// `A' m`, see `ternary::winograd`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn outputs(m: [__m512i; SIDE]) -> [__m512i; TILE] {
    let (add, sub) = (_mm512_add_epi32, _mm512_sub_epi32);
    let sum = _mm512_slli_epi32::<2>(add(m[1], m[2]));
    let difference = _mm512_slli_epi32::<2>(sub(m[1], m[2]));
    let (sum2, difference2) = (add(m[3], m[4]), sub(m[3], m[4]));
    [
        add(add(add(m[0], m[0]), sum), sum2),
        add(difference, add(difference2, difference2)),
        add(sum, _mm512_slli_epi32::<2>(sum2)),
        add(difference, _mm512_slli_epi32::<3>(add(difference2, m[5]))),
    ]
}

/// Products at every point, and the outputs of the tiles; outputs have rows of `width` pixels of `n` channels.
///
/// # Panics
/// If there are not 1, 2, 4 or 8 tiles, they are not within `y`, or the codes are not of as many.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) fn multiply<E: Epilogue>(
    w: &Winograd,
    codes: &Codes<'_>,
    tiles: &[Place],
    (width, n): (usize, usize),
    epilogue: &E,
    y: &mut [E::Out],
) {
    assert!(codes.data.len() >= POINTS * tiles.len() * codes.filled, "codes of every tile");
    for place in tiles {
        assert!((1..=TILE).contains(&place.rows) && (1..=TILE).contains(&place.columns), "a tile");
        let last = place.at + ((place.rows - 1) * width + place.columns) * n;
        assert!(last <= y.len(), "tiles are within the outputs");
    }
    // Aligned to cache lines.
    let mut sums = Scratch::<i32>::take(POINTS * GROUP * 2 * PANEL);
    let panels = n.div_ceil(PANEL);
    for panel in (0..panels).step_by(2) {
        let (steps, weights) = w.panels_from(panel);
        assert!(2 * steps == codes.filled, "weights of as many channels");
        let both = panels - panel >= 2;
        assert!(weights.len() >= (1 + usize::from(both)) * POINTS * steps, "weights of every point");
        match (tiles.len(), both) {
            (8, true) => points::<8, 2>(weights, steps, codes, &mut sums),
            (8, false) => points::<8, 1>(weights, steps, codes, &mut sums),
            (4, true) => points::<4, 2>(weights, steps, codes, &mut sums),
            (4, false) => points::<4, 1>(weights, steps, codes, &mut sums),
            (2, true) => points::<2, 2>(weights, steps, codes, &mut sums),
            (2, false) => points::<2, 1>(weights, steps, codes, &mut sums),
            (1, true) => points::<1, 2>(weights, steps, codes, &mut sums),
            (1, false) => points::<1, 1>(weights, steps, codes, &mut sums),
            _ => unreachable!("as many tiles as there are loops for"),
        }
        for half in 0..1 + usize::from(both) {
            let first = (panel + half) * PANEL;
            for (t, place) in tiles.iter().enumerate() {
                let sums = &sums[(half * POINTS * tiles.len() + t) * PANEL..];
                // SAFETY: the CPU has what this function needs; the tile is within `y` (asserted), `first` is a multiple of 16
                // below `n`, for whose channels the epilogue has been checked to have parameters.
                unsafe {
                    let out = y.as_mut_ptr().add(place.at + first);
                    store_tile(sums, tiles.len() * PANEL, place, first, (width, n), epilogue, out);
                }
            }
        }
    }
}

/// Sums of `R` tiles and `P` panels at every point: `[panel][point][tile][output]`.
///
/// The callee relies on what `multiply` has asserted, and asserts it again.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn points<const R: usize, const P: usize>(weights: &[Step], steps: usize, codes: &Codes<'_>, to: &mut [i32]) {
    assert!(weights.len() >= P * POINTS * steps && to.len() >= P * POINTS * R * PANEL, "every point");
    assert!(codes.data.len() >= POINTS * R * codes.filled && codes.filled >= 2 * steps, "every tile");
    for point in 0..POINTS {
        // SAFETY: within the slices, by the assertions.
        let (weights, codes, to) = unsafe {
            (
                weights.as_ptr().add(point * steps),
                codes.data.as_ptr().add(point * R * codes.filled),
                to.as_mut_ptr().add(point * R * PANEL),
            )
        };
        let filled = 2 * steps;
        let mut sums = [[_mm512_setzero_si512(); R]; P];
        for step in 0..steps {
            let mut w = [_mm512_setzero_si512(); P];
            for p in 0..P {
                // SAFETY: step `step` of the point, of panel `p`; a step is an aligned vector of 32 bytes.
                let bytes = unsafe { _mm256_load_si256(weights.add(p * POINTS * steps + step).cast()) };
                w[p] = _mm512_cvtepi8_epi16(bytes);
            }
            for r in 0..R {
                // SAFETY: codes `2 step` and the next of tile `r`; an unaligned read.
                let pair = unsafe { codes.add(r * filled + 2 * step).cast::<i32>().read_unaligned() };
                let pair = _mm512_set1_epi32(pair);
                for p in 0..P {
                    sums[p][r] = _mm512_dpwssd_epi32(sums[p][r], pair, w[p]);
                }
            }
        }
        for p in 0..P {
            for r in 0..R {
                // SAFETY: 16 elements of panel `p`, this point and tile `r`; an unaligned store.
                unsafe { _mm512_storeu_si512(to.add((p * POINTS * R + r) * PANEL).cast(), sums[p][r]) };
            }
        }
    }
}

/// The outputs of 16 channels of a tile, whose sums at the points are `stride` elements apart.
///
/// # Safety
/// The CPU has AVX-512 F, BW, VL, DQ and VNNI. The tile's rows and columns of up to 16 channels, `n` of them a pixel and
/// `width` pixels a row, are writable from `out`; there are parameters for channels from `first`, a multiple of 16 below `n`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn store_tile<E: Epilogue>(
    sums: &[i32],
    stride: usize,
    place: &Place,
    first: usize,
    (width, n): (usize, usize),
    epilogue: &E,
    out: *mut E::Out,
) {
    assert!(sums.len() >= (POINTS - 1) * stride + PANEL, "sums at every point");
    let mut columns = [[_mm512_setzero_si512(); TILE]; SIDE];
    for j in 0..SIDE {
        let mut m = [_mm512_setzero_si512(); SIDE];
        for i in 0..SIDE {
            // SAFETY: 16 elements of point `6 i + j` (asserted); an unaligned load.
            m[i] = unsafe { _mm512_loadu_si512(sums.as_ptr().add((i * SIDE + j) * stride).cast()) };
        }
        columns[j] = outputs(m);
    }
    let ninth = _mm512_set1_epi32(NINTH);
    let count = PANEL.min(n - first);
    for i in 0..place.rows {
        let mut m = [_mm512_setzero_si512(); SIDE];
        for j in 0..SIDE {
            m[j] = columns[j][i];
        }
        let mut acc = outputs(m);
        for acc in &mut acc {
            *acc = _mm512_mullo_epi32(_mm512_srai_epi32::<6>(*acc), ninth);
        }
        // SAFETY: promised by the caller, for this row's columns.
        unsafe {
            let out = out.add(i * width * n);
            if place.columns == TILE {
                epilogue.store_rows(&acc, first, count, out, n);
            } else {
                for j in 0..place.columns {
                    epilogue.store_rows(&[acc[j]], first, count, out.add(j * n), n);
                }
            }
        }
    }
}
