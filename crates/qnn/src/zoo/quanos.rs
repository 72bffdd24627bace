//! A QUANOS-style network (arXiv 2004.11233): bits per layer from adversarial noise sensitivity.

use qtensor::Quantizer;

use super::{Quantizers, Size, stq_image};
use crate::QnnError;
use crate::network::{InputGrid, LayerOp, Network};

/// The `stq_image` topology of `size` with `bits[l]`-bit kernels (2 to 8, one scale per output channel) in its l-th
/// weight layer and 8-bit activations. The paper's own rule from sensitivity to bits is not public; callers choose.
pub fn quanos(
    size: Size,
    input: [usize; 3],
    grid: InputGrid,
    classes: usize,
    bits: &[u32],
) -> Result<Network, QnnError> {
    let activations = Some("quantized_relu(8, 2)".parse().expect("valid text"));
    let mut net = stq_image(size, input, grid, classes, &Quantizers { activations, ..Quantizers::default() });
    net.name = net.name.replace("stq_image", "quanos");
    let mut bits = bits.iter();
    let short = || QnnError::Config(format!("`{}` needs one bit width (2 to 8) per weight layer", "quanos"));
    for layer in &mut net.layers {
        if let LayerOp::Conv2d { quantizer, .. } | LayerOp::Dense { quantizer, .. } = &mut layer.op {
            let b = bits.next().filter(|b| (2..=8).contains(*b)).ok_or_else(short)?;
            let text = format!("quantized_bits({b}, 0, alpha=auto)");
            *quantizer = Some(text.parse::<Quantizer>().map_err(|e| QnnError::Config(e.to_string()))?);
        }
    }
    if bits.next().is_some() {
        return Err(short());
    }
    net.shapes()?;
    Ok(net)
}
