//! Shapes of convolutions and pools, validated once so that the loops never have to.
//!
//! A geometry's sizes are readable as fields (`g.out_h`) through `Deref` and cannot be changed after construction:
//! the unsafe loops of this crate rely on that.

use core::ops::Deref;

use crate::KernelError;

/// How an image is extended at its borders (TensorFlow 2 semantics).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Padding {
    /// Output is `ceil(input / stride)`; the padding needed is split evenly, the odd row or column going to the
    /// bottom and right.
    Same,
    /// No padding; output is `ceil((input - kernel + 1) / stride)`.
    Valid,
}

/// Sizes of a convolution, read through [`Conv2d`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Conv2dSizes {
    /// Images.
    pub batch: usize,
    /// Input rows.
    pub in_h: usize,
    /// Input columns.
    pub in_w: usize,
    /// Input channels.
    pub in_c: usize,
    /// Kernel rows.
    pub kernel_h: usize,
    /// Kernel columns.
    pub kernel_w: usize,
    /// Output channels.
    pub out_c: usize,
    /// Rows between two outputs.
    pub stride_h: usize,
    /// Columns between two outputs.
    pub stride_w: usize,
    /// Padding rows above.
    pub pad_top: usize,
    /// Padding columns on the left.
    pub pad_left: usize,
    /// Output rows.
    pub out_h: usize,
    /// Output columns.
    pub out_w: usize,
    /// Every output channel sees one input channel only (kernel `[kh, kw, c, 1]`).
    pub depthwise: bool,
}

/// Geometry of a 2-D convolution over NHWC images with a `[kh, kw, cin, cout]` kernel, or of a depthwise one with a
/// `[kh, kw, c, 1]` kernel.
///
/// ```
/// use kernels::{Conv2d, Padding};
/// let g = Conv2d::new([8, 32, 32, 3], [3, 3, 3, 16], [2, 2], Padding::Same)?;
/// assert_eq!(g.output_shape(), [8, 16, 16, 16]);
/// assert_eq!((g.pad_top, g.pad_left), (0, 0)); // TensorFlow pads the bottom and right first
/// # Ok::<(), kernels::KernelError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv2d(Conv2dSizes);

impl Deref for Conv2d {
    type Target = Conv2dSizes;
    #[inline(always)]
    fn deref(&self) -> &Conv2dSizes {
        &self.0
    }
}

impl Conv2d {
    /// Geometry of a convolution of `input` `[n, h, w, cin]` with `kernel` `[kh, kw, cin, cout]`.
    ///
    /// # Errors
    /// A zero kernel, stride or channel count, a channel count that differs between the two, a `Valid` kernel larger
    /// than the image, or sizes whose product does not fit memory. A batch of zero is fine.
    pub fn new(
        input: [usize; 4],
        kernel: [usize; 4],
        stride: [usize; 2],
        padding: Padding,
    ) -> Result<Self, KernelError> {
        if input[3] != kernel[2] {
            return Err(KernelError::Geometry {
                op: "conv2d",
                reason: "input channels differ from the kernel's",
                sizes: [input[3], kernel[2], 0, 0],
            });
        }
        Self::build("conv2d", input, kernel, kernel[3], stride, padding, false)
    }

    /// Geometry of a depthwise convolution of `input` `[n, h, w, c]` with `kernel` `[kh, kw, c, 1]`.
    ///
    /// # Errors
    /// As [`Conv2d::new`], and a channel multiplier (last kernel size) other than 1.
    pub fn depthwise(
        input: [usize; 4],
        kernel: [usize; 4],
        stride: [usize; 2],
        padding: Padding,
    ) -> Result<Self, KernelError> {
        if input[3] != kernel[2] || kernel[3] != 1 {
            return Err(KernelError::Geometry {
                op: "depthwise",
                reason: "kernel must be [kh, kw, c, 1] with the input's c (input c, kernel c, multiplier)",
                sizes: [input[3], kernel[2], kernel[3], 0],
            });
        }
        Self::build("depthwise", input, kernel, input[3], stride, padding, true)
    }

    fn build(
        op: &'static str,
        input: [usize; 4],
        kernel: [usize; 4],
        out_c: usize,
        stride: [usize; 2],
        padding: Padding,
        depthwise: bool,
    ) -> Result<Self, KernelError> {
        let [batch, in_h, in_w, in_c] = input;
        let [kernel_h, kernel_w, ..] = kernel;
        let (out_h, pad_top) = axis(op, in_h, kernel_h, stride[0], padding)?;
        let (out_w, pad_left) = axis(op, in_w, kernel_w, stride[1], padding)?;
        if in_c == 0 || out_c == 0 {
            return Err(KernelError::Geometry {
                op,
                reason: "channels must not be zero (in, out)",
                sizes: [in_c, out_c, 0, 0],
            });
        }
        fits(op, [batch.max(1), in_h, in_w, in_c])?;
        fits(op, [batch.max(1), out_h, out_w, out_c])?;
        fits(op, kernel)?;
        // One image's patches: what the unfolded loops may have to index.
        fits(op, [out_h, out_w, kernel_h * kernel_w, in_c])?;
        Ok(Self(Conv2dSizes {
            batch,
            in_h,
            in_w,
            in_c,
            kernel_h,
            kernel_w,
            out_c,
            stride_h: stride[0],
            stride_w: stride[1],
            pad_top,
            pad_left,
            out_h,
            out_w,
            depthwise,
        }))
    }
}

impl Conv2dSizes {
    /// `[n, h, w, cin]`.
    pub fn input_shape(&self) -> [usize; 4] {
        [self.batch, self.in_h, self.in_w, self.in_c]
    }
    /// `[n, h, w, cout]`.
    pub fn output_shape(&self) -> [usize; 4] {
        [self.batch, self.out_h, self.out_w, self.out_c]
    }
    /// `[kh, kw, cin, cout]`, or `[kh, kw, c, 1]` for a depthwise geometry.
    pub fn kernel_shape(&self) -> [usize; 4] {
        [self.kernel_h, self.kernel_w, self.in_c, if self.depthwise { 1 } else { self.out_c }]
    }
    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.in_h * self.in_w * self.in_c
    }
    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.out_h * self.out_w * self.out_c
    }
    /// Elements of the kernel.
    pub fn kernel_len(&self) -> usize {
        self.patch() * if self.depthwise { 1 } else { self.out_c }
    }
    /// Kernel positions times input channels: the `k` of the equivalent GEMM.
    pub fn patch(&self) -> usize {
        self.kernel_h * self.kernel_w * self.in_c
    }
    /// Multiply-accumulates of one forward pass, padded positions included; the largest number if there are more.
    pub fn macs(&self) -> u64 {
        let taps = if self.depthwise { self.kernel_h * self.kernel_w } else { self.patch() };
        (self.output_len() as u64).saturating_mul(taps as u64)
    }
    /// The images as one matrix: 1x1 kernel, stride 1.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.kernel_h == 1 && self.kernel_w == 1 && self.stride_h == 1 && self.stride_w == 1
    }
}

/// Sizes of a pool, read through [`Pool2d`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Pool2dSizes {
    /// Images.
    pub batch: usize,
    /// Input rows.
    pub in_h: usize,
    /// Input columns.
    pub in_w: usize,
    /// Channels of input and output.
    pub channels: usize,
    /// Window rows.
    pub size_h: usize,
    /// Window columns.
    pub size_w: usize,
    /// Rows between two windows.
    pub stride_h: usize,
    /// Columns between two windows.
    pub stride_w: usize,
    /// Padding rows above.
    pub pad_top: usize,
    /// Padding columns on the left.
    pub pad_left: usize,
    /// Output rows.
    pub out_h: usize,
    /// Output columns.
    pub out_w: usize,
}

/// Geometry of a 2-D pool over NHWC images. Padding never wins a maximum and is not counted in an average
/// (Keras semantics).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pool2d(Pool2dSizes);

impl Deref for Pool2d {
    type Target = Pool2dSizes;
    #[inline(always)]
    fn deref(&self) -> &Pool2dSizes {
        &self.0
    }
}

impl Pool2d {
    /// Geometry of a pool of `input` `[n, h, w, c]` with windows of `size` rows and columns.
    ///
    /// # Errors
    /// A zero window, stride or channel count, a `Valid` window larger than the image, or sizes whose product does
    /// not fit memory. A batch of zero is fine.
    pub fn new(
        input: [usize; 4],
        size: [usize; 2],
        stride: [usize; 2],
        padding: Padding,
    ) -> Result<Self, KernelError> {
        let [batch, in_h, in_w, channels] = input;
        let (out_h, pad_top) = axis("pool2d", in_h, size[0], stride[0], padding)?;
        let (out_w, pad_left) = axis("pool2d", in_w, size[1], stride[1], padding)?;
        if channels == 0 {
            return Err(KernelError::Geometry {
                op: "pool2d",
                reason: "channels must not be zero",
                sizes: input,
            });
        }
        fits("pool2d", [batch.max(1), in_h, in_w, channels])?;
        fits("pool2d", [batch.max(1), out_h, out_w, channels])?;
        Ok(Self(Pool2dSizes {
            batch,
            in_h,
            in_w,
            channels,
            size_h: size[0],
            size_w: size[1],
            stride_h: stride[0],
            stride_w: stride[1],
            pad_top,
            pad_left,
            out_h,
            out_w,
        }))
    }
}

impl Pool2dSizes {
    /// `[n, h, w, c]`.
    pub fn input_shape(&self) -> [usize; 4] {
        [self.batch, self.in_h, self.in_w, self.channels]
    }
    /// `[n, h, w, c]`.
    pub fn output_shape(&self) -> [usize; 4] {
        [self.batch, self.out_h, self.out_w, self.channels]
    }
    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.in_h * self.in_w * self.channels
    }
    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.out_h * self.out_w * self.channels
    }
    /// Input rows and columns (as ranges) under the window of output `(oy, ox)`, padding left out. Never empty.
    #[inline(always)]
    pub(crate) fn window(&self, oy: usize, ox: usize) -> (Range, Range) {
        (
            clip(oy * self.stride_h, self.pad_top, self.size_h, self.in_h),
            clip(ox * self.stride_w, self.pad_left, self.size_w, self.in_w),
        )
    }
}

/// Half-open range of rows or columns.
pub(crate) type Range = core::ops::Range<usize>;

/// `start - pad .. start - pad + size`, cut to `0..limit`.
#[inline(always)]
pub(crate) fn clip(start: usize, pad: usize, size: usize, limit: usize) -> Range {
    start.saturating_sub(pad).min(limit)..(start + size).saturating_sub(pad).min(limit)
}

/// Output size and leading padding of one axis.
fn axis(
    op: &'static str,
    input: usize,
    kernel: usize,
    stride: usize,
    padding: Padding,
) -> Result<(usize, usize), KernelError> {
    let error = |reason| KernelError::Geometry { op, reason, sizes: [input, kernel, stride, 0] };
    if input == 0 || kernel == 0 || stride == 0 {
        return Err(error("input, kernel and stride must not be zero"));
    }
    if input.max(kernel).max(stride) > LARGEST {
        return Err(error("input, kernel or stride is too large"));
    }
    match padding {
        Padding::Same => {
            let out = input.div_ceil(stride);
            let pad = ((out - 1) * stride + kernel).saturating_sub(input);
            Ok((out, pad / 2))
        }
        Padding::Valid if kernel > input => {
            Err(error("the kernel is larger than the image (input, kernel, stride)"))
        }
        Padding::Valid => Ok(((input - kernel) / stride + 1, 0)),
    }
}

/// Largest single size: keeps the products of two sizes within 32-bit targets' reach of a checked product.
const LARGEST: usize = 1 << 15;

/// Fails unless eight bytes times the product of `sizes` is addressable.
fn fits(op: &'static str, sizes: [usize; 4]) -> Result<(), KernelError> {
    let product = sizes.iter().try_fold(8_usize, |p, &s| p.checked_mul(s));
    match product {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(()),
        _ => Err(KernelError::Geometry { op, reason: "the sizes' product does not fit memory", sizes }),
    }
}
