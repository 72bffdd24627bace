//! Activation quantizers: where accumulators become codes, and where equality is proved.

use qtensor::Quantizer;
use rayon::prelude::*;

use super::Context;
use crate::DeployError;
use crate::epilogue::{CodeGrid, IntegerEpilogue};
use crate::program::{Branch, Element, Epilogue, Step, StepOp, Tensor};
use crate::prove::{EquivalenceReport, interval, prove_channel, prove_residual};

/// The step that turns `branches` into codes in tensor `output`, that tensor, and the proof.
pub(super) fn lower(
    context: &Context<'_>,
    branches: Vec<Branch>,
    quantizer: Option<&Quantizer>,
    tensors: &[Tensor],
    output: usize,
) -> Result<(Step, Tensor, EquivalenceReport), DeployError> {
    let grid = code_grid(context, quantizer)?;
    let channels = branches[0].linear.window().out_c;
    let mut report = EquivalenceReport::default();
    let epilogue = if let [branch] = &branches[..] {
        let tensor = &tensors[branch.input];
        let proofs: Vec<Result<(IntegerEpilogue, EquivalenceReport), DeployError>> = (0..channels)
            .into_par_iter()
            .map(|c| {
                let range = interval(branch, tensor, c)?;
                prove_channel(&branch.affine.channel(c), grid, range, (&branch.name, c))
            })
            .collect();
        let mut forms = Vec::with_capacity(channels);
        for proof in proofs {
            let (form, part) = proof?;
            report.add(&part);
            forms.push(form);
        }
        Epilogue::Integer(forms)
    } else {
        for c in 0..channels {
            report.add(&prove_residual(&branches, tensors, c)?);
        }
        Epilogue::Float
    };
    let name = context.layer.name.clone();
    let tensor = Tensor {
        name: name.clone(),
        len: branches[0].linear.window().output_len(),
        element: Element::U8,
        scale: grid.step(),
        zero_point: 0,
        max: u16::from(grid.max),
    };
    Ok((Step { name, op: StepOp::Compute { branches, epilogue, grid, output } }, tensor, report))
}

/// The code grid of an activation quantizer: `quantized_relu` of up to 8 bits without its variants.
fn code_grid(context: &Context<'_>, quantizer: Option<&Quantizer>) -> Result<CodeGrid, DeployError> {
    let Some(quantizer) = quantizer else {
        return Err(context.unsupported("plain ReLU puts out floats: use quantized_relu"));
    };
    let no = |why: &str| Err(context.unsupported(format!("`{quantizer}`: {why}")));
    let Quantizer::Relu(relu) = quantizer else {
        return no("activations must be quantized_relu");
    };
    if relu.use_sigmoid || relu.negative_slope != 0.0 {
        return no("use_sigmoid and negative_slope have no code grid that starts at 0");
    }
    if relu.relu_upper_bound.is_some() && !relu.is_quantized_clip {
        return no("relu_upper_bound cuts the code grid");
    }
    if relu.qnoise_factor != 1.0 {
        return no("with qnoise_factor below 1 its values are not on a grid");
    }
    let shift = i64::from(relu.bits) - i64::from(relu.integer);
    if !(1..=8).contains(&relu.bits) || !(-30..=30).contains(&shift) {
        return no("codes must have 1 to 8 bits and a step of 2^-30 to 2^30");
    }
    Ok(CodeGrid { shift: shift as i8, max: ((1_u32 << relu.bits) - 1) as u8 })
}
