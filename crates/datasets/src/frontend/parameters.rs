//! What a front end is made of: the numbers that define a spectral feature, checked before any table is built.
use serde::{Deserialize, Serialize};

use crate::DataError;

/// Samples per second of every waveform.
pub const SAMPLE_RATE: u32 = 16_000;
/// Samples per clip: one second.
pub const SAMPLES: usize = 16_000;

/// Numbers of a spectral front end: frames under a periodic Hann window, magnitudes of a real transform, triangular bins on
/// the HTK mel scale (constant component excluded), ln(x + `log_offset`), and for the MFCC a DCT-II.
///
/// The default is [`Parameters::MLPERF_TINY`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Samples per second.
    pub sample_rate: u32,
    /// Samples per clip.
    pub samples: usize,
    /// Samples per frame.
    pub frame: usize,
    /// Samples from one frame's start to the next's.
    pub step: usize,
    /// Transform length; a frame is padded with zeros at its end.
    pub fft: usize,
    /// Triangular bins.
    pub mel_bins: usize,
    /// Lower edge of the first bin, Hz.
    pub lower_hz: f64,
    /// Upper edge of the last bin, Hz.
    pub upper_hz: f64,
    /// Cepstral coefficients kept, from the zeroth.
    pub coefficients: usize,
    /// Added to a mel magnitude before the logarithm.
    pub log_offset: f64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self::MLPERF_TINY
    }
}

impl Parameters {
    /// MLPerf Tiny's keyword spotting reference (mlcommons/tiny `keyword_spotting/get_dataset.py`): frames of 30 ms every
    /// 20 ms, 40 bins from 20 to 4,000 Hz, 10 coefficients.
    pub const MLPERF_TINY: Parameters = Parameters {
        sample_rate: SAMPLE_RATE,
        samples: SAMPLES,
        frame: 480,
        step: 320,
        fft: 512,
        mel_bins: 40,
        lower_hz: 20.0,
        upper_hz: 4000.0,
        coefficients: 10,
        log_offset: 1e-6,
    };

    /// Whole frames in a clip.
    pub const fn frames(&self) -> usize {
        (self.samples - self.frame) / self.step + 1
    }

    /// Refuses numbers no table can be built from.
    ///
    /// # Errors
    /// [`DataError::Request`] naming the parameter.
    pub fn check(&self) -> Result<(), DataError> {
        // Far above any use, and small enough that a hostile file cannot ask for much memory.
        const LARGEST: usize = 1 << 16;
        const LONGEST: usize = 1 << 22;
        let nyquist = f64::from(self.sample_rate) / 2.0;
        for (good, what, reason) in [
            (self.sample_rate > 0, "sample_rate", "above 0".to_owned()),
            ((1..=LONGEST).contains(&self.samples), "samples", format!("1 to {LONGEST}")),
            (
                (1..=self.samples.min(LARGEST)).contains(&self.frame),
                "frame",
                "1 to the clip's length".to_owned(),
            ),
            ((1..=LONGEST).contains(&self.step), "step", format!("1 to {LONGEST}")),
            (
                (self.frame.max(2)..=LARGEST).contains(&self.fft) && self.fft.is_multiple_of(2),
                "fft",
                format!("an even number from the frame's length to {LARGEST}"),
            ),
            ((1..=1024).contains(&self.mel_bins), "mel_bins", "1 to 1024".to_owned()),
            (
                self.lower_hz >= 0.0 && self.lower_hz < self.upper_hz && self.upper_hz <= nyquist,
                "lower_hz, upper_hz",
                format!("0 <= lower < upper <= {nyquist}"),
            ),
            (
                (1..=self.mel_bins).contains(&self.coefficients),
                "coefficients",
                "1 to the number of mel bins".to_owned(),
            ),
            (self.log_offset > 0.0 && self.log_offset.is_finite(), "log_offset", "above 0".to_owned()),
        ] {
            if !good {
                return Err(DataError::request("front end", format!("{what}: {reason} expected")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_front_end_are_refused() {
        let good = Parameters::MLPERF_TINY;
        assert_eq!(good.frames(), 49);
        good.check().unwrap();
        for bad in [
            Parameters { sample_rate: 0, ..good },
            Parameters { samples: 0, ..good },
            Parameters { samples: 479, ..good },
            Parameters { frame: 0, ..good },
            Parameters { step: 0, ..good },
            Parameters { fft: 256, ..good },
            Parameters { fft: 513, ..good },
            Parameters { mel_bins: 0, ..good },
            Parameters { lower_hz: -1.0, ..good },
            Parameters { lower_hz: f64::NAN, ..good },
            Parameters { upper_hz: 8_001.0, ..good },
            Parameters { upper_hz: 20.0, ..good },
            Parameters { coefficients: 41, ..good },
            Parameters { log_offset: 0.0, ..good },
            Parameters { log_offset: f64::INFINITY, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
