//! From raw features to codes: coefficients differ 26-fold in spread, so each is standardised with training statistics first.
use std::io::Write;
use std::path::Path;

use atomic_write_file::AtomicWriteFile;
use pulp::{Arch, NullaryFnOnce};
use serde::{Deserialize, Serialize};

use crate::{DataError, InputGrid};

/// Mean and standard deviation of each coefficient over the training frames; maps features to codes on
/// [`InputGrid::FEATURES`]. Whoever runs a trained network on new sound needs them: [`write`](Self::write) and
/// [`read`](Self::read) keep them beside the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standardiser {
    /// Mean of each coefficient.
    pub mean: Vec<f32>,
    /// Standard deviation of each coefficient (population form), never below 1e-6.
    pub std: Vec<f32>,
}

impl Standardiser {
    /// Statistics of `features`, `[n, columns]`; summed in f64 in clip order.
    pub fn fit(features: &[f32], columns: usize) -> Self {
        let count = (features.len() / columns).max(1) as f64;
        let mut mean = vec![0.0f64; columns];
        for row in features.chunks_exact(columns) {
            for (sum, &x) in mean.iter_mut().zip(row) {
                *sum += f64::from(x);
            }
        }
        mean.iter_mut().for_each(|sum| *sum /= count);
        let mut variance = vec![0.0f64; columns];
        for row in features.chunks_exact(columns) {
            for ((sum, &x), m) in variance.iter_mut().zip(row).zip(&mean) {
                *sum += (f64::from(x) - m).powi(2);
            }
        }
        Standardiser {
            mean: mean.iter().map(|&m| m as f32).collect(),
            std: variance.iter().map(|sum| (sum / count).sqrt().max(1e-6) as f32).collect(),
        }
    }

    /// Codes of one or more clips' features; returns how many values fell outside the grid and were clamped.
    pub fn encode(&self, features: &[f32], codes: &mut [u8]) -> usize {
        Arch::new().dispatch(Encode { standardiser: self, features, codes })
    }

    /// Feature values (the middle of each code's cell) of codes laid out as feature rows.
    pub fn decode(&self, codes: &[u8], features: &mut [f32]) {
        let columns = self.mean.len();
        for (i, (&code, x)) in codes.iter().zip(features).enumerate() {
            let n = i % columns;
            *x = InputGrid::FEATURES.decode(code) * self.std[n] + self.mean[n];
        }
    }

    /// Writes the statistics as JSON; the file appears whole or not at all.
    ///
    /// # Errors
    /// [`DataError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), DataError> {
        let text = serde_json::to_string_pretty(self).map_err(|e| DataError::io(path, e.into()))?;
        let written = AtomicWriteFile::open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.commit()));
        written.map_err(|e| DataError::io(path, e))
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// [`DataError::Io`]; [`DataError::Corrupt`] when it is no JSON of that form, or its numbers standardise nothing.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let bytes = crate::error::read_file(path, 1 << 20)?;
        let read: Standardiser =
            serde_json::from_slice(&bytes).map_err(|e| DataError::corrupt(path, 0, e.to_string()))?;
        let sound = read.mean.len() == read.std.len()
            && !read.mean.is_empty()
            && read.mean.iter().all(|m| m.is_finite())
            && read.std.iter().all(|s| s.is_finite() && *s > 0.0);
        if sound {
            Ok(read)
        } else {
            Err(DataError::corrupt(path, 0, "means and standard deviations that cannot be"))
        }
    }
}

/// [`Standardiser::encode`], compiled for every vector unit.
struct Encode<'a> {
    standardiser: &'a Standardiser,
    features: &'a [f32],
    codes: &'a mut [u8],
}

impl NullaryFnOnce for Encode<'_> {
    type Output = usize;

    #[inline(always)]
    fn call(self) -> usize {
        let (grid, columns) = (InputGrid::FEATURES, self.standardiser.mean.len());
        // Half a code beyond the last one still rounds onto it.
        let (low, high) = (grid.decode(0) - grid.scale / 2.0, grid.decode(255) + grid.scale / 2.0);
        let mut clipped = 0;
        for (row, out) in self.features.chunks_exact(columns).zip(self.codes.chunks_exact_mut(columns)) {
            let statistics = self.standardiser.mean.iter().zip(&self.standardiser.std);
            for ((&x, code), (mean, std)) in row.iter().zip(out).zip(statistics) {
                let standard = (x - mean) / std;
                clipped += usize::from(!(low..=high).contains(&standard));
                *code = grid.encode(standard);
            }
        }
        clipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::{COEFFICIENTS, FEATURES};

    #[test]
    fn statistics_and_codes_round_trip() {
        let features: Vec<f32> =
            (0..FEATURES * 4).map(|i| ((i * 37) % 101) as f32 * (i % COEFFICIENTS + 1) as f32).collect();
        let standardiser = Standardiser::fit(&features, COEFFICIENTS);
        let mut codes = vec![0; features.len()];
        assert_eq!(standardiser.encode(&features, &mut codes), 0);
        let mut back = vec![0.0; features.len()];
        standardiser.decode(&codes, &mut back);
        for (i, (a, b)) in features.iter().zip(&back).enumerate() {
            let half_step = standardiser.std[i % COEFFICIENTS] / 32.0;
            assert!((a - b).abs() <= half_step * 1.001, "{a} {b}");
        }
        let constant = Standardiser::fit(&[3.0; FEATURES], COEFFICIENTS);
        assert_eq!(constant.encode(&[1e9; FEATURES], &mut codes[..FEATURES]), FEATURES);
        assert!(codes[..FEATURES].iter().all(|&code| code == 255));
    }

    #[test]
    fn statistics_survive_on_disk_and_bad_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("statistics.json");
        let features: Vec<f32> = (0..400).map(|i| (i as f32 * 0.377).sin() / 3.0).collect();
        let standardiser = Standardiser::fit(&features, 40);
        standardiser.write(&path).unwrap();
        assert_eq!(Standardiser::read(&path).unwrap(), standardiser);
        for bad in [
            "",
            "{}",
            r#"{"mean":[],"std":[]}"#,
            r#"{"mean":[1.0],"std":[0.0]}"#,
            r#"{"mean":[1.0,2.0],"std":[1.0]}"#,
            r#"{"mean":[1e39],"std":[1.0]}"#,
            r#"{"mean":[1.0],"std":[-1.0]}"#,
        ] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(Standardiser::read(&path), Err(DataError::Corrupt { .. })), "{bad}");
        }
    }
}
