//! What the criterion benches and the comparisons with peers share: shapes, inputs, and how a sample is taken.
//!
//! Throughput is counted in multiply-accumulates, so criterion's `Gelem/s` reads as GMAC/s.
#![forbid(unsafe_code)]

pub mod peers;
mod report;
mod rust_peers;
mod shapes;

pub use report::Report;
pub use rust_peers::{Call, RustPeer, rust_peers};
pub use shapes::{CONVOLUTIONS, GEMMS, TRAINED, codes, conv_name, floats, gemm_name, trits};

/// The README's examples, which this makes tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
