//! Runs a graph over named tensors, for comparisons.

use qtensor::{Codes, Phase, Quantized, Quantizer, Scratch};

use crate::graph::{Executor, Graph, Leaves, NodeId, RunKey};

/// External tensors in the order of their slots, and parameters in theirs.
pub(super) struct Tensors<'a> {
    pub(super) inputs: Vec<&'a [f32]>,
    pub(super) params: &'a [Vec<f32>],
}

impl Leaves<f32> for Tensors<'_> {
    fn input(&self, slot: usize) -> &[f32] {
        self.inputs[slot]
    }

    fn param(&self, index: usize) -> &[f32] {
        &self.params[index]
    }
}

/// Values of `outputs`, stochastic quantizers as in inference.
pub(super) fn values(
    graph: &Graph,
    outputs: &[NodeId],
    leaves: &Tensors<'_>,
) -> Result<Vec<Vec<f32>>, String> {
    let mut exec: Executor<f32> = Executor::new(graph.clone(), &[outputs], Phase::Inference, false);
    exec.run(0, leaves, RunKey::default()).map_err(|e| e.to_string())?;
    Ok(outputs.iter().map(|&id| exec.value(id, leaves).to_vec()).collect())
}

/// A tensor quantized as in inference, and the scales in QKeras' terms.
pub(super) fn quantize(
    quantizer: &Quantizer,
    x: &[f32],
    shape: &[usize],
) -> Result<(Vec<f32>, Vec<f32>), String> {
    let (mut values, mut scales) = (vec![0f32; x.len()], Vec::new());
    let mut scratch = Scratch::new();
    let out =
        Quantized { values: &mut values, codes: Codes::Skip, scales: &mut scales, scratch: &mut scratch };
    quantizer.quantize(x, shape, Phase::Inference, None, out).map_err(|e| e.to_string())?;
    scales.iter_mut().for_each(|s| *s = quantizer.qkeras_scale(*s));
    Ok((values, scales))
}

/// `scales` brought to the reference's count: one of ours stands for many, and many equal ones for one.
pub(super) fn spread(scales: &[f32], count: usize) -> Vec<f32> {
    match scales {
        [one] => vec![*one; count],
        [first, rest @ ..] if count == 1 && rest.iter().all(|s| s == first) => vec![*first],
        _ => scales.to_vec(),
    }
}
