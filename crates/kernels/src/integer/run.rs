//! Drives GEMM and convolution over any packed weight: cuts the outputs into fixed blocks, pads where needed, and
//! hands blocks of patches to the weight's own loops.

use crate::dispatch::Kernel;
use crate::error::length;
use crate::integer::Layout;
use crate::integer::epilogue::Epilogue;
use crate::integer::patches::{Element, Patches};
use crate::scratch::Scratch;
use crate::strip::strips;
use crate::{Conv2d, KernelError, parallel};

/// A packed weight that can be multiplied with patches.
pub(crate) trait Weight: Sync {
    /// What its steps read.
    type Element: Element;
    /// How it is cut.
    fn layout(&self) -> Layout;
    /// Multiplies the first `out.len() / n` patches and stores them through the epilogue, row-major. The patches hold
    /// whole steps (checked by the callee).
    fn multiply<E: Epilogue>(
        &self,
        kernel: Kernel,
        patches: &Patches<'_, Self::Element>,
        epilogue: &E,
        out: &mut [E::Out],
    );
    /// Whether codes can be read where they are, without a copy to another type.
    const IN_PLACE: bool;
    /// Codes as elements, if [`Self::IN_PLACE`].
    fn elements(codes: &[u8]) -> &[Self::Element];
}

/// Work of one parallel block, in multiply-accumulates.
const BLOCK_MACS: usize = 1 << 21;
/// Weights (codes) that a block of few rows may walk over.
const BLOCK_WEIGHTS: usize = 1 << 18;

/// `c[m, n] = epilogue(sum_k a[m, k] * w[k, n])`.
pub(crate) fn gemm<W: Weight, E: Epilogue>(
    op: &'static str,
    kernel: Kernel,
    a: &[u8],
    w: &W,
    epilogue: &E,
    c: &mut [E::Out],
) -> Result<(), KernelError> {
    let layout = w.layout();
    let (k, n) = (layout.k(), layout.n);
    epilogue.check(n)?;
    let m = a.len() / k;
    length(op, "a", m * k, a.len())?;
    length(op, "c", m * n, c.len())?;
    if layout.segments != 1 {
        return Err(KernelError::Pack { op, expected: [k, n], actual: [layout.segment, n] });
    }
    rows(kernel, a, w, epilogue, c);
    Ok(())
}

/// Rows of codes times a weight of one segment. Lengths have been checked.
fn rows<W: Weight, E: Epilogue>(kernel: Kernel, a: &[u8], w: &W, epilogue: &E, c: &mut [E::Out]) {
    let layout = w.layout();
    let (k, n) = (layout.k(), layout.n);
    // A weight that no near cache holds is fetched once a block: more rows, fewer times.
    let least = if k * n > BLOCK_WEIGHTS { 64 } else { 16 };
    let block = parallel::rows_per_chunk(a.len() / k, k * n, BLOCK_MACS).next_multiple_of(least);
    let in_place = W::IN_PLACE && layout.segment.is_multiple_of(layout.step);
    let few = a.len() * n < parallel::FEW_MACS;
    parallel::for_each_chunk_unless(few, c, block * n, |i, c| {
        let codes = &a[i * block * k..][..c.len() / n * k];
        let patches =
            |data| Patches { data, columns: usize::MAX, row_step: 0, column_step: k, segment_step: 0 };
        if in_place {
            w.multiply(kernel, &patches(W::elements(codes)), epilogue, c);
        } else {
            let mut copy = Scratch::<W::Element>::take(codes.len() + layout.step);
            W::Element::copy(codes, &mut copy[..codes.len()]);
            w.multiply(kernel, &patches(&copy), epilogue, c);
        }
    });
}

/// `y = epilogue(conv(x, w))`, the image extended with the code `pad`.
pub(crate) fn conv2d<W: Weight, E: Epilogue>(
    op: &'static str,
    kernel: Kernel,
    g: &Conv2d,
    (x, pad): (&[u8], u8),
    w: &W,
    epilogue: &E,
    y: &mut [E::Out],
) -> Result<(), KernelError> {
    let layout = w.layout();
    let n = g.out_c;
    if g.depthwise {
        return Err(KernelError::Geometry {
            op,
            reason: "the geometry is a depthwise one",
            sizes: g.kernel_shape(),
        });
    }
    if (layout.segments, layout.segment, layout.n) != (g.kernel_h, g.kernel_w * g.in_c, n) {
        return Err(KernelError::Pack { op, expected: [g.patch(), n], actual: [layout.k(), layout.n] });
    }
    epilogue.check(n)?;
    length(op, "x", g.input_len(), x.len())?;
    length(op, "y", g.output_len(), y.len())?;
    if g.is_pointwise() {
        rows(kernel, x, w, epilogue, y);
        return Ok(());
    }
    strips(g, (BLOCK_MACS, parallel::FEW_MACS), y, |image, strip, y| {
        let x = &x[image * g.in_h * g.in_w * g.in_c..][..g.in_h * g.in_w * g.in_c];
        let len = strip.len(g);
        let mut copy = Scratch::<W::Element>::take(len + layout.step);
        strip.copy(g, x, W::Element::from_code(pad), &mut copy[..len], W::Element::copy);
        w.multiply(kernel, &Patches::of_strip(g, &copy), epilogue, y);
    });
    Ok(())
}
