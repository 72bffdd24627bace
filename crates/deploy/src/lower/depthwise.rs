//! Depthwise convolutions.

use kernels::Conv2d;
use qtensor::Quantizer;

use super::conv2d::Sizes;
use super::{Context, Input, kernel};
use crate::DeployError;
use crate::program::{Branch, Linear, Window};

pub(super) fn lower(
    context: &Context<'_>,
    input: Input<'_>,
    sizes: &Sizes,
    quantizer: Option<&Quantizer>,
) -> Result<Branch, DeployError> {
    let ([h, w, c], [kh, kw], channels) = (input.shape, sizes.spread(), sizes.filters);
    let geometry =
        Conv2d::depthwise([1, h, w, channels], [kh, kw, channels, 1], sizes.stride, sizes.padding.into())
            .map_err(|e| context.geometry(e))?;
    let (weights, affine) = kernel::lower(context, &input, quantizer, (channels, sizes.dilation))?;
    let linear = Linear::Depthwise { window: Window { in_c: c, ..Window::of_conv(&geometry) }, weights };
    Ok(Branch { name: context.layer.name.clone(), input: input.index, linear, affine })
}
