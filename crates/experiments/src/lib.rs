//! Recipes (TOML), cached stages, results (JSONL), report: the study as a program.
//!
//! A [`recipe::RecipeSet`] says what to do; a [`stage::Study`] plans it, runs it stage by stage with every result cached
//! under a hash of all it depends on, and writes [`results::Results`] and a [`report`]. What trains, attacks and deploys
//! stands behind [`pipeline::Engine`].
#![forbid(unsafe_code)]
pub mod examples;
pub mod interval;
pub mod pipeline;
pub mod progress;
pub mod recipe;
pub mod report;
pub mod results;
pub mod stage;
pub mod waveform;

mod error;

pub use error::StudyError;
