//! Convolutions. A dilated kernel is stored with the zeros between its elements, so that every target runs it.

use kernels::Conv2d;
use qnn::network::Pad;
use qtensor::Quantizer;

use super::{Context, Input, kernel};
use crate::DeployError;
use crate::program::{Branch, Linear, Window};

/// Sizes of a convolution, as the network file gives them.
pub(super) struct Sizes {
    /// Output channels.
    pub(super) filters: usize,
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) padding: Pad,
}

impl Sizes {
    /// Rows and columns that the kernel covers. Shape inference has checked that there are so many.
    pub(super) fn spread(&self) -> [usize; 2] {
        [0, 1].map(|i| (self.kernel[i] - 1) * self.dilation[i] + 1)
    }
}

pub(super) fn lower(
    context: &Context<'_>,
    input: Input<'_>,
    sizes: &Sizes,
    quantizer: Option<&Quantizer>,
) -> Result<Branch, DeployError> {
    let ([h, w, c], [kh, kw]) = (input.shape, sizes.spread());
    let geometry = Conv2d::new([1, h, w, c], [kh, kw, c, sizes.filters], sizes.stride, sizes.padding.into())
        .map_err(|e| context.geometry(e))?;
    let (weights, affine) = kernel::lower(context, &input, quantizer, (sizes.filters, sizes.dilation))?;
    let linear = Linear::Conv2d { window: Window::of_conv(&geometry), weights };
    Ok(Branch { name: context.layer.name.clone(), input: input.index, linear, affine })
}
