//! `u8` codes times trits: GEMM and convolution, exact, in whichever packed form suits the codes and sizes.
//!
//! ```
//! use kernels::dispatch::Kernel;
//! use kernels::epilogue::Accumulators;
//! use kernels::ternary::{self, Form, Packed};
//!
//! let w = Packed::gemm(Form::Panel8, 3, 2, &[1, 0, -1, 1, 0, -1])?; // [k, n]
//! let mut c = [0; 2];
//! ternary::gemm(Kernel::default(), &[10, 20, 30], &w, &Accumulators, &mut c)?;
//! assert_eq!(c, [10 - 20, 20 - 30]);
//! # Ok::<(), kernels::KernelError>(())
//! ```

mod bit_planes;
pub mod float;
mod form;
mod look_up;
mod lut;
mod packed;
pub(crate) mod packed2;
pub(crate) mod pairs;
mod panel8;
pub(crate) mod planes;
pub(crate) mod rows;
pub(crate) mod signs;
pub mod storage;
pub(crate) mod winograd;

pub(crate) use form::form_names;
pub use form::{Form, UnknownForm};
use packed::Kind;
pub use packed::Packed;
use packed2::Packed2;
use pairs::Pairs;
pub(crate) use panel8::Panel8;
use rows::Rows;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub(crate) use {
    lut::{Lut, OUTPUTS, RUN, Table, Taps, UNIT},
    panel8::{Step, fill},
};

use crate::dispatch::Kernel;
use crate::error::length;
use crate::integer::epilogue::Epilogue;
use crate::integer::run;
use crate::{Conv2d, KernelError};

/// `c = epilogue(a w)`. `a` `[m, k]` codes, `w` packed by [`Packed::gemm`], `c` `[m, n]`, both row-major; `m` is as
/// many rows as `a` holds.
///
/// # Errors
/// An `a` that is no whole number of rows, a `c` of another length, an epilogue of other channels, a weight packed for
/// a convolution of several positions, or a code beyond what the weight's form can take.
pub fn gemm<E: Epilogue>(
    kernel: Kernel,
    a: &[u8],
    w: &Packed,
    epilogue: &E,
    c: &mut [E::Out],
) -> Result<(), KernelError> {
    const OP: &str = "ternary::gemm";
    let (k, n) = (w.k(), w.n());
    let one_tap = match &w.kind {
        Kind::Panel8(panel) => return run::gemm(OP, kernel, a, panel, epilogue, c),
        Kind::Signs(signs) => return bit_planes::gemm(OP, kernel, a, signs, epilogue, c),
        Kind::Lut(lut) => lut.taps().height * lut.taps().width == 1,
        Kind::Packed2(_) | Kind::Pairs(_) | Kind::Rows(_) => true,
        Kind::Winograd(_) => false,
    };
    epilogue.check(n)?;
    let m = a.len() / k;
    length(OP, "a", m * k, a.len())?;
    length(OP, "c", m * n, c.len())?;
    if !one_tap {
        return Err(KernelError::Pack { op: OP, expected: [k, n], actual: [k, n] });
    }
    match &w.kind {
        Kind::Lut(lut) => {
            look_up::gemm(OP, kernel, a, lut, epilogue, c)?;
        }
        Kind::Packed2(packed) => packed.multiply(kernel, a, epilogue, c),
        Kind::Pairs(pairs) => pairs.multiply(kernel, a, epilogue, c),
        Kind::Rows(rows) => rows.multiply(kernel, a, epilogue, c),
        Kind::Panel8(_) | Kind::Signs(_) | Kind::Winograd(_) => {}
    }
    Ok(())
}

/// `y = epilogue(conv(x, w))`. `x` `[n, h, w, cin]` codes, extended at the border with the code `pad` (the zero point
/// of `x`), `w` packed by [`Packed::conv2d`], `y` `[n, oh, ow, cout]`.
///
/// # Errors
/// Slices or an epilogue whose lengths are not the geometry's, a weight packed for another kernel shape, or a code (or
/// `pad`) beyond what the weight's form can take.
pub fn conv2d<E: Epilogue>(
    kernel: Kernel,
    g: &Conv2d,
    (x, pad): (&[u8], u8),
    w: &Packed,
    epilogue: &E,
    y: &mut [E::Out],
) -> Result<(), KernelError> {
    const OP: &str = "ternary::conv2d";
    if let Kind::Panel8(panel) = &w.kind {
        return run::conv2d(OP, kernel, g, (x, pad), panel, epilogue, y);
    }
    if let Kind::Signs(signs) = &w.kind {
        return bit_planes::conv2d(OP, kernel, g, (x, pad), signs, epilogue, y);
    }
    if let Kind::Winograd(w) = &w.kind {
        return winograd::conv2d(OP, kernel, g, (x, pad), w, epilogue, y);
    }
    if g.depthwise {
        return Err(KernelError::Geometry {
            op: OP,
            reason: "the geometry is a depthwise one",
            sizes: g.kernel_shape(),
        });
    }
    let fits = match &w.kind {
        Kind::Lut(lut) => {
            let taps = lut.taps();
            (taps.height, taps.width, taps.channels, taps.n) == (g.kernel_h, g.kernel_w, g.in_c, g.out_c)
        }
        Kind::Packed2(_) | Kind::Pairs(_) | Kind::Rows(_) => {
            g.is_pointwise() && (w.k(), w.n()) == (g.in_c, g.out_c)
        }
        Kind::Panel8(_) | Kind::Signs(_) | Kind::Winograd(_) => true,
    };
    if !fits {
        return Err(KernelError::Pack { op: OP, expected: [g.patch(), g.out_c], actual: [w.k(), w.n()] });
    }
    epilogue.check(g.out_c)?;
    length(OP, "x", g.input_len(), x.len())?;
    length(OP, "y", g.output_len(), y.len())?;
    match &w.kind {
        Kind::Lut(lut) => {
            look_up::conv2d(OP, kernel, g, (x, pad), lut, epilogue, y)?;
        }
        Kind::Packed2(packed) => packed.multiply(kernel, x, epilogue, y),
        Kind::Pairs(pairs) => pairs.multiply(kernel, x, epilogue, y),
        Kind::Rows(rows) => rows.multiply(kernel, x, epilogue, y),
        Kind::Panel8(_) | Kind::Signs(_) | Kind::Winograd(_) => {}
    }
    Ok(())
}
