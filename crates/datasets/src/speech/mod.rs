//! Google Speech Commands v0.02 as the 12-class task of MLPerf Tiny: audio files to standardised MFCC codes.
mod assemble;
mod audio;
mod five_fold;
mod kws01;
mod official;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use assemble::{Item, Splits, assemble};
pub use audio::read_clip;
pub(crate) use five_fold::load_five_fold;
pub use kws01::{Kws01, load_kws01};
pub(crate) use official::load_official;

use crate::DataError;
use crate::frontend::{Mfcc, SAMPLES, Standardiser};

/// Class names by label, in MLPerf Tiny's order.
pub const CLASSES: [&str; 12] =
    ["down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "_silence_", "_unknown_"];

/// Label of silence.
pub const SILENCE: u8 = 10;
/// Label of every word that is not one of the ten.
pub const UNKNOWN: u8 = 11;

/// Longest background recording accepted, in samples (the official ones last 60 to 95 s).
const NOISE_SAMPLES: usize = 300 * SAMPLES;

/// What a spoken task keeps beside its codes: all that augmentation and waveform attacks need.
#[derive(Clone, Debug)]
pub struct Speech {
    /// Training waveforms, `[n, SAMPLES]`, 16-bit, padded with zeros; in the order of the training split.
    pub waves: Vec<i16>,
    /// Background recordings for mixing, each at least one second; may be empty.
    pub noise: Arc<Vec<Vec<i16>>>,
    /// Statistics of the training features.
    pub standardiser: Standardiser,
    /// Share of feature values outside the grid, in the training, validation and test split.
    pub clipped: [f64; 3],
    /// Tables of the front end, shared by all threads.
    pub mfcc: Arc<Mfcc<f32>>,
}

impl Speech {
    /// The same with only some training waveforms.
    pub(crate) fn select(&self, positions: &[usize]) -> Speech {
        Speech {
            waves: positions.iter().flat_map(|&i| self.wave(i)).copied().collect(),
            noise: Arc::clone(&self.noise),
            standardiser: self.standardiser.clone(),
            clipped: self.clipped,
            mfcc: Arc::clone(&self.mfcc),
        }
    }

    /// Waveform of training sample i.
    pub fn wave(&self, i: usize) -> &[i16] {
        &self.waves[i * SAMPLES..(i + 1) * SAMPLES]
    }
}

/// Audio files directly in `dir`, by name.
pub(crate) fn audio_files(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| DataError::io(dir, e))? {
        let path = entry.map_err(|e| DataError::io(dir, e))?.path();
        if path.extension().is_some_and(|extension| extension == "wav" || extension == "flac") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The background recordings: `DIR/_background_noise_` or `DIR/speech_commands_background_noise/_background_noise_`.
/// An absent folder is not an error here: mixing noise without recordings is refused when a batch asks for it.
fn load_noise(candidates: &[PathBuf]) -> Result<Vec<(PathBuf, Vec<i16>)>, DataError> {
    let Some(dir) = candidates.iter().find(|dir| dir.is_dir()) else { return Ok(Vec::new()) };
    let recordings = audio_files(dir)?
        .into_iter()
        .map(|path| {
            let samples = audio::read_audio(&path, NOISE_SAMPLES)?;
            if samples.len() < SAMPLES {
                let reason = format!("{} samples of noise, at least {SAMPLES} expected", samples.len());
                return Err(DataError::corrupt(&path, 0, reason));
            }
            Ok((path, samples))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(recordings)
}
