//! Lowers a trained model to an integer program, proves it equal, measures it and writes it.
//!
//! [`lower()`] gives a [`Program`] (codes in, codes between layers, `i32` accumulators, fixed-point epilogues) with an
//! [`EquivalenceReport`]; [`Engine`] runs it on the host, [`image`] writes it as bytes, [`rt`] runs those without `std`, and
//! [`Footprint`] says what it costs.
//!
//! ```
//! use deploy::{Engine, Footprint, image, lower, rt};
//! use qnn::{InputGrid, Model, zoo};
//!
//! let stq = zoo::Twin::Stq.quantizers();
//! let net = zoo::build("stq_audio_s", [49, 10, 1], InputGrid::STANDARDISED, 12, &stq)?;
//! let model = Model::new(net, 7)?;
//! let lowered = lower(&model.network, &model)?;
//! assert_eq!(lowered.report.mismatches, 0);
//! println!("{}\n{}", lowered.report, Footprint::of_program(&model.network, &lowered.program)?);
//!
//! let bytes = image::write_image(&lowered.program)?;
//! let device = rt::Image::parse(&bytes)?;
//! let (codes, mut arena, mut on_device) = ([130; 490], vec![0; device.arena_bytes], [0; 12]);
//! device.run(&codes, &mut arena, &mut on_device)?;
//!
//! let (engine, mut on_host) = (Engine::new(lowered.program)?, [0; 12]);
//! engine.logits(&codes, 1, &mut on_host)?;
//! assert_eq!(on_device, on_host);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod arena;
mod engine;
pub mod epilogue;
mod error;
pub mod export;
pub mod footprint;
pub mod fuzzing;
pub mod image;
pub mod lower;
pub mod program;
pub mod prove;
pub mod rt;
pub mod validate;

pub use engine::Engine;
pub use error::DeployError;
pub use footprint::Footprint;
pub use lower::{Lowered, Weights, lower};
pub use program::Program;
pub use prove::EquivalenceReport;
