//! What a quantized value is: quantizers with QKeras semantics, scales, trits, keyed random streams.
#![forbid(unsafe_code)]

mod binary;
mod bits;
pub mod conformance;
mod display;
mod elementwise;
mod error;
mod group;
pub mod initializer;
pub mod inline;
mod linear;
mod math;
mod names;
mod po2;
mod properties;
mod quantizer;
mod relu;
mod squash;
mod stand_in;
pub mod stream;
mod ternary;
mod text;
pub mod trit;

pub use binary::{Binary, ScaleAxes, StochasticBinary};
pub use bits::QuantizedBits;
pub use elementwise::{Elementwise, Grid};
pub use error::{ParseError, QuantizeError};
pub use group::Scratch;
pub use linear::QuantizedLinear;
pub use po2::QuantizedPo2;
pub use quantizer::{Alpha, Codes, Phase, Quantized, Quantizer};
pub use relu::QuantizedRelu;
pub use squash::{QuantizedSquash, Squash};
pub use ternary::{Ternary, TernarySampling};
pub use trit::Trit;
