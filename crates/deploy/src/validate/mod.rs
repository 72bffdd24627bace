//! Runs every export of a program and compares its logits with the host engine's: on this machine, and on an emulated
//! microcontroller.

mod host;
mod qemu;
mod tool;

use std::path::Path;

use serde::Serialize;

use crate::export::Samples;
use crate::program::Program;

/// What became of one export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which export, and what ran it.
    pub target: String,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of running an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It ran.
    Ran {
        /// Inputs compared.
        inputs: u64,
        /// Largest difference between two logit accumulators.
        largest_difference: u64,
        /// Instructions of each step for one input, where they were counted.
        instructions: Vec<u64>,
        /// Bytes of code and constants, and of working memory, of the linked program, where it was linked for a device.
        size: Option<[u64; 2]>,
    },
    /// A tool is missing; which, and how to install it.
    Missing {
        /// For people.
        hint: String,
    },
    /// It could not be built or run.
    Failed {
        /// What the tool said.
        reason: String,
    },
}

impl Check {
    /// Whether nothing contradicts the export: it gave equal logits, or could not be tried.
    pub fn passed(&self) -> bool {
        matches!(self.outcome, Outcome::Ran { largest_difference: 0, .. } | Outcome::Missing { .. })
    }
}

/// Runs the exports on this machine: the model image on the portable runtime, C by the C compiler, the Rust crate by cargo,
/// and ONNX by onnxruntime. `dir` receives the exports.
pub fn on_host(program: &Program, samples: &Samples, dir: &Path) -> Vec<Check> {
    vec![
        host::image(program, samples),
        host::c(program, samples, &dir.join("c")),
        host::rust(program, samples, &dir.join("model")),
        host::onnx(program, samples, &dir.join("onnx")),
    ]
}

/// Builds the C and the Rust export for Cortex-M4 and runs them in QEMU. `dir` receives exports and firmware.
pub fn on_device(program: &Program, samples: &Samples, dir: &Path) -> Vec<Check> {
    vec![c_on_device(program, samples, dir), qemu::rust(program, samples, dir, false)]
}

/// The Rust half of [`on_device`] by Debian's compiler (packages rustc-web, cargo-web and rust-web-src), which
/// [`on_device`] takes where the compiler in use has no library for the device.
pub fn debian_rust_on_device(program: &Program, samples: &Samples, dir: &Path) -> Check {
    qemu::rust(program, samples, dir, true)
}

/// The C half of [`on_device`].
pub fn c_on_device(program: &Program, samples: &Samples, dir: &Path) -> Check {
    qemu::c(program, samples, &dir.join("c"))
}

/// Bytes of the C export's code on a Cortex-M4, if the compiler is there; `dir` receives the export.
///
/// # Errors
/// What is missing or went wrong.
pub fn code_bytes(program: &Program, dir: &Path) -> Result<u64, Outcome> {
    qemu::code_bytes(program, dir)
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ran { inputs, largest_difference, .. } => {
                write!(f, "{inputs} inputs, largest difference {largest_difference}")
            }
            Self::Missing { hint } => write!(f, "not run: {hint}"),
            Self::Failed { reason } => write!(f, "FAILED: {reason}"),
        }
    }
}
