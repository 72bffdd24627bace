//! Residual sums.

use super::{Context, Input};
use crate::DeployError;
use crate::epilogue::Affine;
use crate::program::{Branch, Linear, Window};

/// Codes as a branch of a sum.
pub(super) fn shortcut(input: &Input<'_>) -> Branch {
    Branch {
        name: input.tensor.name.clone(),
        input: input.index,
        linear: Linear::Codes { window: Window::identity(input.shape) },
        affine: Affine::uniform(input.tensor.scale, input.shape[2]),
    }
}

/// The sum of two branches; a sum of sums has no form.
pub(super) fn join(
    context: &Context<'_>,
    mut left: Vec<Branch>,
    right: Vec<Branch>,
) -> Result<Vec<Branch>, DeployError> {
    if left.len() + right.len() != 2 {
        return Err(context.unsupported("a sum of more than two layers without an activation between"));
    }
    left.extend(right);
    Ok(left)
}
