//! `u8` codes times `i8` weights, the full range: GEMM and convolution, exact. The 8-bit twin of [`crate::ternary`].

mod panel16;

pub use crate::integer::depthwise::depthwise;
pub use panel16::Panel16;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub(crate) use panel16::Step;

use crate::dispatch::Kernel;
use crate::integer::epilogue::Epilogue;
use crate::integer::run;
use crate::{Conv2d, KernelError};

/// `c = epilogue(a w)`. `a` `[m, k]` codes, `w` packed by [`Panel16::gemm`], `c` `[m, n]`, both row-major; `m` is as
/// many rows as `a` holds.
///
/// # Errors
/// An `a` that is no whole number of rows, a `c` of another length, an epilogue of other channels, or a weight packed
/// for a convolution of several rows.
pub fn gemm<E: Epilogue>(
    kernel: Kernel,
    a: &[u8],
    w: &Panel16,
    epilogue: &E,
    c: &mut [E::Out],
) -> Result<(), KernelError> {
    run::gemm("int8::gemm", kernel, a, w, epilogue, c)
}

/// `y = epilogue(conv(x, w))`. `x` `[n, h, w, cin]` codes, extended at the border with the code `pad` (the zero point
/// of `x`), `w` packed by [`Panel16::conv2d`], `y` `[n, oh, ow, cout]`.
///
/// # Errors
/// Slices or an epilogue whose lengths are not the geometry's, or a weight packed for another kernel shape.
pub fn conv2d<E: Epilogue>(
    kernel: Kernel,
    g: &Conv2d,
    (x, pad): (&[u8], u8),
    w: &Panel16,
    epilogue: &E,
    y: &mut [E::Out],
) -> Result<(), KernelError> {
    run::conv2d("int8::conv2d", kernel, g, (x, pad), w, epilogue, y)
}
