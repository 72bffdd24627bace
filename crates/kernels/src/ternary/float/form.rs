//! Which form a ternary weight for f32 values takes, by a rule of sizes alone.

use crate::Conv2d;
use crate::winograd;

/// A packed form of a ternary weight for f32 values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// A number of a sum per three trits: additions of sums made once for all outputs.
    Sums3,
    /// Scaled trits in f32, side by side for fused multiply-adds.
    Panels,
    /// 3x3 kernels with a stride of 1 that Winograd's F(4x4, 3x3) pays for: scaled trits at its points in f32.
    Winograd,
}

/// Outputs from which tables of sums repay being made.
const LEAST_OUTPUTS: usize = 128;
/// Rows below which most of a block of them would be empty.
const LEAST_ROWS: usize = 16;

impl Form {
    /// Every form.
    pub const ALL: [Form; 3] = [Self::Sums3, Self::Panels, Self::Winograd];

    /// The form for `m` rows, `n` outputs and `k` values an output: [`Form::Sums3`] for at least 16 rows and 128 outputs,
    /// else [`Form::Panels`]. It does not depend on the path of instructions, so that bits do not either.
    pub fn for_gemm(m: usize, _k: usize, n: usize) -> Self {
        if m >= LEAST_ROWS && n >= LEAST_OUTPUTS { Self::Sums3 } else { Self::Panels }
    }

    /// The form for a convolution: [`Form::Winograd`] where it can be, else as [`Form::for_gemm`] for the pixels of one
    /// image.
    pub fn for_conv2d(g: &Conv2d) -> Self {
        if Self::Winograd.takes(g) {
            return Self::Winograd;
        }
        Self::for_gemm(g.out_h * g.out_w, g.patch(), g.out_c)
    }

    /// Whether a convolution can be computed in this form. [`Form::Winograd`] wants a 3x3 kernel, a stride of 1, at least
    /// 16 channels and outputs, and images of at least four 4x4 tiles that are no more than half empty.
    pub fn takes(self, g: &Conv2d) -> bool {
        self != Self::Winograd || winograd::applies(g)
    }
}
