//! From waveform to network input: the MLPerf Tiny MFCC and its log-mel energies, their derivatives, and the standardisation
//! onto the input grid.
mod analysis;
mod lanes;
mod ln;
mod mfcc;
mod parameters;
mod standardise;
mod transform;
mod vjp;

use serde::{Deserialize, Serialize};

pub(crate) use mfcc::scale_of;
pub use mfcc::{COEFFICIENTS, FRAMES, Mfcc, MfccWork, Real, normalise};
pub use parameters::{Parameters, SAMPLE_RATE, SAMPLES};
pub use standardise::Standardiser;

use crate::DataError;

/// MFCC values per clip: 49 frames × 10 coefficients, frame-major.
pub const FEATURES: usize = FRAMES * COEFFICIENTS;

/// Which features a spoken task's samples are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrontEnd {
    /// Mel-frequency cepstral coefficients, `[frames, coefficients]`.
    #[default]
    Mfcc,
    /// Logarithms of the mel magnitudes, `[frames, mel_bins]`.
    LogMel,
}

impl FrontEnd {
    /// Values per frame.
    pub fn columns(self, parameters: &Parameters) -> usize {
        match self {
            FrontEnd::Mfcc => parameters.coefficients,
            FrontEnd::LogMel => parameters.mel_bins,
        }
    }

    /// Values per clip.
    pub fn values(self, parameters: &Parameters) -> usize {
        parameters.frames() * self.columns(parameters)
    }

    /// Features of one or more normalised waveforms, `[clips, samples]`, frame-major.
    ///
    /// # Errors
    /// As [`Mfcc::compute`].
    pub fn compute<T: Real>(
        self,
        mfcc: &Mfcc<T>,
        wave: &[T],
        work: &mut MfccWork<T>,
        out: &mut [T],
    ) -> Result<(), DataError> {
        match self {
            FrontEnd::Mfcc => mfcc.compute(wave, work, out),
            FrontEnd::LogMel => mfcc.energies(wave, work, out),
        }
    }

    /// Writes the features of `wave` to `out` and d(Σ out · cotangent)/d(wave) to `grad`.
    ///
    /// # Errors
    /// As [`Mfcc::vjp`].
    pub fn vjp<T: Real>(
        self,
        mfcc: &Mfcc<T>,
        wave: &[T],
        cotangent: &[T],
        work: &mut MfccWork<T>,
        out: &mut [T],
        grad: &mut [T],
    ) -> Result<(), DataError> {
        match self {
            FrontEnd::Mfcc => mfcc.vjp(wave, cotangent, work, out, grad),
            FrontEnd::LogMel => {
                mfcc.vjp_log_mel(wave, cotangent, work, grad)?;
                self.compute(mfcc, wave, work, out)
            }
        }
    }
}
