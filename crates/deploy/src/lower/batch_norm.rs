//! Batch normalisation in the inference phase, as the f32 line the training graph evaluates.

use super::{Context, Value};
use crate::DeployError;
use crate::epilogue::Norm;
use crate::program::Branch;

/// `a = gamma * (1 / sqrt(variance + eps))` and `b = beta - mean * a`, rounded as `qnn` rounds them: the sum in f32, the
/// root and reciprocal in f64 and then to f32, the rest in f32.
pub(super) fn fold(context: &Context<'_>, source: &Value, eps: f32) -> Result<Vec<Branch>, DeployError> {
    let Value::Wide(branches) = source else {
        return Err(
            context.unsupported("batch normalisation must directly follow a convolution or dense layer")
        );
    };
    let [branch] = &branches[..] else {
        return Err(context.unsupported("batch normalisation of a residual sum"));
    };
    if branch.affine.norm.is_some() {
        return Err(context.unsupported("batch normalisation twice in a row"));
    }
    let (gamma, beta) = (context.required("gamma")?, context.required("beta")?);
    let (mean, variance) = (context.required("moving_mean")?, context.required("moving_variance")?);
    let inverse = |v: f32| (1.0 / f64::from(v + eps).sqrt()) as f32;
    let a: Vec<f32> = gamma.iter().zip(variance).map(|(&g, &v)| g * inverse(v)).collect();
    let b = beta.iter().zip(mean).zip(&a).map(|((&beta, &mean), &a)| beta - mean * a).collect();
    let mut branch = branch.clone();
    branch.affine.norm = Some(Norm { a, b });
    Ok(vec![branch])
}
