//! Epilogues that quantize real values: an affine function of the accumulator in f32, or the sum of two, then a code.
//!
//! Their operations are those of a training graph in f32, each with its one rounding, so codes are the graph's whatever its
//! constants; [`Requantize`](super::epilogue::Requantize) is the same in integers where its constants allow.

use alloc::vec::Vec;
use core::array;

use crate::KernelError;
use crate::error::length;
use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;

/// An affine function per channel: `y = fma(f32(acc - zero) * scale + bias, a, b)`; the conversion, the product, the sum and
/// the fused multiply-add each rounded to nearest, ties to even.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    channels: usize,
    sixteens: Vec<Constants>,
}

/// Constants of 16 channels; those that fill up the last panel are zero.
#[derive(Debug, Clone, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Constants {
    pub(crate) zero: [i32; PANEL],
    pub(crate) scale: [f32; PANEL],
    pub(crate) bias: [f32; PANEL],
    pub(crate) a: [f32; PANEL],
    pub(crate) b: [f32; PANEL],
}

/// What real values are rounded to: `code = clamp(round(value * unit), 0, high)`, ties to even; 0 for what is no number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// Codes per unit.
    pub unit: f32,
    /// The largest code.
    pub high: u8,
}

impl Affine {
    /// The function of `zero.len()` channels: `zero` is the accumulator of the real value 0. No `bias` is one of zeros, no
    /// `norm` (`a` and `b`) is ones and zeros: neither changes a value.
    ///
    /// # Errors
    /// Constants of different lengths.
    pub fn new(
        zero: &[i32],
        scale: &[f32],
        bias: Option<&[f32]>,
        norm: Option<[&[f32]; 2]>,
    ) -> Result<Self, KernelError> {
        let channels = zero.len();
        let [a, b] = norm.map_or([None, None], |norm| norm.map(Some));
        for (what, given) in [("scale", Some(scale)), ("bias", bias), ("a", a), ("b", b)] {
            length("epilogue::Affine", what, channels, given.map_or(channels, <[f32]>::len))?;
        }
        let sixteen = |i: usize| {
            let of = |given: Option<&[f32]>, default: f32| {
                array::from_fn(|l| match given {
                    Some(given) => given.get(PANEL * i + l).copied().unwrap_or(0.0),
                    None => default,
                })
            };
            Constants {
                zero: array::from_fn(|l| zero.get(PANEL * i + l).copied().unwrap_or(0)),
                scale: of(Some(scale), 0.0),
                bias: of(bias, 0.0),
                a: of(a, 1.0),
                b: of(b, 0.0),
            }
        };
        Ok(Self { channels, sixteens: (0..channels.div_ceil(PANEL)).map(sixteen).collect() })
    }

    /// Constants of 16 channels from `first`, a multiple of 16.
    #[inline(always)]
    pub(crate) fn sixteen(&self, first: usize) -> &Constants {
        &self.sixteens[first / PANEL]
    }
}

impl Constants {
    #[inline(always)]
    fn value(&self, acc: i32, l: usize) -> f32 {
        (acc.wrapping_sub(self.zero[l]) as f32 * self.scale[l] + self.bias[l]).mul_add(self.a[l], self.b[l])
    }
}

impl Grid {
    #[inline(always)]
    pub(super) fn code(self, value: f32) -> u8 {
        // Beyond 2^23 the spacing of f32 is 1, so the addition rounds to an integer, ties to even, in the lowest bits.
        const INTEGERS: f32 = (1 << 23) as f32;
        let value = value * self.unit;
        let value = if value > 0.0 { value } else { 0.0 };
        (value.min(f32::from(self.high)) + INTEGERS).to_bits() as u8
    }
}

/// The code of an affine function of the accumulator.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantize {
    pub(crate) affine: Affine,
    pub(crate) grid: Grid,
}

impl Quantize {
    /// The codes of `affine` on `grid`.
    pub fn new(affine: Affine, grid: Grid) -> Self {
        Self { affine, grid }
    }
}

impl Epilogue for Quantize {
    type Out = u8;

    fn check(&self, n: usize) -> Result<(), KernelError> {
        length("epilogue::Quantize", "constants", n, self.affine.channels)
    }

    #[inline(always)]
    fn store(&self, acc: &[i32; PANEL], first: usize, out: &mut [u8]) {
        // Panels start at multiples of 16; single channels may be anywhere.
        let (constants, at) = (self.affine.sixteen(first), first % PANEL);
        for (l, out) in out.iter_mut().enumerate() {
            *out = self.grid.code(constants.value(acc[l], at + l));
        }
    }

    super::epilogue::vectors!(quantize);
}

/// What the second addend of a sum is made of, laid out as the output.
#[derive(Debug, Clone, Copy)]
pub enum Addend<'a> {
    /// Codes taken for accumulators.
    Codes(&'a [u8]),
    /// Accumulators.
    Accumulators(&'a [i32]),
}

impl Addend<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Codes(codes) => codes.len(),
            Self::Accumulators(acc) => acc.len(),
        }
    }
}

/// The code of a sum of two affine functions, of the accumulator and of an addend kept in memory: a residual connection in
/// the epilogue of its last convolution.
#[derive(Debug, Clone)]
pub struct QuantizeSum<'a> {
    pub(crate) affine: &'a Affine,
    pub(crate) other: &'a Affine,
    pub(crate) addend: Addend<'a>,
    pub(crate) grid: Grid,
    /// Address of the output's first code, from which follows where in the addend a code's is.
    base: usize,
}

impl<'a> QuantizeSum<'a> {
    /// The codes on `grid` of `affine` of the accumulator plus `other` of the addend, for the output `y` only.
    ///
    /// # Errors
    /// An addend of another length than `y`, or functions of different channels.
    pub fn new(
        affine: &'a Affine,
        (other, addend): (&'a Affine, Addend<'a>),
        grid: Grid,
        y: &[u8],
    ) -> Result<Self, KernelError> {
        length("epilogue::QuantizeSum", "addend", y.len(), addend.len())?;
        length("epilogue::QuantizeSum", "constants", affine.channels, other.channels)?;
        Ok(Self { affine, other, addend, grid, base: y.as_ptr().addr() })
    }

    /// Where in the addend the codes at `out` have theirs: at least `count` of them.
    ///
    /// # Panics
    /// If `out` is not within the output the epilogue was made for.
    #[inline(always)]
    pub(crate) fn place(&self, out: *const u8, count: usize) -> usize {
        let at = out.addr().wrapping_sub(self.base);
        assert!(
            at.checked_add(count).is_some_and(|end| end <= self.addend.len()),
            "the output it was made for"
        );
        at
    }
}

impl Epilogue for QuantizeSum<'_> {
    type Out = u8;

    fn check(&self, n: usize) -> Result<(), KernelError> {
        length("epilogue::QuantizeSum", "constants", n, self.affine.channels)
    }

    #[inline(always)]
    fn store(&self, acc: &[i32; PANEL], first: usize, out: &mut [u8]) {
        let (constants, other, at) = (self.affine.sixteen(first), self.other.sixteen(first), first % PANEL);
        let place = self.place(out.as_ptr(), out.len());
        for (l, out) in out.iter_mut().enumerate() {
            let addend = match self.addend {
                Addend::Codes(codes) => codes[place + l].into(),
                Addend::Accumulators(acc) => acc[place + l],
            };
            let sum = constants.value(acc[l], at + l) + other.value(addend, at + l);
            *out = self.grid.code(sum);
        }
    }

    super::epilogue::vectors!(quantize_sum);
}

/// An epilogue of accumulators that lie in memory, `[m, n]`.
///
/// # Errors
/// An output of another length, or an epilogue of other channels.
pub fn apply<E: Epilogue>(
    epilogue: &E,
    n: usize,
    acc: &[i32],
    out: &mut [E::Out],
) -> Result<(), KernelError> {
    epilogue.check(n)?;
    length("epilogue::apply", "out", acc.len(), out.len())?;
    for (acc, out) in acc.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
        for (panel, (acc, out)) in acc.chunks(PANEL).zip(out.chunks_mut(PANEL)).enumerate() {
            let mut sixteen = [0; PANEL];
            sixteen[..acc.len()].copy_from_slice(acc);
            epilogue.store(&sixteen, panel * PANEL, out);
        }
    }
    Ok(())
}
