//! Adversaries against anything that answers `logits(x)`, and the robustness audit.
//!
#![doc = include_str!("../README.md")]
//! # Code map
//! [`model`] what may be asked; [`spec`] which attack; [`run()`] the loop; [`outcome`] the records; [`mod@loss`] what is maximised.
#![forbid(unsafe_code)]

pub mod audit;
mod auto;
mod black;
mod chunk;
pub mod conformance;
pub mod error;
pub mod geometry;
mod l1;
pub mod loss;
pub mod model;
mod network;
pub mod outcome;
mod parameters;
mod presets;
mod random;
mod rescale;
mod run;
pub mod spec;
pub mod stats;
mod surrogate;
mod text;
pub mod training;
mod white;
mod wrap;

pub use audit::{AuditOptions, AuditReport, Verdict, audit};
pub use error::{AttackError, ModelError, ParseError};
pub use geometry::{InputBox, Norm};
pub use loss::{Goal, Loss};
pub use model::{Access, Classifier, Differentiable, FnClassifier, FnDifferentiable};
pub use network::{Network, Passing};
pub use outcome::{Outcome, Record, worst_case};
pub use rescale::Rescaled;
pub use run::{Options, Progress, Samples, run};
pub use spec::*;
pub use stats::Rate;
pub use surrogate::Bpda;
pub use wrap::Eot;
