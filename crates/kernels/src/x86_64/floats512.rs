//! AVX-512 tiles of up to 12 rows by two panels: 24 sums, 2 columns and a broadcast in 32 registers.
//!
//! Every output is the same chain of fused multiply-adds as on AVX2, so the bits are the same.

use core::arch::x86_64::*;

use super::floats::AHEAD;
use crate::Real;
use crate::float::{InPlace, Left, Packed, Runs, Target, Walk};
use crate::prefetch::line_soon;

/// Columns of consecutive panels, one vector each.
pub(crate) trait Columns<T>: Copy {
    /// `c[r] (+)= sum over the terms of a[r] * panels`, where panels skip `gap` elements after each run; the last panel has
    /// `columns` columns. If `PACK`, the panels' terms are first copied from `from` (and its step from term to term), where
    /// the panels are side by side.
    ///
    /// # Safety
    /// From each `a`, the positions of `runs` are readable; from each panel, a vector a term is readable, or if `PACK`
    /// writable and those of `from` readable; each `c` is writable for all columns; nothing else refers to what is written.
    /// The CPU has AVX-512F.
    unsafe fn run<const R: usize, const P: usize, const PACK: bool>(
        a: [*const T; R],
        runs: &Runs,
        panels: ([*mut T; P], usize),
        from: (*const T, usize),
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
        let mut tiles = Tiles::new(&left, &target, c, first);
        let at = |panel| right.panel(panel).cast_mut();
        // SAFETY: passed on; `right` holds a panel for every `PANEL` columns begun, and they are only read.
        unsafe {
            if columns > T::PANEL {
                let pair = [at(panel), at(panel + 1)];
                tiles.rows(left.count, (pair, right.gap), columns.min(2 * T::PANEL) - T::PANEL);
            } else {
                tiles.rows(left.count, ([at(panel)], right.gap), columns);
            }
        }
        first += 2 * T::PANEL;
    }
}

/// As [`crate::float::panels_in_place`], two panels at a time.
///
/// # Safety
/// As [`crate::float::panels_in_place`], on a CPU with AVX-512F.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn panels_in_place<T: Real>(
    left: Left<'_, T>,
    mut right: InPlace<'_, T>,
    target: Target,
    c: &mut [T],
) {
    let mut first = 0;
    while first < right.columns {
        let columns = (right.columns - first).min(2 * T::PANEL);
        let mut tiles = Tiles::new(&left, &target, c, first);
        let whole = columns == 2 * T::PANEL && left.count >= ROWS;
        if !whole {
            right.pack(first, columns);
        }
        let from = (right.b.data[first..].as_ptr(), right.b.row_stride);
        let panels = right.panels.as_mut_ptr();
        // SAFETY: passed on; `panels` has room for two panels, and all terms of whole ones lie within `b`.
        unsafe {
            let pair = ([panels, panels.add(right.terms * T::PANEL)], 0);
            if whole {
                tiles.tile::<ROWS, 2, true>(pair, from, T::PANEL);
                tiles.rows(left.count - ROWS, pair, T::PANEL);
            } else if columns > T::PANEL {
                tiles.rows(left.count, pair, columns - T::PANEL);
            } else {
                tiles.rows(left.count, ([panels], 0), columns);
            }
        }
        first += 2 * T::PANEL;
    }
}

/// Rows of a whole tile.
const ROWS: usize = 12;

/// Tiles of rows against the panels whose first column is `first`.
struct Tiles<'a, T> {
    left: &'a Left<'a, T>,
    from: Walk,
    to: Walk,
    add: bool,
    first: usize,
    c: &'a mut [T],
}

impl<'a, T: Real> Tiles<'a, T> {
    fn new(left: &'a Left<'a, T>, target: &Target, c: &'a mut [T], first: usize) -> Self {
        Self { left, from: Walk::new(left.rows), to: Walk::new(target.rows), add: target.add, first, c }
    }

    /// The next `R` rows.
    ///
    /// # Safety
    /// As [`panels`]; panels and, if `PACK`, `from` are as [`Columns::run`] asks.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn tile<const R: usize, const P: usize, const PACK: bool>(
        &mut self,
        panels: ([*mut T; P], usize),
        from: (*const T, usize),
        columns: usize,
    ) {
        // SAFETY: the caller checked that all rows lie within `a` and `c`; panels hold `terms` steps, and rows of `c` hold
        // the panels' columns.
        unsafe {
            let a = core::array::from_fn(|_| self.left.a.as_ptr().add(self.from.next()));
            let c = core::array::from_fn(|_| self.c.as_mut_ptr().add(self.to.next() + self.first));
            T::Wide::run::<R, P, PACK>(a, &self.left.runs, panels, from, c, columns, self.add);
        }
    }

    /// The next `rest` rows against `P` panels that have been written, the last of which has `columns` columns.
    ///
    /// # Safety
    /// As [`panels`].
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn rows<const P: usize>(&mut self, mut rest: usize, panels: ([*mut T; P], usize), columns: usize) {
        while rest > 0 {
            macro_rules! tile {
                ($rows:literal) => {{
                    // SAFETY: passed on.
                    unsafe { self.tile::<$rows, P, false>(panels, (core::ptr::null(), 0), columns) };
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
}

macro_rules! wide {
    ($t:ty, $mask:ty, $zero:ident, $load:ident, $set:ident, $fma:ident, $add:ident, $load_some:ident, $store:ident) => {
        impl Columns<$t> for Wide {
            #[inline(always)]
            unsafe fn run<const R: usize, const P: usize, const PACK: bool>(
                a: [*const $t; R],
                runs: &Runs,
                (mut panels, gap): ([*mut $t; P], usize),
                (mut from, from_step): (*const $t, usize),
                c: [*mut $t; R],
                columns: usize,
                add: bool,
            ) {
                const PANEL: usize = 64 / size_of::<$t>();
                // SAFETY: the caller's promises cover every access below: `a` at the positions of `runs`, a vector of
                // each panel at each term (to be read, or to be written from `from`), and the panels' columns of `c` (masked off beyond the last). Panels are
                // moved past the last term but not read there. The CPU has AVX-512F.
                unsafe {
                    let mut sums = [[$zero(); P]; R];
                    for run in 0..runs.runs {
                        let mut at = run * runs.run_step;
                        for _ in 0..runs.len {
                            let b: [_; P] = if PACK {
                                core::array::from_fn(|p| {
                                    let b = $load(from.add(p * PANEL));
                                    $store(panels[p], <$mask>::MAX, b);
                                    line_soon(from.wrapping_add(AHEAD * from_step + p * PANEL));
                                    b
                                })
                            } else {
                                core::array::from_fn(|p| $load(panels[p]))
                            };
                            if PACK {
                                from = from.wrapping_add(from_step);
                            }
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
