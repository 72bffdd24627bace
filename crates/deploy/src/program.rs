//! The integer program: what a lowered network is, as plain data.
//!
//! Activations are codes (`u8`), sums of codes under an average pool (`u16`); weights are trits or `i8`; accumulators are
//! `i32`. Batch normalisation, bias, scales and the activation quantizer have become one epilogue per channel.

use qnn::InputGrid;
use serde::Serialize;

use crate::DeployError;
use crate::epilogue::{Affine, CodeGrid, IntegerEpilogue};

/// A lowered network for one sample; tensor 0 is its input.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Program {
    /// Name of the network.
    pub name: String,
    /// Height, width and channels of the input.
    pub input: [usize; 3],
    /// Grid of the input codes.
    pub grid: InputGrid,
    /// Number of classes.
    pub classes: usize,
    /// Activation tensors.
    pub tensors: Vec<Tensor>,
    /// Steps in the order of execution; the last one puts out the logits.
    pub steps: Vec<Step>,
}

/// One activation tensor `[h, w, c]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tensor {
    /// Layer that puts it out, or `input`.
    pub name: String,
    /// Elements.
    pub len: usize,
    /// Type of an element.
    pub element: Element,
    /// Real value of one code step.
    pub scale: f32,
    /// Code of the real value 0.
    pub zero_point: u8,
    /// Largest element.
    pub max: u16,
}

/// Type of an activation tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// Codes.
    U8,
    /// Sums of codes.
    U16,
}

impl Element {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
        }
    }
}

/// One step of a program.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Layer it stands for: the activation, pool or logits layer.
    pub name: String,
    /// What it computes.
    pub op: StepOp,
}

/// What a step computes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOp {
    /// One branch, or the sum of two, through an epilogue to codes.
    Compute {
        /// One or two branches of one output shape.
        branches: Vec<Branch>,
        /// From accumulators to codes.
        epilogue: Epilogue,
        /// Grid of the output codes.
        grid: CodeGrid,
        /// Tensor written.
        output: usize,
    },
    /// Largest code of each window.
    MaxPool {
        /// Geometry.
        window: Window,
        /// Tensor read.
        input: usize,
        /// Tensor written.
        output: usize,
    },
    /// Sum of the codes of each window: an average pool whose division is left to the next scale.
    SumPool {
        /// Geometry.
        window: Window,
        /// Tensor read.
        input: usize,
        /// Tensor written, `u16`.
        output: usize,
    },
    /// The classifier: its accumulators are the program's output. The real logit of class `k` is
    /// `branch.affine.channel(k).value_f32(accumulator)`.
    Logits {
        /// The dense layer.
        branch: Branch,
    },
}

/// One source of accumulators.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Branch {
    /// Layer it stands for.
    pub name: String,
    /// Tensor read.
    pub input: usize,
    /// From the tensor to accumulators.
    pub linear: Linear,
    /// From accumulators to real values, as the training graph computes them.
    pub affine: Affine,
}

/// From a tensor to accumulators.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Linear {
    /// The codes themselves, minus the zero point: a shortcut.
    Codes {
        /// Trivial geometry (1x1 window).
        window: Window,
    },
    /// Convolution, or a dense layer on a 1x1 image.
    Conv2d {
        /// Geometry.
        window: Window,
        /// `[kh, kw, cin, cout]`
        weights: Weights,
    },
    /// Depthwise convolution: output channel `n` reads input channel `n / (out_c / in_c)`.
    Depthwise {
        /// Geometry.
        window: Window,
        /// `[kh, kw, out_c]`
        weights: Weights,
    },
}

impl Linear {
    /// Its geometry.
    pub fn window(&self) -> &Window {
        match self {
            Self::Codes { window } | Self::Conv2d { window, .. } | Self::Depthwise { window, .. } => window,
        }
    }

    /// Its weights, if it has any.
    pub fn weights(&self) -> Option<&Weights> {
        match self {
            Self::Codes { .. } => None,
            Self::Conv2d { weights, .. } | Self::Depthwise { weights, .. } => Some(weights),
        }
    }

    /// The weights of output channel `c`, in the order of the kernel's other axes.
    pub fn channel(&self, c: usize) -> impl Iterator<Item = i8> + '_ {
        const ONE: [i8; 1] = [1];
        let channels = self.window().out_c;
        let (codes, step) = match self.weights() {
            Some(w) => (&w.codes()[c..], channels),
            None => (&ONE[..], 1),
        };
        codes.iter().step_by(step).copied()
    }

    /// Output channels per input channel of a depthwise convolution; 1 of anything else.
    pub fn multiplier(&self) -> usize {
        match self {
            Self::Depthwise { window, .. } => window.out_c / window.in_c.max(1),
            _ => 1,
        }
    }

    /// Multiply-accumulates.
    pub fn macs(&self) -> u64 {
        let w = self.window();
        let taps = match self {
            Self::Codes { .. } => 0,
            Self::Conv2d { .. } => w.kernel_h * w.kernel_w * w.in_c,
            Self::Depthwise { .. } => w.kernel_h * w.kernel_w,
        };
        (w.out_h * w.out_w * w.out_c * taps) as u64
    }
}

/// Weight codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// -1, 0 and 1.
    Trits(Vec<i8>),
    /// -128 to 127.
    Int8(Vec<i8>),
}

impl Weights {
    /// Trits if that is all there is, else 8-bit.
    pub fn new(codes: Vec<i8>) -> Self {
        if codes.iter().all(|c| (-1..=1).contains(c)) { Self::Trits(codes) } else { Self::Int8(codes) }
    }

    /// The codes.
    pub fn codes(&self) -> &[i8] {
        match self {
            Self::Trits(codes) | Self::Int8(codes) => codes,
        }
    }
}

/// From accumulators to codes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Epilogue {
    /// Fixed point or thresholds, one per channel, proved equal to the f32 epilogue of the one branch.
    Integer(Vec<IntegerEpilogue>),
    /// The f32 operations of the two branches, their sum and the quantizer, in integer arithmetic: the f32 sum of two
    /// accumulators on unrelated scales has no fixed-point form with the same rounding.
    Float,
}

/// Sizes of a convolution, depthwise convolution or pool of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Input rows.
    pub in_h: usize,
    /// Input columns.
    pub in_w: usize,
    /// Input channels.
    pub in_c: usize,
    /// Output rows.
    pub out_h: usize,
    /// Output columns.
    pub out_w: usize,
    /// Output channels.
    pub out_c: usize,
    /// Window rows.
    pub kernel_h: usize,
    /// Window columns.
    pub kernel_w: usize,
    /// Rows between two outputs.
    pub stride_h: usize,
    /// Columns between two outputs.
    pub stride_w: usize,
    /// Padding rows above.
    pub pad_top: usize,
    /// Padding columns on the left.
    pub pad_left: usize,
}

impl Window {
    /// Elements read.
    pub fn input_len(&self) -> usize {
        self.in_h * self.in_w * self.in_c
    }

    /// Elements written.
    pub fn output_len(&self) -> usize {
        self.out_h * self.out_w * self.out_c
    }

    /// The trivial window over an image.
    pub fn identity([h, w, c]: [usize; 3]) -> Self {
        Self {
            in_h: h,
            in_w: w,
            in_c: c,
            out_h: h,
            out_w: w,
            out_c: c,
            kernel_h: 1,
            kernel_w: 1,
            stride_h: 1,
            stride_w: 1,
            pad_top: 0,
            pad_left: 0,
        }
    }

    /// The window of a convolution's geometry.
    pub fn of_conv(g: &kernels::Conv2d) -> Self {
        Self {
            in_h: g.in_h,
            in_w: g.in_w,
            in_c: g.in_c,
            out_h: g.out_h,
            out_w: g.out_w,
            out_c: g.out_c,
            kernel_h: g.kernel_h,
            kernel_w: g.kernel_w,
            stride_h: g.stride_h,
            stride_w: g.stride_w,
            pad_top: g.pad_top,
            pad_left: g.pad_left,
        }
    }

    /// The window of a pool's geometry.
    pub fn of_pool(g: &kernels::Pool2d) -> Self {
        Self {
            in_h: g.in_h,
            in_w: g.in_w,
            in_c: g.channels,
            out_h: g.out_h,
            out_w: g.out_w,
            out_c: g.channels,
            kernel_h: g.size_h,
            kernel_w: g.size_w,
            stride_h: g.stride_h,
            stride_w: g.stride_w,
            pad_top: g.pad_top,
            pad_left: g.pad_left,
        }
    }
}

impl StepOp {
    /// Tensors read.
    pub fn inputs(&self) -> Vec<usize> {
        match self {
            Self::Compute { branches, .. } => branches.iter().map(|b| b.input).collect(),
            Self::MaxPool { input, .. } | Self::SumPool { input, .. } => vec![*input],
            Self::Logits { branch } => vec![branch.input],
        }
    }

    /// Tensor written; `None` for the logits.
    pub fn output(&self) -> Option<usize> {
        match self {
            Self::Compute { output, .. } | Self::MaxPool { output, .. } | Self::SumPool { output, .. } => {
                Some(*output)
            }
            Self::Logits { .. } => None,
        }
    }

    /// Branches with weights or shortcuts.
    pub fn branches(&self) -> &[Branch] {
        match self {
            Self::Compute { branches, .. } => branches,
            Self::Logits { branch } => std::slice::from_ref(branch),
            Self::MaxPool { .. } | Self::SumPool { .. } => &[],
        }
    }
}

impl Program {
    /// Elements of one input.
    pub fn input_len(&self) -> usize {
        self.input.iter().product()
    }

    /// From logit accumulators to real values; one channel per class.
    pub fn logits(&self) -> Result<&Branch, DeployError> {
        match self.steps.last() {
            Some(Step { op: StepOp::Logits { branch }, .. }) => Ok(branch),
            _ => Err(DeployError::Unsupported {
                layer: self.name.clone(),
                reason: "the program does not end in a classifier".into(),
            }),
        }
    }
}
