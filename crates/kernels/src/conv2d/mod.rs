//! 2-D convolution of floats, its input gradient and its weight gradient, each linear in either argument.
//!
//! `forward(x, w)`, `input_grad(dy, w)` and `weight_grad(x, dy)` are the three faces of one trilinear form
//! `sum dy * conv(x, w)`: each is the derivative of that form by the argument it lacks. That closes differentiation.
//!
//! 3x3 kernels of stride 1 with at least 16 channels on both sides take Winograd's algorithm (`winograd`), and 1x1 kernels
//! of stride 1 are one product for all images. For the rest nothing is unfolded: a padded copy of some rows makes every
//! patch a few runs of memory that the product reads in place. An output depends on its own image alone, to the bit.

mod few_channels;
mod input_grad;
mod weight_grad;

pub use input_grad::input_grad;
pub use weight_grad::weight_grad;

use crate::error::length;
use crate::float::{self, Left, Packed, Rows, Runs, Target};
use crate::gemm::{MatRef, gemm};
use crate::geometry::{Conv2d, Conv2dSizes};
use crate::scratch::Scratch;
use crate::strip::{Strip, strips};
use crate::{KernelError, Real, winograd};

/// Work of one parallel block, in multiply-accumulates.
const BLOCK_MACS: usize = 1 << 22;

/// `y = conv(x, w)`. `x` `[n, h, w, cin]`, `w` `[kh, kw, cin, cout]`, `y` `[n, oh, ow, cout]`, which is overwritten.
///
/// # Errors
/// Slices whose lengths are not the geometry's.
pub fn forward<T: Real>(g: &Conv2d, x: &[T], w: &[T], y: &mut [T]) -> Result<(), KernelError> {
    check(g, "conv2d::forward", [("x", x.len()), ("w", w.len()), ("y", y.len())], [0, 1, 2])?;
    if winograd::applies(g) {
        winograd::forward(g, x, w, y);
        return Ok(());
    }
    let (k, n) = (g.patch(), g.out_c);
    if g.is_pointwise() {
        return gemm((y.len() / n, n, k), MatRef::rows(x, k), MatRef::rows(w, n), T::ZERO, y);
    }
    let mut packed = Scratch::<T>::take(Packed::<T>::len(k, n));
    float::pack(MatRef::rows(w, n), (k, n), (0, k), &mut packed);
    with_panels(g, x, &Packed::new(&packed, k, n), y);
    Ok(())
}

/// The convolution with a kernel packed as a matrix `[patch, cout]`, whose panels are read as they are.
pub(crate) fn with_panels<T: Real>(g: &Conv2dSizes, x: &[T], right: &Packed<'_, T>, y: &mut [T]) {
    let target = Target { rows: Rows::every(g.out_c), add: false };
    strips(g, (BLOCK_MACS, 0), y, |image, strip, y| {
        with_rows(g, x, image, &strip, |a, line| {
            let rows = Rows {
                base: 0,
                columns: g.out_w,
                row_step: g.stride_h * line,
                column_step: g.stride_w * g.in_c,
            };
            let runs = Runs { runs: g.kernel_h, run_step: line, len: g.kernel_w * g.in_c, step: 1 };
            float::product(Left { a, count: strip.rows * g.out_w, rows, runs }, right, target, y);
        });
    });
}

/// Calls `f(data, elements of a row)` with the input rows of a strip of image `image`, padded where the geometry asks
/// for it.
fn with_rows<T: Real>(g: &Conv2dSizes, x: &[T], image: usize, strip: &Strip, f: impl FnOnce(&[T], usize)) {
    let size = g.in_h * g.in_w * g.in_c;
    let x = &x[image * size..][..size];
    let first = strip.first * g.stride_h;
    let inside = g.pad_top == 0 && first + strip.height(g) <= g.in_h && Strip::width(g) == g.in_w;
    if inside {
        f(&x[first * g.in_w * g.in_c..], g.in_w * g.in_c);
    } else {
        let mut copy = Scratch::<T>::take(strip.len(g));
        strip.copy(g, x, T::ZERO, &mut copy, |from, to| to.copy_from_slice(from));
        f(&copy, Strip::width(g) * g.in_c);
    }
}

/// Checks that slices 0, 1, 2 are long as input, kernel and output; `roles` says which is which.
fn check(
    g: &Conv2d,
    op: &'static str,
    slices: [(&'static str, usize); 3],
    roles: [usize; 3],
) -> Result<(), KernelError> {
    if g.depthwise {
        return Err(KernelError::Geometry {
            op,
            reason: "the geometry is a depthwise one",
            sizes: g.kernel_shape(),
        });
    }
    let lengths = [g.input_len(), g.kernel_len(), g.output_len()];
    for ((name, actual), role) in slices.into_iter().zip(roles) {
        length(op, name, lengths[role], actual)?;
    }
    Ok(())
}
