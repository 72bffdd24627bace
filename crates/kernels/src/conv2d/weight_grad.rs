//! Weight gradient: products over the pixels, in place, summed over fixed chunks of the batch.

use super::{check, with_rows};
use crate::float::{self, InPlace, Left, Packed, Rows, Runs, Target};
use crate::gemm::{MatRef, gemm};
use crate::geometry::{Conv2d, Range};
use crate::scratch::Scratch;
use crate::strip::Strip;
use crate::{KernelError, Real, parallel, winograd};

/// Output pixels of one summation chunk, and how many chunks there are at most.
const CHUNK_PIXELS: usize = 512;
const MAX_CHUNKS: usize = 16;
/// Output pixels multiplied at a time: one panel of their gradients stays in the first-level cache.
const STRIP_PIXELS: usize = 256;

/// `dw = d(sum dy * conv(x, w)) / dw`. `x` `[n, h, w, cin]`, `dy` `[n, oh, ow, cout]`, `dw` `[kh, kw, cin, cout]`,
/// which is overwritten. The batch is summed over chunks that depend on the geometry alone, in order.
///
/// # Errors
/// Slices whose lengths are not the geometry's.
pub fn weight_grad<T: Real>(g: &Conv2d, x: &[T], dy: &[T], dw: &mut [T]) -> Result<(), KernelError> {
    check(g, "conv2d::weight_grad", [("x", x.len()), ("dy", dy.len()), ("dw", dw.len())], [0, 2, 1])?;
    if winograd::weight_grad_applies(g) {
        winograd::weight_grad(g, x, dy, dw);
        return Ok(());
    }
    if (g.out_h, g.out_w) == (1, 1) && (g.kernel_h, g.kernel_w) == (g.in_h, g.in_w) {
        // A dense layer: one product for the whole batch. No padding is left where the kernel is the image.
        let sizes = (g.patch(), g.out_c, g.batch);
        return gemm(sizes, MatRef::transposed(x, g.patch()), MatRef::rows(dy, g.out_c), T::ZERO, dw);
    }
    let rows = g.batch * g.out_h;
    let chunks = (rows * g.out_w / CHUNK_PIXELS).clamp(1, MAX_CHUNKS);
    let chunk_rows = rows.div_ceil(chunks).max(1);
    let chunks = rows.div_ceil(chunk_rows).max(1);
    if chunks == 1 {
        accumulate(g, x, dy, 0..rows, dw);
        return Ok(());
    }
    let mut partial = Scratch::<T>::take(chunks * dw.len());
    parallel::for_each_chunk(&mut partial, dw.len(), |i, partial| {
        accumulate(g, x, dy, i * chunk_rows..((i + 1) * chunk_rows).min(rows), partial);
    });
    let len = dw.len();
    parallel::for_each_chunk(dw, 1 << 14, |i, dw| {
        let at = i << 14;
        dw.copy_from_slice(&partial[at..at + dw.len()]);
        for chunk in partial[len..].chunks_exact(len) {
            dw.iter_mut().zip(&chunk[at..]).for_each(|(d, &p)| *d += p);
        }
    });
    Ok(())
}

/// Weight gradient of output rows `rows` (counted over the batch), a strip of one image at a time.
fn accumulate<T: Real>(g: &Conv2d, x: &[T], dy: &[T], rows: Range, dw: &mut [T]) {
    let n = g.out_c;
    if rows.is_empty() {
        return dw.fill(T::ZERO);
    }
    let most = STRIP_PIXELS.div_ceil(g.out_w);
    let mut panels = Scratch::<T>::take(2 * Packed::<T>::len(most.min(g.out_h) * g.out_w, 1));
    let mut row = rows.start;
    while row < rows.end {
        let first = row % g.out_h;
        let strip = Strip { first, rows: most.min(g.out_h - first).min(rows.end - row) };
        let pixels = strip.rows * g.out_w;
        let b = MatRef::rows(&dy[row * g.out_w * n..], n);
        let right = InPlace { b, terms: pixels, columns: n, panels: &mut panels };
        let target = Target { rows: Rows::every(n), add: row > rows.start };
        with_rows(g, x, row / g.out_h, &strip, |a, line| {
            // Rows of the product are kernel entries: runs of `kw cin` along each kernel row.
            let entries = Rows { base: 0, columns: g.kernel_w * g.in_c, row_step: line, column_step: 1 };
            let runs = Runs {
                runs: strip.rows,
                run_step: g.stride_h * line,
                len: g.out_w,
                step: g.stride_w * g.in_c,
            };
            float::product_in_place(Left { a, count: g.patch(), rows: entries, runs }, right, target, dw);
        });
        row += strip.rows;
    }
}
