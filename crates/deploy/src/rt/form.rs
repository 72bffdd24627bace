//! From accumulators to codes, as a record's table says.

use super::bytes::{i32_at, i64_at, slice};
use super::float;

/// Shift bytes that mark thresholds.
pub(crate) const RISING: u8 = 0x80;
pub(crate) const FALLING: u8 = 0x81;
/// Shift byte that marks f32 constants.
pub(crate) const FLOAT: u8 = 0x82;
/// Multiplier of a channel without a line.
pub(super) const NO_LINE: i32 = i32::MIN;
/// Bit of a shift: lines are for sums less 2^15.
pub(crate) const FLIP: u8 = 0x80;
/// Largest fixed-point shift.
const MAX_SHIFT: u8 = 62;

/// Multipliers, offsets and shifts; the whole image, for thresholds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Integer<'a> {
    multipliers: &'a [u8],
    offsets: &'a [u8],
    shifts: &'a [u8],
    image: &'a [u8],
}

/// What channels without a line have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest<'a> {
    pub(super) integer: Integer<'a>,
    /// By how much sums exceed accumulators.
    pub(super) corrections: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Form<'a> {
    Integer(Integer<'a>),
    Float,
    /// Multipliers and offsets for 16-bit sums.
    Short {
        lines: &'a [u8],
        shift: u8,
        /// What sums are combined with.
        flip: u32,
        rest: Option<Rest<'a>>,
    },
    /// f32, but where the fixed-point sums of `table` are sure.
    Fixed {
        table: &'a [u8],
    },
}

impl<'a> Form<'a> {
    /// The form of number `form` for `n` channels with its table at `table`, if it has one.
    pub(super) fn read(image: &'a [u8], form: u8, table: Option<usize>, n: usize) -> Option<Self> {
        Some(match table {
            None => Form::Float,
            Some(at) if form == 3 => Form::Fixed { table: slice(image, at, n.checked_mul(20)?)? },
            Some(at) if form == 0 => Form::Integer(integer(image, at, n)?),
            Some(at) => {
                let shift = *image.get(at)?;
                let (shift, flip) = (shift & !FLIP, if shift & FLIP != 0 { 0x8000_8000 } else { 0 });
                let lines = slice(image, at.checked_add(1)?, n.checked_mul(8)?)?;
                let rest = if form == 4 {
                    let at = at.checked_add(1)?.checked_add(lines.len())?;
                    let corrections = slice(image, at.checked_add(n.checked_mul(13)?)?, n.checked_mul(4)?)?;
                    Some(Rest { integer: integer(image, at, n)?, corrections })
                } else {
                    None
                };
                Form::Short { lines, shift, flip, rest }
            }
        })
    }
}

/// The table of form 0 at `at`, for `n` channels.
fn integer(image: &[u8], at: usize, n: usize) -> Option<Integer<'_>> {
    let (multipliers, rest) = slice(image, at, n.checked_mul(13)?)?.split_at(4 * n);
    let (offsets, shifts) = rest.split_at(8 * n);
    Some(Integer { multipliers, offsets, shifts, image })
}

impl Form<'_> {
    /// Everything running relies on.
    pub(super) fn check(&self, channels: usize, max: u8) -> Result<(), &'static str> {
        if matches!(self, Self::Short { shift: 32.., .. }) {
            return Err("a shift is out of range");
        }
        match self {
            Self::Integer(integer) | Self::Short { rest: Some(Rest { integer, .. }), .. } => {
                integer.check(channels, max)
            }
            Self::Short { rest: None, .. } | Self::Fixed { .. } | Self::Float => Ok(()),
        }
    }
}

impl Integer<'_> {
    fn check(&self, channels: usize, max: u8) -> Result<(), &'static str> {
        let Self { multipliers, offsets, shifts, image } = self;
        for c in 0..channels {
            match shifts[c] {
                0..=MAX_SHIFT => {}
                RISING | FALLING => {
                    if i32_at(multipliers, c) != i32::from(max) {
                        return Err("a channel has not one threshold per code");
                    }
                    let at = usize::try_from(i64_at(offsets, c)).ok();
                    if at.and_then(|at| slice(image, at, 4 * usize::from(max))).is_none() {
                        return Err("thresholds leave the image");
                    }
                }
                FLOAT => {
                    let at = usize::try_from(i64_at(offsets, c)).ok();
                    if at.and_then(|at| slice(image, at, 16)).is_none() {
                        return Err("f32 constants leave the image");
                    }
                }
                _ => return Err("a shift is out of range"),
            }
        }
        Ok(())
    }

    /// The codes of eight accumulators of a channel.
    #[inline(always)]
    pub(super) fn codes(&self, acc: &[i32; 8], c: usize, grid: i32, max: u8) -> [u8; 8] {
        let (multiplier, offset) = (i64::from(i32_at(self.multipliers, c)), i64_at(self.offsets, c));
        let shift = u32::from(self.shifts[c]);
        let mut codes = [0; 8];
        if (32..=MAX_SHIFT.into()).contains(&shift) {
            // Only the upper half of the product counts.
            for (code, &acc) in codes.iter_mut().zip(acc) {
                let v = (i64::from(acc).wrapping_mul(multiplier).wrapping_add(offset) >> 32) as i32;
                *code = (v >> (shift - 32)).clamp(0, max.into()) as u8;
            }
        } else {
            codes.iter_mut().zip(acc).for_each(|(code, &acc)| *code = self.code(acc, c, grid, max));
        }
        codes
    }

    /// The code of an accumulator.
    #[inline(never)]
    pub(super) fn code(&self, acc: i32, c: usize, grid: i32, max: u8) -> u8 {
        let (multiplier, offset) = (i64::from(i32_at(self.multipliers, c)), i64_at(self.offsets, c));
        match self.shifts[c] {
            kind @ (RISING | FALLING) => {
                let u = if kind == FALLING { acc.wrapping_neg() } else { acc };
                // Sorted: the number of thresholds not above `u` by bisection.
                let table = &self.image[offset as usize..];
                let (mut low, mut high) = (0, usize::from(max));
                while low < high {
                    let middle = (low + high) / 2;
                    if i32_at(table, middle) <= u { low = middle + 1 } else { high = middle }
                }
                low as u8
            }
            FLOAT => {
                let table = &self.image[offset as usize..];
                let [scale, bias, a, b] = [0, 1, 2, 3].map(|i| i32_at(table, i) as u32);
                let y = float::fma(float::fma(float::from_i32(acc), scale, 0), float::ONE, bias);
                float::to_code(float::fma(y, a, b), grid, max)
            }
            shift => {
                let v = i64::from(acc).wrapping_mul(multiplier).wrapping_add(offset) >> shift;
                v.clamp(0, i64::from(max)) as u8
            }
        }
    }
}
