//! Jacobian penalties for `qnn` training: on the input and per layer, exact or by random projection, and their relatives.
//!
//! - [`JacobianPenalty`] is `1/2 * mean_b ||d of_b / d wrt_b||_F^2` (Hoffman, Roberts, Yaida 2019, arXiv 1908.02729, eq. 5) for the
//!   four members of the family: logits by input, logits by hidden activations, activations by input, and each layer's local
//!   Jacobian. Its spectral form penalises the largest singular value instead.
//! - [`CurvaturePenalty`] is CURE (Moosavi-Dezfooli et al. 2019, arXiv 1811.09716).
//! - [`layer_norms`] and [`steepness`] measure Jacobians of trained networks; [`JacobianProbe`] does so during training.
//!
//! Penalties are built from graph nodes, so that their gradients with respect to all parameters are exact: through
//! surrogates, residuals and, since training normalises by batch statistics, their cross-sample terms.
//!
//! ```
//! # use qnn::train::{Optimizer, Samples, Schedule, TrainConfig, Trainer};
//! # use qnn::{InputGrid, Model, QnnError, zoo};
//! # struct Grey;
//! # impl Samples for Grey {
//! #     fn len(&self) -> usize { 4 }
//! #     fn fill(&self, _: &[u32], _: u64, x: &mut [f32], y: &mut [u8]) -> Result<(), QnnError> {
//! #         x.iter_mut().enumerate().for_each(|(i, x)| *x = (i % 256) as f32 / 255.0);
//! #         y.fill(3);
//! #         Ok(())
//! #     }
//! # }
//! # let quantizers = zoo::Twin::Stq.quantizers();
//! # let network = zoo::build("stq_audio_s", [12, 10, 1], InputGrid::UNIT_IMAGE, 5, &quantizers)?;
//! # let model = Model::new(network, 1)?;
//! # let config = TrainConfig {
//! #     batch: 2, epochs: 1, rate: 1e-3, optimizer: Optimizer::adam(), schedule: Schedule::Constant, label_smoothing: 0.0,
//! #     clip_norm: None, ema: None, patience: None, recalibrate: 0, seed: 1,
//! # };
//! use jacreg::JacobianPenalty;
//! let input = JacobianPenalty::input(0.01);
//! let late = JacobianPenalty::new("logits", "last 2", 0.001);
//! let mut trainer = Trainer::new(model, config, vec![Box::new(input), Box::new(late)])?;
//! let stats = trainer.train_epoch(&Grey, &mut |_, _| {})?;
//! # assert_eq!(stats.terms.len(), 3);
//! # assert!(stats.terms.iter().all(|(_, value)| *value > 0.0), "{:?}", stats.terms);
//! # Ok::<(), QnnError>(())
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
