//! From waveform to network input: the MLPerf Tiny MFCC, its derivative, and the standardisation onto the input grid.
mod mfcc;
mod parameters;
mod standardise;
mod vjp;

pub use mfcc::{COEFFICIENTS, FRAMES, Mfcc, MfccWork, Real, normalise};
pub use parameters::{Parameters, SAMPLE_RATE, SAMPLES};
pub use standardise::Standardiser;

/// MFCC values per clip: 49 frames × 10 coefficients, frame-major.
pub const FEATURES: usize = FRAMES * COEFFICIENTS;
