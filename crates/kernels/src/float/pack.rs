//! Panels of columns: what a tile multiplies rows with.

use super::Runs;
use crate::Real;
use crate::gemm::MatRef;
use crate::transpose::transpose;

/// A right operand of `terms` x `columns` as panels of `PANEL` columns (two vectors), padded with zeros.
pub(crate) struct Packed<'a, T> {
    pub(crate) terms: usize,
    pub(crate) columns: usize,
    panels: &'a [T],
    /// Elements from panel to panel.
    step: usize,
    /// Consecutive terms, and elements between the end of one such run and the next.
    run: usize,
    pub(crate) gap: usize,
}

impl<'a, T: Real> Packed<'a, T> {
    /// Elements that the panels take.
    pub(crate) fn len(terms: usize, columns: usize) -> usize {
        terms * columns.next_multiple_of(T::PANEL)
    }

    /// Panels written by [`pack`].
    pub(crate) fn new(panels: &'a [T], terms: usize, columns: usize) -> Self {
        assert!(panels.len() >= Self::len(terms, columns), "panels must be whole");
        Self { terms, columns, panels, step: terms * T::PANEL, run: terms, gap: 0 }
    }

    /// Panels of all terms, `step` elements apart.
    pub(crate) fn spread(panels: &'a [T], step: usize, (terms, columns): (usize, usize)) -> Self {
        assert!(step >= terms * T::PANEL, "panels must not overlap");
        let before = columns.div_ceil(T::PANEL).saturating_sub(1) * step;
        assert!(before + terms * T::PANEL <= panels.len(), "panels must be whole");
        Self { terms, columns, panels, step, run: terms, gap: 0 }
    }

    /// Panels of `len` terms each time, `runs` times, `run_step` elements apart.
    pub(crate) fn in_runs(
        panels: &'a [T],
        (runs, run_step): (usize, usize),
        (len, columns): (usize, usize),
    ) -> Self {
        let one = Self::len(len, columns);
        assert!(runs > 0 && run_step >= one, "runs must not overlap");
        assert!((runs - 1) * run_step + one <= panels.len(), "panels must be whole");
        let step = len * T::PANEL;
        Self { terms: runs * len, columns, panels, step, run: len, gap: run_step - step }
    }

    /// Whether the terms of the left operand can be walked along with this one's.
    pub(crate) fn fits(&self, runs: &Runs) -> bool {
        runs.terms() == self.terms && (self.gap == 0 || runs.len == self.run)
    }

    /// First element of a panel.
    #[inline(always)]
    pub(crate) fn panel(&self, panel: usize) -> *const T {
        self.panels[panel * self.step..].as_ptr()
    }
}

/// Packs rows `0..k` of `b` (`k` x `n`) as terms `first..first + k` of panels of `terms` terms.
pub(crate) fn pack<T: Real>(
    b: MatRef<'_, T>,
    (k, n): (usize, usize),
    (first, terms): (usize, usize),
    to: &mut [T],
) {
    let width = T::PANEL;
    for (panel, to) in to.chunks_exact_mut(terms * width).take(n.div_ceil(width)).enumerate() {
        let columns = width.min(n - panel * width);
        if b.row_stride == 1 && b.col_stride > 1 {
            let to = &mut to[first * width..][..k * width];
            if columns < width {
                to.fill(T::ZERO);
            }
            transpose(&b.data[panel * width * b.col_stride..], to, (b.col_stride, width), columns, k);
            continue;
        }
        let lines = to[first * width..].chunks_exact_mut(width).take(k);
        for (i, line) in lines.enumerate() {
            let from = &b.data[i * b.row_stride + panel * width * b.col_stride..];
            if b.col_stride == 1 && columns == width {
                // A whole line at once: its length is a constant here.
                let (line, from) = (&mut line[..T::PANEL], &from[..T::PANEL]);
                line.iter_mut().zip(from).for_each(|(l, &v)| *l = v);
            } else if b.col_stride == 1 {
                line[..columns].copy_from_slice(&from[..columns]);
            } else if columns == width {
                let from = &from[..(width - 1) * b.col_stride + 1];
                for (l, line) in line.iter_mut().enumerate() {
                    *line = from[l * b.col_stride];
                }
            } else {
                line.iter_mut()
                    .zip(from.iter().step_by(b.col_stride))
                    .take(columns)
                    .for_each(|(l, &v)| *l = v);
            }
            line[columns..].fill(T::ZERO);
        }
    }
}
