//! The f32 epilogues of the training graph as epilogues of the kernels: of a branch, and of the sum of two.

use kernels::KernelError;
use kernels::epilogue::{Affine, Grid, Quantize};

use super::step::Packed;
use crate::epilogue::CodeGrid;

/// The real values of a branch's accumulators, their zero point not yet subtracted.
pub(super) fn affine(branch: &Packed) -> Result<Affine, KernelError> {
    let constants = &branch.affine;
    let norm = constants.norm.as_ref().map(|n| [&n.a[..], &n.b[..]]);
    Affine::new(&branch.offset, &constants.scale, constants.bias.as_deref(), norm)
}

/// The codes of a branch.
pub(super) fn quantize(branch: &Packed, codes: CodeGrid) -> Result<Quantize, KernelError> {
    Ok(Quantize::new(affine(branch)?, grid(codes)))
}

/// The grid as the kernels want it. Its unit is a power of two, so that the reciprocal of a step is exact.
fn grid(codes: CodeGrid) -> Grid {
    Grid { unit: 1.0 / codes.step(), high: codes.max }
}

/// The sum of two branches: one is kept in memory, and the other added where its accumulators come to be.
#[derive(Debug)]
pub(super) struct Residual {
    /// Number of the branch that is kept, and of the one computed last.
    pub(super) kept: usize,
    pub(super) last: usize,
    /// In this order.
    pub(super) affine: [Affine; 2],
    pub(super) grid: Grid,
}

impl Residual {
    pub(super) fn new(branches: [&Packed; 2], codes: CodeGrid) -> Result<Self, KernelError> {
        // The branch with the most to compute is last. A sum of two floats has no order.
        let kept = usize::from(branches[0].macs > branches[1].macs);
        let last = 1 - kept;
        let affine = [affine(branches[kept])?, affine(branches[last])?];
        Ok(Self { kept, last, affine, grid: grid(codes) })
    }
}
