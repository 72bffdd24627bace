//! Google Speech Commands v0.02 as the 12-class task of MLPerf Tiny: audio files to standardised MFCC codes.
mod assemble;
mod audio;
mod cache;
mod clips;
mod five_fold;
mod kws01;
mod mixing;
mod official;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use assemble::{Item, Plan, Splits, assemble};
pub use audio::read_clip;
use clips::Clips;
pub(crate) use five_fold::{load_five_fold, located as five_fold_located};
pub use kws01::{Kws01, load_kws01};
pub use mixing::Mixing;
pub(crate) use official::{load_official, located as official_located};

use crate::DataError;
use crate::frontend::{FrontEnd, Mfcc, SAMPLES, Standardiser};

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
    /// Which features the samples are.
    pub front_end: FrontEnd,
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
            front_end: self.front_end,
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

/// A background recording.
struct Recording {
    /// Its file's name without folder and extension.
    stem: String,
    samples: Vec<i16>,
}

/// The background recordings in `folder` of `clips`; none when there is no such folder.
fn load_noise(clips: &Clips, folder: &str) -> Result<Vec<Recording>, DataError> {
    if let Clips::Folder(dir) = clips
        && !dir.join(folder).is_dir()
    {
        return Ok(Vec::new());
    }
    let recordings = clips.audio(folder)?.into_iter().map(|name| {
        let samples = clips.read(&name, NOISE_SAMPLES)?;
        if samples.len() < SAMPLES {
            let reason = format!("{} samples of noise, at least {SAMPLES} expected", samples.len());
            return Err(DataError::corrupt(&clips.path(&name), 0, reason));
        }
        let stem = Path::new(&name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Recording { stem, samples })
    });
    recordings.collect()
}

/// The recordings beside the test archive, in any of the places people put them.
fn load_noise_beside(root: &Path, own: &Clips) -> Result<Vec<Recording>, DataError> {
    let found = load_noise(own, NOISE)?;
    if !found.is_empty() {
        return Ok(found);
    }
    for dir in [root.join("speech_commands_background_noise"), root.to_owned()] {
        let found = load_noise(&Clips::Folder(dir), NOISE)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// Samples of a clip from a file's bytes; for fuzzing, as the three below.
pub(crate) fn parse_clip(path: &Path, bytes: &[u8]) -> Result<Vec<i16>, DataError> {
    audio::parse_audio(path, bytes, SAMPLES)
}

/// Clips in an official list.
pub(crate) fn parse_clip_list(path: &Path, bytes: &[u8]) -> Result<usize, DataError> {
    official::parse_list(path, bytes).map(|clips| clips.len())
}

/// Clips in the table of the five-fold task.
pub(crate) fn parse_fold_list(path: &Path, bytes: &[u8]) -> Result<usize, DataError> {
    five_fold::parse_list(path, bytes).map(|entries| entries.len())
}

/// Stimuli in the table of kws01.
pub(crate) fn parse_stimuli(path: &Path, bytes: &[u8]) -> Result<usize, DataError> {
    kws01::parse_table(path, bytes).map(|stimuli| stimuli.labels.len())
}

/// Folder of the background recordings in the official archive.
const NOISE: &str = "_background_noise_";

/// Folder and archive of the separate test set.
const TEST_SET: [&str; 2] = ["speech_commands_test_set_v0.02", "speech_commands_test_set_v0.02.tar.gz"];
