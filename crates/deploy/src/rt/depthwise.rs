//! Ternary depthwise convolutions on 16-bit sums: both lanes times a weight in one multiplication.

use core::sync::atomic::{Ordering, compiler_fence};

use super::patch::Patch;
use super::record::Branch;
use super::sums::Run;
use super::tile::{TABLES, TAPS, Tiles};

/// Where sums start, so that they are never negative.
const START: u32 = 0x4000_4000;

impl Branch<'_> {
    /// Sums of all rows and channels of `run`.
    #[inline(never)]
    pub(super) fn depthwise(
        &self,
        tiles: &Tiles,
        input: &[u8],
        at: (usize, usize),
        run: &mut Run<'_>,
        patch: &mut Patch,
    ) {
        let (v, zero) = (tiles.view(&self.window), self.zero_point as u8);
        let (kernel_h, kernel_w) = (v.w.kernel_h, v.w.kernel_w);
        let step = v.w.stride_h * (1 + tiles.lane().0);
        let count = ((run.rows.end - 1) * step + kernel_h).min(TABLES);
        let words = patch.find_rows(&v, (tiles, self.kind), at, count);
        let mut weights = [0; TAPS];
        let weights = &mut weights[..kernel_h * kernel_w];
        for i in 0..run.count {
            let channel = run.first + i;
            let row = self.weights.get(channel * self.row..).unwrap_or(&[]);
            // Rows are in the order of memory.
            unpack(row, weights, if tiles.orientation == 1 { kernel_h } else { 0 });
            let x = patch.read(input, zero, channel, v.w.in_c);
            let sums = run.sums.get_mut(i..).unwrap_or(&mut []).iter_mut();
            let sums = sums.step_by(run.count).take(run.rows.end);
            if let Some(weights) = weights.first_chunk().filter(|_| (kernel_h, words) == (3, 6)) {
                three_by_three(sums, x.as_chunks().0, weights, step);
            } else {
                any(sums, (x, words), (weights, kernel_w, v.w.stride_w), step);
            }
        }
    }
}

/// Trits, four to a byte, lowest first, as numbers; transposed if they have `rows` rows, 0 if not.
#[inline(never)]
fn unpack(row: &[u8], weights: &mut [u32], rows: usize) {
    let columns = weights.len().checked_div(rows).unwrap_or(0);
    let mut from = row.iter();
    let (mut byte, mut left, mut at) = (0, 0, 0);
    for i in 0..weights.len() {
        if left == 0 {
            (byte, left) = (u32::from(*from.next().unwrap_or(&0x55)), 4);
        }
        if let Some(weight) = weights.get_mut(at) {
            *weight = (byte & 3).wrapping_sub(1);
        }
        (byte, left) = (byte >> 2, left - 1);
        at = if rows == 0 {
            i + 1
        } else if at + columns < weights.len() {
            at + columns
        } else {
            at + columns + 1 - weights.len()
        };
    }
}

/// Sums under a 3x3 kernel of stride 1, two words at a time for want of registers.
#[inline(never)]
fn three_by_three<'a>(
    sums: impl Iterator<Item = &'a mut [u32; 4]>,
    mut x: &[[u32; 6]],
    weights: &[u32; 9],
    step: usize,
) {
    for sums in sums {
        let Some(rows) = x.first_chunk::<3>() else { return };
        for h in [0, 2] {
            let (mut a, mut b) = (START, START);
            for (x, w) in rows.iter().zip(weights.as_chunks::<3>().0) {
                for (kx, w) in w.iter().enumerate() {
                    a = a.wrapping_add(w.wrapping_mul(x[h + kx]));
                    b = b.wrapping_add(w.wrapping_mul(x[h + kx + 1]));
                }
                // No instruction, but it keeps the compiler from loading everything at once.
                compiler_fence(Ordering::AcqRel);
            }
            (sums[h], sums[h + 1]) = (a, b);
        }
        x = x.get(step..).unwrap_or(&[]);
    }
}

/// Sums under any kernel.
#[inline(never)]
fn any<'a>(
    sums: impl Iterator<Item = &'a mut [u32; 4]>,
    (x, words): (&[u32], usize),
    (weights, kernel_w, stride): (&[u32], usize, usize),
    step: usize,
) {
    for (row, sums) in sums.enumerate() {
        *sums = [START; 4];
        let rows = x.get(row * step * words..).unwrap_or(&[]).chunks_exact(words);
        for (x, w) in rows.zip(weights.chunks_exact(kernel_w)) {
            for (kx, w) in w.iter().enumerate() {
                for (sum, x) in sums.iter_mut().zip(x[kx..].iter().step_by(stride)) {
                    *sum = sum.wrapping_add(w.wrapping_mul(*x));
                }
            }
        }
    }
}
