//! Products of planes of bits with masks of signs, 8 patches by 16 outputs a tile: select, count, add.

use core::arch::x86_64::*;

use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::integer::patches::Patches;
use crate::ternary::signs::{BYTE, Masks, Signs};

/// Bits of one operand of the selection: where the first is set the second, else the third.
const SELECT: i32 = 0xca;

/// What all tiles of a product have in common. Checked: the patches hold whole steps in every plane, `out` is `count` rows
/// of `n`, and the epilogue has `n` channels.
struct Job<'a, E: Epilogue> {
    w: &'a Signs,
    /// The plane of each bit, the lowest first; as long as one another.
    planes: &'a [&'a [u8]],
    patches: &'a Patches<'a, u8>,
    epilogue: &'a E,
    out: *mut E::Out,
    count: usize,
    n: usize,
    segments: usize,
    /// Steps of a run.
    run: usize,
}

/// `out[p, n] = epilogue(sums)` for as many patches as `out` has rows; `patches` says where they are in each plane.
///
/// # Panics
/// If a plane does not hold whole steps of every patch.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq")]
pub(crate) fn multiply<E: Epilogue>(
    w: &Signs,
    planes: &[&[u8]],
    patches: &Patches<'_, u8>,
    epilogue: &E,
    out: &mut [E::Out],
) {
    let layout = w.layout();
    let (n, segments, run) = (layout.n, layout.segments, layout.segment_steps());
    let count = out.len() / n;
    let needed = patches.needed(count, segments, run * layout.step);
    assert!(planes.iter().all(|plane| needed <= plane.len()), "patches must hold whole steps");
    let job = Job { w, planes, patches, epilogue, out: out.as_mut_ptr(), count, n, segments, run };
    for panel in 0..layout.panels() {
        match count {
            0 => {}
            1 => rows::<E, 1>(&job, panel),
            2..4 => rows::<E, 2>(&job, panel),
            4..8 => rows::<E, 4>(&job, panel),
            _ => rows::<E, 8>(&job, panel),
        }
    }
}

/// One panel of every patch, `R` at a time. The last tile ends at the last patch, and so may repeat some of the tile before.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq")]
#[inline]
fn rows<E: Epilogue, const R: usize>(job: &Job<'_, E>, panel: usize) {
    assert!(job.count >= R, "a tile of patches");
    let (steps, negated) = job.w.panel(panel);
    let first = panel * PANEL;
    let columns = PANEL.min(job.n - first);
    let mut cursor = job.patches.cursor_at(0);
    let mut patch = 0;
    loop {
        let starts = core::array::from_fn(|_| cursor.next(job.patches));
        // SAFETY: the CPU has what this function needs; every patch holds its runs of whole steps in every plane (checked by
        // `multiply`), and a panel as many steps as its layout says. Of the outputs, patches `patch..patch + R` are below
        // `count` and columns below `n`, for all of which the epilogue has parameters; `first` is a multiple of 16.
        unsafe {
            let sums = sums::<E, R>(steps, negated, starts, job);
            job.epilogue.store_rows(&sums, first, columns, job.out.add(patch * job.n + first), job.n);
        }
        patch += R;
        if patch + R > job.count {
            if patch == job.count {
                break;
            }
            patch = job.count - R;
            cursor = job.patches.cursor_at(patch);
        }
    }
}

/// Sums of `R` patches that start at `starts` in every plane.
///
/// # Safety
/// The CPU has AVX-512 F, BW, VL, DQ and VPOPCNTDQ. From each start, `segments` runs `segment_step` bytes apart hold `run`
/// steps of four bytes, in every plane; there are `segments * run` steps of masks.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq")]
#[inline]
unsafe fn sums<E: Epilogue, const R: usize>(
    steps: &[Masks],
    negated: &[i32; PANEL],
    starts: [usize; R],
    job: &Job<'_, E>,
) -> [__m512i; R] {
    debug_assert_eq!(steps.len(), job.segments * job.run);
    // SAFETY: 16 elements; an unaligned load.
    let negated = unsafe { _mm512_loadu_si512(negated.as_ptr().cast()) };
    let mut sums = [_mm512_setzero_si512(); R];
    for plane in job.planes.iter().rev() {
        for sum in &mut sums {
            *sum = _mm512_add_epi32(_mm512_add_epi32(*sum, *sum), negated);
        }
        let mut masks = steps.as_ptr();
        for segment in 0..job.segments {
            // SAFETY: promised by the caller.
            let codes = starts
                .map(|s| unsafe { plane.as_ptr().add(s + segment * job.patches.segment_step).cast::<i32>() });
            for at in 0..job.run {
                // SAFETY: one step a turn, `segments * run` turns; masks are two aligned vectors. At most one past the last.
                let (plus, minus) = unsafe {
                    let both = (
                        _mm512_load_si512((&raw const (*masks).plus).cast()),
                        _mm512_load_si512((&raw const (*masks).minus).cast()),
                    );
                    masks = masks.add(1);
                    both
                };
                for r in 0..R {
                    // SAFETY: step `at` of the run; an unaligned read.
                    let codes = _mm512_set1_epi32(unsafe { codes[r].add(at).read_unaligned() });
                    let chosen = _mm512_ternarylogic_epi32::<SELECT>(codes, plus, minus);
                    sums[r] = _mm512_add_epi32(sums[r], _mm512_popcnt_epi32(chosen));
                }
            }
        }
    }
    sums
}

/// Packs pixels of `channels` codes into planes of bits, `plane` bytes each, one or two as `to` holds: bit `j` of byte `i` of
/// a pixel is a bit of its code `8 i + j`.
///
/// # Panics
/// If a plane has less than eight bytes more than the pixels take, or there are more than two.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq")]
pub(crate) fn pack(codes: &[u8], channels: usize, plane: usize, to: &mut [u8]) {
    // Pixels of whole bytes follow one another like one long pixel.
    let pixel = if channels.is_multiple_of(BYTE) { codes.len().max(1) } else { channels };
    let bytes = pixel.div_ceil(BYTE);
    assert!(codes.len() / pixel * bytes + BYTE <= plane, "planes hold the pixels");
    assert!(to.len() == plane || to.len() == 2 * plane, "one or two planes");
    let second = to.len() > plane;
    for (p, codes) in codes.chunks_exact(pixel).enumerate() {
        let (words, rest) = codes.as_chunks::<64>();
        // SAFETY: the pixel's bytes are within the plane, and eight more (asserted): what is written too much is another
        // pixel's, that comes later, or no one's. A word of codes is 64 bytes; of the rest no lane beyond is read.
        unsafe {
            let mut to = to.as_mut_ptr().add(p * bytes);
            for codes in words {
                store(_mm512_loadu_si512(codes.as_ptr().cast()), second, plane, to);
                to = to.add(BYTE);
            }
            if !rest.is_empty() {
                let mask = u64::MAX >> (64 - rest.len());
                store(_mm512_maskz_loadu_epi8(mask, rest.as_ptr().cast()), second, plane, to);
            }
        }
    }
}

/// Stores the lowest bit of each code at `to`, and the next `plane` bytes further if there is a `second` plane.
///
/// # Safety
/// The CPU has AVX-512 F and BW; eight bytes are writable at each place.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq")]
#[inline]
unsafe fn store(codes: __m512i, second: bool, plane: usize, to: *mut u8) {
    // SAFETY: promised by the caller; unaligned stores.
    unsafe {
        to.cast::<u64>().write_unaligned(_mm512_test_epi8_mask(codes, _mm512_set1_epi8(1)));
        if second {
            let bits = _mm512_test_epi8_mask(codes, _mm512_set1_epi8(2));
            to.add(plane).cast::<u64>().write_unaligned(bits);
        }
    }
}
