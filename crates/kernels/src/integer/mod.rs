//! What integer GEMM and convolution have in common, whatever the weights: patches read in place, panels of 16
//! outputs, exact `i32` accumulators and an epilogue.
//!
//! A *step* is four bytes of one patch (four `u8` codes, or two widened to `i16`) against 64 bytes of weights for 16
//! outputs. A patch is `segments` runs of memory, each a whole number of steps once the weights are padded with
//! zeros: a row of a convolution's kernel is one run of an NHWC image, so nothing is ever unfolded.

pub mod codes;
pub(crate) mod depthwise;
pub mod epilogue;
#[cfg(feature = "std")]
pub(crate) mod lines;
pub(crate) mod patches;
#[cfg(feature = "std")]
pub(crate) mod quantize;
pub(crate) mod run;

/// Outputs of one panel.
pub(crate) const PANEL: usize = 16;

/// Largest magnitude an accumulator may reach: leaves room for a bias as large without overflow.
pub(crate) const LARGEST_ACCUMULATOR: i64 = 1 << 30;

/// How a weight is cut into runs and panels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Runs of a patch.
    pub(crate) segments: usize,
    /// Codes of one run.
    pub(crate) segment: usize,
    /// Outputs.
    pub(crate) n: usize,
    /// Codes of one step.
    pub(crate) step: usize,
}

impl Layout {
    /// Rows of the weight.
    pub(crate) fn k(&self) -> usize {
        self.segments * self.segment
    }
    /// Steps of one run.
    pub(crate) fn segment_steps(&self) -> usize {
        self.segment.div_ceil(self.step)
    }
    /// Steps of one panel.
    pub(crate) fn steps(&self) -> usize {
        self.segments * self.segment_steps()
    }
    /// Panels.
    pub(crate) fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }
}
