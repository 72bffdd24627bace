//! Transposed copies of matrices, 8 x 8 at a time, so that lines are used whole on both sides.

use crate::Real;
use crate::dispatch::every_path;
use crate::lanes::{lanes, lanes_mut};

/// Side of a block.
pub(crate) const SIDE: usize = 8;

every_path! {
    /// Copies `rows` x `columns` elements of `from`, rows `steps.0` apart, to `to`, where columns are `steps.1` apart.
    pub(crate) fn transpose<T: Real>(from: &[T], to: &mut [T], steps: (usize, usize), rows: usize, columns: usize) {
        let (from_step, to_step) = steps;
        let (whole_rows, whole_columns) = (rows / SIDE * SIDE, columns / SIDE * SIDE);
        for row in (0..whole_rows).step_by(SIDE) {
            for column in (0..whole_columns).step_by(SIDE) {
                let block: [&[T; SIDE]; SIDE] =
                    core::array::from_fn(|i| lanes(from, (row + i) * from_step + column));
                let turned = eight(block);
                for (j, turned) in turned.iter().enumerate() {
                    *lanes_mut::<T, SIDE>(to, (column + j) * to_step + row) = *turned;
                }
            }
        }
        for column in 0..columns {
            let first = if column < whole_columns { whole_rows } else { 0 };
            for row in first..rows {
                to[column * to_step + row] = from[row * from_step + column];
            }
        }
    }
}

/// Swaps rows and columns by exchanging halves, quarters and neighbours, which become shuffles of vectors.
#[inline(always)]
pub(crate) fn eight<T: Real>(rows: [&[T; SIDE]; SIDE]) -> [[T; SIDE]; SIDE] {
    let mut x = rows.map(|row| *row);
    for half in [4, 2, 1] {
        let from = x;
        for (i, x) in x.iter_mut().enumerate() {
            let other = from[i ^ half];
            for (j, x) in x.iter_mut().enumerate() {
                // Rows whose bit is clear take the other's columns where it is set, and the other way round.
                if (i & half == 0) != (j & half == 0) {
                    *x = other[j ^ half];
                }
            }
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::transpose;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn every_remainder_of_blocks() {
        for (rows, columns) in [(0, 3), (1, 1), (7, 9), (8, 8), (16, 24), (17, 8), (9, 31), (40, 3)] {
            let (from_step, to_step) = (columns + 2, rows + 5);
            let from: Vec<f32> = (0..rows * from_step).map(|v| v as f32).collect();
            let mut to = vec![-1.0; columns * to_step];
            transpose(&from, &mut to, (from_step, to_step), rows, columns);
            for (column, line) in to.chunks_exact(to_step).enumerate() {
                for (row, &value) in line.iter().enumerate() {
                    let want = if row < rows { from[row * from_step + column] } else { -1.0 };
                    assert_eq!(value, want, "{rows} x {columns}: {row}, {column}");
                }
            }
        }
    }
}
