//! From a model to a device: `analyze`, `export`, `validate`.
use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct ModelArg {
    /// Model file, such as OUT/cache/train-…/model.qnn, or `NETWORK[:TWIN]` for a network of the zoo with weights at random,
    /// such as resnet8:eight_bit
    pub(crate) model: String,
}

#[derive(Debug, Args)]
pub(crate) struct AnalyzeArgs {
    #[command(flatten)]
    pub(crate) model: ModelArg,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The exports need nothing of Ternion. Each comes with inputs and the logits expected for them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion export model.qnn --c firmware/net          net.c, net.h and net_selftest.c
  ternion export model.qnn --rust net --onnx net.onnx
  ternion export stq_image_s --c out                 a network of the zoo, to see what the code looks like")]
#[group(required = true, multiple = true, args = ["c", "rust", "onnx"])]
pub(crate) struct ExportArgs {
    /// Model file or `NETWORK[:TWIN]`
    pub(crate) model: String,
    /// Folder for NAME.c, NAME.h and NAME_selftest.c
    #[arg(long, value_name = "DIR")]
    pub(crate) c: Option<PathBuf>,
    /// Folder for a crate
    #[arg(long, value_name = "DIR")]
    pub(crate) rust: Option<PathBuf>,
    /// ONNX file
    #[arg(long, value_name = "FILE")]
    pub(crate) onnx: Option<PathBuf>,
}

/// Builds and runs the exports where the tools are there, and says what is missing where not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion validate model.qnn                         model image, C, Rust and ONNX on this machine
  ternion validate model.qnn --qemu                  C and Rust on an emulated Cortex-M4, instructions per layer

Exit codes: 0 every export that could run gives equal logits, 1 one differs or failed, 2 wrong usage.")]
pub(crate) struct ValidateArgs {
    #[command(flatten)]
    pub(crate) model: ModelArg,
    /// On an emulated Cortex-M4 instead of this machine
    #[arg(long)]
    pub(crate) qemu: bool,
    /// Fail where a tool is missing
    #[arg(long)]
    pub(crate) strict: bool,
    /// Keep the exports in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}
