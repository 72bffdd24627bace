//! `u8` codes times `i8` weights, the full range: GEMM and convolution, exact. The 8-bit twin of [`crate::ternary`].

mod panel16;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod panel_bytes;

pub use crate::integer::depthwise::depthwise;
pub(crate) use panel16::Panel16;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub(crate) use {panel_bytes::PanelBytes, panel16::Step};

use crate::dispatch::Kernel;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
use crate::dispatch::Path;
use crate::integer::epilogue::Epilogue;
use crate::integer::run;
use crate::{Conv2d, KernelError};

/// A packed 8-bit weight, in the forms that the paths of this CPU read. Packing again in place allocates nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    wide: Panel16,
    /// Where this CPU multiplies bytes.
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    bytes: Option<PanelBytes>,
}

impl Packed {
    /// Packs a `[k, n]` matrix.
    ///
    /// # Errors
    /// A zero size, a `k` beyond 32896 (where an accumulator could overflow), or `weights` not `k n` long.
    pub fn gemm(k: usize, n: usize, weights: &[i8]) -> Result<Self, KernelError> {
        Self::new(Panel16::gemm(k, n, weights)?, weights)
    }

    /// Packs the `[kh, kw, cin, cout]` kernel of a convolution.
    ///
    /// # Errors
    /// As [`Packed::gemm`].
    pub fn conv2d(g: &Conv2d, weights: &[i8]) -> Result<Self, KernelError> {
        Self::new(Panel16::conv2d(g, weights)?, weights)
    }

    #[cfg_attr(not(all(feature = "std", target_arch = "x86_64")), expect(unused_variables))]
    fn new(wide: Panel16, weights: &[i8]) -> Result<Self, KernelError> {
        Ok(Self {
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            bytes: match Path::Avx512.available() {
                true => Some(PanelBytes::new(run::Weight::layout(&wide), weights)?),
                false => None,
            },
            wide,
        })
    }

    /// Replaces the weight by another of the same shape, without allocating.
    ///
    /// # Errors
    /// `weights` of another length; the old weight is then kept.
    pub fn repack(&mut self, weights: &[i8]) -> Result<(), KernelError> {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        if let Some(bytes) = &mut self.bytes {
            bytes.repack(weights)?;
        }
        self.wide.repack(weights)
    }

    /// Rows of the weight: `k`, or `kh kw cin`.
    pub fn k(&self) -> usize {
        self.wide.k()
    }

    /// Columns of the weight: outputs.
    pub fn n(&self) -> usize {
        self.wide.n()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        let narrow = self.bytes.as_ref().map_or(0, PanelBytes::bytes);
        #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
        let narrow = 0;
        narrow + self.wide.bytes()
    }

    /// The bytes, if the kernel multiplies them.
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    fn bytes_for(&self, kernel: Kernel) -> Option<&PanelBytes> {
        self.bytes.as_ref().filter(|_| kernel.path() == Path::Avx512)
    }
}

/// `c = epilogue(a w)`. `a` `[m, k]` codes, `w` packed by [`Packed::gemm`], `c` `[m, n]`, both row-major; `m` is as
/// many rows as `a` holds.
///
/// # Errors
/// An `a` that is no whole number of rows, a `c` of another length, an epilogue of other channels, or a weight packed
/// for a convolution of several rows.
pub fn gemm<E: Epilogue>(
    kernel: Kernel,
    a: &[u8],
    w: &Packed,
    epilogue: &E,
    c: &mut [E::Out],
) -> Result<(), KernelError> {
    const OP: &str = "int8::gemm";
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    if let Some(bytes) = w.bytes_for(kernel) {
        return run::gemm(OP, kernel, a, bytes, epilogue, c);
    }
    run::gemm(OP, kernel, a, &w.wide, epilogue, c)
}

/// `y = epilogue(conv(x, w))`. `x` `[n, h, w, cin]` codes, extended at the border with the code `pad` (the zero point
/// of `x`), `w` packed by [`Packed::conv2d`], `y` `[n, oh, ow, cout]`.
///
/// # Errors
/// Slices or an epilogue whose lengths are not the geometry's, or a weight packed for another kernel shape.
pub fn conv2d<E: Epilogue>(
    kernel: Kernel,
    g: &Conv2d,
    (x, pad): (&[u8], u8),
    w: &Packed,
    epilogue: &E,
    y: &mut [E::Out],
) -> Result<(), KernelError> {
    const OP: &str = "int8::conv2d";
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    if let Some(bytes) = w.bytes_for(kernel) {
        return run::conv2d(OP, kernel, g, (x, pad), bytes, epilogue, y);
    }
    run::conv2d(OP, kernel, g, (x, pad), &w.wide, epilogue, y)
}
