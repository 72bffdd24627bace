//! `u8` codes times trits: GEMM and convolution, exact.
//!
//! ```
//! use kernels::dispatch::Kernel;
//! use kernels::epilogue::Accumulators;
//! use kernels::ternary::{self, Panel8};
//!
//! let w = Panel8::gemm(3, 2, &[1, 0, -1, 1, 0, -1])?; // [k, n]
//! let mut c = [0; 2];
//! ternary::gemm(Kernel::default(), &[10, 20, 30], &w, &Accumulators, &mut c)?;
//! assert_eq!(c, [10 - 20, 20 - 30]);
//! # Ok::<(), kernels::KernelError>(())
//! ```

mod panel8;
pub mod storage;

pub use panel8::Panel8;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub(crate) use panel8::Step;

use crate::dispatch::Kernel;
use crate::integer::epilogue::Epilogue;
use crate::integer::run;
use crate::{Conv2d, KernelError};

/// `c = epilogue(a w)`. `a` `[m, k]` codes, `w` packed by [`Panel8::gemm`], `c` `[m, n]`, both row-major; `m` is as
/// many rows as `a` holds.
///
/// # Errors
/// An `a` that is no whole number of rows, a `c` of another length, an epilogue of other channels, or a weight packed
/// for a convolution of several rows.
pub fn gemm<E: Epilogue>(
    kernel: Kernel,
    a: &[u8],
    w: &Panel8,
    epilogue: &E,
    c: &mut [E::Out],
) -> Result<(), KernelError> {
    run::gemm("ternary::gemm", kernel, a, w, epilogue, c)
}

/// `y = epilogue(conv(x, w))`. `x` `[n, h, w, cin]` codes, extended at the border with the code `pad` (the zero point
/// of `x`), `w` packed by [`Panel8::conv2d`], `y` `[n, oh, ow, cout]`.
///
/// # Errors
/// Slices or an epilogue whose lengths are not the geometry's, or a weight packed for another kernel shape.
pub fn conv2d<E: Epilogue>(
    kernel: Kernel,
    g: &Conv2d,
    (x, pad): (&[u8], u8),
    w: &Panel8,
    epilogue: &E,
    y: &mut [E::Out],
) -> Result<(), KernelError> {
    run::conv2d("ternary::conv2d", kernel, g, (x, pad), w, epilogue, y)
}
