//! Jacobian penalties for `qnn` training: on the input and per layer, exact or by random projection.
//!
//! The penalty is `1/2 * mean_b ||d of_b / d wrt_b||_F^2` (Hoffman, Roberts, Yaida 2019, arXiv 1908.02729, eq. 5), built
//! from graph nodes, so that its gradients with respect to all parameters are exact: through surrogates, residuals and
//! batch statistics with their cross-sample terms.
//!
//! ```
//! use jacreg::JacobianPenalty;
//! use qnn::train::Penalty;
//!
//! let input_jr = JacobianPenalty::input(0.01);
//! let penalties: Vec<Box<dyn Penalty>> = vec![Box::new(input_jr)];
//! // qnn::train::Trainer::new(model, config, penalties)
//! # assert_eq!(penalties[0].name(), "jacobian(logits, input)");
//! ```
#![forbid(unsafe_code)]

pub mod conformance;
pub mod curvature;
pub mod diagnose;
pub mod frobenius;
mod penalty;
mod schedule;
pub mod select;
pub mod spectral;

pub use curvature::{Curvature, CurvaturePenalty};
pub use diagnose::{JacobianProbe, LayerNorms, Steepness, layer_norms, steepness};
pub use penalty::{ExactTag, JacobianPenalty, Lambda, MatrixNorm, Projections};
pub use schedule::WeightSchedule;
pub use select::{EACH, INPUT, LOGITS, PREVIOUS};
