//! The crate's error type.

/// What can go wrong in building, training, saving or loading a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QnnError {
    /// A layer's wiring, name or shape is wrong.
    #[error("layer `{layer}`: {reason}")]
    Wiring {
        /// The layer.
        layer: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A network, optimizer or schedule name that does not exist, or options that do not fit it.
    #[error("{0}")]
    Config(String),
    /// A buffer or parameter has the wrong size.
    #[error("{what}: expected {expected} values, got {got}")]
    Size {
        /// Which buffer.
        what: String,
        /// Values expected.
        expected: usize,
        /// Values given.
        got: usize,
    },
    /// A value became NaN or infinite in training.
    #[error("step {step}: {place} is not finite; lower the learning rate or clip gradients")]
    NonFinite {
        /// Training step, from 0.
        step: u64,
        /// Layer, parameter or loss at fault.
        place: String,
    },
    /// A kernel refused its arguments.
    #[error("layer `{layer}`: {source}")]
    Kernel {
        /// The layer.
        layer: String,
        /// The kernel's reason.
        source: kernels::KernelError,
    },
    /// A quantizer refused its arguments.
    #[error("layer `{layer}`: {source}")]
    Quantize {
        /// The layer.
        layer: String,
        /// The quantizer's reason.
        source: qtensor::QuantizeError,
    },
    /// A model or checkpoint file is damaged or not ours.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
}
