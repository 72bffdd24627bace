//! AVX2 + FMA tiles of up to 6 rows by two vectors of columns: 12 sums, 2 columns and a broadcast in 16 registers.

use core::arch::x86_64::*;

use crate::Real;
use crate::float::{self, InPlace, Left, Packed, Runs, Target, Tile};
use crate::prefetch::line_soon;

/// Terms between the one being read and the one announced, where terms are far apart.
pub(super) const AHEAD: usize = 16;

/// Tiles with fused multiply-adds.
pub struct Fused;

/// [`float::panels`] with fused tiles.
///
/// # Safety
/// As [`float::panels`], on a CPU with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn panels<T: Real>(left: Left<'_, T>, right: &Packed<'_, T>, target: Target, c: &mut [T]) {
    // SAFETY: passed on.
    unsafe { float::panels::<T, T::Fused>(left, right, target, c) }
}

/// [`float::panels_in_place`] with fused tiles.
///
/// # Safety
/// As [`float::panels_in_place`], on a CPU with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn panels_in_place<T: Real>(
    left: Left<'_, T>,
    right: InPlace<'_, T>,
    target: Target,
    c: &mut [T],
) {
    // SAFETY: passed on.
    unsafe { float::panels_in_place::<T, T::Fused>(left, right, target, c) }
}

macro_rules! fused {
    ($t:ty, $zero:ident, $load:ident, $broadcast:ident, $fma:ident, $add:ident, $store:ident) => {
        impl Tile<$t> for Fused {
            #[inline(always)]
            unsafe fn run<const R: usize, const PACK: bool>(
                a: [*const $t; R],
                runs: &Runs,
                (mut panel, gap): (*mut $t, usize),
                (mut from, from_step): (*const $t, usize),
                c: [*mut $t; R],
                columns: usize,
                add: bool,
            ) {
                const PANEL: usize = 64 / size_of::<$t>();
                const HALF: usize = PANEL / 2;
                // SAFETY: the caller's promises cover every access below: `a` at the positions of `runs`, one
                // panel's width at each term (to be read, or to be written from `from`), and `columns` elements of `c`
                // (`spill` takes the rest of a partial panel). `panel` is moved past the last term but not read there. The
                // CPU has AVX2 and FMA.
                unsafe {
                    let mut sums = [[$zero(); 2]; R];
                    for run in 0..runs.runs {
                        let mut at = run * runs.run_step;
                        for _ in 0..runs.len {
                            let b = if PACK {
                                let b = [$load(from), $load(from.add(HALF))];
                                $store(panel, b[0]);
                                $store(panel.add(HALF), b[1]);
                                line_soon(from.wrapping_add(AHEAD * from_step));
                                from = from.wrapping_add(from_step);
                                b
                            } else {
                                [$load(panel), $load(panel.add(HALF))]
                            };
                            for r in 0..R {
                                let x = $broadcast(&*a[r].add(at));
                                sums[r][0] = $fma(x, b[0], sums[r][0]);
                                sums[r][1] = $fma(x, b[1], sums[r][1]);
                            }
                            at += runs.step;
                            panel = panel.wrapping_add(PANEL);
                        }
                        panel = panel.wrapping_add(gap);
                    }
                    for r in 0..R {
                        if columns == PANEL {
                            for h in 0..2 {
                                let to = c[r].add(h * HALF);
                                let sum = if add { $add($load(to), sums[r][h]) } else { sums[r][h] };
                                $store(to, sum);
                            }
                        } else {
                            let mut spill = [0.0; PANEL];
                            $store(spill.as_mut_ptr(), sums[r][0]);
                            $store(spill.as_mut_ptr().add(HALF), sums[r][1]);
                            let c = core::slice::from_raw_parts_mut(c[r], columns);
                            for (c, &sum) in c.iter_mut().zip(&spill) {
                                *c = if add { *c + sum } else { sum };
                            }
                        }
                    }
                }
            }
        }
    };
}
fused!(
    f32,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_broadcast_ss,
    _mm256_fmadd_ps,
    _mm256_add_ps,
    _mm256_storeu_ps
);
fused!(
    f64,
    _mm256_setzero_pd,
    _mm256_loadu_pd,
    _mm256_broadcast_sd,
    _mm256_fmadd_pd,
    _mm256_add_pd,
    _mm256_storeu_pd
);
