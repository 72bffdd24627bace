//! Networks: differentiable graph, layers, zoo, training loop, checkpoints, summaries.
#![forbid(unsafe_code)]

mod checkpoint;
mod error;
mod forward;
pub mod graph;
pub mod infer;
mod model;
pub mod network;
pub mod train;
pub mod zoo;

pub use error::QnnError;
pub use forward::{BatchMoments, Forward, Statistics};
pub use infer::{Evaluation, Predictor, activations, evaluate};
pub use model::{Model, Param, ParamKind, kernel_quantizer};
pub use network::{InputGrid, Layer, LayerOp, Network};
pub use qtensor::Phase;
pub use train::argmax;
