//! What happens to an accumulator: the f32 epilogue of the training graph and the integer forms that replace it.

use serde::Serialize;

/// f32 constants of one branch, one element per output channel. For accumulator `acc` (exact integer) of channel `c`:
///
/// ```text
/// y = (acc as f32) * scale[c]          one rounding (and that of the conversion above 2^24)
/// y = y + bias[c]                      if there is a bias; one rounding
/// y = fma(y, a[c], b[c])               if there is a batch normalisation; one rounding, fused
/// ```
///
/// This is the order of `qnn`'s inference graph: `scale = weight_scale * input_step` rounded to f32, then the bias, then
/// the affine form of batch normalisation, which `kernels::channel::affine` computes with a fused multiply-add.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Affine {
    /// Real value of one accumulator unit.
    pub scale: Vec<f32>,
    /// Added after scaling.
    pub bias: Option<Vec<f32>>,
    /// Batch normalisation.
    pub norm: Option<Norm>,
}

/// Batch normalisation in the inference phase as `y * a + b`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Norm {
    /// `gamma * (1 / sqrt(variance + eps))`
    pub a: Vec<f32>,
    /// `beta - mean * a`
    pub b: Vec<f32>,
}

/// [`Affine`] of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ChannelAffine {
    /// Real value of one accumulator unit.
    pub scale: f32,
    /// Added after scaling.
    pub bias: Option<f32>,
    /// Batch normalisation `(a, b)`.
    pub norm: Option<(f32, f32)>,
}

impl Affine {
    /// Only a scale, the same for `channels` channels.
    pub fn uniform(scale: f32, channels: usize) -> Self {
        Self { scale: vec![scale; channels], bias: None, norm: None }
    }

    /// The constants of one channel.
    pub fn channel(&self, c: usize) -> ChannelAffine {
        ChannelAffine {
            scale: self.scale[c],
            bias: self.bias.as_ref().map(|b| b[c]),
            norm: self.norm.as_ref().map(|n| (n.a[c], n.b[c])),
        }
    }
}

impl ChannelAffine {
    /// The real value the training graph computes for accumulator `acc`.
    #[inline]
    pub fn value_f32(&self, acc: i32) -> f32 {
        let mut y = acc as f32 * self.scale;
        if let Some(bias) = self.bias {
            y += bias;
        }
        if let Some((a, b)) = self.norm {
            y = y.mul_add(a, b);
        }
        y
    }
}

/// The grid activations are rounded to: `code = clamp(round_half_even(value * 2^shift), 0, max)`.
/// `quantized_relu(bits, integer)` has `shift = bits - integer` and `max = 2^bits - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CodeGrid {
    /// Codes per unit, as a power of two.
    pub shift: i8,
    /// Largest code.
    pub max: u8,
}

impl CodeGrid {
    /// Real value of one code step.
    pub fn step(&self) -> f32 {
        (-f32::from(self.shift)).exp2()
    }

    /// The code of a real value.
    #[inline]
    pub fn code(&self, value: f32) -> u8 {
        (value * f32::from(self.shift).exp2()).round_ties_even().clamp(0.0, f32::from(self.max)) as u8
    }
}

/// The code the training graph computes in the inference phase for accumulator `acc`: the definition everything else
/// in this crate is proved against.
#[inline]
pub fn epilogue_f32(acc: i32, channel: &ChannelAffine, grid: CodeGrid) -> u8 {
    grid.code(channel.value_f32(acc))
}

/// As [`epilogue_f32`] for a residual sum of two branches: both values, one addition, then the quantizer.
#[inline]
pub fn residual_f32(acc: [i32; 2], channels: &[ChannelAffine; 2], grid: CodeGrid) -> u8 {
    grid.code(channels[0].value_f32(acc[0]) + channels[1].value_f32(acc[1]))
}

/// Integer epilogue of one channel.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IntegerEpilogue {
    /// `clamp((acc * multiplier + offset) >> shift, 0, max)` in 64 bits; the rounding constant is part of the offset.
    Multiplier {
        /// Fixed-point slope, negative where the code falls with the accumulator.
        multiplier: i32,
        /// Fixed-point intercept.
        offset: i64,
        /// Fractional bits, 0 to 62.
        shift: u8,
    },
    /// The number of thresholds not above `acc` (rising) or `-acc` (falling).
    Thresholds {
        /// Whether the code falls as the accumulator rises.
        falling: bool,
        /// Sorted; one per code above 0.
        at: Vec<i32>,
    },
    /// The f32 operations themselves, which [`crate::rt`] computes in integer arithmetic. With 8-bit weights accumulators
    /// lie closer together than f32 values, whose rounding then moves steps off any line; this takes 16 bytes where 255
    /// thresholds take 1020.
    Float {
        /// Constants of the channel.
        channel: ChannelAffine,
        /// Codes per unit, as a power of two.
        shift: i8,
    },
}

impl IntegerEpilogue {
    /// The code of accumulator `acc`, at most `max`.
    #[inline]
    pub fn code(&self, acc: i32, max: u8) -> u8 {
        match self {
            Self::Multiplier { multiplier, offset, shift } => {
                let v = i64::from(acc).wrapping_mul(i64::from(*multiplier)).wrapping_add(*offset) >> shift;
                v.clamp(0, i64::from(max)) as u8
            }
            Self::Thresholds { falling, at } => {
                let u = if *falling { acc.wrapping_neg() } else { acc };
                at.partition_point(|&t| t <= u) as u8
            }
            Self::Float { channel, shift } => epilogue_f32(acc, channel, CodeGrid { shift: *shift, max }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_half_to_even_and_clamp() {
        let grid = CodeGrid { shift: 6, max: 255 };
        assert_eq!(grid.step(), 1.0 / 64.0);
        let code = |halves: f32| grid.code(halves / 128.0);
        assert_eq!([code(-9.0), code(1.0), code(3.0), code(4.0), code(5.0)], [0, 0, 2, 2, 2]);
        assert_eq!([grid.code(1e9), grid.code(f32::NAN)], [255, 0]);
    }

    #[test]
    fn thresholds_count() {
        let e = IntegerEpilogue::Thresholds { falling: true, at: vec![-3, -3, 5] };
        assert_eq!([e.code(4, 3), e.code(3, 3), e.code(-4, 3), e.code(-5, 3)], [0, 2, 2, 3]);
    }
}
