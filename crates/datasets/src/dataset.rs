//! The form every task takes: u8 codes on one grid, three splits, and where they came from.
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::speech::Speech;
use crate::stream::{Purpose, shuffle, stream};

/// The grid all samples of a task lie on: real x = (code − zero_point) · scale. Training, attack and deployment share it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputGrid {
    /// Distance between neighbouring codes in real units.
    pub scale: f32,
    /// Code of the real value 0.
    pub zero_point: u8,
}

impl InputGrid {
    /// Pixels: 0..=255 to [0, 1].
    pub const PIXELS: InputGrid = InputGrid { scale: 1.0 / 255.0, zero_point: 0 };
    /// Standardised MFCC coefficients: 1/16 of a training standard deviation per code, from −8 to +7.94.
    pub const FEATURES: InputGrid = InputGrid { scale: 1.0 / 16.0, zero_point: 128 };

    /// Real value of a code.
    #[inline]
    pub fn decode(&self, code: u8) -> f32 {
        f32::from(i16::from(code) - i16::from(self.zero_point)) * self.scale
    }

    /// Nearest code (ties away from zero), clamped to 0..=255; NaN gives the zero point.
    #[inline]
    pub fn encode(&self, x: f32) -> u8 {
        let steps = (x / self.scale).round();
        if steps.is_nan() {
            self.zero_point
        } else {
            (steps + f32::from(self.zero_point)).clamp(0.0, 255.0) as u8
        }
    }
}

/// One split's samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Codes, `[n, h, w, c]`.
    pub codes: Vec<u8>,
    /// Class of each sample.
    pub labels: Vec<u8>,
    /// Number of each sample within the whole task (unique over splits, stable over runs); keys augmentation and attacks.
    pub ids: Vec<u32>,
}

impl Split {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether the split holds no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Samples of each class.
    pub fn class_counts(&self, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for &label in &self.labels {
            if let Some(count) = counts.get_mut(usize::from(label)) {
                *count += 1;
            }
        }
        counts
    }

    fn select(&self, positions: &[usize], sample_len: usize) -> Split {
        Split {
            codes: positions
                .iter()
                .flat_map(|&i| &self.codes[i * sample_len..(i + 1) * sample_len])
                .copied()
                .collect(),
            labels: positions.iter().map(|&i| self.labels[i]).collect(),
            ids: positions.iter().map(|&i| self.ids[i]).collect(),
        }
    }
}

/// Which split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Samples to learn from.
    Train,
    /// Samples to choose by.
    Validation,
    /// Samples to report on.
    Test,
}

/// Where the samples come from; decides how numbers measured on them may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The published data with its published splits.
    Official,
    /// Published data, but only part of it or with splits of our own: not comparable with published results.
    OfficialSubset,
    /// Made by code in this crate.
    Embedded,
}

/// A task's data, ready for training and evaluation.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Text form of the task.
    pub name: String,
    /// Shape of one sample: height, width, channels.
    pub shape: [usize; 3],
    /// Grid of all codes.
    pub grid: InputGrid,
    /// Class names by label.
    pub classes: Vec<String>,
    /// Samples to learn from.
    pub train: Split,
    /// Samples to choose by.
    pub validation: Split,
    /// Samples to report on.
    pub test: Split,
    /// SHA-256 (hex) over the codes and labels of the three splits; see [`Dataset::content_checksum`].
    pub checksum: String,
    /// Where the samples come from.
    pub origin: Origin,
    /// What a reader of the results must know: how splits were made, what was counted or skipped.
    pub note: String,
    /// What is wrong with the data though usable, e.g. bytes that differ from the official release. Shown with every result.
    pub warnings: Vec<String>,
    /// For spoken tasks: training waveforms, background noise and feature statistics.
    pub speech: Option<Speech>,
}

impl Dataset {
    /// Codes per sample.
    pub fn sample_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The split of that name.
    pub fn split(&self, part: Part) -> &Split {
        match part {
            Part::Train => &self.train,
            Part::Validation => &self.validation,
            Part::Test => &self.test,
        }
    }

    /// SHA-256 (hex) over, for train, validation and test in turn: the number of samples (u64, little-endian), all codes, all labels.
    pub fn content_checksum(&self) -> String {
        let mut hash = Sha256::new();
        for part in [Part::Train, Part::Validation, Part::Test] {
            let split = self.split(part);
            hash.update((split.len() as u64).to_le_bytes());
            hash.update(&split.codes);
            hash.update(&split.labels);
        }
        hex(&hash.finalize())
    }

    /// At most `train`, `validation` and `test` samples of each split, every class shrunk in proportion (to within one
    /// sample), chosen by a fixed keyed permutation and kept in their order. The checksum is computed anew, an official
    /// set becomes [`Origin::OfficialSubset`] and the note says so; a request that removes nothing changes nothing.
    pub fn subset(&self, train: usize, validation: usize, test: usize) -> Dataset {
        let choose = |split: &Split, n| chosen(&split.labels, self.classes.len(), n);
        let kept =
            [choose(&self.train, train), choose(&self.validation, validation), choose(&self.test, test)];
        let all = [self.train.len(), self.validation.len(), self.test.len()];
        if kept.iter().zip(all).all(|(kept, all)| kept.len() == all) {
            return self.clone();
        }
        let sample_len = self.sample_len();
        let mut subset = Dataset {
            name: self.name.clone(),
            shape: self.shape,
            grid: self.grid,
            classes: self.classes.clone(),
            train: self.train.select(&kept[0], sample_len),
            validation: self.validation.select(&kept[1], sample_len),
            test: self.test.select(&kept[2], sample_len),
            checksum: String::new(),
            origin: if self.origin == Origin::Embedded { Origin::Embedded } else { Origin::OfficialSubset },
            note: format!(
                "{} Reduced to {}/{}/{} of {}/{}/{} samples (train/validation/test).",
                self.note,
                kept[0].len(),
                kept[1].len(),
                kept[2].len(),
                all[0],
                all[1],
                all[2]
            ),
            warnings: self.warnings.clone(),
            speech: self.speech.as_ref().map(|speech| speech.select(&kept[0])),
        };
        subset.checksum = subset.content_checksum();
        subset
    }
}

/// Positions of `n` samples spread over the classes in proportion, ascending.
fn chosen(labels: &[u8], classes: usize, n: usize) -> Vec<usize> {
    let total = labels.len();
    if n >= total {
        return (0..total).collect();
    }
    // Each sample gets the rank (i + 1/2) / count within its shuffled class; the n lowest ranks are proportional.
    let mut ranked = Vec::with_capacity(total);
    for class in 0..classes {
        let mut members: Vec<usize> = (0..total).filter(|&i| usize::from(labels[i]) == class).collect();
        shuffle(&mut members, &mut stream(0, Purpose::Subset, [class as u64, 0]));
        let count = members.len() as u64;
        ranked.extend(members.into_iter().zip(0u64..).map(|(i, rank)| {
            let share = ((2 * rank + 1) << 32) / (2 * count);
            (share, class, i)
        }));
    }
    ranked.sort_unstable();
    let mut positions: Vec<usize> = ranked.into_iter().take(n).map(|(_, _, i)| i).collect();
    positions.sort_unstable();
    positions
}

/// Marks, of each class, the `n` samples that come first in a permutation keyed by (0, `purpose`, class).
pub(crate) fn stratified_mask(labels: &[u8], classes: usize, n: usize, purpose: Purpose) -> Vec<bool> {
    let mut mask = vec![false; labels.len()];
    for class in 0..classes {
        let mut members: Vec<usize> =
            (0..labels.len()).filter(|&i| usize::from(labels[i]) == class).collect();
        shuffle(&mut members, &mut stream(0, purpose, [class as u64, 0]));
        for &i in members.iter().take(n) {
            mask[i] = true;
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_on_both_grids() {
        for grid in [InputGrid::PIXELS, InputGrid::FEATURES] {
            for code in 0..=255u8 {
                assert_eq!(grid.encode(grid.decode(code)), code);
            }
            assert_eq!(
                (grid.encode(1e9), grid.encode(-1e9), grid.encode(f32::NAN)),
                (255, 0, grid.zero_point)
            );
        }
    }

    #[test]
    fn chosen_is_proportional_and_stable() {
        let labels: Vec<u8> = (0..1000).map(|i| u8::from(i % 4 == 0)).collect();
        let positions = chosen(&labels, 2, 100);
        assert_eq!(positions.len(), 100);
        assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
        let ones = positions.iter().filter(|&&i| labels[i] == 1).count();
        assert!((24..=26).contains(&ones), "{ones}");
        assert_eq!(positions, chosen(&labels, 2, 100));
        assert_eq!(chosen(&labels, 2, 5000).len(), 1000);
    }
}
