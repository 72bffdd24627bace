//! A network as plain data: a list of named layers, their wiring and the grid of the input.

mod batch_norm;
mod shape;

pub use batch_norm::BatchNormQuantizers;
pub use shape::{LayerShape, Shapes};

use kernels::Padding;
use qtensor::Quantizer;
use serde::{Deserialize, Serialize};

use crate::QnnError;

/// The grid a network's 8-bit inputs lie on: real `x = (code - zero_point) * scale`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputGrid {
    /// Real size of one code step.
    pub scale: f32,
    /// Code of the real value 0.
    pub zero_point: u8,
}

impl InputGrid {
    /// 8-bit images in `[0, 1]`: scale 1/255, zero point 0.
    pub const UNIT_IMAGE: Self = Self { scale: 1.0 / 255.0, zero_point: 0 };
    /// 8-bit images as they are, 0 to 255: what MLPerf Tiny's ResNet takes.
    pub const RAW_IMAGE: Self = Self { scale: 1.0, zero_point: 0 };
    /// Features in standard deviations: steps of 1/16, zero point 128, so about -8 to 7.9.
    pub const STANDARDISED: Self = Self { scale: 1.0 / 16.0, zero_point: 128 };

    /// The real value of a code.
    pub fn value(&self, code: u8) -> f32 {
        (f32::from(code) - f32::from(self.zero_point)) * self.scale
    }

    /// Smallest and largest real value on the grid.
    pub fn range(&self) -> (f32, f32) {
        (self.value(0), self.value(255))
    }
}

/// Padding of a convolution or pool, as the network file spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pad {
    /// TensorFlow's SAME: output is `ceil(input / stride)`, the odd pixel of padding goes to the bottom and right.
    Same,
    /// No padding.
    Valid,
}

impl From<Pad> for Padding {
    fn from(pad: Pad) -> Self {
        match pad {
            Pad::Same => Padding::Same,
            Pad::Valid => Padding::Valid,
        }
    }
}

/// What a layer computes. Quantizers are the *effective* ones: nothing is switched behind the reader's back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerOp {
    /// 2-D convolution, kernel `[kh, kw, cin, filters]`.
    Conv2d {
        /// Output channels.
        filters: usize,
        /// Kernel height and width.
        kernel: [usize; 2],
        /// Vertical and horizontal stride.
        stride: [usize; 2],
        /// Vertical and horizontal distance between the kernel's elements: 1 is dense. QKeras' `dilation_rate`.
        #[serde(default = "dense")]
        dilation: [usize; 2],
        /// Padding, of the kernel spread by `dilation`.
        padding: Pad,
        /// Whether a bias `[filters]` is added.
        bias: bool,
        /// Kernel quantizer; `None` keeps the float kernel.
        quantizer: Option<Quantizer>,
    },
    /// Depthwise convolution, kernel `[kh, kw, c, multiplier]`: output channel `i * multiplier + j` is input channel `i` with
    /// kernel `[.., i, j]`.
    DepthwiseConv2d {
        /// Kernel height and width.
        kernel: [usize; 2],
        /// Vertical and horizontal stride.
        stride: [usize; 2],
        /// Vertical and horizontal distance between the kernel's elements: 1 is dense. QKeras' `dilation_rate`.
        #[serde(default = "dense")]
        dilation: [usize; 2],
        /// Padding, of the kernel spread by `dilation`.
        padding: Pad,
        /// Output channels per input channel. QKeras' `depth_multiplier`.
        #[serde(default = "one")]
        multiplier: usize,
        /// Whether a bias `[c * multiplier]` is added.
        bias: bool,
        /// Kernel quantizer; `None` keeps the float kernel.
        quantizer: Option<Quantizer>,
    },
    /// Fully connected layer on a flat input, kernel `[in, units]`.
    Dense {
        /// Outputs.
        units: usize,
        /// Whether a bias `[units]` is added.
        bias: bool,
        /// Kernel quantizer; `None` keeps the float kernel.
        quantizer: Option<Quantizer>,
    },
    /// Batch normalisation over the last axis: gamma, beta, moving mean and variance of length `c`.
    BatchNorm {
        /// Added to the variance.
        eps: f32,
        /// `moving = momentum * moving + (1 - momentum) * batch`.
        momentum: f32,
        /// Quantizers of parameters and statistics; `None` is Keras' `BatchNormalization`, even none in `Some` is QKeras'
        /// `QBatchNormalization`.
        #[serde(default)]
        quantizers: Option<Box<BatchNormQuantizers>>,
    },
    /// Elementwise activation: a quantizer, or plain ReLU for `None`.
    Activation {
        /// An elementwise quantizer such as `quantized_relu(8, 3)`.
        quantizer: Option<Quantizer>,
    },
    /// Maximum over windows without padding.
    MaxPool {
        /// Window height and width.
        size: [usize; 2],
        /// Vertical and horizontal stride.
        stride: [usize; 2],
    },
    /// Mean over windows without padding.
    AvgPool {
        /// Window height and width.
        size: [usize; 2],
        /// Vertical and horizontal stride.
        stride: [usize; 2],
    },
    /// Sum of two inputs of one shape.
    Add,
    /// `[n, h, w, c]` to `[n, h * w * c]`.
    Flatten,
    /// Inverted dropout, active in training only.
    Dropout {
        /// Share of values set to zero.
        rate: f32,
    },
}

impl LayerOp {
    /// Whether a bias is added.
    pub fn has_bias(&self) -> bool {
        match self {
            Self::Conv2d { bias, .. } | Self::DepthwiseConv2d { bias, .. } | Self::Dense { bias, .. } => {
                *bias
            }
            _ => false,
        }
    }

    /// A convolution with this dilation instead of its own; other layers as they are.
    #[must_use]
    pub fn dilated(mut self, by: [usize; 2]) -> Self {
        if let Self::Conv2d { dilation, .. } | Self::DepthwiseConv2d { dilation, .. } = &mut self {
            *dilation = by;
        }
        self
    }

    /// A depthwise convolution with this multiplier instead of its own; other layers as they are.
    #[must_use]
    pub fn multiplied(mut self, by: usize) -> Self {
        if let Self::DepthwiseConv2d { multiplier, .. } = &mut self {
            *multiplier = by;
        }
        self
    }
}

/// The dilation of files that name none.
fn dense() -> [usize; 2] {
    [1, 1]
}

/// The multiplier of files that name none.
fn one() -> usize {
    1
}

/// One named layer and the layers it reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Unique name; parameters are called `name/kernel`, `name/bias`, `name/gamma`, ...
    pub name: String,
    /// What it computes.
    pub op: LayerOp,
    /// Names of the layers it reads; empty means the previous layer (the input for the first one), `input` means the
    /// network's input.
    pub inputs: Vec<String>,
    /// Quantizer of the bias, for layers that have one; `None` keeps it float. QKeras' `bias_quantizer`.
    pub bias_quantizer: Option<Quantizer>,
}

/// A whole network; the last layer's output are the logits `[n, classes]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Name, as in reports.
    pub name: String,
    /// Height, width and channels of one input.
    pub input: [usize; 3],
    /// Grid of the 8-bit input codes.
    pub grid: InputGrid,
    /// Number of classes.
    pub classes: usize,
    /// Layers in an order in which every layer follows those it reads.
    pub layers: Vec<Layer>,
}

fn wrong(layer: &str, reason: &str) -> QnnError {
    QnnError::Wiring { layer: layer.to_owned(), reason: reason.to_owned() }
}

/// Name that stands for the network's input in [`Layer::inputs`].
pub const INPUT: &str = "input";

impl Network {
    /// An empty network, to be filled by the builder methods.
    pub fn new(name: &str, input: [usize; 3], grid: InputGrid, classes: usize) -> Self {
        Self { name: name.into(), input, grid, classes, layers: Vec::new() }
    }

    /// Appends a layer that reads the previous one.
    pub fn then(mut self, name: &str, op: LayerOp) -> Self {
        self.layers.push(Layer { name: name.into(), op, inputs: Vec::new(), bias_quantizer: None });
        self
    }

    /// Appends a layer that reads the named ones.
    pub fn join(mut self, name: &str, op: LayerOp, inputs: &[&str]) -> Self {
        self.layers.push(Layer {
            name: name.into(),
            op,
            inputs: inputs.iter().map(|s| (*s).to_owned()).collect(),
            bias_quantizer: None,
        });
        self
    }

    /// Appends a SAME convolution without bias.
    pub fn conv(self, name: &str, filters: usize, size: usize, stride: usize, q: &Option<Quantizer>) -> Self {
        self.then(name, conv2d(filters, [size, size], [stride, stride], false, q))
    }

    /// Appends a separable convolution without bias: a SAME depthwise one named `name_dw` and a 1x1 one named `name_pw`.
    pub fn separable(
        self,
        name: &str,
        filters: usize,
        size: usize,
        stride: usize,
        q: &Option<Quantizer>,
    ) -> Self {
        self.then(&format!("{name}_dw"), depthwise([size, size], [stride, stride], false, q))
            .then(&format!("{name}_pw"), conv2d(filters, [1, 1], [1, 1], false, q))
    }

    /// Replaces the quantizer of one layer: of its kernel, or of the activation it is.
    ///
    /// # Errors
    /// A layer that does not exist or has nothing to quantize; an activation quantizer that is not elementwise.
    pub fn set_quantizer(&mut self, layer: &str, q: Option<Quantizer>) -> Result<(), QnnError> {
        match self.op_of(layer)? {
            LayerOp::Conv2d { quantizer, .. }
            | LayerOp::DepthwiseConv2d { quantizer, .. }
            | LayerOp::Dense { quantizer, .. }
            | LayerOp::Activation { quantizer } => *quantizer = q,
            _ => return Err(wrong(layer, "has neither a kernel nor an activation to quantize")),
        }
        self.shapes().map(drop)
    }

    /// Sets one convolution's dilation.
    ///
    /// # Errors
    /// A layer that does not exist or is no convolution; a dilation that its input has no room for.
    pub fn set_dilation(&mut self, layer: &str, by: [usize; 2]) -> Result<(), QnnError> {
        match self.op_of(layer)? {
            LayerOp::Conv2d { dilation, .. } | LayerOp::DepthwiseConv2d { dilation, .. } => *dilation = by,
            _ => return Err(wrong(layer, "is no convolution to dilate")),
        }
        self.shapes().map(drop)
    }

    /// Sets one depthwise convolution's multiplier.
    ///
    /// # Errors
    /// A layer that does not exist or is no depthwise convolution; a multiplier that leaves later layers without a fit.
    pub fn set_multiplier(&mut self, layer: &str, by: usize) -> Result<(), QnnError> {
        match self.op_of(layer)? {
            LayerOp::DepthwiseConv2d { multiplier, .. } => *multiplier = by,
            _ => return Err(wrong(layer, "is no depthwise convolution to multiply")),
        }
        self.shapes().map(drop)
    }

    fn op_of(&mut self, layer: &str) -> Result<&mut LayerOp, QnnError> {
        let found = self.layers.iter_mut().find(|l| l.name == layer);
        found.map(|l| &mut l.op).ok_or_else(|| wrong(layer, "does not exist"))
    }

    /// Gives every bias this quantizer.
    pub fn quantize_biases(&mut self, q: &Option<Quantizer>) {
        for layer in self.layers.iter_mut().filter(|l| l.op.has_bias()) {
            layer.bias_quantizer.clone_from(q);
        }
    }

    /// Gives every batch normalisation these quantizers.
    pub fn quantize_batch_norms(&mut self, q: &Option<BatchNormQuantizers>) {
        for layer in &mut self.layers {
            if let LayerOp::BatchNorm { quantizers, .. } = &mut layer.op {
                *quantizers = q.clone().map(Box::new);
            }
        }
    }

    /// Appends batch normalisation (eps 1e-3, momentum 0.9) and an activation named `name_bn` and `name_act`.
    pub fn bn_act(self, name: &str, activation: &Option<Quantizer>) -> Self {
        self.then(&format!("{name}_bn"), BATCH_NORM)
            .then(&format!("{name}_act"), LayerOp::Activation { quantizer: activation.clone() })
    }

    /// Appends a max pool of the given size and stride.
    pub fn max_pool(self, name: &str, size: usize) -> Self {
        self.then(name, LayerOp::MaxPool { size: [size, size], stride: [size, size] })
    }

    /// Appends flatten and a dense layer of `classes` logits, with bias.
    pub fn classifier(self, q: &Option<Quantizer>) -> Self {
        let units = self.classes;
        self.then("flatten", LayerOp::Flatten)
            .then("logits", LayerOp::Dense { units, bias: true, quantizer: q.clone() })
    }

    /// Indices of the layers that layer `i` reads; `None` is the network's input.
    pub fn sources(&self, i: usize) -> Result<Vec<Option<usize>>, QnnError> {
        let layer = &self.layers[i];
        if layer.inputs.is_empty() {
            return Ok(vec![i.checked_sub(1)]);
        }
        let find = |name: &String| {
            if name == INPUT {
                return Ok(None);
            }
            self.layers[..i].iter().position(|l| l.name == *name).map(Some).ok_or_else(|| QnnError::Wiring {
                layer: layer.name.clone(),
                reason: format!("reads `{name}`, which is not an earlier layer"),
            })
        };
        layer.inputs.iter().map(find).collect()
    }

    /// The layer of that name.
    pub fn layer(&self, name: &str) -> Option<&Layer> {
        self.layers.iter().find(|l| l.name == name)
    }

    /// Shapes, parameter counts and multiply-accumulates of every layer; fails on bad wiring or shapes.
    pub fn shapes(&self) -> Result<Shapes, QnnError> {
        shape::infer(self)
    }
}

/// Batch normalisation as the zoo uses it: Keras' eps of 1e-3; momentum 0.9, because runs are short.
pub const BATCH_NORM: LayerOp = LayerOp::BatchNorm { eps: 1e-3, momentum: 0.9, quantizers: None };

/// A SAME convolution.
pub fn conv2d(
    filters: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    bias: bool,
    q: &Option<Quantizer>,
) -> LayerOp {
    LayerOp::Conv2d {
        filters,
        kernel,
        stride,
        dilation: dense(),
        padding: Pad::Same,
        bias,
        quantizer: q.clone(),
    }
}

/// A SAME depthwise convolution with multiplier 1.
pub fn depthwise(kernel: [usize; 2], stride: [usize; 2], bias: bool, q: &Option<Quantizer>) -> LayerOp {
    LayerOp::DepthwiseConv2d {
        kernel,
        stride,
        dilation: dense(),
        padding: Pad::Same,
        multiplier: 1,
        bias,
        quantizer: q.clone(),
    }
}
