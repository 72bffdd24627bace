//! AVX-512 tiles of up to 8 patches by 32 outputs, for panels of bytes: trits or any 8-bit weights.
//!
//! A step of a panel is one register. A VNNI instruction, `vpdpbusd`, multiplies it with four bytes of a patch, in every
//! lane, and adds the products to 32-bit sums. Nothing can overflow, so nothing is emptied between.
#![expect(clippy::needless_range_loop, reason = "several arrays of registers share an index")]

use core::arch::x86_64::*;

use crate::int8::PanelBytes;
use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::integer::patches::Patches;
use crate::integer::run::Weight;
use crate::ternary::{Panel8, Step};

/// A packed weight as the tile reads it.
pub(crate) trait Tiles: Weight<Element = u8> {
    /// Panels `first..`, one after the other.
    fn panels_from(&self, first: usize) -> &[Step];
}

impl Tiles for Panel8 {
    fn panels_from(&self, first: usize) -> &[Step] {
        self.panels_from(first)
    }
}

impl Tiles for PanelBytes {
    fn panels_from(&self, first: usize) -> &[Step] {
        self.panels_from(first)
    }
}

/// What all tiles of a product have in common. Checked: the patches hold whole steps, `weights` as many steps as panels
/// have, `out` is `count` rows of `n`, and the epilogue has `n` channels.
struct Job<'a, W: Tiles, E: Epilogue> {
    w: &'a W,
    patches: &'a Patches<'a, u8>,
    epilogue: &'a E,
    out: *mut E::Out,
    count: usize,
    n: usize,
    /// Where each step is in a patch.
    steps: &'a [usize],
}

/// `out[p, n] = epilogue(patch p . column n)` for as many patches as `out` has rows.
///
/// # Panics
/// If the patches do not hold whole steps.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) fn multiply<W: Tiles, E: Epilogue>(
    w: &W,
    patches: &Patches<'_, u8>,
    epilogue: &E,
    out: &mut [E::Out],
) {
    let layout = w.layout();
    let (n, segments, run) = (layout.n, layout.segments, layout.segment_steps());
    let count = out.len() / n;
    let needed = patches.needed(count, segments, run * layout.step);
    assert!(needed <= patches.data.len(), "patches must hold whole steps");
    let steps = patches.steps(segments, run, layout.step);
    let job = Job { w, patches, epilogue, out: out.as_mut_ptr(), count, n, steps: &steps[..segments * run] };
    // Fewer patches than a tile has sums to keep the multipliers busy: several sums each, of every other step.
    match count {
        0 => {}
        1 => columns::<W, E, 1, 8>(&job),
        2..4 => columns::<W, E, 2, 4>(&job),
        4..8 => columns::<W, E, 4, 2>(&job),
        _ => columns::<W, E, 8, 1>(&job),
    }
}

/// Every panel, two at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn columns<W: Tiles, E: Epilogue, const R: usize, const U: usize>(job: &Job<'_, W, E>) {
    let panels = job.n.div_ceil(PANEL);
    for panel in (0..panels / 2 * 2).step_by(2) {
        rows::<W, E, R, 2, U>(job, panel);
    }
    if panels % 2 == 1 {
        rows::<W, E, R, 1, U>(job, panels - 1);
    }
}

/// `P` panels from `panel` of every patch, `R` patches at a time. The last tile ends at the last patch, and so may repeat
/// some of the tile before.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn rows<W: Tiles, E: Epilogue, const R: usize, const P: usize, const U: usize>(
    job: &Job<'_, W, E>,
    panel: usize,
) {
    let stride = job.steps.len();
    let weights = job.w.panels_from(panel);
    assert!(job.count >= R && weights.len() >= P * stride, "a tile of patches and panels");
    let mut cursor = job.patches.cursor_at(0);
    let mut patch = 0;
    loop {
        let mut starts = [core::ptr::null(); R];
        for start in &mut starts {
            // SAFETY: `multiply` has checked that the offsets of all patches lie within the data.
            *start = unsafe { job.patches.data.as_ptr().add(cursor.next(job.patches)) };
        }
        // SAFETY: the CPU has what this function needs; every patch holds its runs of whole steps (checked by `multiply`),
        // and `P` panels of `stride` steps are there (asserted).
        let sums = unsafe { sums::<R, P, U>(weights, starts, job.steps) };
        for p in 0..P {
            let first = (panel + p) * PANEL;
            // SAFETY: `out` has `count` rows of `n`, patches `patch..patch + R` are below `count`, and the columns below
            // `n`; the epilogue has been checked to have parameters for all `n` channels; `first` is a multiple of 16.
            unsafe {
                let out = job.out.add(patch * job.n + first);
                job.epilogue.store_rows(&sums[p], first, PANEL.min(job.n - first), out, job.n);
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

/// Sums of `R` patches and `P` panels, each kept in `U` parts until the end.
///
/// # Safety
/// The CPU has AVX-512 F, BW, VL, DQ and VNNI. Each of `patches` has four bytes at each of `steps`, and `weights` holds as many
/// steps for each panel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn sums<const R: usize, const P: usize, const U: usize>(
    weights: &[Step],
    patches: [*const u8; R],
    steps: &[usize],
) -> [[__m512i; R]; P] {
    let mut sums = [[[_mm512_setzero_si512(); R]; P]; U];
    const { assert!(size_of::<Step>() == 64) };
    let (stride, mut weights) = (steps.len(), weights.as_ptr().cast::<__m512i>());
    let (several, rest) = steps.as_chunks::<U>();
    for steps in several {
        for u in 0..U {
            // SAFETY: promised by the caller; `U` steps are left of the weights.
            unsafe { step::<R, P>(&mut sums[u], weights.add(u), stride, patches, steps[u]) };
        }
        // SAFETY: at most one past the last step.
        weights = unsafe { weights.add(U) };
    }
    for &at in rest {
        // SAFETY: as above, for one step.
        unsafe {
            step::<R, P>(&mut sums[0], weights, stride, patches, at);
            weights = weights.add(1);
        }
    }
    let mut total = sums[0];
    for sums in &sums[1..] {
        for p in 0..P {
            for r in 0..R {
                total[p][r] = _mm512_add_epi32(total[p][r], sums[p][r]);
            }
        }
    }
    total
}

/// Adds the step `at` bytes from the start of each patch, times the weights of each panel.
///
/// # Safety
/// The CPU has AVX-512 F, BW, VL, DQ and VNNI. Four bytes are readable at `at` of each of `patches`, and a step at `weights`,
/// and `stride` steps further for each panel.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn step<const R: usize, const P: usize>(
    sums: &mut [[__m512i; R]; P],
    weights: *const __m512i,
    stride: usize,
    patches: [*const u8; R],
    at: usize,
) {
    let mut w = [_mm512_setzero_si512(); P];
    for (p, w) in w.iter_mut().enumerate() {
        // SAFETY: promised by the caller; steps are aligned to 64 bytes.
        *w = unsafe { _mm512_load_si512(weights.add(p * stride)) };
    }
    for r in 0..R {
        // SAFETY: promised by the caller; the read is unaligned.
        let codes = _mm512_set1_epi32(unsafe { patches[r].add(at).cast::<i32>().read_unaligned() });
        for p in 0..P {
            sums[p][r] = _mm512_dpbusd_epi32(sums[p][r], codes, w[p]);
        }
    }
}
