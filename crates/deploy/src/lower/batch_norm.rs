//! Batch normalisation in the inference phase, as the f32 line the training graph evaluates.

use qnn::network::BatchNormQuantizers;
use qtensor::Quantizer;

use super::{Context, Value};
use crate::DeployError;
use crate::epilogue::Norm;
use crate::program::Branch;

/// `a = gamma * (1 / sqrt(variance + eps))` and `b = beta - mean * a`, rounded as `qnn` rounds them: the sum in f32, the
/// root and reciprocal in f64 and then to f32, the rest in f32. What has a quantizer is quantized first.
pub(super) fn fold(
    context: &Context<'_>,
    source: &Value,
    eps: f32,
    quantizers: &BatchNormQuantizers,
) -> Result<Vec<Branch>, DeployError> {
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
    let quantized = |q: &Option<Quantizer>, x: &[f32]| match q {
        Some(q) => q
            .inference_values(x, &[x.len()])
            .map_err(|source| DeployError::Quantize { layer: context.layer.name.clone(), source }),
        None => Ok(x.to_vec()),
    };
    let gamma = quantized(&quantizers.gamma, context.required("gamma")?)?;
    let beta = quantized(&quantizers.beta, context.required("beta")?)?;
    let mean = quantized(&quantizers.mean, context.required("moving_mean")?)?;
    let variance = quantized(&quantizers.variance, context.required("moving_variance")?)?;
    let inverse = |v: f32| (1.0 / f64::from(v + eps).sqrt()) as f32;
    let a: Vec<f32> = gamma.iter().zip(variance).map(|(&g, v)| g * inverse(v)).collect();
    let a = quantized(&quantizers.inverse, &a)?;
    let b = beta.iter().zip(mean).zip(&a).map(|((&beta, mean), &a)| beta - mean * a).collect();
    let mut branch = branch.clone();
    branch.affine.norm = Some(Norm { a, b });
    Ok(vec![branch])
}
