//! The crate's error type.

/// Why a network could not be lowered, proved, run or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// The network itself is malformed.
    #[error(transparent)]
    Network(#[from] qnn::QnnError),
    /// A layer, or the way it is wired, has no integer form.
    #[error("layer `{layer}` has no integer form: {reason}")]
    Unsupported {
        /// The layer.
        layer: String,
        /// What is in the way.
        reason: String,
    },
    /// A parameter the network needs is not among the weights.
    #[error("parameter `{name}` is missing")]
    MissingParameter {
        /// Its name.
        name: String,
    },
    /// A parameter has another shape than the network needs.
    #[error("parameter `{name}` has shape {actual:?}, the network needs {expected:?}")]
    ParameterShape {
        /// Its name.
        name: String,
        /// Shape needed.
        expected: Vec<usize>,
        /// Shape found.
        actual: Vec<usize>,
    },
    /// A quantizer refused a kernel.
    #[error("layer `{layer}`: {source}")]
    Quantize {
        /// The layer.
        layer: String,
        /// The quantizer's reason.
        source: qtensor::QuantizeError,
    },
    /// The f32 epilogue of a channel is not finite over the reachable accumulators.
    #[error(
        "layer `{layer}`, channel {channel}: the f32 epilogue gives {value} at accumulator {accumulator}"
    )]
    NotFinite {
        /// The layer.
        layer: String,
        /// Output channel.
        channel: usize,
        /// Where.
        accumulator: i32,
        /// What it gives there.
        value: f32,
    },
    /// A reachable accumulator is further from 0 than 2^30.
    #[error(
        "layer `{layer}`, channel {channel}: accumulators reach {low}..={high}, the limit is 2^30 either way"
    )]
    AccumulatorRange {
        /// The layer.
        layer: String,
        /// Output channel.
        channel: usize,
        /// Smallest reachable accumulator.
        low: i64,
        /// Largest reachable accumulator.
        high: i64,
    },
    /// The integer epilogue differs from the f32 epilogue.
    #[error(
        "layer `{layer}`, channel {channel}: at accumulator {accumulator} the integer epilogue gives code {integer}, \
         the f32 epilogue {float}"
    )]
    NotEqual {
        /// The layer.
        layer: String,
        /// Output channel.
        channel: usize,
        /// Where they differ.
        accumulator: i32,
        /// Code of the integer epilogue.
        integer: u8,
        /// Code of the f32 epilogue.
        float: u8,
    },
    /// A buffer has the wrong length.
    #[error("{what}: expected {expected} elements, got {actual}")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Elements needed.
        expected: usize,
        /// Elements given.
        actual: usize,
    },
    /// A kernel refused its arguments.
    #[error("layer `{layer}`: {source}")]
    Kernel {
        /// The layer.
        layer: String,
        /// The kernel's reason.
        source: kernels::KernelError,
    },
    /// The program does not fit the image format's 32-bit sizes and offsets.
    #[error("{what} is too large for the image format")]
    TooLarge {
        /// Which quantity.
        what: &'static str,
    },
    /// A model image is damaged or not ours.
    #[error("model image: {0}")]
    Image(#[from] crate::rt::ImageError),
}
