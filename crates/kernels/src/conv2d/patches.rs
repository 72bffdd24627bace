//! Unfolding of output rows into patches (im2col) and its adjoint (col2im), a strip of rows at a time.

use crate::Real;
use crate::geometry::{Conv2dSizes, Range, clip};

/// Writes the patches of output rows `rows` (counted over the whole batch) as a row-major matrix of
/// `rows * out_w` x `patch`.
pub(super) fn unfold<T: Real>(g: &Conv2dSizes, x: &[T], rows: Range, patches: &mut [T]) {
    for_each_segment(g, rows, |patch, source, len| match source {
        Some(source) => copy(&mut patches[patch..patch + len], &x[source..source + len]),
        None => patches[patch..patch + len].fill(T::ZERO),
    });
}

/// Adds the patches of output rows `rows` of one image back to where they came from. `image` is that image alone and
/// `rows` is counted within it.
pub(super) fn fold_add<T: Real>(g: &Conv2dSizes, patches: &[T], rows: Range, image: &mut [T]) {
    for_each_segment(g, rows, |patch, source, len| {
        if let Some(source) = source {
            add(&mut image[source..source + len], &patches[patch..patch + len]);
        }
    });
}

/// Calls `f(position in the patch matrix, position in the image or None for padding, length)` for every contiguous
/// piece of every patch of `rows`.
#[inline(always)]
fn for_each_segment(g: &Conv2dSizes, rows: Range, mut f: impl FnMut(usize, Option<usize>, usize)) {
    let c = g.in_c;
    let line = g.kernel_w * c;
    let mut patch = 0;
    for row in rows {
        let (image, oy) = (row / g.out_h, row % g.out_h);
        let image = image * g.in_h * g.in_w * c;
        for ox in 0..g.out_w {
            let start = ox * g.stride_w;
            let columns = clip(start, g.pad_left, g.kernel_w, g.in_w);
            // Kernel columns that fall into the left padding.
            let skipped = (g.pad_left.saturating_sub(start) * c).min(line);
            let inside = columns.len() * c;
            for ky in 0..g.kernel_h {
                let y = (oy * g.stride_h + ky).wrapping_sub(g.pad_top);
                if y >= g.in_h {
                    f(patch, None, line);
                } else {
                    if skipped > 0 {
                        f(patch, None, skipped);
                    }
                    f(patch + skipped, Some(image + (y * g.in_w + columns.start) * c), inside);
                    if skipped + inside < line {
                        f(patch + skipped + inside, None, line - skipped - inside);
                    }
                }
                patch += line;
            }
        }
    }
}

/// `copy_from_slice` that does not pay a library call for the few elements of a first layer's segment.
#[inline(always)]
fn copy<T: Real>(to: &mut [T], from: &[T]) {
    if to.len() <= 16 {
        to.iter_mut().zip(from).for_each(|(t, &f)| *t = f);
    } else {
        to.copy_from_slice(from);
    }
}

#[inline(always)]
fn add<T: Real>(to: &mut [T], from: &[T]) {
    to.iter_mut().zip(from).for_each(|(t, &f)| *t += f);
}
