//! Depthwise convolution of `u8` codes with `i8` weights (trits included).

use crate::dispatch::{Kernel, Path};
use crate::error::length;
use crate::geometry::Conv2dSizes;
use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::lanes::lanes;
use crate::scratch::Scratch;
use crate::strip::{Strip, strips};
use crate::{Conv2d, KernelError, parallel};

/// `y = epilogue(depthwise(x, w))`, exact. `x` `[n, h, w, c]` codes, extended at the border with the code `pad` (the
/// zero point), `w` `[kh, kw, c, 1]` in any of -128..=127, `y` `[n, oh, ow, c]`.
///
/// # Errors
/// A geometry not made by [`Conv2d::depthwise`], slices or an epilogue of other lengths, or a kernel of more than
/// 32896 positions (beyond which an accumulator could overflow).
pub fn depthwise<E: Epilogue>(
    kernel: Kernel,
    g: &Conv2d,
    (x, pad): (&[u8], u8),
    w: &[i8],
    epilogue: &E,
    y: &mut [E::Out],
) -> Result<(), KernelError> {
    const OP: &str = "int8::depthwise";
    let taps = g.kernel_h * g.kernel_w;
    if !g.depthwise || taps > LARGEST_TAPS {
        return Err(KernelError::Geometry {
            op: OP,
            reason: "the geometry is not a depthwise one of at most 32896 positions",
            sizes: g.kernel_shape(),
        });
    }
    epilogue.check(g.out_c)?;
    length(OP, "x", g.input_len(), x.len())?;
    length(OP, "w", g.kernel_len(), w.len())?;
    length(OP, "y", g.output_len(), y.len())?;
    strips(g, (BLOCK_MACS, parallel::FEW_MACS / 8), y, |image, strip, y| {
        let x = &x[image * g.in_h * g.in_w * g.in_c..][..g.in_h * g.in_w * g.in_c];
        let mut copy = Scratch::<u8>::take(strip.len(g));
        strip.copy(g, x, pad, &mut copy, |from, to| to.copy_from_slice(from));
        pixels(kernel, g, &copy, w, epilogue, y);
    });
    Ok(())
}

/// Work of one parallel block, in multiply-accumulates.
const BLOCK_MACS: usize = 1 << 18;
/// Kernel positions up to which 255 * 128 a position stays within 2^30.
const LARGEST_TAPS: usize = 32896;

fn pixels<E: Epilogue>(kernel: Kernel, g: &Conv2dSizes, x: &[u8], w: &[i8], epilogue: &E, y: &mut [E::Out]) {
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    {
        #[target_feature(enable = "avx2,fma")]
        fn wide<E: Epilogue>(g: &Conv2dSizes, x: &[u8], w: &[i8], epilogue: &E, y: &mut [E::Out]) {
            body(g, x, w, epilogue, y);
        }
        match kernel.path() {
            // SAFETY: a kernel on this path exists only on a CPU that can run it.
            Path::Avx2 => return unsafe { wide(g, x, w, epilogue, y) },
            // SAFETY: as above.
            Path::Avx512 => return unsafe { crate::x86_64::avx512::depthwise::pixels(g, x, w, epilogue, y) },
            Path::Scalar => {}
        }
    }
    debug_assert!(kernel.path() == Path::Scalar);
    body(g, x, w, epilogue, y);
}

#[inline(always)]
fn body<E: Epilogue>(g: &Conv2dSizes, x: &[u8], w: &[i8], epilogue: &E, y: &mut [E::Out]) {
    let c = g.in_c;
    for first in (0..c / PANEL * PANEL).step_by(PANEL) {
        channels::<E, PANEL>(g, x, w, epilogue, y, first);
    }
    for first in c / PANEL * PANEL..c {
        channels::<E, 1>(g, x, w, epilogue, y, first);
    }
}

/// Channels `first..first + L` of every pixel.
#[inline(always)]
fn channels<E: Epilogue, const L: usize>(
    g: &Conv2dSizes,
    x: &[u8],
    w: &[i8],
    epilogue: &E,
    y: &mut [E::Out],
    first: usize,
) {
    let c = g.in_c;
    let line = Strip::width(g) * c;
    for (p, out) in y.chunks_exact_mut(c).enumerate() {
        let at = p / g.out_w * g.stride_h * line + p % g.out_w * g.stride_w * c + first;
        let mut sum = [0_i32; L];
        for ky in 0..g.kernel_h {
            let row = &x[at + ky * line..][..(g.kernel_w - 1) * c + L];
            let w = &w[ky * g.kernel_w * c + first..][..(g.kernel_w - 1) * c + L];
            for kx in 0..g.kernel_w {
                let (x, w) = (lanes::<_, L>(row, kx * c), lanes::<_, L>(w, kx * c));
                for l in 0..L {
                    // The product fits 16 bits: 255 * -128 is above -2^15.
                    sum[l] += i32::from(i16::from(x[l]).wrapping_mul(i16::from(w[l])));
                }
            }
        }
        let mut acc = [0_i32; PANEL];
        acc[..L].copy_from_slice(&sum);
        epilogue.store(&acc, first, &mut out[first..first + L]);
    }
}
