//! Dense layers, and what can be said of the logits.

use qtensor::Quantizer;

use super::{Context, Input, kernel};
use crate::DeployError;
use crate::program::{Branch, Element, Linear, Tensor, Window};
use crate::prove::{EquivalenceReport, interval};

pub(super) fn lower(
    context: &Context<'_>,
    input: Input<'_>,
    units: usize,
    quantizer: Option<&Quantizer>,
) -> Result<Branch, DeployError> {
    let [_, _, n] = input.shape;
    let (weights, affine) = kernel::lower(context, &input, quantizer, (units, [1, 1]))?;
    let window = Window { out_c: units, ..Window::identity([1, 1, n]) };
    let linear = Linear::Conv2d { window, weights };
    Ok(Branch { name: context.layer.name.clone(), input: input.index, linear, affine })
}

/// Checks that logits fit and are finite. On codes the program's logits are the training graph's, bit for bit. After an
/// average pool the graph computes means and the dense layer in f32, with `k` inexact products and sums, where the
/// program is exact up to its last few roundings: the standard bound on the difference is
/// `(k + 16) * 2^-24 * (sum |w| |x| + |bias|)`.
pub(super) fn prove_logits(branch: &Branch, tensors: &[Tensor]) -> Result<EquivalenceReport, DeployError> {
    let tensor = &tensors[branch.input];
    let exact = tensor.element == Element::U8 && branch.linear.weights().is_some();
    let classes = branch.linear.window().out_c;
    let mut report = EquivalenceReport { logits_exact: exact, ..Default::default() };
    report.float_in_integers = classes as u64;
    for class in 0..classes {
        let (low, high) = interval(branch, tensor, class)?;
        let affine = branch.affine.channel(class);
        let largest = [low, high].map(|acc| affine.value_f32(acc));
        if let Some((&accumulator, &value)) = [low, high].iter().zip(&largest).find(|(_, v)| !v.is_finite()) {
            let layer = branch.name.clone();
            return Err(DeployError::NotFinite { layer, channel: class, accumulator, value });
        }
        if !exact {
            let terms = branch.linear.channel(class).count() as f64 + 16.0;
            let weight: f64 = branch.linear.channel(class).map(|w| f64::from(w).abs()).sum();
            let norm = affine.norm.map_or(1.0, |(a, _)| f64::from(a).abs().max(1.0));
            let size = weight * f64::from(tensor.max) * f64::from(affine.scale).abs()
                + f64::from(affine.bias.unwrap_or(0.0)).abs();
            let shift = f64::from(affine.norm.map_or(0.0, |(_, b)| b)).abs();
            report.logit_error = report.logit_error.max(terms * (-24_f64).exp2() * (size * norm + shift));
        }
    }
    Ok(report)
}
