//! The 1,000 keyword-spotting stimuli of MLPerf Tiny: ready int8 features, each tied to the clip it was made from.
use std::path::Path;

use super::CLASSES;
use super::table::Table;
use crate::error::read_file;
use crate::frontend::{COEFFICIENTS, FEATURES, FRAMES};
use crate::{DataError, Dataset, InputGrid, Origin, Split};

const FOLDER: &str = "mlperf_tiny_kws01";
const VALUES: &str = "mlperf_tiny_kws01_mfcc_int8.bin";
const TABLE: &str = "mlperf_tiny_kws01.csv";

/// The stimuli of the EEMBC runner's `kws01`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kws01 {
    /// Quantized MFCC, `[n, FRAMES, COEFFICIENTS]`.
    pub values: Vec<i8>,
    /// Class of each stimulus, numbered as [`CLASSES`].
    pub labels: Vec<u8>,
    /// Name of each stimulus.
    pub names: Vec<String>,
    /// Clip of the Speech Commands test archive each was made from, `word/name.flac`.
    pub clips: Vec<String>,
}

impl Kws01 {
    /// Raw MFCC units per code.
    pub const SCALE: f32 = 0.584_702_9;
    /// Code of zero.
    pub const ZERO_POINT: f32 = 83.0;

    /// An MFCC value as the stimuli hold it: x / scale + 83, truncated towards zero and then *wrapped* to eight bits; a few
    /// loud clips have values above 127, and the published stimuli hold them as negative numbers. The arithmetic is f32: one
    /// stimulus (604) has a value at 84 − 2.5e-6, which only f32 rounds up to the 84 that was published.
    pub fn quantize(x: f32) -> i8 {
        (x / Self::SCALE + Self::ZERO_POINT) as i32 as i8
    }

    /// The stimuli as the test split of a dataset without training data. Its grid is theirs (raw MFCC, not standardised):
    /// codes are the int8 values plus 128.
    pub fn dataset(&self) -> Dataset {
        let mut dataset = Dataset {
            name: FOLDER.to_owned(),
            shape: [FRAMES, COEFFICIENTS, 1],
            grid: InputGrid { scale: Self::SCALE, zero_point: (Self::ZERO_POINT as u8) + 128 },
            classes: CLASSES.map(str::to_owned).to_vec(),
            train: Split::default(),
            validation: Split::default(),
            test: Split {
                codes: self.values.iter().map(|&value| (value as u8).wrapping_add(128)).collect(),
                labels: self.labels.clone(),
                ids: (0..self.labels.len() as u32).collect(),
            },
            checksum: String::new(),
            origin: Origin::OfficialSubset,
            note: "MLPerf Tiny keyword-spotting stimuli of the EEMBC runner (kws01).".to_owned(),
            warnings: Vec::new(),
            speech: None,
        };
        dataset.checksum = dataset.content_checksum();
        dataset
    }
}

/// Reads the stimuli from `dir/mlperf_tiny_kws01` or `dir` itself.
///
/// # Errors
/// [`DataError::Io`] when a file is absent, [`DataError::Corrupt`] when sizes, labels or order are wrong.
pub fn load_kws01(dir: &Path) -> Result<Kws01, DataError> {
    let dir = Some(dir.join(FOLDER)).filter(|dir| dir.is_dir()).unwrap_or_else(|| dir.to_owned());
    let table_path = dir.join(TABLE);
    let mut stimuli = parse_table(&table_path, &read_file(&table_path, 16 << 20)?)?;
    let values_path = dir.join(VALUES);
    let expected = stimuli.labels.len() * FEATURES;
    let values = read_file(&values_path, expected as u64)?;
    if values.len() != expected {
        let reason = format!("the file ends here, {expected} bytes expected");
        return Err(DataError::corrupt(&values_path, values.len() as u64, reason));
    }
    stimuli.values = values.into_iter().map(|byte| byte as i8).collect();
    Ok(stimuli)
}

/// The table alone, without values.
pub(super) fn parse_table(path: &Path, bytes: &[u8]) -> Result<Kws01, DataError> {
    let table = Table::parse(path, bytes)?;
    let [index, name, label12, clip] = table.columns(["index", "name", "label12", "gsc_file"])?;
    let mut stimuli = Kws01 { values: Vec::new(), labels: Vec::new(), names: Vec::new(), clips: Vec::new() };
    for (i, row) in table.rows.iter().enumerate() {
        if row.number(index, usize::MAX)? != i {
            return Err(row.error(format!("index {}, {i} expected", row.field(index)?)));
        }
        stimuli.labels.push(row.number(label12, CLASSES.len() as u8)?);
        stimuli.names.push(row.field(name)?.to_owned());
        stimuli.clips.push(row.path(clip)?.to_owned());
    }
    Ok(stimuli)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stimuli_become_codes_on_their_own_grid_and_faults_are_located() {
        let dir = tempfile::tempdir().unwrap();
        let header = "index,name,label12,gsc_file,l1_distance\n";
        let table = format!("{header}0,a,7,stop/a.flac,0\n1,b,11,_unknown_/b.flac,3\n");
        std::fs::write(dir.path().join(TABLE), &table).unwrap();
        let values: Vec<u8> = (0..2 * FEATURES).map(|i| i as u8).collect();
        std::fs::write(dir.path().join(VALUES), &values).unwrap();
        let stimuli = load_kws01(dir.path()).unwrap();
        let data = stimuli.dataset();
        assert_eq!(data.test.labels, [7, 11]);
        // Value 83 is zero; 127 is 44 steps above it.
        assert_eq!(data.grid.decode(data.test.codes[83]), 0.0);
        assert!((data.grid.decode(data.test.codes[127]) - 44.0 * 0.5847029).abs() < 1e-4);
        assert_eq!((Kws01::quantize(0.0), Kws01::quantize(25.9), Kws01::quantize(26.4)), (83, 127, -128));

        std::fs::write(dir.path().join(VALUES), &values[..700]).unwrap();
        assert!(matches!(load_kws01(dir.path()), Err(DataError::Corrupt { offset: 700, .. })));
        std::fs::write(dir.path().join(TABLE), table.replace("1,b", "2,b")).unwrap();
        assert!(load_kws01(dir.path()).unwrap_err().to_string().contains("1 expected"));
        std::fs::remove_file(dir.path().join(TABLE)).unwrap();
        assert!(matches!(load_kws01(dir.path()), Err(DataError::Io { .. })));
    }
}
