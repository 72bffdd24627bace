//! Lowers a trained model to an integer program, proves it equal, measures it and writes it.
#![forbid(unsafe_code)]

pub mod arena;
pub mod epilogue;
mod error;
pub mod image;
pub mod lower;
pub mod program;
pub mod prove;
pub mod rt;

pub use error::DeployError;
pub use lower::{Lowered, Weights, lower};
pub use program::Program;
pub use prove::EquivalenceReport;
