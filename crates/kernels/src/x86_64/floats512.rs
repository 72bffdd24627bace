//! AVX-512 tiles of up to 12 rows by two panels: 24 sums, 2 columns and a broadcast in 32 registers.
//!
//! Every output is the same chain of fused multiply-adds as on AVX2, so the bits are the same.

use core::arch::x86_64::*;

use crate::Real;
use crate::float::{Left, Packed, Runs, Target, Walk};

/// Columns of consecutive panels, one vector each.
pub(crate) trait Columns<T>: Copy {
    /// `c[r] (+)= sum over the terms of a[r] * panels`, where panels skip `gap` elements after each run; the last panel has
    /// `columns` columns.
    ///
    /// # Safety
    /// From each `a`, the positions of `runs` are readable; from each panel, a vector a term; each `c` is writable for
    /// all columns, and nothing else refers to them. The CPU has AVX-512F.
    unsafe fn run<const R: usize, const P: usize>(
        a: [*const T; R],
        runs: &Runs,
        panels: ([*const T; P], usize),
        c: [*mut T; R],
        columns: usize,
        add: bool,
    );
}

/// The only implementation, for both types.
#[derive(Clone, Copy)]
pub struct Wide;

/// As [`crate::float::panels`], two panels at a time.
///
/// # Safety
/// As [`crate::float::panels`], on a CPU with AVX-512F.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn panels<T: Real>(left: Left<'_, T>, right: &Packed<'_, T>, target: Target, c: &mut [T]) {
    let mut first = 0;
    while first < right.columns {
        let (panel, columns) = (first / T::PANEL, right.columns - first);
        // SAFETY: passed on; `right` holds a panel for every `PANEL` columns begun.
        unsafe {
            if columns > T::PANEL {
                let pair = [right.panel(panel), right.panel(panel + 1)];
                rows(&left, (pair, right.gap), &target, c, first, columns.min(2 * T::PANEL) - T::PANEL);
            } else {
                rows(&left, ([right.panel(panel)], right.gap), &target, c, first, columns);
            }
        }
        first += 2 * T::PANEL;
    }
}

/// All rows against `P` panels, the first of whose columns is `first`.
///
/// # Safety
/// As [`panels`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn rows<T: Real, const P: usize>(
    left: &Left<'_, T>,
    panels: ([*const T; P], usize),
    target: &Target,
    c: &mut [T],
    first: usize,
    columns: usize,
) {
    let (mut from, mut to) = (Walk::new(left.rows), Walk::new(target.rows));
    let mut rest = left.count;
    while rest > 0 {
        macro_rules! tile {
            ($rows:literal) => {{
                // SAFETY: the caller checked that all rows lie within `a` and `c`.
                let (a, c) = unsafe {
                    (
                        core::array::from_fn(|_| left.a.as_ptr().add(from.next())),
                        core::array::from_fn(|_| c.as_mut_ptr().add(to.next() + first)),
                    )
                };
                // SAFETY: as above; panels hold `terms` steps, and rows of `c` hold the panels' columns.
                unsafe { T::Wide::run::<$rows, P>(a, &left.runs, panels, c, columns, target.add) };
                rest -= $rows;
            }};
        }
        match rest {
            12.. => tile!(12),
            8..12 => tile!(8),
            6..8 => tile!(6),
            4 | 5 => tile!(4),
            3 => tile!(3),
            2 => tile!(2),
            _ => tile!(1),
        }
    }
}

macro_rules! wide {
    ($t:ty, $mask:ty, $zero:ident, $load:ident, $set:ident, $fma:ident, $add:ident, $load_some:ident, $store:ident) => {
        impl Columns<$t> for Wide {
            #[inline(always)]
            unsafe fn run<const R: usize, const P: usize>(
                a: [*const $t; R],
                runs: &Runs,
                (mut panels, gap): ([*const $t; P], usize),
                c: [*mut $t; R],
                columns: usize,
                add: bool,
            ) {
                const PANEL: usize = 64 / size_of::<$t>();
                // SAFETY: the caller's promises cover every access below: `a` at the positions of `runs`, a vector of
                // each panel at each term, and the panels' columns of `c` (masked off beyond the last). Panels are
                // moved past the last term but not read there. The CPU has AVX-512F.
                unsafe {
                    let mut sums = [[$zero(); P]; R];
                    for run in 0..runs.runs {
                        let mut at = run * runs.run_step;
                        for _ in 0..runs.len {
                            let b: [_; P] = core::array::from_fn(|p| $load(panels[p]));
                            for r in 0..R {
                                let x = $set(*a[r].add(at));
                                for p in 0..P {
                                    sums[r][p] = $fma(x, b[p], sums[r][p]);
                                }
                            }
                            at += runs.step;
                            panels = panels.map(|panel| panel.wrapping_add(PANEL));
                        }
                        panels = panels.map(|panel| panel.wrapping_add(gap));
                    }
                    for r in 0..R {
                        for p in 0..P {
                            let kept = if p + 1 < P { PANEL } else { columns };
                            let (to, mask) = (c[r].add(p * PANEL), <$mask>::MAX >> (PANEL - kept));
                            let sum = if add { $add($load_some(mask, to), sums[r][p]) } else { sums[r][p] };
                            $store(to, mask, sum);
                        }
                    }
                }
            }
        }
    };
}
wide!(
    f32,
    u16,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps,
    _mm512_maskz_loadu_ps,
    _mm512_mask_storeu_ps
);
wide!(
    f64,
    u8,
    _mm512_setzero_pd,
    _mm512_loadu_pd,
    _mm512_set1_pd,
    _mm512_fmadd_pd,
    _mm512_add_pd,
    _mm512_maskz_loadu_pd,
    _mm512_mask_storeu_pd
);
