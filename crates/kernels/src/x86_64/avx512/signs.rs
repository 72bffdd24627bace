//! Products of planes of bits with masks of signs, up to 8 patches by 32 outputs a tile: select, count, add.
#![expect(clippy::needless_range_loop, reason = "several arrays of registers share an index")]

use core::arch::x86_64::*;

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
    // Of the largest tile, the loop as it is fastest.
    let steps = if R * PLANES == 8 && P == 2 {
        // SAFETY: promised by the caller; there is a step (checked by `multiply`).
        unsafe { count_eight(&mut counts, masks, codes, job) };
        &[]
    } else {
        &job.steps[..job.steps.len() - 1]
    };
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

/// As the loop of [`sums`], for two panels and eight vectors of codes: eight patches of one plane or four of two.
///
/// Assembly, because the order of instructions is worth a twentieth: each of four vectors at a time is fetched anew for either
/// panel, and four selections and counts of each are under way at once.
///
/// # Safety
/// As [`sums`]. `R * PLANES` is eight and `P` two, there is a step, and after the last one is `usize::MAX`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq")]
#[inline]
unsafe fn count_eight<const R: usize, const P: usize, const PLANES: usize>(
    counts: &mut [[[__m512i; R]; PLANES]; P],
    masks: [*const Masks; P],
    codes: [*const u8; R],
    job: &Job<'_, impl Epilogue>,
) {
    const { assert!(size_of::<Masks>() == 128) };
    let between = masks[P - 1] as usize - masks[0] as usize;
    // The sum of either panel for a vector of codes.
    macro_rules! sum {
        ($panel:literal, $i:literal) => {
            counts[$panel % P][$i / R % PLANES][$i % R]
        };
    }
    macro_rules! four {
        ($a:literal, $b:literal, $c:literal, $d:literal, $first:literal) => {
            concat!(
                "vpbroadcastd zmm24, [",
                $a,
                "]\n vpbroadcastd zmm25, [",
                $a,
                "]\n",
                "vpbroadcastd zmm26, [",
                $b,
                "]\n vpbroadcastd zmm27, [",
                $b,
                "]\n",
                "vpbroadcastd zmm28, [",
                $c,
                "]\n vpbroadcastd zmm29, [",
                $c,
                "]\n",
                "vpbroadcastd zmm30, [",
                $d,
                "]\n vpbroadcastd zmm31, [",
                $d,
                "]\n",
                "vpternlogd zmm24, zmm20, zmm21, 202\n vpternlogd zmm25, zmm22, zmm23, 202\n",
                "vpternlogd zmm26, zmm20, zmm21, 202\n vpternlogd zmm27, zmm22, zmm23, 202\n",
                "vpternlogd zmm28, zmm20, zmm21, 202\n vpternlogd zmm29, zmm22, zmm23, 202\n",
                "vpternlogd zmm30, zmm20, zmm21, 202\n vpternlogd zmm31, zmm22, zmm23, 202\n",
                "vpopcntd zmm24, zmm24\n vpaddd {a",
                $first,
                "0:z}, {a",
                $first,
                "0:z}, zmm24\n",
                "vpopcntd zmm25, zmm25\n vpaddd {b",
                $first,
                "0:z}, {b",
                $first,
                "0:z}, zmm25\n",
                "vpopcntd zmm26, zmm26\n vpaddd {a",
                $first,
                "1:z}, {a",
                $first,
                "1:z}, zmm26\n",
                "vpopcntd zmm27, zmm27\n vpaddd {b",
                $first,
                "1:z}, {b",
                $first,
                "1:z}, zmm27\n",
                "vpopcntd zmm28, zmm28\n vpaddd {a",
                $first,
                "2:z}, {a",
                $first,
                "2:z}, zmm28\n",
                "vpopcntd zmm29, zmm29\n vpaddd {b",
                $first,
                "2:z}, {b",
                $first,
                "2:z}, zmm29\n",
                "vpopcntd zmm30, zmm30\n vpaddd {a",
                $first,
                "3:z}, {a",
                $first,
                "3:z}, zmm30\n",
                "vpopcntd zmm31, zmm31\n vpaddd {b",
                $first,
                "3:z}, {b",
                $first,
                "3:z}, zmm31\n",
            )
        };
    }
    macro_rules! eight {
        ($low:expr, $move:literal, $high:expr, $($operands:tt)*) => {
            core::arch::asm!(
                "2:",
                "mov {at}, [{steps}]",
                "vmovdqa64 zmm20, [{masks}]",
                "vmovdqa64 zmm21, [{masks} + 64]",
                "vmovdqa64 zmm22, [{masks} + {between}]",
                "vmovdqa64 zmm23, [{masks} + {between} + 64]",
                $low,
                $move,
                $high,
                "add {masks}, 128",
                "add {steps}, 8",
                "cmp qword ptr [{steps}], -1",
                "jne 2b",
                at = out(reg) _, steps = inout(reg) job.steps.as_ptr() => _,
                masks = inout(reg) masks[0] => _, between = in(reg) between,
                $($operands)*
                a00 = inout(zmm_reg) sum!(0, 0), a01 = inout(zmm_reg) sum!(0, 1),
                a02 = inout(zmm_reg) sum!(0, 2), a03 = inout(zmm_reg) sum!(0, 3),
                a10 = inout(zmm_reg) sum!(0, 4), a11 = inout(zmm_reg) sum!(0, 5),
                a12 = inout(zmm_reg) sum!(0, 6), a13 = inout(zmm_reg) sum!(0, 7),
                b00 = inout(zmm_reg) sum!(1, 0), b01 = inout(zmm_reg) sum!(1, 1),
                b02 = inout(zmm_reg) sum!(1, 2), b03 = inout(zmm_reg) sum!(1, 3),
                b10 = inout(zmm_reg) sum!(1, 4), b11 = inout(zmm_reg) sum!(1, 5),
                b12 = inout(zmm_reg) sum!(1, 6), b13 = inout(zmm_reg) sum!(1, 7),
                out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
                out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
                out("zmm28") _, out("zmm29") _, out("zmm30") _, out("zmm31") _,
                options(readonly, nostack)
            )
        };
    }
    // SAFETY: promised by the caller: at each step are the masks of both panels and four bytes of each patch and plane, and the
    // loop ends before the last of all.
    unsafe {
        if PLANES == 1 {
            eight!(
                four!("{r0} + {at}", "{r1} + {at}", "{r2} + {at}", "{r3} + {at}", "0"),
                "",
                four!("{r4} + {at}", "{r5} + {at}", "{r6} + {at}", "{r7} + {at}", "1"),
                r0 = in(reg) codes[0], r1 = in(reg) codes[1 % R], r2 = in(reg) codes[2 % R], r3 = in(reg) codes[3 % R],
                r4 = in(reg) codes[4 % R], r5 = in(reg) codes[5 % R], r6 = in(reg) codes[6 % R], r7 = in(reg) codes[7 % R],
            );
        } else {
            eight!(
                four!("{r0} + {at}", "{r1} + {at}", "{r2} + {at}", "{r3} + {at}", "0"),
                "add {at}, {plane}",
                four!("{r0} + {at}", "{r1} + {at}", "{r2} + {at}", "{r3} + {at}", "1"),
                r0 = in(reg) codes[0], r1 = in(reg) codes[1 % R], r2 = in(reg) codes[2 % R], r3 = in(reg) codes[3 % R],
                plane = in(reg) job.plane,
            );
        }
    }
}
