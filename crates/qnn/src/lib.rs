//! Networks: differentiable graph, layers, zoo, training loop, checkpoints, summaries.
#![forbid(unsafe_code)]

mod error;
pub mod network;
pub mod zoo;

pub use error::QnnError;
pub use network::{InputGrid, Layer, LayerOp, Network};
