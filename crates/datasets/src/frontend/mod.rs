//! From waveform to network input: the MLPerf Tiny MFCC, its derivative, and the standardisation onto the input grid.
mod mfcc;
mod standardise;
mod vjp;

pub use mfcc::{COEFFICIENTS, FRAMES, Mfcc, MfccWork, Real, SAMPLE_RATE, SAMPLES, normalise};
pub use standardise::Standardiser;

/// MFCC values per clip: 49 frames × 10 coefficients, frame-major.
pub const FEATURES: usize = FRAMES * COEFFICIENTS;
