//! Networks: differentiable graph, layers, zoo, training loop, checkpoints, summaries.
#![forbid(unsafe_code)]

mod checkpoint;
pub mod conformance;
mod error;
mod fold;
mod forward;
pub mod fuzzing;
pub mod graph;
pub mod infer;
pub mod interop;
pub mod layer;
mod model;
pub mod network;
pub mod summary;
pub mod train;
pub mod zoo;

pub use error::QnnError;
pub use forward::{BatchMoments, Forward, Statistics};
pub use infer::{Evaluation, Predictor, activations, evaluate};
pub use model::{Model, Param, ParamKind, kernel_quantizer};
pub use network::{InputGrid, Layer, LayerOp, Network};
pub use qtensor::Phase;
pub use train::argmax;
