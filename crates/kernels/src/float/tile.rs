//! The innermost loop of float products, portably.

use super::Runs;
use crate::Real;

/// A tile of up to six rows by one panel.
pub(crate) trait Tile<T: Real> {
    /// `c[r][..columns] (+)= sum over the terms of a[r] * panel`, where the panel skips elements after each run. If `PACK`, the
    /// panel's terms are first copied from `from` (and its step from term to term).
    ///
    /// # Safety
    /// From each `a`, the positions of `runs` are readable; from `panel`, `PANEL` elements a term are readable, or if `PACK`
    /// writable and those of `from` readable; each `c` is writable for `columns <= PANEL` elements; nothing else refers to what
    /// is written.
    unsafe fn run<const R: usize, const PACK: bool>(
        a: [*const T; R],
        runs: &Runs,
        panel: (*mut T, usize),
        from: (*const T, usize),
        c: [*mut T; R],
        columns: usize,
        add: bool,
    );
}

/// Any CPU, products rounded before they are added.
pub(crate) struct Portable;

/// Most columns of a panel.
const WIDEST: usize = 16;

impl<T: Real> Tile<T> for Portable {
    #[inline(always)]
    unsafe fn run<const R: usize, const PACK: bool>(
        a: [*const T; R],
        runs: &Runs,
        (mut panel, gap): (*mut T, usize),
        (mut from, from_step): (*const T, usize),
        c: [*mut T; R],
        columns: usize,
        add: bool,
    ) {
        let mut sums = [[T::ZERO; WIDEST]; R];
        for run in 0..runs.runs {
            for i in 0..runs.len {
                if PACK {
                    // SAFETY: `PANEL` elements of the current term on both sides, which do not overlap.
                    unsafe { core::ptr::copy_nonoverlapping(from, panel, T::PANEL) };
                    from = from.wrapping_add(from_step);
                }
                for (a, sums) in a.iter().zip(&mut sums) {
                    // SAFETY: a position of `runs`, and `PANEL` elements of the panel's current term.
                    let (x, b) = unsafe {
                        (
                            *a.add(run * runs.run_step + i * runs.step),
                            core::slice::from_raw_parts(panel, T::PANEL),
                        )
                    };
                    for (sum, &b) in sums.iter_mut().zip(b) {
                        *sum = x.madd::<false>(b, *sum);
                    }
                }
                panel = panel.wrapping_add(T::PANEL);
            }
            panel = panel.wrapping_add(gap);
        }
        for (c, sums) in c.into_iter().zip(&sums) {
            // SAFETY: each `c` is writable for `columns` elements and not aliased.
            let c = unsafe { core::slice::from_raw_parts_mut(c, columns) };
            for (c, &sum) in c.iter_mut().zip(sums) {
                *c = if add { *c + sum } else { sum };
            }
        }
    }
}
