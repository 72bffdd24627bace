//! Kernels as codes: what the quantizer makes of the latent weights in the inference phase.

use qtensor::{Codes, Phase, Quantized, Quantizer, Scratch};

use super::{Context, Input};
use crate::DeployError;
use crate::epilogue::Affine;
use crate::program::Weights;

/// The codes of the layer's kernel and the f32 constants that follow its accumulators, for `channels` output channels.
pub(super) fn lower(
    context: &Context<'_>,
    input: &Input<'_>,
    quantizer: Option<&Quantizer>,
    channels: usize,
) -> Result<(Weights, Affine), DeployError> {
    let Some(quantizer) = quantizer else {
        return Err(context.unsupported("its kernel is float: give it a quantizer"));
    };
    let latent = context.required("kernel")?;
    let shape = &context.shape.params[0].1;
    let (mut values, mut codes, mut scales) = (vec![0.0; latent.len()], vec![0_i8; latent.len()], Vec::new());
    let mut scratch = Scratch::new();
    let out = Quantized {
        values: &mut values,
        codes: Codes::I8(&mut codes),
        scales: &mut scales,
        scratch: &mut scratch,
    };
    quantizer
        .quantize(latent, shape, Phase::Inference, None, out)
        .map_err(|source| DeployError::Quantize { layer: context.layer.name.clone(), source })?;
    if scales.len() == 1 {
        scales.resize(channels, scales[0]);
    }
    // Also catches scales along another axis, and mixtures of float and quantized values.
    let product =
        |(i, &code): (usize, &i8)| f32::from(code) * scales.get(i % channels).copied().unwrap_or(f32::NAN);
    if scales.len() != channels || !codes.iter().enumerate().map(product).eq(values.iter().copied()) {
        let reason = format!("`{quantizer}` does not give codes with one scale per output channel");
        return Err(context.unsupported(reason));
    }
    let step = input.tensor.scale;
    scales.iter_mut().for_each(|s| *s *= step);
    Ok((Weights::new(codes), Affine { scale: scales, bias: bias(context)?, norm: None }))
}

/// The layer's bias as the training graph adds it in the inference phase.
fn bias(context: &Context<'_>) -> Result<Option<Vec<f32>>, DeployError> {
    let quantize = |latent: &[f32]| match &context.layer.bias_quantizer {
        Some(q) => q.inference_values(latent, &[latent.len()]),
        None => Ok(latent.to_vec()),
    };
    context
        .parameter("bias")?
        .map(quantize)
        .transpose()
        .map_err(|source| DeployError::Quantize { layer: context.layer.name.clone(), source })
}
