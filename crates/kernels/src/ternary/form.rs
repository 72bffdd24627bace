//! Which packed form a ternary weight takes, by a rule of sizes alone, and how to force another.

use core::fmt;
use core::str::FromStr;

use crate::dispatch::Path;

/// The names of all forms, for messages.
macro_rules! form_names {
    () => {
        "panel8, signs, lut2, lut1, packed2, pairs, winograd or rows"
    };
}
pub(crate) use form_names;

/// A packed form of a ternary weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// A byte a trit, for codes of any size: multiplied and added.
    Panel8,
    /// Two bits a trit, for codes of at most 2 bits: products are counted, a bit of 32 codes at once.
    Signs,
    /// Codes of at most 2 bits: products of two codes looked up at once.
    Lut2,
    /// Codes of 1 bit: products of four codes looked up at once.
    Lut1,
    /// Two bits a trit, for codes of any size and single rows: a quarter of the memory traffic.
    Packed2,
    /// Two outputs' trits a byte, for codes of any size and single rows: they need no shift to be unpacked.
    Pairs,
    /// 3x3 kernels with a stride of 1, codes of any size: Winograd's F(4x4, 3x3), a quarter of the products, of 16 bits.
    Winograd,
    /// A byte a trit, for codes of any size, single rows and few outputs: codes are read once for all outputs.
    Rows,
}

/// Positions below which a look-up form has too few to fill its vectors.
const LEAST_POSITIONS: usize = 24;
/// Codes per output below which packing them into planes, or a line of them, costs more than it gains.
const LEAST_COUNTED: usize = 64;
/// Trits of a weight from which on fetching bytes costs more than unpacking bits.
const LARGE_WEIGHT: usize = 1 << 18;
/// Most outputs of a single row for which reading codes once pays.
const FEW_OUTPUTS: usize = 16;
/// Trits, a byte each, that the nearest cache holds.
const NEAR_WEIGHT: usize = 3 << 14;
/// Codes per output from which on reading such a weight output by output pays for adding up lanes at the end.
const LONG_ROW: usize = 256;
/// Least outputs of a single row that fill the registers of [`Form::Pairs`].
const PAIRED_OUTPUTS: usize = 48;

impl Form {
    /// Every form.
    pub const ALL: [Form; 8] = [
        Self::Panel8,
        Self::Signs,
        Self::Lut2,
        Self::Lut1,
        Self::Packed2,
        Self::Pairs,
        Self::Winograd,
        Self::Rows,
    ];

    /// The form for codes of `bits` bits, `m` positions (rows, or pixels of an output image), `n` outputs and `k`
    /// codes per output, unless `TERNION_FORM` names another that can take them:
    ///
    /// 1. one position, at most 16 outputs and at least 64 codes per output: [`Form::Rows`]; without AVX-512 also with more
    ///    outputs, if there are at least 256 codes per output and at most 49152 trits, which stay in the nearest cache;
    /// 2. with AVX-512, codes of 1 or 2 bits and at least 64 per output: [`Form::Signs`];
    /// 3. one position: [`Form::Packed2`] with AVX-512 and at least 2^18 trits, because fetching weights is what takes time;
    ///    [`Form::Pairs`] without AVX-512 and with at least 48 outputs, because unpacking them is;
    /// 4. without AVX-512, at least 24 positions, at least 4 outputs and codes per output, and a `k` whose sums fit 16
    ///    bits: [`Form::Lut1`] for 1 bit (`k` up to 32767), [`Form::Lut2`] for 2 bits (up to 10922);
    /// 5. else [`Form::Panel8`], in place of which [`Packed::chosen`](super::Packed::chosen) takes [`Form::Winograd`] with
    ///    AVX-512 for 3x3 kernels with a stride of 1, channels and outputs in multiples of 32 and images in whole tiles of 4x4.
    ///
    /// All forms give the same accumulators. What AVX-512 does, in multiply-accumulates a cycle of one Zen 5 core, on 3x3
    /// convolutions of 32, 64 and 128 channels to as many, requantised: [`Form::Panel8`] 109, 117 and 122; [`Form::Signs`]
    /// 230, 258 and 276 for 2 bits, 403, 472 and 530 for 1. Look-ups of as wide vectors reached 96, 122 and 107, and 146,
    /// 203 and 195, and so have no loops there; neither have tables of three 2-bit codes (`vpermb`), the bare loop of which did
    /// 299 for 128 outputs and 197 for 64, where the counting one does 300. On products with 64 codes an output,
    /// [`Form::Panel8`] did 115, and [`Form::Signs`] 173 and 251. On a row of 2048 codes times 10 outputs, [`Form::Rows`] did
    /// 75, [`Form::Panel8`] 33, and [`Form::Signs`] 41 and 53 (AVX2: 44 and 18 of the first two).
    pub fn choose(bits: u32, m: usize, n: usize, k: usize) -> Self {
        match crate::dispatch::forced_form() {
            Some(form) if form.takes(bits, k) => form,
            _ => Self::rule(Self::counts_bits(), bits, m, n, k),
        }
    }

    /// Whether counting bits is the fastest there is for codes of few bits: the path in force has an instruction for it.
    pub(super) fn counts_bits() -> bool {
        crate::dispatch::path() == Path::Avx512
    }

    /// Whether Winograd's transform pays for 3x3 kernels that suit it, `k` codes an output: the path in force multiplies 16-bit
    /// numbers at half the rate of bytes, and no other form is asked for.
    pub(super) fn transforms(k: usize) -> bool {
        Self::counts_bits() && crate::dispatch::forced_form().is_none() && k <= Self::Winograd.largest_k()
    }

    fn rule(counts_bits: bool, bits: u32, m: usize, n: usize, k: usize) -> Self {
        let near = !counts_bits && k >= LONG_ROW && k.saturating_mul(n) <= NEAR_WEIGHT;
        let single = if counts_bits {
            (k.saturating_mul(n) >= LARGE_WEIGHT).then_some(Self::Packed2)
        } else {
            (n >= PAIRED_OUTPUTS).then_some(Self::Pairs)
        };
        let look_up =
            |form: Self| !counts_bits && m >= LEAST_POSITIONS && n >= 4 && k >= 4 && form.takes(bits, k);
        let of_rows = single.filter(|form| m == 1 && form.takes(bits, k));
        if m == 1 && (n <= FEW_OUTPUTS && k >= LEAST_COUNTED || near) && Self::Rows.takes(bits, k) {
            Self::Rows
        } else if counts_bits && k >= LEAST_COUNTED && Self::Signs.takes(bits, k) {
            Self::Signs
        } else if let Some(form) = of_rows {
            form
        } else if look_up(Self::Lut1) {
            Self::Lut1
        } else if look_up(Self::Lut2) {
            Self::Lut2
        } else {
            Self::Panel8
        }
    }

    /// Whether the form is for codes of `bits` bits, `k` of them per output.
    pub fn takes(self, bits: u32, k: usize) -> bool {
        bits <= self.bits() && k <= self.largest_k()
    }

    /// Whether the form is for matrices and 1x1 kernels alone.
    pub fn is_of_rows(self) -> bool {
        matches!(self, Self::Packed2 | Self::Pairs | Self::Rows)
    }

    /// Bits of the largest code.
    pub fn bits(self) -> u32 {
        match self {
            Self::Panel8 | Self::Packed2 | Self::Pairs | Self::Rows | Self::Winograd => 8,
            Self::Signs | Self::Lut2 => 2,
            Self::Lut1 => 1,
        }
    }

    /// Most codes per output: accumulators of the largest code stay below 2^30, or 2^15 for the look-up forms; those of pairs
    /// six times as large below 2^31, and Winograd's 576 times.
    pub fn largest_k(self) -> usize {
        match self {
            Self::Panel8 | Self::Packed2 | Self::Rows => (1 << 30) / 255,
            Self::Pairs => (1 << 28) / 255,
            Self::Signs => (1 << 30) / 3,
            Self::Lut2 => i16::MAX as usize / 3,
            Self::Lut1 => i16::MAX as usize,
            Self::Winograd => i32::MAX as usize / (255 * 576),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panel8 => "panel8",
            Self::Signs => "signs",
            Self::Lut2 => "lut2",
            Self::Lut1 => "lut1",
            Self::Packed2 => "packed2",
            Self::Pairs => "pairs",
            Self::Winograd => "winograd",
            Self::Rows => "rows",
        })
    }
}

/// The text is not the name of a [`Form`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownForm;

impl fmt::Display for UnknownForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(concat!("unknown form of ternary weights: expected ", form_names!()))
    }
}

impl core::error::Error for UnknownForm {}

impl FromStr for Form {
    type Err = UnknownForm;
    fn from_str(s: &str) -> Result<Self, UnknownForm> {
        Self::ALL.into_iter().find(|form| name_is(*form, s)).ok_or(UnknownForm)
    }
}

fn name_is(form: Form, s: &str) -> bool {
    use alloc::string::ToString;
    form.to_string() == s
}

#[cfg(test)]
mod tests {
    use super::Form;

    #[test]
    fn the_rule_is_the_documented_one() {
        let rule = |bits, m, n, k| Form::rule(false, bits, m, n, k);
        assert_eq!(rule(8, 1024, 32, 288), Form::Panel8);
        assert_eq!(rule(4, 1024, 32, 288), Form::Panel8);
        assert_eq!(rule(2, 1024, 32, 288), Form::Lut2);
        assert_eq!(rule(1, 1024, 32, 288), Form::Lut1);
        assert_eq!(rule(2, 1, 10, 2048), Form::Rows);
        assert_eq!(rule(8, 1, 16, 64), Form::Rows);
        assert_eq!(rule(8, 1, 17, 2048), Form::Rows);
        assert_eq!(rule(8, 1, 25, 2048), Form::Panel8);
        assert_eq!(rule(8, 1, 17, 255), Form::Panel8);
        assert_eq!(rule(8, 1, 47, 2048), Form::Panel8);
        assert_eq!(rule(1, 1, 48, 2048), Form::Pairs);
        assert_eq!(rule(8, 1, 48, 63), Form::Pairs);
        assert_eq!(rule(8, 1, 10, 63), Form::Panel8);
        assert_eq!(rule(2, 1, 4096, 4096), Form::Pairs);
        assert_eq!(rule(8, 1, 64, 4096), Form::Pairs);
        assert_eq!(rule(8, 2, 4096, 4096), Form::Panel8);
        assert_eq!(rule(2, 1024, 32, 10_923), Form::Panel8);
        assert_eq!(rule(1, 1024, 32, 10_923), Form::Lut1);
        assert_eq!(rule(1, 1024, 32, 32_768), Form::Panel8);
        assert_eq!(rule(2, 16, 32, 288), Form::Panel8);
        assert_eq!(rule(2, 1024, 3, 288), Form::Panel8);
        let rule = |bits, m, n, k| Form::rule(true, bits, m, n, k);
        assert_eq!(rule(8, 1024, 32, 288), Form::Panel8);
        assert_eq!(rule(3, 1024, 32, 288), Form::Panel8);
        assert_eq!(rule(2, 1024, 32, 288), Form::Signs);
        assert_eq!(rule(1, 1, 10, 64), Form::Rows);
        assert_eq!(rule(1, 1, 17, 64), Form::Signs);
        assert_eq!(rule(1, 1024, 32, 63), Form::Panel8);
        assert_eq!(rule(2, 1024, 32, 64), Form::Signs);
        assert_eq!(rule(2, 1, 4096, 4096), Form::Signs);
        assert_eq!(rule(8, 1, 4096, 4096), Form::Packed2);
    }

    #[test]
    fn names_come_back() {
        for form in Form::ALL {
            assert_eq!(form.to_string().parse(), Ok(form));
            assert!(
                form_names!().split([',', ' ']).any(|name| name == form.to_string()),
                "{form} is not named"
            );
        }
        assert!("lut3".parse::<Form>().is_err());
    }
}
