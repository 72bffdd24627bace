//! Pools on codes: a maximum of codes is the code of the maximum, a sum of codes is an exact multiple of the mean.

use kernels::{Padding, Pool2d};

use super::{Context, Input};
use crate::DeployError;
use crate::program::{Element, StepOp, Tensor, Window};

/// The step and the tensor `output` it writes.
pub(super) fn lower(
    context: &Context<'_>,
    input: Input<'_>,
    (size, stride): ([usize; 2], [usize; 2]),
    average: bool,
    output: usize,
) -> Result<(StepOp, Tensor), DeployError> {
    let [h, w, c] = input.shape;
    let pool = Pool2d::new([1, h, w, c], size, stride, Padding::Valid).map_err(|e| context.geometry(e))?;
    let (window, from) = (Window::of_pool(&pool), input.tensor);
    let mut tensor = Tensor { name: context.layer.name.clone(), len: window.output_len(), ..from.clone() };
    if !average {
        return Ok((StepOp::MaxPool { window, input: input.index, output }, tensor));
    }
    let count = size[0] * size[1];
    let Some(max) = u16::try_from(count).ok().and_then(|n| n.checked_mul(from.max)) else {
        return Err(
            context.unsupported(format!("sums of {count} codes up to {} do not fit 16 bits", from.max))
        );
    };
    if from.zero_point != 0 {
        return Err(context.unsupported("an average pool of codes with a zero point"));
    }
    tensor.element = Element::U16;
    tensor.max = max;
    tensor.scale *= 1.0 / count as f32;
    Ok((StepOp::SumPool { window, input: input.index, output }, tensor))
}
