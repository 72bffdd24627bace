//! Kernels as codes: what the quantizer makes of the latent weights in the inference phase.

use qtensor::{Codes, Phase, Quantized, Quantizer, Scratch};

use super::{Context, Input};
use crate::DeployError;
use crate::epilogue::Affine;
use crate::program::Weights;

/// The codes of the layer's kernel, `dilation` apart, and the f32 constants that follow its accumulators, for `channels` output
/// channels.
pub(super) fn lower(
    context: &Context<'_>,
    input: &Input<'_>,
    quantizer: Option<&Quantizer>,
    (channels, dilation): (usize, [usize; 2]),
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
    } else {
        let slot = |n| scales.get(quantizer.scale_slot(shape, n)).copied().unwrap_or(f32::NAN);
        scales = (0..channels).map(slot).collect();
    }
    // Also catches scales along another axis, and mixtures of float and quantized values.
    let product =
        |(i, &code): (usize, &i8)| f32::from(code) * scales.get(i % channels).copied().unwrap_or(f32::NAN);
    if !codes.iter().enumerate().map(product).eq(values.iter().copied()) {
        let reason = format!("`{quantizer}` does not give codes with one scale per output channel");
        return Err(context.unsupported(reason));
    }
    let step = input.tensor.scale;
    scales.iter_mut().for_each(|s| *s *= step);
    let codes = spread(codes, shape, dilation);
    Ok((Weights::new(codes), Affine { scale: scales, bias: bias(context)?, norm: None }))
}

/// The codes of a kernel of `shape` with `dilation - 1` zeros between neighbours of its first two axes.
fn spread(codes: Vec<i8>, shape: &[usize], dilation: [usize; 2]) -> Vec<i8> {
    let &[kh, kw, c, m] = shape else { return codes };
    if dilation == [1, 1] {
        return codes;
    }
    let [h, w] = [(kh - 1) * dilation[0] + 1, (kw - 1) * dilation[1] + 1];
    let mut out = vec![0; h * w * c * m];
    for (i, from) in codes.chunks_exact(c * m).enumerate() {
        let (y, x) = (i / kw * dilation[0], i % kw * dilation[1]);
        out[(y * w + x) * c * m..][..c * m].copy_from_slice(from);
    }
    out
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
