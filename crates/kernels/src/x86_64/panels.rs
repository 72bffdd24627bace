//! AVX2 tiles of 4 patches by 16 outputs, for both panel formats.
//!
//! Each step broadcasts four bytes of every patch against two vectors of weights. Trits: `vpmaddubsw` and a wrapping
//! `vpaddw`, emptied into 32 bits at the ends of the weight's blocks. 8-bit weights: `vpmaddwd` and `vpaddd`.

use core::arch::x86_64::*;
use core::ops::Range;

use crate::int8::{self, Panel16};
use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::integer::patches::{Cursor, Element, Patches};
use crate::integer::run::Weight;
use crate::ternary::{self, Panel8};

/// Patches of one tile.
const TILE: usize = 4;

/// Sums of a tile: per patch, outputs 0..8 and 8..16.
type Sums<const R: usize> = [[__m256i; 2]; R];

/// A packed weight as the tile reads it.
pub(crate) trait Tiles: Weight {
    /// One panel.
    type Panel<'a>
    where
        Self: 'a;
    /// Panel number `panel`.
    fn tiles(&self, panel: usize) -> Self::Panel<'_>;
    /// 32-bit sums of `R` patches.
    ///
    /// # Safety
    /// The CPU has AVX2. From each of `patches`, `segments` runs `segment_step` elements apart hold `run` steps of
    /// four bytes; the panel holds `segments * run` steps.
    unsafe fn sums<const R: usize>(
        panel: &Self::Panel<'_>,
        patches: [*const Self::Element; R],
        shape: Shape,
    ) -> Sums<R>;
}

/// Runs of a patch.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    segments: usize,
    /// Steps of a run.
    run: usize,
    /// Elements between two runs.
    segment_step: usize,
}

/// `out[p, n] = epilogue(patch p . column n)` for as many patches as `out` has rows.
///
/// # Panics
/// If the patches do not hold whole steps.
#[target_feature(enable = "avx2,fma")]
pub(crate) fn multiply<W: Tiles, E: Epilogue>(
    w: &W,
    patches: &Patches<'_, W::Element>,
    epilogue: &E,
    out: &mut [E::Out],
) {
    let layout = w.layout();
    let n = layout.n;
    let shape =
        Shape { segments: layout.segments, run: layout.segment_steps(), segment_step: patches.segment_step };
    let count = out.len() / n;
    let needed = patches.needed(count, shape.segments, shape.run * layout.step);
    assert!(needed <= patches.data.len(), "patches must hold whole steps");
    for panel in 0..layout.panels() {
        let first = panel * PANEL;
        let columns = first..n.min(first + PANEL);
        let panel = w.tiles(panel);
        let mut cursor = patches.cursor();
        let mut rest = &mut out[..];
        while rest.len() >= TILE * n {
            let (rows, after) = rest.split_at_mut(TILE * n);
            tile::<W, E, TILE>(&panel, patches, shape, &mut cursor, epilogue, rows, n, &columns);
            rest = after;
        }
        while rest.len() >= n {
            let (row, after) = rest.split_at_mut(n);
            tile::<W, E, 1>(&panel, patches, shape, &mut cursor, epilogue, row, n, &columns);
            rest = after;
        }
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
#[expect(clippy::too_many_arguments, reason = "one tile's worth of loop state")]
fn tile<W: Tiles, E: Epilogue, const R: usize>(
    panel: &W::Panel<'_>,
    patches: &Patches<'_, W::Element>,
    shape: Shape,
    cursor: &mut Cursor,
    epilogue: &E,
    mut rows: &mut [E::Out],
    n: usize,
    columns: &Range<usize>,
) {
    let starts = core::array::from_fn(|_| {
        // SAFETY: `multiply` has checked that the offsets of all patches lie within the data.
        unsafe { patches.data.as_ptr().add(cursor.next(patches)) }
    });
    // SAFETY: the CPU has AVX2 (this function needs it); `multiply` has checked that every patch holds its runs of
    // whole steps, and a panel holds as many steps as its layout says.
    let sums = unsafe { W::sums::<R>(panel, starts, shape) };
    // By index: iterating over the array by value would copy it.
    for r in 0..R {
        let sums = sums[r];
        let (row, rest) = rows.split_at_mut(n);
        let out = &mut row[columns.clone()];
        if let Ok(out) = <&mut [E::Out; PANEL]>::try_from(&mut *out) {
            // SAFETY: the CPU has AVX2; panels start at multiples of 16, and the epilogue has been checked to have
            // parameters for all `n` channels, of which these 16 are some.
            unsafe { epilogue.store_vectors(sums, columns.start, out) };
        } else {
            let mut acc = [0_i32; PANEL];
            // SAFETY: `acc` holds two vectors of eight i32; unaligned stores.
            unsafe {
                _mm256_storeu_si256(acc.as_mut_ptr().cast(), sums[0]);
                _mm256_storeu_si256(acc.as_mut_ptr().add(8).cast(), sums[1]);
            }
            epilogue.store(&acc, columns.start, out);
        }
        rows = rest;
    }
}

/// Four bytes from `p`, in every 32-bit lane.
///
/// # Safety
/// The CPU has AVX2 and four bytes are readable at `p`.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn broadcast<E: Element>(p: *const E) -> __m256i {
    // SAFETY: promised by the caller; the read is unaligned.
    _mm256_set1_epi32(unsafe { p.cast::<i32>().read_unaligned() })
}

/// Adds `count` steps of codes, from `offset` of each patch, to 16-bit sums, which wrap. Returns where weights go on.
///
/// # Safety
/// The CPU has AVX2; each patch holds the codes, and `weights` as many steps.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn run<const R: usize>(
    sums: &mut Sums<R>,
    mut weights: *const __m256i,
    patches: [*const u8; R],
    offset: usize,
    count: usize,
) -> *const __m256i {
    // SAFETY: promised by the caller.
    let codes = patches.map(|p| unsafe { p.add(offset) });
    for at in 0..count {
        // SAFETY: a step is two aligned vectors.
        let w = unsafe { [_mm256_load_si256(weights), _mm256_load_si256(weights.add(1))] };
        for r in 0..R {
            // SAFETY: step `at` is within the patch.
            let codes = unsafe { broadcast(codes[r].add(4 * at)) };
            let products = [_mm256_maddubs_epi16(codes, w[0]), _mm256_maddubs_epi16(codes, w[1])];
            sums[r][0] = _mm256_add_epi16(sums[r][0], products[0]);
            sums[r][1] = _mm256_add_epi16(sums[r][1], products[1]);
        }
        // SAFETY: at most one past the last step.
        weights = unsafe { weights.add(2) };
    }
    weights
}

impl Tiles for Panel8 {
    type Panel<'a> = (&'a [ternary::Step], &'a [u32]);

    fn tiles(&self, panel: usize) -> Self::Panel<'_> {
        self.panel(panel)
    }

    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn sums<const R: usize>(
        &(steps, ends): &Self::Panel<'_>,
        patches: [*const u8; R],
        shape: Shape,
    ) -> Sums<R> {
        let zero = _mm256_setzero_si256();
        let ones = _mm256_set1_epi16(1);
        debug_assert_eq!(steps.len(), shape.segments * shape.run);
        let mut weights = steps.as_ptr().cast::<__m256i>();
        let mut narrow = [[zero; 2]; R];
        if ends.first().is_some_and(|&end| end as usize == steps.len()) {
            // One block: nothing to watch for.
            for segment in 0..shape.segments {
                // SAFETY: the caller promises that each patch holds this run of whole steps, and that there are as
                // many steps as runs hold.
                weights =
                    unsafe { run(&mut narrow, weights, patches, segment * shape.segment_step, shape.run) };
            }
            for sums in &mut narrow {
                *sums = [_mm256_madd_epi16(sums[0], ones), _mm256_madd_epi16(sums[1], ones)];
            }
            return narrow;
        }
        let mut wide = [[zero; 2]; R];
        let mut ends = ends.iter();
        let mut done = 0;
        let mut end = ends.next().map_or(0, |&e| e as usize);
        for segment in 0..shape.segments {
            let mut at = 0;
            while at < shape.run {
                let count = (shape.run - at).min(end - done);
                // SAFETY: as above, for steps `at..at + count` of the run; `done` never passes the number of steps.
                weights = unsafe {
                    run(&mut narrow, weights, patches, segment * shape.segment_step + 4 * at, count)
                };
                at += count;
                done += count;
                if done == end {
                    for r in 0..R {
                        for h in 0..2 {
                            wide[r][h] = _mm256_add_epi32(wide[r][h], _mm256_madd_epi16(narrow[r][h], ones));
                            narrow[r][h] = zero;
                        }
                    }
                    end = ends.next().map_or(end, |&e| e as usize);
                }
            }
        }
        wide
    }
}

impl Tiles for Panel16 {
    type Panel<'a> = &'a [int8::Step];

    fn tiles(&self, panel: usize) -> Self::Panel<'_> {
        self.panel(panel)
    }

    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn sums<const R: usize>(
        panel: &Self::Panel<'_>,
        patches: [*const i16; R],
        shape: Shape,
    ) -> Sums<R> {
        let mut sums = [[_mm256_setzero_si256(); 2]; R];
        debug_assert_eq!(panel.len(), shape.segments * shape.run);
        let mut weights = panel.as_ptr().cast::<__m256i>();
        for segment in 0..shape.segments {
            // SAFETY: the caller promises that each patch holds this run.
            let start = patches.map(|p| unsafe { p.add(segment * shape.segment_step) });
            for at in 0..shape.run {
                // SAFETY: one step per turn, `segments * run` turns; a step is two aligned vectors.
                let w = unsafe { [_mm256_load_si256(weights), _mm256_load_si256(weights.add(1))] };
                for r in 0..R {
                    // SAFETY: step `at` of the run is within the patch.
                    let codes = unsafe { broadcast(start[r].add(2 * at)) };
                    sums[r][0] = _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(codes, w[0]));
                    sums[r][1] = _mm256_add_epi32(sums[r][1], _mm256_madd_epi16(codes, w[1]));
                }
                // SAFETY: at most one past the last step.
                weights = unsafe { weights.add(2) };
            }
        }
        sums
    }
}
