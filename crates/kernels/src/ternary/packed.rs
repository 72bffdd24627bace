//! A packed ternary weight in whichever form suits it: what training and deployment both hold.

use super::lut::{self, Lut};
use super::signs::Signs;
use super::winograd::Winograd;
use super::{Form, Packed2, Pairs, Panel8, Rows};
use crate::{Conv2d, KernelError};

/// A ternary weight, packed once per change, in one of the [`Form`]s.
///
/// ```
/// use kernels::dispatch::Kernel;
/// use kernels::epilogue::Accumulators;
/// use kernels::ternary::{self, Form, Packed};
///
/// let trits = [1, 0, -1, 1, 0, -1]; // [k, n] = [3, 2]
/// let (mut a, mut b) = ([0; 2], [0; 2]);
/// let (bytes, tables) = (Packed::gemm(Form::Panel8, 3, 2, &trits)?, Packed::gemm(Form::Lut2, 3, 2, &trits)?);
/// ternary::gemm(Kernel::default(), &[1, 2, 3], &bytes, &Accumulators, &mut a)?;
/// ternary::gemm(Kernel::default(), &[1, 2, 3], &tables, &Accumulators, &mut b)?;
/// assert_eq!((a, b), ([-1, -1], [-1, -1]));
/// // Two bits hold no 9.
/// assert!(ternary::gemm(Kernel::default(), &[1, 2, 9], &tables, &Accumulators, &mut b).is_err());
/// # Ok::<(), kernels::KernelError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    form: Form,
    pub(super) kind: Kind,
}

/// The forms' own types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Panel8(Panel8),
    Signs(Signs),
    Lut(Lut),
    Packed2(Packed2),
    Pairs(Pairs),
    Winograd(Winograd),
    Rows(Rows),
}

impl Packed {
    /// Packs a `[k, n]` matrix of trits.
    ///
    /// # Errors
    /// A zero size, a `k` beyond [`Form::largest_k`], `trits` not `k n` long, a value that is no trit, or [`Form::Winograd`].
    pub fn gemm(form: Form, k: usize, n: usize, trits: &[i8]) -> Result<Self, KernelError> {
        let kind = match form {
            Form::Panel8 => Kind::Panel8(Panel8::gemm(k, n, trits)?),
            Form::Signs => Kind::Signs(Signs::new((1, 1, k), n, trits)?),
            Form::Lut2 | Form::Lut1 => Kind::Lut(Lut::new(form, 1, 1, (k, n), trits)?),
            Form::Packed2 => Kind::Packed2(Packed2::new(k, n, trits)?),
            Form::Pairs => Kind::Pairs(Pairs::new(k, n, trits)?),
            Form::Winograd => {
                return Err(KernelError::Geometry {
                    op: "Winograd",
                    reason: "the form is for 3x3 kernels (k, n)",
                    sizes: [k, n, 0, 0],
                });
            }
            Form::Rows => Kind::Rows(Rows::new(k, n, trits)?),
        };
        Ok(Self { form, kind })
    }

    /// Packs the `[kh, kw, cin, cout]` kernel of a convolution.
    ///
    /// # Errors
    /// As [`Packed::gemm`]; a form for single rows ([`Form::is_of_rows`]) for a geometry that is not 1x1 kernels over whole images, and
    /// [`Form::Winograd`] for one that is not 3x3 with a stride of 1.
    pub fn conv2d(form: Form, g: &Conv2d, trits: &[i8]) -> Result<Self, KernelError> {
        let kind = match form {
            Form::Panel8 => Kind::Panel8(Panel8::conv2d(g, trits)?),
            Form::Signs => Kind::Signs(Signs::new(Signs::shape(g), g.out_c, trits)?),
            Form::Lut2 | Form::Lut1 => {
                let (height, width, sizes) = lut::shape(g);
                Kind::Lut(Lut::new(form, height, width, sizes, trits)?)
            }
            Form::Winograd => Kind::Winograd(Winograd::new(g, trits)?),
            Form::Packed2 | Form::Pairs | Form::Rows if g.is_pointwise() => {
                return Self::gemm(form, g.in_c, g.out_c, trits);
            }
            Form::Packed2 | Form::Pairs | Form::Rows => {
                return Err(KernelError::Geometry {
                    op: "Packed::conv2d",
                    reason: "the form is for matrices and 1x1 kernels (kernel)",
                    sizes: g.kernel_shape(),
                });
            }
        };
        Ok(Self { form, kind })
    }

    /// Packs a convolution's kernel in the form that [`Form::choose`] names for codes up to `largest`: the one call by
    /// which training and deployment decide.
    ///
    /// # Errors
    /// As [`Packed::gemm`].
    pub fn chosen(largest: u8, g: &Conv2d, trits: &[i8]) -> Result<Self, KernelError> {
        let bits = (8 - largest.leading_zeros()).max(1);
        let positions = g.out_h * g.out_w;
        // A look-up takes groups of codes from one position, and a plane of bits bytes: few channels leave most of one empty.
        let least = if Form::counts_bits() { 8 } else { 4_usize.div_ceil(bits as usize) };
        let bits = if g.in_c >= least { bits } else { 8 };
        let form = match Form::choose(bits, positions, g.out_c, g.patch()) {
            form if form.is_of_rows() && !g.is_pointwise() => Form::Panel8,
            Form::Winograd if !Winograd::takes(g) => Form::Panel8,
            Form::Panel8 if Form::transforms(g.patch()) && Winograd::suits(g) => Form::Winograd,
            form => form,
        };
        Self::conv2d(form, g, trits)
    }

    /// Replaces the weight by another of the same shape, without allocating.
    ///
    /// # Errors
    /// `trits` of another length, or a value that is no trit; the old weight is then kept.
    pub fn repack(&mut self, trits: &[i8]) -> Result<(), KernelError> {
        match &mut self.kind {
            Kind::Panel8(w) => w.repack(trits),
            Kind::Signs(w) => w.repack(trits),
            Kind::Lut(w) => w.repack(trits),
            Kind::Packed2(w) => w.repack(trits),
            Kind::Pairs(w) => w.repack(trits),
            Kind::Winograd(w) => w.repack(trits),
            Kind::Rows(w) => w.repack(trits),
        }
    }

    /// The form it is in.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Rows of the weight: `k`, or `kh kw cin`.
    pub fn k(&self) -> usize {
        match &self.kind {
            Kind::Panel8(w) => w.k(),
            Kind::Signs(w) => w.k(),
            Kind::Lut(w) => w.taps().k(),
            Kind::Packed2(w) => w.k(),
            Kind::Pairs(w) => w.k(),
            Kind::Winograd(w) => w.k(),
            Kind::Rows(w) => w.k(),
        }
    }

    /// Columns of the weight: outputs.
    pub fn n(&self) -> usize {
        match &self.kind {
            Kind::Panel8(w) => w.n(),
            Kind::Signs(w) => w.n(),
            Kind::Lut(w) => w.taps().n,
            Kind::Packed2(w) => w.n(),
            Kind::Pairs(w) => w.n(),
            Kind::Winograd(w) => w.n(),
            Kind::Rows(w) => w.n(),
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Panel8(w) => w.bytes(),
            Kind::Signs(w) => w.bytes(),
            Kind::Lut(w) => w.bytes(),
            Kind::Packed2(w) => w.bytes(),
            Kind::Pairs(w) => w.bytes(),
            Kind::Winograd(w) => w.bytes(),
            Kind::Rows(w) => w.bytes(),
        }
    }
}
