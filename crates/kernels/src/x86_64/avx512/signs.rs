//! Products of planes of bits with masks of signs, up to 8 patches by 32 outputs a tile: select, count, add.
#![expect(clippy::needless_range_loop, reason = "several arrays of registers share an index")]

use core::arch::x86_64::*;

use super::count::count_eight;
use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::integer::patches::Patches;
use crate::ternary::signs::{Masks, Signs};

/// Bits of one operand of the selection: where the first is set the second, else the third.
const SELECT: i32 = 0xca;

/// What all tiles of a product have in common. Checked: the patches hold whole steps in every plane, `out` is `count` rows
/// of `n`, and the epilogue has `n` channels.
struct Job<'a, E: Epilogue> {
    w: &'a Signs,
    /// Where patches are in the plane of the lowest bit.
    patches: &'a Patches<'a, u8>,
    /// From there to the next plane.
    plane: usize,
    /// Where each step is in a patch, and `usize::MAX`.
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
    let steps = patches.steps(segments, run, layout.step);
    assert!(steps.len() > 1, "a step");
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
        assert!(steps.len() + 1 == job.steps.len(), "masks of every step");
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
    let mut steps = &job.steps[..job.steps.len() - 1];
    let (first, rest) = counts.split_at_mut(1);
    if let (Some(a), Some(b)) = (eight(first), eight(rest)) {
        // Eight patches of one plane, or four of two.
        let codes = core::array::from_fn(|i| codes[i % R].wrapping_add(i / R * job.plane));
        // SAFETY: promised by the caller; there is a step (checked by `multiply`).
        unsafe { count_eight::<SELECT>((a, b), [masks[0], masks[P - 1]], codes, job.steps) };
        steps = &[];
    }
    for (at, &step) in steps.iter().enumerate() {
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

/// The counts of one panel, if they are those of eight vectors of codes.
#[inline]
fn eight<const R: usize, const PLANES: usize>(
    panel: &mut [[[__m512i; R]; PLANES]],
) -> Option<&mut [__m512i; 8]> {
    let counts = panel.first_mut()?.as_flattened_mut();
    counts.try_into().ok()
}
