//! The operations of the graph. The set is closed under differentiation: `grad.rs` writes the derivative of each one
//! with operations of this list, so gradients of gradients need no code of their own.

use kernels::{Conv2d, Pool2d};
use qtensor::{Elementwise, Quantizer};

/// An elementwise nonlinearity with a surrogate derivative of every order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Nonlinearity {
    /// `max(x, 0)`, derivative 0 at 0.
    Relu,
    /// An elementwise quantizer, differentiated through its surrogate.
    Quantizer(Elementwise),
}

impl Nonlinearity {
    /// Whether the surrogate's second derivative is zero almost everywhere.
    pub fn is_piecewise_linear(&self) -> bool {
        match self {
            Self::Relu => true,
            Self::Quantizer(q) => q.surrogate_is_piecewise_linear(),
        }
    }
}

/// Scalar functions used on small tensors (statistics, losses).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// `1 / sqrt(x)`
    Rsqrt,
    /// `1 / x`
    Recip,
    /// `e^x`
    Exp,
    /// natural logarithm
    Ln,
    /// -1, 0 or 1; derivative 0
    Sign,
    /// `x`, held fixed in derivatives
    Detach,
}

/// Keyed random leaves, drawn anew for every run from the run's key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Random {
    /// Rows drawn uniformly from the unit sphere (independent per sample).
    UnitRows,
    /// Independent standard normals.
    Normal,
}

/// One operation. Shapes live in the node; `C` is the last axis, `N` the first.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// External tensor number `usize`, bound at run time.
    Input(usize),
    /// Parameter number `usize` of the model.
    Param(usize),
    /// A constant in every element.
    Fill(f64),
    /// 1 in column `usize` of every row, else 0.
    OneHot(usize),
    /// Random values; the number separates leaves from each other.
    Random(Random, u64),
    /// `sum_i c_i x_i` over inputs of one shape.
    Linear(Vec<f64>),
    /// `x + c`
    AddScalar(f64),
    /// Elementwise product.
    Mul,
    /// Elementwise scalar function.
    Unary(Unary),
    /// `f(x)`
    Activation(Nonlinearity),
    /// inputs `x, g`: `g * f^(k)(x)` with the surrogate's k-th derivative, k >= 1.
    ActivationGrad(Nonlinearity, u32),
    /// Quantized latent kernel; the number keys its stochastic draws.
    QuantizeKernel(Quantizer, u64),
    /// inputs `x_1, a_1, ..., x_t, a_t [, b]`: `sum_t x_t * a_t[c] + b[c]`; the flag says whether `b` is there.
    ChannelAffine(usize, bool),
    /// `out[c] = sum x[.., c] * y[.., c]`
    ChannelDot,
    /// `out[c] = sum x[.., c]`
    ChannelSum,
    /// `out[n] = sum x[n, ..]`
    RowSum,
    /// `out[n] = sum x[n, ..] * y[n, ..]`
    RowDot,
    /// inputs `x, r`: `x[n, ..] * r[n]`
    RowScale,
    /// `out[n, ..] = r[n]`
    RowBroadcast,
    /// Sum of everything, a scalar.
    SumAll,
    /// Inner product of two tensors, a scalar.
    DotAll,
    /// inputs `x, s`: `x * s` with a scalar `s`.
    ScalarMul,
    /// A scalar in every element.
    ScalarBroadcast,
    /// `[N, K]` to `[N]`, stable.
    LogSumExp,
    /// Row-wise softmax of `[N, K]`.
    Softmax,
    /// inputs `x, w`
    Conv(Conv2d),
    /// inputs `dy, w`
    ConvInputGrad(Conv2d),
    /// inputs `x, dy`
    ConvWeightGrad(Conv2d),
    /// input `x`
    MaxPool(Pool2d),
    /// inputs `x, gy`: `gy` routed to the maximum of each window of `x`.
    MaxScatter(Pool2d),
    /// inputs `x, gx`: `gx` read at the maximum of each window of `x`.
    MaxGather(Pool2d),
    /// Mean over windows.
    AvgPool(Pool2d),
    /// Adjoint of [`Op::AvgPool`].
    AvgAdjoint(Pool2d),
    /// The same values under another shape.
    Reshape,
    /// Inverted dropout; the number keys its mask, which is the same wherever the number is.
    Dropout(f64, u64),
}

impl Op {
    /// Names of all operations, as [`Op::name`] gives them.
    pub const NAMES: [&str; 35] = [
        "input",
        "param",
        "fill",
        "one_hot",
        "random",
        "linear",
        "add_scalar",
        "mul",
        "unary",
        "activation",
        "activation_grad",
        "quantize_kernel",
        "channel_affine",
        "channel_dot",
        "channel_sum",
        "row_sum",
        "row_dot",
        "row_scale",
        "row_broadcast",
        "sum_all",
        "dot_all",
        "scalar_mul",
        "scalar_broadcast",
        "log_sum_exp",
        "softmax",
        "conv",
        "conv_input_grad",
        "conv_weight_grad",
        "max_pool",
        "max_scatter",
        "max_gather",
        "avg_pool",
        "avg_adjoint",
        "reshape",
        "dropout",
    ];

    /// What the operation is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Input(_) => "input",
            Self::Param(_) => "param",
            Self::Fill(_) => "fill",
            Self::OneHot(_) => "one_hot",
            Self::Random(..) => "random",
            Self::Linear(_) => "linear",
            Self::AddScalar(_) => "add_scalar",
            Self::Mul => "mul",
            Self::Unary(_) => "unary",
            Self::Activation(_) => "activation",
            Self::ActivationGrad(..) => "activation_grad",
            Self::QuantizeKernel(..) => "quantize_kernel",
            Self::ChannelAffine(..) => "channel_affine",
            Self::ChannelDot => "channel_dot",
            Self::ChannelSum => "channel_sum",
            Self::RowSum => "row_sum",
            Self::RowDot => "row_dot",
            Self::RowScale => "row_scale",
            Self::RowBroadcast => "row_broadcast",
            Self::SumAll => "sum_all",
            Self::DotAll => "dot_all",
            Self::ScalarMul => "scalar_mul",
            Self::ScalarBroadcast => "scalar_broadcast",
            Self::LogSumExp => "log_sum_exp",
            Self::Softmax => "softmax",
            Self::Conv(_) => "conv",
            Self::ConvInputGrad(_) => "conv_input_grad",
            Self::ConvWeightGrad(_) => "conv_weight_grad",
            Self::MaxPool(_) => "max_pool",
            Self::MaxScatter(_) => "max_scatter",
            Self::MaxGather(_) => "max_gather",
            Self::AvgPool(_) => "avg_pool",
            Self::AvgAdjoint(_) => "avg_adjoint",
            Self::Reshape => "reshape",
            Self::Dropout(..) => "dropout",
        }
    }

    /// Whether the value changes from run to run with the run's key.
    pub(crate) fn is_random(&self) -> bool {
        matches!(self, Self::Random(..) | Self::Dropout(..))
    }
}
