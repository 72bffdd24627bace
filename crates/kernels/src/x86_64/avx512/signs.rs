//! Products of planes of bits with masks of signs, up to 8 patches by 32 outputs a tile: select, count, add.
#![expect(clippy::needless_range_loop, reason = "several arrays of registers share an index")]

use core::arch::x86_64::*;

use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::integer::patches::Patches;
use crate::scratch::Scratch;
use crate::ternary::signs::{BYTE, Masks, Signs};

/// Bits of one operand of the selection: where the first is set the second, else the third.
const SELECT: i32 = 0xca;
/// Of three operands, the bits any has.
const ANY: i32 = 0xfe;

/// What all tiles of a product have in common. Checked: the patches hold whole steps in every plane, `out` is `count` rows
/// of `n`, and the epilogue has `n` channels.
struct Job<'a, E: Epilogue> {
    w: &'a Signs,
    /// Where patches are in the plane of the lowest bit.
    patches: &'a Patches<'a, u8>,
    /// From there to the next plane.
    plane: usize,
    /// Where each step is in a patch.
    steps: &'a [usize],
    epilogue: &'a E,
    out: *mut E::Out,
    count: usize,
    n: usize,
}

/// `out[p, n] = epilogue(sums)` for as many patches as `out` has rows, of codes of one or two bits; `patches` says where they
/// are in the plane of the lowest bit, and the next of `planes` is `plane` bytes further.
///
/// # Panics
/// If a plane does not hold whole steps of every patch, or there are not one or two.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq")]
pub(crate) fn multiply<E: Epilogue>(
    w: &Signs,
    (planes, plane): (usize, usize),
    patches: &Patches<'_, u8>,
    epilogue: &E,
    out: &mut [E::Out],
) {
    let layout = w.layout();
    let (n, segments, run) = (layout.n, layout.segments, layout.segment_steps());
    let count = out.len() / n;
    let needed = (planes - 1) * plane + patches.needed(count, segments, run * layout.step);
    assert!(needed <= patches.data.len(), "patches must hold whole steps");
    let mut steps = Scratch::<usize>::take(segments * run);
    for (segment, steps) in steps.chunks_exact_mut(run).enumerate() {
        for (at, step) in steps.iter_mut().enumerate() {
            *step = segment * patches.segment_step + at * layout.step;
        }
    }
    let job = Job { w, patches, plane, steps: &steps, epilogue, out: out.as_mut_ptr(), count, n };
    match (planes, count) {
        (_, 0) => {}
        (1, 1) => columns::<E, 1, 1, 1>(&job),
        (1, 2..4) => columns::<E, 2, 2, 1>(&job),
        (1, 4..8) => columns::<E, 4, 4, 1>(&job),
        (1, _) => columns::<E, 8, 8, 1>(&job),
        (2, 1) => columns::<E, 1, 1, 2>(&job),
        (2, 2..4) => columns::<E, 2, 2, 2>(&job),
        (2, 4..8) => columns::<E, 4, 4, 2>(&job),
        (2, _) => columns::<E, 4, 8, 2>(&job),
        _ => unreachable!("one or two planes"),
    }
}

/// Every panel: two at a time of `R` patches, and one that is left of `S` patches.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq")]
#[inline]
fn columns<E: Epilogue, const R: usize, const S: usize, const PLANES: usize>(job: &Job<'_, E>) {
    let panels = job.n.div_ceil(PANEL);
    for panel in (0..panels / 2 * 2).step_by(2) {
        rows::<E, R, 2, PLANES>(job, panel);
    }
    if panels % 2 == 1 {
        rows::<E, S, 1, PLANES>(job, panels - 1);
    }
}

/// `P` panels from `panel` of every patch, `R` at a time. The last tile ends at the last patch, and so may repeat some of the
/// tile before.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq")]
#[inline]
fn rows<E: Epilogue, const R: usize, const P: usize, const PLANES: usize>(job: &Job<'_, E>, panel: usize) {
    const { assert!(P == 1 || P == 2) };
    assert!(job.count >= R, "a tile of patches");
    let mut masks = [core::ptr::null(); P];
    let mut least = [_mm512_setzero_si512(); P];
    for p in 0..P {
        let (steps, negated) = job.w.panel(panel + p);
        assert!(steps.len() == job.steps.len(), "masks of every step");
        masks[p] = steps.as_ptr();
        // SAFETY: 16 elements; an unaligned load.
        let negated = unsafe { _mm512_loadu_si512(negated.as_ptr().cast()) };
        for _ in 0..PLANES {
            least[p] = _mm512_add_epi32(_mm512_add_epi32(least[p], least[p]), negated);
        }
    }
    let mut cursor = job.patches.cursor_at(0);
    let mut patch = 0;
    loop {
        let mut codes = [core::ptr::null(); R];
        for r in 0..R {
            // SAFETY: `multiply` has checked that the offsets of all patches lie within the data.
            codes[r] = unsafe { job.patches.data.as_ptr().add(cursor.next(job.patches)) };
        }
        // SAFETY: the CPU has what this function needs; every patch holds its steps in every plane (checked by `multiply`), and
        // a panel as many (asserted). Patches `patch..patch + R` are below `count`.
        unsafe {
            let sums = sums::<R, P, PLANES>(masks, least, codes, job);
            store::<E, R>(&sums[0], job, patch, panel);
            if P == 2 {
                store::<E, R>(&sums[P - 1], job, patch, panel + 1);
            }
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

/// Sums of panel `panel` and `R` patches from `patch` through the epilogue.
///
/// # Safety
/// The CPU has what the epilogue needs; there are such patches and a panel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq")]
#[inline]
unsafe fn store<E: Epilogue, const R: usize>(
    sums: &[__m512i; R],
    job: &Job<'_, E>,
    patch: usize,
    panel: usize,
) {
    let first = panel * PANEL;
    // SAFETY: `out` has `count` rows of `n`, the patches are below `count` and the columns below `n`, for all of which the
    // epilogue has parameters; `first` is a multiple of 16.
    unsafe {
        let out = job.out.add(patch * job.n + first);
        job.epilogue.store_rows(sums, first, PANEL.min(job.n - first), out, job.n);
    }
}

/// Sums of `R` patches for `P` panels, upon the `least` there can be.
///
/// # Safety
/// The CPU has AVX-512 F and VPOPCNTDQ. `codes` has four bytes at each of the job's steps, in every plane, and `masks` as many
/// as there are steps.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq")]
#[inline]
unsafe fn sums<const R: usize, const P: usize, const PLANES: usize>(
    masks: [*const Masks; P],
    least: [__m512i; P],
    codes: [*const u8; R],
    job: &Job<'_, impl Epilogue>,
) -> [[__m512i; R]; P] {
    // Instructions of a kind together, as many as registers allow: what is selected is counted while the next is.
    const TOGETHER: usize = 4;
    let mut counts = [[[_mm512_setzero_si512(); R]; PLANES]; P];
    for p in 0..P {
        counts[p][0] = [least[p]; R];
    }
    for (at, &step) in job.steps.iter().enumerate() {
        let mut plus = [_mm512_setzero_si512(); P];
        let mut minus = [_mm512_setzero_si512(); P];
        for p in 0..P {
            // SAFETY: masks of step `at`: two aligned vectors.
            unsafe {
                let masks = masks[p].add(at);
                plus[p] = _mm512_load_si512((&raw const (*masks).plus).cast());
                minus[p] = _mm512_load_si512((&raw const (*masks).minus).cast());
            }
        }
        for plane in 0..PLANES {
            let step = step + plane * job.plane;
            for r in (0..R).step_by(TOGETHER) {
                let rows = TOGETHER.min(R - r);
                let mut chosen = [[_mm512_setzero_si512(); P]; TOGETHER];
                for i in 0..rows {
                    // SAFETY: promised by the caller; an unaligned read.
                    let codes = unsafe { codes[r + i].add(step).cast::<i32>().read_unaligned() };
                    let codes = _mm512_set1_epi32(codes);
                    for p in 0..P {
                        chosen[i][p] = _mm512_ternarylogic_epi32::<SELECT>(codes, plus[p], minus[p]);
                    }
                }
                for i in 0..rows {
                    for p in 0..P {
                        chosen[i][p] = _mm512_popcnt_epi32(chosen[i][p]);
                    }
                }
                for i in 0..rows {
                    for p in 0..P {
                        let count = &mut counts[p][plane][r + i];
                        *count = _mm512_add_epi32(*count, chosen[i][p]);
                    }
                }
            }
        }
    }
    let mut sums = [[_mm512_setzero_si512(); R]; P];
    for p in 0..P {
        sums[p] = counts[p][0];
        for plane in 1..PLANES {
            for r in 0..R {
                let count = counts[p][plane][r];
                sums[p][r] = _mm512_add_epi32(sums[p][r], _mm512_add_epi32(count, count));
            }
        }
    }
    sums
}

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
        let to = first + i * step;
        let mut done = 0;
        while done < run {
            let bytes = (run - done).div_ceil(BYTE).min(HALF);
            let mut vectors = [_mm512_setzero_si512(); VECTORS];
            for v in 0..VECTORS {
                let left = run.saturating_sub(done + v * WIDTH);
                // SAFETY: of the codes from `done + 64 v` those within the run are read; unaligned loads.
                vectors[v] = unsafe {
                    let from = codes.as_ptr().wrapping_add(done + v * WIDTH);
                    match left {
                        WIDTH.. => _mm512_loadu_si512(from.cast()),
                        0 => _mm512_setzero_si512(),
                        left => _mm512_maskz_loadu_epi8(u64::MAX >> (WIDTH - left), from.cast()),
                    }
                };
            }
            let [a, b, c, d] = vectors;
            any = _mm512_ternarylogic_epi32::<ANY>(any, a, b);
            any = _mm512_ternarylogic_epi32::<ANY>(any, c, d);
            let bits = bits(vectors);
            // SAFETY: `bytes` from `to + done / 8` are within both planes (asserted); unaligned stores.
            unsafe {
                let halves = [_mm512_castsi512_si256(bits), _mm512_extracti64x4_epi64::<1>(bits)];
                for plane in 0..2 {
                    let to = planes[plane].add(to + done / BYTE);
                    if bytes == HALF {
                        _mm256_storeu_si256(to.cast(), halves[plane]);
                    } else {
                        _mm256_mask_storeu_epi8(to.cast(), u32::MAX >> (HALF - bytes), halves[plane]);
                    }
                }
            }
            done += VECTORS * WIDTH;
        }
    }
    let any = _mm256_or_si256(_mm512_castsi512_si256(any), _mm512_extracti64x4_epi64::<1>(any));
    let any = _mm_or_si128(_mm256_castsi256_si128(any), _mm256_extracti128_si256::<1>(any));
    let any = (_mm_cvtsi128_si64(any) | _mm_extract_epi64::<1>(any)) as u64;
    any.to_le_bytes().into_iter().fold(0, |any, byte| any | byte)
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
