//! Depthwise convolution 64 channels at a time: four positions of the kernel meet in one VNNI instruction.
//!
//! Bytes of four positions are interleaved, so that a 32-bit lane has the four codes of one channel; the weights are
//! interleaved alike, once. Within 128 bits the order of channels is kept, so that lanes are all there is to put in order.
//! Where pixels of 16 or 32 channels follow one another, a row of them is taken for one pixel of many channels.

use core::arch::x86_64::*;

use crate::geometry::Conv2dSizes;
use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::integer::patches::Patches;
use crate::scratch::Scratch;

/// Channels of a vector.
const CHANNELS: usize = 64;
/// Pixels of a tile.
const TILE: usize = 4;
/// Kernel positions that meet at once.
const TAPS: usize = 4;

/// Four positions of 64 channels, interleaved: vector `q` has, in lane `l`, channels `16 l + 4 q` to `16 l + 4 q + 3`.
type Quarter = [__m512i; 4];

/// What all tiles of some channels have in common. Checked: all of every patch lies within its data.
struct Job<'a, E: Epilogue> {
    patches: &'a Patches<'a, u8>,
    /// First channel and how many, at most 64.
    first: usize,
    count: usize,
    /// Where the kernel's positions are in a patch; those after the last are the first, with weights of zero.
    offsets: &'a [usize],
    /// Interleaved, 256 bytes for each four of them.
    weights: &'a [u8],
    epilogue: &'a E,
    out: *mut E::Out,
    /// Pixels, and channels of each.
    pixels: usize,
    n: usize,
    /// Channels after which the parameters are those of the first again.
    period: usize,
}

/// `y = epilogue(depthwise(x, w))` for the pixels of a strip whose padded copy is `x`.
///
/// # Panics
/// If a slice is not as long as the geometry says.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) fn pixels<E: Epilogue>(g: &Conv2dSizes, x: &[u8], w: &[i8], epilogue: &E, y: &mut [E::Out]) {
    let (period, taps) = (g.in_c, g.kernel_h * g.kernel_w);
    let patches = Patches::of_strip(g, x);
    let count = y.len() / period;
    assert!(patches.needed(count, g.kernel_h, g.kernel_w * period) <= x.len(), "pixels have their patches");
    assert_eq!(w.len(), taps * period, "a weight for every position and channel");
    let mut offsets = Scratch::<usize>::filled(taps.next_multiple_of(TAPS), 0);
    for (tap, offset) in offsets[..taps].iter_mut().enumerate() {
        *offset = tap / g.kernel_w * patches.segment_step + tap % g.kernel_w * period;
    }
    // Whole rows only, and of channels that a vector holds several times.
    let merged = matches!(period, 16 | 32) && g.stride_w == 1 && count.is_multiple_of(g.out_w);
    let (pixels, n, patches) = if merged {
        (count / g.out_w, g.out_w * period, Patches { columns: 1, column_step: 0, ..patches })
    } else {
        (count, period, patches)
    };
    let mut weights = Scratch::<u8>::take(offsets.len() * CHANNELS);
    for first in (0..n).step_by(CHANNELS) {
        let count = CHANNELS.min(n - first);
        if first == 0 || !merged {
            interleave_weights(&w[first..], taps, period, count, &mut weights);
        }
        let (patches, offsets, weights) = (&patches, &offsets[..], &weights[..]);
        let out = y.as_mut_ptr();
        let job = Job { patches, first, count, offsets, weights, epilogue, out, pixels, n, period };
        match (pixels >= TILE, count == CHANNELS) {
            (true, true) => channels::<E, TILE, true>(&job),
            (true, false) => channels::<E, TILE, false>(&job),
            (false, true) if pixels > 0 => channels::<E, 1, true>(&job),
            (false, false) if pixels > 0 => channels::<E, 1, false>(&job),
            _ => {}
        }
    }
}

/// Interleaves `count` weights of every position, `period` apart, again from the first after so many.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn interleave_weights(w: &[i8], taps: usize, period: usize, count: usize, to: &mut [u8]) {
    for (group, to) in to.chunks_exact_mut(TAPS * CHANNELS).enumerate() {
        let mut rows = [_mm512_setzero_si512(); TAPS];
        for (row, tap) in rows.iter_mut().zip(TAPS * group..taps) {
            let mut bytes = [0_i8; CHANNELS];
            let w = &w[tap * period..];
            for part in bytes[..count].chunks_mut(period) {
                part.copy_from_slice(&w[..part.len()]);
            }
            // SAFETY: 64 bytes; an unaligned load.
            *row = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
        }
        let rows = interleaved(rows);
        for (row, to) in rows.iter().zip(to.chunks_exact_mut(CHANNELS)) {
            // SAFETY: 64 bytes; an unaligned store.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), *row) };
        }
    }
}

/// The job's channels of every pixel, `R` at a time. The last tile ends at the last pixel, and so may repeat some of the
/// tile before.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn channels<E: Epilogue, const R: usize, const FULL: bool>(job: &Job<'_, E>) {
    assert!(job.pixels >= R && job.first + job.count <= job.n && FULL <= (job.count == CHANNELS), "a tile");
    let mut cursor = job.patches.cursor_at(0);
    let mut pixel = 0;
    loop {
        // SAFETY: `pixels` has checked that all patches lie within the data, and so `first` channels into them.
        let starts = core::array::from_fn(|_| unsafe {
            job.patches.data.as_ptr().add(cursor.next(job.patches) + job.first)
        });
        // SAFETY: the CPU has what this function needs; `count` channels from `first` are within a patch's positions.
        let sums = unsafe { sums::<E, R, FULL>(job, starts) };
        for (lane, sums) in sums.iter().enumerate().take(job.count.div_ceil(PANEL)) {
            let first = job.first + lane * PANEL;
            // SAFETY: pixels `pixel..pixel + R` are below `pixels`, and the channels below `n`, for which there are parameters
            // up to the period; `first` and the period are multiples of 16, if the period is not all there is.
            unsafe {
                let out = job.out.add(pixel * job.n + first);
                job.epilogue.store_rows(
                    sums,
                    first % job.period,
                    PANEL.min(job.count - lane * PANEL),
                    out,
                    job.n,
                );
            }
        }
        pixel += R;
        if pixel + R > job.pixels {
            if pixel == job.pixels {
                break;
            }
            pixel = job.pixels - R;
            cursor = job.patches.cursor_at(pixel);
        }
    }
}

/// Sums of `R` pixels, 16 channels after the other.
///
/// # Safety
/// The CPU has AVX-512 F, BW, VL, DQ and VNNI; `job.count` channels (64 if `FULL`) are readable at each of the offsets from
/// each of `starts`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn sums<E: Epilogue, const R: usize, const FULL: bool>(
    job: &Job<'_, E>,
    starts: [*const u8; R],
) -> [[__m512i; R]; 4] {
    let mut ordered = [[_mm512_setzero_si512(); R]; 4];
    for r in 0..R {
        // One pixel's sums at a time, or they would not stay in registers.
        let mut sums = [_mm512_setzero_si512(); 4];
        let groups = job.offsets.chunks_exact(TAPS).zip(job.weights.chunks_exact(TAPS * CHANNELS));
        for (offsets, weights) in groups {
            let mut rows = [_mm512_setzero_si512(); TAPS];
            for (row, &offset) in rows.iter_mut().zip(offsets) {
                // SAFETY: promised by the caller.
                *row = unsafe { load::<FULL>(starts[r].add(offset), job.count) };
            }
            let codes = interleaved(rows);
            for q in 0..4 {
                // SAFETY: the `q`th 64 of 256 bytes; an unaligned load.
                let w = unsafe { _mm512_loadu_si512(weights.as_ptr().add(q * CHANNELS).cast()) };
                sums[q] = _mm512_dpbusd_epi32(sums[q], codes[q], w);
            }
        }
        let [a, b, c, d] = sums;
        let (ab, ab2) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
        let (cd, cd2) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
        ordered[0][r] = _mm512_shuffle_i32x4::<0x88>(ab, cd);
        ordered[1][r] = _mm512_shuffle_i32x4::<0xdd>(ab, cd);
        ordered[2][r] = _mm512_shuffle_i32x4::<0x88>(ab2, cd2);
        ordered[3][r] = _mm512_shuffle_i32x4::<0xdd>(ab2, cd2);
    }
    ordered
}

/// Bytes of four rows of channels side by side.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn interleaved([a, b, c, d]: [__m512i; TAPS]) -> Quarter {
    let (ab, ab2) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
    let (cd, cd2) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
    [
        _mm512_unpacklo_epi16(ab, cd),
        _mm512_unpackhi_epi16(ab, cd),
        _mm512_unpacklo_epi16(ab2, cd2),
        _mm512_unpackhi_epi16(ab2, cd2),
    ]
}

/// `count` (1 to 64) bytes from `p`, zeros after.
///
/// # Safety
/// The CPU has AVX-512 F and BW; `count` bytes are readable, 64 if `FULL`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn load<const FULL: bool>(p: *const u8, count: usize) -> __m512i {
    // SAFETY: promised by the caller; an unaligned load, of the lanes in the mask alone.
    unsafe {
        if FULL {
            _mm512_loadu_si512(p.cast())
        } else {
            _mm512_maskz_loadu_epi8(u64::MAX >> (CHANNELS - count), p.cast())
        }
    }
}
