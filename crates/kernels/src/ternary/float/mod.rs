//! f32 values times trits with a scale per output: what a ternary layer computes on values that are no codes.
//!
//! Trits and scales are packed once per change of the weight, in one of three forms ([`Form`]): tables of sums, in which
//! three products cost one addition; panels of the scaled trits for fused multiply-adds; and, for 3x3 kernels, the
//! scaled trits at the points of Winograd's F(4x4, 3x3). A result depends on its own row or image and the form alone, to
//! the bit, and not on threads or on the path of instructions but for the scalar one.
//!
//! With `u` the unit of rounding 2^-24, `k` values an output and `S` the sum of `|value| |scale|` over the trits that are
//! not zero, tables of sums and panels err by at most `(k + 2) u S` (the bound of a sum in any order), Winograd's form by
//! at most 32 u times the largest `S` of the image.
//!
//! ```
//! use kernels::ternary::float::{self, Form, Packed};
//!
//! let form = Form::for_gemm(1, 3, 2);
//! let w = Packed::gemm(form, 3, 2, &[1, 0, -1, 1, 0, -1], &[0.5, 2.0])?; // [k, n] and [n]
//! let mut c = [0.0; 2];
//! float::gemm(&[1.0, 2.0, 3.0], &w, &mut c)?;
//! assert_eq!(c, [0.5 * (1.0 - 2.0), 2.0 * (2.0 - 3.0)]);
//! # Ok::<(), kernels::KernelError>(())
//! ```

mod form;
mod sums;

use alloc::vec::Vec;

pub use form::Form;
use sums::Sums3;

use crate::error::{check_trits, length};
use crate::float::{self, Left, Rows, Runs, Target};
use crate::gemm::MatRef;
use crate::geometry::Conv2dSizes;
use crate::integer::patches::Patches;
use crate::scratch::Scratch;
use crate::strip::strips;
use crate::{Buffer, Conv2d, KernelError, conv2d as dense, parallel, winograd};

/// Most values per output: keeps positions within 32 bits.
const LARGEST_K: usize = 1 << 24;
/// Work of one parallel block, in multiply-accumulates.
const BLOCK_MACS: usize = 1 << 21;

/// A ternary weight `[k, n]` or `[kh, kw, cin, cout]` with a scale per output, packed in one form.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Runs of a patch, values of a run, outputs.
    segments: usize,
    segment: usize,
    scale: Vec<f32>,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Sums3(Sums3),
    Panels(Buffer<f32>),
    /// Channels, and the points.
    Winograd(usize, Buffer<f32>),
}

impl Packed {
    /// Packs a `[k, n]` matrix of trits and a scale per column.
    ///
    /// # Errors
    /// A zero size, a `k` beyond 2^24, `trits` not `k n` long or `scale` not `n`, a value that is no trit, or
    /// [`Form::Winograd`].
    pub fn gemm(form: Form, k: usize, n: usize, trits: &[i8], scale: &[f32]) -> Result<Self, KernelError> {
        if form == Form::Winograd {
            let reason = "a matrix has no form for 3x3 kernels (values per output, outputs)";
            return Err(KernelError::Geometry { op: OP_PACK, reason, sizes: [k, n, 0, 0] });
        }
        Self::new(form, (1, k, n), 0, trits, scale)
    }

    /// Packs the `[kh, kw, cin, cout]` kernel of a convolution and a scale per output channel.
    ///
    /// # Errors
    /// As [`Packed::gemm`], a depthwise geometry, or [`Form::Winograd`] where [`Form::takes`] says no.
    pub fn conv2d(form: Form, g: &Conv2d, trits: &[i8], scale: &[f32]) -> Result<Self, KernelError> {
        if g.depthwise || !form.takes(g) {
            let reason = "the form does not take this convolution (kernel)";
            return Err(KernelError::Geometry { op: OP_PACK, reason, sizes: g.kernel_shape() });
        }
        Self::new(form, (g.kernel_h, g.kernel_w * g.in_c, g.out_c), g.in_c, trits, scale)
    }

    fn new(
        form: Form,
        (segments, segment, n): (usize, usize, usize),
        channels: usize,
        trits: &[i8],
        scale: &[f32],
    ) -> Result<Self, KernelError> {
        let k = segments.checked_mul(segment).filter(|&k| k <= LARGEST_K);
        let Some(len) = k.and_then(|k| k.checked_mul(n)).filter(|&len| len > 0) else {
            return Err(KernelError::Geometry {
                op: OP_PACK,
                reason: "sizes are zero or too large (runs, values per run, outputs)",
                sizes: [segments, segment, n, 0],
            });
        };
        check_trits(OP_PACK, FORMAT, len, trits)?;
        length(OP_PACK, "scale", n, scale.len())?;
        let kind = match form {
            Form::Sums3 => Kind::Sums3(Sums3::new(segments, segment, n)),
            Form::Panels => Kind::Panels(Buffer::zeros(float::Packed::<f32>::len(segments * segment, n))),
            Form::Winograd => {
                Kind::Winograd(channels, Buffer::zeros(winograd::points_len::<f32>((channels, n))))
            }
        };
        let mut packed = Self { segments, segment, scale: scale.into(), kind };
        packed.fill(trits);
        Ok(packed)
    }

    /// Replaces trits and scales by others of the same shape, without allocating.
    ///
    /// # Errors
    /// Slices of another length, or a value that is no trit; the old weight is then kept.
    pub fn repack(&mut self, trits: &[i8], scale: &[f32]) -> Result<(), KernelError> {
        const OP: &str = "ternary::float::Packed::repack";
        check_trits(OP, FORMAT, self.k() * self.n(), trits)?;
        length(OP, "scale", self.n(), scale.len())?;
        self.scale.copy_from_slice(scale);
        self.fill(trits);
        Ok(())
    }

    fn fill(&mut self, trits: &[i8]) {
        let (k, n) = (self.k(), self.n());
        if let Kind::Sums3(sums) = &mut self.kind {
            return sums.fill(trits);
        }
        let mut w = Scratch::<f32>::take(k * n);
        for (w, trits) in w.chunks_exact_mut(n).zip(trits.chunks_exact(n)) {
            for ((w, &trit), scale) in w.iter_mut().zip(trits).zip(&self.scale) {
                *w = f32::from(trit) * scale;
            }
        }
        match &mut self.kind {
            Kind::Sums3(_) => {}
            Kind::Panels(panels) => float::pack(MatRef::rows(&w, n), (k, n), (0, k), panels),
            Kind::Winograd(channels, points) => winograd::kernel_points(&w, (*channels, n), points),
        }
    }

    /// The form it is packed in.
    pub fn form(&self) -> Form {
        match self.kind {
            Kind::Sums3(_) => Form::Sums3,
            Kind::Panels(_) => Form::Panels,
            Kind::Winograd(..) => Form::Winograd,
        }
    }

    /// Values per output.
    pub fn k(&self) -> usize {
        self.segments * self.segment
    }

    /// Outputs.
    pub fn n(&self) -> usize {
        self.scale.len()
    }
}

const OP_PACK: &str = "ternary::float::Packed";
const FORMAT: &str = "trits for f32";

/// `c = (a w) * scale`. `a` `[m, k]`, `w` packed by [`Packed::gemm`], `c` `[m, n]`, row-major.
///
/// # Errors
/// An `a` that is no whole number of rows, a `c` of another length, or a weight packed for a convolution.
pub fn gemm(a: &[f32], w: &Packed, c: &mut [f32]) -> Result<(), KernelError> {
    const OP: &str = "ternary::float::gemm";
    let (k, n) = (w.segment, w.n());
    let m = a.len() / k;
    if w.segments != 1 {
        return Err(KernelError::Pack { op: OP, expected: [k, n], actual: [w.k(), n] });
    }
    length(OP, "a", m * k, a.len())?;
    length(OP, "c", m * n, c.len())?;
    rows(a, w, c);
    Ok(())
}

fn rows(a: &[f32], w: &Packed, c: &mut [f32]) {
    let (k, n) = (w.segment, w.n());
    let block = parallel::rows_per_chunk(a.len() / k, k * n, BLOCK_MACS).next_multiple_of(sums::BLOCK);
    parallel::for_each_chunk(c, block * n, |i, c| {
        let data = &a[i * block * k..][..c.len() / n * k];
        match &w.kind {
            Kind::Sums3(sums) => {
                let patches =
                    Patches { data, columns: usize::MAX, row_step: 0, column_step: k, segment_step: 0 };
                sums.multiply(&patches, &w.scale, c);
            }
            Kind::Panels(panels) => {
                let runs = Runs { runs: 1, run_step: 0, len: k, step: 1 };
                let left = Left { a: data, count: c.len() / n, rows: Rows::every(k), runs };
                let target = Target { rows: Rows::every(n), add: false };
                float::product(left, &float::Packed::new(panels, k, n), target, c);
            }
            Kind::Winograd(..) => unreachable!("a 3x3 kernel has three runs"),
        }
    });
}

/// `y = conv(x, w) * scale`. `x` `[n, h, w, cin]`, extended with zeros, `w` packed by [`Packed::conv2d`],
/// `y` `[n, oh, ow, cout]`.
///
/// # Errors
/// Slices whose lengths are not the geometry's, a depthwise geometry, or a weight packed for another kernel shape or in a
/// form that does not take images of this size.
pub fn conv2d(g: &Conv2d, x: &[f32], w: &Packed, y: &mut [f32]) -> Result<(), KernelError> {
    const OP: &str = "ternary::float::conv2d";
    let shape = (w.segments, w.segment, w.n()) == (g.kernel_h, g.kernel_w * g.in_c, g.out_c);
    if g.depthwise || !shape || !w.form().takes(g) {
        return Err(KernelError::Pack { op: OP, expected: [g.patch(), g.out_c], actual: [w.k(), w.n()] });
    }
    length(OP, "x", g.input_len(), x.len())?;
    length(OP, "y", g.output_len(), y.len())?;
    match &w.kind {
        _ if g.is_pointwise() => rows(x, w, y),
        Kind::Sums3(sums) => sums_conv2d(g, x, sums, &w.scale, y),
        Kind::Panels(panels) => {
            dense::with_panels(g, x, &float::Packed::new(panels, g.patch(), g.out_c), y);
        }
        Kind::Winograd(_, points) => winograd::forward_at_points(g, x, points, y),
    }
    Ok(())
}

fn sums_conv2d(g: &Conv2dSizes, x: &[f32], w: &Sums3, scale: &[f32], y: &mut [f32]) {
    strips(g, (BLOCK_MACS, 0), y, |image, strip, y| {
        let x = &x[image * g.in_h * g.in_w * g.in_c..][..g.in_h * g.in_w * g.in_c];
        let mut padded = Scratch::<f32>::take(strip.len(g));
        strip.copy(g, x, 0.0, &mut padded, |from, to| to.copy_from_slice(from));
        w.multiply(&Patches::of_strip(g, &padded), scale, y);
    });
}
