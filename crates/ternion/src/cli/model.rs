//! Models as they are: `convert`, `summary`, `jacobian`, `conformance`.
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// The format of OUT follows from its name: `.safetensors`, else our own.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion convert model.qnn model.safetensors                          for PyTorch, NumPy and others
  ternion convert float.safetensors start.qnn --network resnet8        weights with our names, PyTorch's or Keras'
  ternion convert float.safetensors start.qnn --network ds_cnn --twin stq
  ternion convert mlperf_tiny_resnet8.safetensors resnet8.qnn --network resnet8 --raw")]
pub(crate) struct ConvertArgs {
    /// Model file, or safetensors
    pub(crate) from: PathBuf,
    /// File to write
    #[arg(value_name = "OUT")]
    pub(crate) to: PathBuf,
    /// Network of the zoo that takes the weights; needed unless FROM is a file of ours
    #[arg(long, value_name = "NAME")]
    pub(crate) network: Option<String>,
    /// Precision of that network
    #[arg(long, value_enum, requires = "network")]
    pub(crate) twin: Option<TwinArg>,
    /// That network takes codes 0 to 255 as they are, as MLPerf Tiny's ResNet does
    #[arg(long, requires = "network")]
    pub(crate) raw: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion summary stq_image_s                        a network of the zoo, with the quantizers it is named after
  ternion summary resnet8 --twin eight_bit --json    another precision, as JSON
  ternion summary out/cache/train-KEY/model.qnn      a model: with statistics of its quantized kernels")]
pub(crate) struct SummaryArgs {
    /// Model file, or the name of a network
    pub(crate) model: String,
    /// Precision of a named network
    #[arg(long, value_enum)]
    pub(crate) twin: Option<TwinArg>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum TwinArg {
    /// Stochastic ternary weights, 8-bit activations
    Stq,
    /// The same, never sampled
    StqDeterministic,
    /// Stochastic binary weights, 8-bit activations
    StochasticBinary,
    /// 8-bit weights and activations
    EightBit,
    /// Float weights and ReLU
    Float,
}

/// Per sample: margin, Frobenius and spectral norm of the input Jacobian, first-order robustness radii. Per layer: norms of the
/// Jacobians of logits, activations and neighbours. Two models, such as a network and its float twin, show what
/// quantization does to them. Gradients of quantized layers go through their surrogates.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion jacobian out/cache/train-…/model.qnn                    one model on CIFAR-10
  ternion jacobian stq.qnn float.qnn --samples 500                a network and its float twin
  ternion jacobian model.qnn --task speech_commands --json        every sample, as JSON lines")]
pub(crate) struct JacobianArgs {
    /// Model files
    #[arg(required = true)]
    pub(crate) model: Vec<PathBuf>,
    /// Task whose test samples are used
    #[arg(long, default_value = "cifar10")]
    pub(crate) task: String,
    /// Test samples, at least 32
    #[arg(long, default_value_t = 256)]
    pub(crate) samples: usize,
    /// Folder with the datasets
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// As JSON lines, one per model
    #[arg(long)]
    pub(crate) json: bool,
}

/// One line per case, then the counts. A disagreement, an unreadable folder or a case of unknown kind is a failure.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion conformance --dir oracle                   every folder of reference cases below `oracle`
  ternion conformance --dir a --dir b --json         JSON lines; the last one has the counts

Exit codes: 0 all agree, 1 a case failed, 2 wrong usage.")]
pub(crate) struct ConformanceArgs {
    /// Folder with reference cases, searched at any depth; may be repeated
    #[arg(long, value_name = "DIR", num_args = 1.., required = true)]
    pub(crate) dir: Vec<PathBuf>,
    /// As JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}
