//! What becomes of an accumulator: kept, scaled to f32, or requantised to a code.
//!
//! Every epilogue is defined by the formula in its documentation; both instruction sets run the same Rust code, so
//! they agree to the bit.

use alloc::vec::Vec;
use core::array;

use crate::KernelError;
use crate::error::length;
use crate::integer::{LARGEST_ACCUMULATOR, PANEL};
use crate::lanes::{lanes, lanes_mut};

#[cfg(feature = "std")]
use super::lines::{self, Line, RealLines};
#[cfg(feature = "std")]
pub use super::quantize::{Addend, Affine, Grid, Quantize, QuantizeSum, apply};

mod sealed {
    /// Keeps [`super::Epilogue`] to this module's types.
    pub trait Sealed {}
    impl Sealed for super::Accumulators {}
    impl Sealed for super::Scale<'_> {}
    impl Sealed for super::Requantize {}
    #[cfg(feature = "std")]
    impl Sealed for super::Quantize {}
    #[cfg(feature = "std")]
    impl Sealed for super::QuantizeSum<'_> {}
}

/// A function of an accumulator and its output channel.
pub trait Epilogue: sealed::Sealed + Sync {
    /// What is stored.
    type Out: Copy + Send + Sync + 'static;

    /// Fails unless the epilogue has parameters for exactly `n` channels.
    ///
    /// # Errors
    /// [`KernelError::Length`].
    fn check(&self, n: usize) -> Result<(), KernelError>;

    /// Stores the accumulators of channels `first..first + out.len()` (at most 16).
    #[doc(hidden)]
    fn store(&self, acc: &[i32; PANEL], first: usize, out: &mut [Self::Out]);

    /// As [`Self::store`] for 16 channels whose accumulators are in two vectors.
    ///
    /// # Safety
    /// The CPU has AVX2; there are parameters for channels `first..first + 16`, `first` being a multiple of 16.
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    #[doc(hidden)]
    unsafe fn store_vectors(
        &self,
        acc: [core::arch::x86_64::__m256i; 2],
        first: usize,
        out: &mut [Self::Out; PANEL],
    );

    /// As [`Self::store`] for 16 channels from `first` at `count` positions (at most 32), if this epilogue is faster with the
    /// positions of a channel side by side; otherwise nothing is stored. Channels are `stride` sums apart, each the sums of the
    /// even positions, then of the odd ones; positions are stored `n` apart.
    ///
    /// # Safety
    /// As [`Self::store_vectors`], with 32 sums readable of each channel, and each position's 16 places in `out` writable.
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    #[doc(hidden)]
    #[inline(always)]
    unsafe fn store_positions(
        &self,
        _sums: (*const i16, usize),
        _first: usize,
        _count: usize,
        _out: *mut Self::Out,
        _n: usize,
    ) -> bool {
        false
    }

    /// As [`Self::store`] for `R` patches: `count` (1 to 16) channels from `first`, whose accumulators are in the first
    /// lanes of a vector per patch, to `out` and every `stride` after.
    ///
    /// # Safety
    /// The CPU has AVX-512 F, BW, VL, DQ and VNNI; there are parameters for channels `first..first + count`, `first` being
    /// a multiple of 16; all of those places are writable.
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    #[doc(hidden)]
    unsafe fn store_rows<const R: usize>(
        &self,
        acc: &[core::arch::x86_64::__m512i; R],
        first: usize,
        count: usize,
        out: *mut Self::Out,
        stride: usize,
    );
}

/// Hands an epilogue's vectors to the loops written with intrinsics.
macro_rules! vectors {
    ($function:ident) => {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        #[target_feature(enable = "avx2,fma")]
        #[inline]
        unsafe fn store_vectors(
            &self,
            acc: [core::arch::x86_64::__m256i; 2],
            first: usize,
            out: &mut [Self::Out; PANEL],
        ) {
            // SAFETY: what the caller promises is what is needed.
            unsafe { crate::x86_64::epilogues::$function(self, acc, first, out) }
        }

        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
        #[inline]
        unsafe fn store_rows<const R: usize>(
            &self,
            acc: &[core::arch::x86_64::__m512i; R],
            first: usize,
            count: usize,
            out: *mut Self::Out,
            stride: usize,
        ) {
            // SAFETY: what the caller promises is what is needed.
            unsafe { crate::x86_64::avx512::epilogues::$function(self, acc, first, count, out, stride) }
        }
    };
}
#[cfg(feature = "std")]
pub(super) use vectors;

/// `y = acc`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Accumulators;

impl Epilogue for Accumulators {
    type Out = i32;

    fn check(&self, _n: usize) -> Result<(), KernelError> {
        Ok(())
    }

    #[inline(always)]
    fn store(&self, acc: &[i32; PANEL], _first: usize, out: &mut [i32]) {
        out.copy_from_slice(&acc[..out.len()]);
    }

    vectors!(accumulators);
}

/// `y = f32(acc) * scale[n] + bias[n]`: the conversion, the product and the sum each rounded to nearest, ties to
/// even (nothing is fused). Accumulators up to 2^24 convert exactly.
#[derive(Debug, Clone, Copy)]
pub struct Scale<'a> {
    /// Factor of each channel.
    pub scale: &'a [f32],
    /// Addend of each channel.
    pub bias: &'a [f32],
}

impl Epilogue for Scale<'_> {
    type Out = f32;

    fn check(&self, n: usize) -> Result<(), KernelError> {
        length("epilogue::Scale", "scale", n, self.scale.len())?;
        length("epilogue::Scale", "bias", n, self.bias.len())
    }

    #[inline(always)]
    fn store(&self, acc: &[i32; PANEL], first: usize, out: &mut [f32]) {
        let (scale, bias) = (&self.scale[first..], &self.bias[first..]);
        if out.len() == PANEL {
            // Constant lengths, so that this becomes a few vector instructions.
            let (scale, bias, out) = (&scale[..PANEL], &bias[..PANEL], &mut out[..PANEL]);
            for l in 0..PANEL {
                out[l] = acc[l] as f32 * scale[l] + bias[l];
            }
        } else {
            for (l, out) in out.iter_mut().enumerate() {
                *out = acc[l] as f32 * scale[l] + bias[l];
            }
        }
    }

    vectors!(scale);
}

/// `code = clamp(zero_point + floor(((acc + bias[n]) * multiplier[n] + 2^(shift[n] - 1)) / 2^shift[n]), low, high)`,
/// exactly (64-bit products): rounding to nearest, ties upwards.
///
/// Vectors compute it in f32 wherever that was found to give the same codes for every accumulator.
///
/// It stands for `acc * multiplier / 2^shift`; [`Requantize::factor`] finds the pair for a real factor. [`Requantize::lines`]
/// takes any intercept instead of a bias and half a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Requantize {
    bias: Vec<i32>,
    multiplier: Vec<i32>,
    shift: Vec<u64>,
    /// Per channel, half a unit or the line's offset, plus [`OFFSET`].
    addend: Vec<i64>,
    /// Per channel, what [`OFFSET`] has become after the shift.
    offset: Vec<i64>,
    zero_point: i32,
    /// Range of codes, before the zero point is added.
    range: [i32; 2],
    /// The parameters of each panel of channels, as vectors want them; the last one is filled up with factors of zero.
    sixteens: Vec<Sixteen>,
    /// Per panel, lines in f32 that give the same codes, where there are any: vectors are faster with them.
    #[cfg(feature = "std")]
    reals: Vec<Option<RealLines>>,
}

/// Parameters of 16 channels: 64-bit ones for the even channels, then for the odd ones.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Sixteen {
    pub(crate) multiplier: [i32; 16],
    /// Those of the odd channels, in the even places.
    pub(crate) odd_multiplier: [i32; 16],
    /// The low half of the offset, which is all that a 32-bit quotient needs.
    pub(crate) offset: [i32; 16],
    /// Besides half a unit (or the line's offset) and [`OFFSET`], what the bias contributes to the product.
    pub(crate) addend: [[i64; 8]; 2],
    pub(crate) shift: [[u64; 8]; 2],
}

/// Added before and taken off after a logical shift, which makes it an arithmetic one: a multiple of `2^shift` for
/// every shift up to 62 and larger than any product.
const OFFSET: i64 = 1 << 62;

impl Requantize {
    /// Smallest and largest shift.
    pub const SHIFTS: core::ops::RangeInclusive<u8> = 31..=62;

    /// An epilogue for `bias.len()` channels.
    ///
    /// # Errors
    /// Parameters of different lengths; a bias beyond ±2^30, a negative multiplier or a shift outside
    /// [`Self::SHIFTS`] (so factors are below 1); `low > high`.
    pub fn new(
        bias: &[i32],
        multiplier: &[i32],
        shift: &[u8],
        zero_point: u8,
        (low, high): (u8, u8),
    ) -> Result<Self, KernelError> {
        const OP: &str = "epilogue::Requantize";
        length(OP, "multiplier", bias.len(), multiplier.len())?;
        length(OP, "shift", bias.len(), shift.len())?;
        let bad = |reason, n: usize| KernelError::Geometry { op: OP, reason, sizes: [n, 0, 0, 0] };
        for (n, ((&b, &m), s)) in bias.iter().zip(multiplier).zip(shift).enumerate() {
            if i64::from(b).abs() > LARGEST_ACCUMULATOR {
                return Err(bad("a bias is beyond 2^30 (channel)", n));
            }
            if m < 0 || !Self::SHIFTS.contains(s) {
                return Err(bad("a multiplier is negative or a shift outside 31..=62 (channel)", n));
            }
        }
        if low > high {
            return Err(bad("the lowest code is above the highest", usize::from(low)));
        }
        let half = shift.iter().map(|&s| 1_i64 << (s - 1)).collect();
        let range = [low, high].map(|code| i32::from(code) - i32::from(zero_point));
        Ok(Self::build(bias.to_vec(), multiplier, shift, half, (zero_point.into(), range)))
    }

    /// An epilogue of lines with intercepts of their own, for `multiplier.len()` channels:
    /// `code = clamp(floor((acc * multiplier[n] + offset[n]) / 2^shift[n]), 0, high)`, exactly. Multipliers may be negative.
    ///
    /// # Errors
    /// Parameters of different lengths; an offset beyond ±2^60 or a shift outside [`Self::SHIFTS`].
    pub fn lines(multiplier: &[i32], offset: &[i64], shift: &[u8], high: u8) -> Result<Self, KernelError> {
        const OP: &str = "epilogue::Requantize";
        length(OP, "offset", multiplier.len(), offset.len())?;
        length(OP, "shift", multiplier.len(), shift.len())?;
        let bad = |(o, s): (&i64, &u8)| o.unsigned_abs() > 1 << 60 || !Self::SHIFTS.contains(s);
        if let Some(n) = offset.iter().zip(shift).position(bad) {
            let reason = "an offset is beyond 2^60 or a shift outside 31..=62 (channel)";
            return Err(KernelError::Geometry { op: OP, reason, sizes: [n, 0, 0, 0] });
        }
        let bias = alloc::vec![0; multiplier.len()];
        Ok(Self::build(bias, multiplier, shift, offset.to_vec(), (0, [0, high.into()])))
    }

    /// Lays out checked parameters; `addend` is added to the products.
    fn build(
        bias: Vec<i32>,
        multiplier: &[i32],
        shift: &[u8],
        mut addend: Vec<i64>,
        (zero_point, range): (i32, [i32; 2]),
    ) -> Self {
        addend.iter_mut().for_each(|a| *a += OFFSET);
        let offset = |s: u8| OFFSET >> s;
        let sixteen = |i: usize| {
            let factor = |l: usize| multiplier.get(PANEL * i + l).copied().unwrap_or(0);
            let bits = |l: usize| shift.get(PANEL * i + l).copied().unwrap_or(*Self::SHIFTS.start());
            let bias = |l: usize| bias.get(PANEL * i + l).copied().unwrap_or(0);
            let addend = |l: usize| addend.get(PANEL * i + l).copied().unwrap_or(OFFSET);
            Sixteen {
                multiplier: array::from_fn(factor),
                odd_multiplier: array::from_fn(|l| factor(l | 1)),
                offset: array::from_fn(|l| offset(bits(l)) as i32),
                addend: array::from_fn(|odd| {
                    array::from_fn(|l| {
                        let l = 2 * l + odd;
                        addend(l) + i64::from(bias(l)) * i64::from(factor(l))
                    })
                }),
                shift: array::from_fn(|odd| array::from_fn(|l| bits(2 * l + odd).into())),
            }
        };
        #[cfg(feature = "std")]
        let reals = {
            let line = |i: usize| {
                let offset = i128::from(addend[i] - OFFSET) + i128::from(bias[i]) * i128::from(multiplier[i]);
                Line { multiplier: multiplier[i], offset, shift: shift[i] }
            };
            let lines: Vec<_> = (0..bias.len()).map(line).collect();
            lines::panels(&lines, range)
        };
        Self {
            sixteens: (0..bias.len().div_ceil(PANEL)).map(sixteen).collect(),
            bias,
            multiplier: multiplier.to_vec(),
            shift: shift.iter().map(|&s| u64::from(s)).collect(),
            offset: shift.iter().map(|&s| offset(s)).collect(),
            addend,
            zero_point,
            range,
            #[cfg(feature = "std")]
            reals,
        }
    }

    /// Panels (16 channels from a multiple of 16, or what is left of them) whose codes vectors compute in f32, because lines
    /// in f32 were found to give the same ones for every accumulator, and how many panels there are.
    #[cfg(feature = "std")]
    pub fn real_panels(&self) -> (usize, usize) {
        (self.reals.iter().flatten().count(), self.sixteens.len())
    }

    /// Lines in f32 of the panel of channel `first`, with the zero point, and the range after it is added.
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    #[inline(always)]
    pub(crate) fn real(&self, first: usize) -> Option<(&RealLines, i16, [u8; 2])> {
        let lines = self.reals[first / PANEL].as_ref()?;
        Some((lines, self.zero_point as i16, self.range.map(|code| (code + self.zero_point) as u8)))
    }

    /// The multiplier (31 significant bits, rounded to nearest) and shift nearest to a real `factor` in [0, 1);
    /// `None` outside. Factors too small for the largest shift lose bits, down to zero.
    pub fn factor(factor: f64) -> Option<(i32, u8)> {
        if !(0.0..1.0).contains(&factor) {
            return None;
        }
        let mut shift = *Self::SHIFTS.start();
        let mut scaled = factor * f64::from(1_u32 << 31);
        while scaled < f64::from(1_u32 << 30) && shift < *Self::SHIFTS.end() {
            scaled *= 2.0;
            shift += 1;
        }
        // Positive, so adding a half and truncating rounds to nearest.
        let multiplier = (scaled + 0.5) as i64;
        if multiplier < 1 << 31 {
            Some((multiplier as i32, shift))
        } else if shift > *Self::SHIFTS.start() {
            // Rounded up to a power of two: one bit less says the same.
            Some(((multiplier >> 1) as i32, shift - 1))
        } else {
            Some((i32::MAX, shift))
        }
    }

    /// Parameters of 16 channels from `first`, a multiple of 16, with the zero point and the range before it is added.
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    #[inline(always)]
    pub(crate) fn sixteen(&self, first: usize) -> (&Sixteen, i32, [i32; 2]) {
        (&self.sixteens[first / PANEL], self.zero_point, self.range)
    }

    /// The codes of `L` accumulators of channels from `first`.
    #[inline(always)]
    fn codes<const L: usize>(&self, acc: &[i32], first: usize, out: &mut [u8]) {
        let (bias, multiplier) = (lanes::<_, L>(&self.bias, first), lanes::<_, L>(&self.multiplier, first));
        let (addend, offset) = (lanes::<_, L>(&self.addend, first), lanes::<_, L>(&self.offset, first));
        let (acc, shift) = (lanes::<_, L>(acc, 0), lanes::<_, L>(&self.shift, first));
        let out = lanes_mut::<_, L>(out, 0);
        let [low, high] = self.range;
        for l in 0..L {
            // Accumulator and bias are at most 2^30 each, a line's offset at most 2^60. With a shift of at least 31 the
            // quotient fits i32.
            let product = i64::from(acc[l] + bias[l]) * i64::from(multiplier[l]);
            let shifted = ((product + addend[l]) as u64 >> (shift[l] & 63)) as i64;
            let quotient = (shifted - offset[l]) as i32;
            out[l] = (quotient.clamp(low, high) + self.zero_point) as u8;
        }
    }
}

impl Epilogue for Requantize {
    type Out = u8;

    fn check(&self, n: usize) -> Result<(), KernelError> {
        length("epilogue::Requantize", "bias", n, self.bias.len())
    }

    #[inline(always)]
    fn store(&self, acc: &[i32; PANEL], first: usize, out: &mut [u8]) {
        if out.len() == PANEL {
            self.codes::<PANEL>(acc, first, out);
        } else {
            for (l, out) in out.iter_mut().enumerate() {
                self.codes::<1>(&acc[l..], first + l, core::slice::from_mut(out));
            }
        }
    }

    vectors!(requantize);

    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn store_positions(
        &self,
        sums: (*const i16, usize),
        first: usize,
        count: usize,
        out: *mut u8,
        n: usize,
    ) -> bool {
        // SAFETY: what the caller promises is what is needed.
        unsafe { crate::x86_64::epilogues::requantize_positions(self, sums, first, count, out, n) }
    }
}

#[cfg(test)]
mod tests {
    use super::Requantize;

    #[test]
    fn factors_are_within_half_a_unit() {
        for factor in [0.0, 1e-12, 1e-9, 0.003, 0.25, 0.5, 0.7, 1.0 - 1e-12] {
            let (multiplier, shift) = Requantize::factor(factor).expect("in range");
            let got = f64::from(multiplier) * 0.5_f64.powi(shift.into());
            assert!(
                (got - factor).abs()
                    <= factor * 2f64.powi(-31)
                        + 2f64.powi(-63)
                        + 2f64.powi(-31) * f64::from(u8::from(multiplier == i32::MAX))
            );
        }
        assert_eq!(Requantize::factor(1.0), None);
        assert_eq!(Requantize::factor(f64::NAN), None);
        assert_eq!(Requantize::factor(-0.1), None);
    }

    #[test]
    fn bad_parameters_are_errors() {
        let new = |b: i32, m: i32, s: u8, r| Requantize::new(&[b], &[m], &[s], 0, r);
        assert!(new(0, 1, 31, (0, 255)).is_ok());
        assert!(new(i32::MIN, 1, 31, (0, 255)).is_err());
        assert!(new(0, -1, 31, (0, 255)).is_err());
        assert!(new(0, 1, 30, (0, 255)).is_err());
        assert!(new(0, 1, 63, (0, 255)).is_err());
        assert!(new(0, 1, 31, (9, 8)).is_err());
        assert!(Requantize::new(&[0, 0], &[1], &[31], 0, (0, 1)).is_err());
    }
}
