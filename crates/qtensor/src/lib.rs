//! What a quantized value is: quantizers with QKeras semantics, scales, trits, keyed random streams.
#![forbid(unsafe_code)]

mod binary;
mod bits;
mod elementwise;
mod error;
mod group;
mod math;
mod names;
mod quantizer;
mod relu;
pub mod stream;
mod ternary;
mod text;
pub mod trit;

pub use binary::{Binary, ScaleAxes, StochasticBinary};
pub use bits::QuantizedBits;
pub use elementwise::{Elementwise, Grid};
pub use error::{ParseError, QuantizeError};
pub use group::Scratch;
pub use quantizer::{Alpha, Codes, Phase, Quantized, Quantizer};
pub use relu::QuantizedRelu;
pub use ternary::{Ternary, TernarySampling};
pub use trit::Trit;
