//! CIFAR-10 in its official binary layout: six files of 10,000 records, checked byte by byte for size and label and as a whole
//! by SHA-256.
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::dataset::hex;
use crate::error::read_file;
use crate::manifest::Manifest;
use crate::stream::{Purpose, shuffle, stream};
use crate::{DataError, DataSearch, Dataset, InputGrid, Origin, Split, Task};

/// Class names by label, from the official `batches.meta.txt`.
pub const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Images held back from training for validation: 500 of each class.
pub const VALIDATION_PER_CLASS: usize = 500;

/// Official files in order; the last is the test set. Their SHA-256 are in `datasets/cifar10.toml`.
pub const FILES: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];

/// Directory of the official archive.
const FOLDER: &str = "cifar-10-batches-bin";
const PLANE: usize = 32 * 32;
const IMAGE: usize = 3 * PLANE;
const RECORD: usize = 1 + IMAGE;
const RECORDS: usize = 10_000;

/// Loads CIFAR-10 from `DIR/cifar-10-batches-bin` or DIR itself.
///
/// The validation split is fixed: of each class, the 500 training images that come first in a permutation keyed by
/// (0, validation, class). Training and validation images keep the official order; ids are positions in the official
/// training set, test ids follow from 50,000.
pub(crate) fn load(search: &DataSearch) -> Result<Dataset, DataError> {
    load_dir(&search.find(&Task::Cifar10, find)?)
}

fn find(dir: &Path) -> Option<PathBuf> {
    [dir.join(FOLDER), dir.to_owned()]
        .into_iter()
        .find(|candidate| FILES.iter().any(|name| candidate.join(name).is_file()))
}

fn load_dir(dir: &Path) -> Result<Dataset, DataError> {
    let batches =
        FILES.par_iter().map(|name| read_batch(&dir.join(name))).collect::<Result<Vec<_>, DataError>>()?;
    let manifest = Manifest::named("cifar10")?;
    let mut warnings = Vec::new();
    for (name, batch) in FILES.iter().zip(&batches) {
        let path = format!("{FOLDER}/{name}");
        let expected =
            manifest.files.iter().find(|file| file.path == path).and_then(|file| file.sha256.as_deref());
        if expected != Some(batch.sha256.as_str()) {
            warnings.push(format!(
                "{name} is not the official file (SHA-256 {}, official {}): perhaps a re-encoded (JPEG) copy, which can \
                 cost 12 points of accuracy",
                batch.sha256,
                expected.unwrap_or("unknown")
            ));
        }
    }

    let labels: Vec<u8> = batches[..5].iter().flat_map(|batch| &batch.labels).copied().collect();
    let held_back = validation_mask(&labels);
    let mut train = Split::default();
    let mut validation = Split::default();
    train.codes.reserve_exact(labels.len() * IMAGE);
    for (id, (&label, &held)) in labels.iter().zip(&held_back).enumerate() {
        let image = &batches[id / RECORDS].codes[id % RECORDS * IMAGE..][..IMAGE];
        let split = if held { &mut validation } else { &mut train };
        split.codes.extend_from_slice(image);
        split.labels.push(label);
        split.ids.push(id as u32);
    }
    let test = batches.into_iter().next_back().map_or_else(Split::default, |batch| Split {
        ids: (0..batch.labels.len() as u32).map(|i| (5 * RECORDS) as u32 + i).collect(),
        codes: batch.codes,
        labels: batch.labels,
    });

    let mut dataset = Dataset {
        name: Task::Cifar10.to_string(),
        shape: [32, 32, 3],
        grid: InputGrid::PIXELS,
        classes: CLASSES.map(str::to_owned).to_vec(),
        train,
        validation,
        test,
        checksum: String::new(),
        origin: Origin::Official,
        note: format!(
            "CIFAR-10, official training and test sets; {VALIDATION_PER_CLASS} training images of each class \
             (fixed keyed choice) are held back for validation."
        ),
        warnings,
        speech: None,
    };
    dataset.checksum = dataset.content_checksum();
    Ok(dataset)
}

struct Batch {
    codes: Vec<u8>,
    labels: Vec<u8>,
    sha256: String,
}

fn read_batch(path: &Path) -> Result<Batch, DataError> {
    let bytes = read_file(path, (RECORD * RECORDS) as u64)?;
    if bytes.len() != RECORD * RECORDS {
        let reason = format!("the file ends here, {} bytes expected", RECORD * RECORDS);
        return Err(DataError::corrupt(path, bytes.len() as u64, reason));
    }
    let mut codes = vec![0; RECORDS * IMAGE];
    let mut labels = Vec::with_capacity(RECORDS);
    for (i, (record, image)) in bytes.chunks_exact(RECORD).zip(codes.chunks_exact_mut(IMAGE)).enumerate() {
        if usize::from(record[0]) >= CLASSES.len() {
            let reason = format!("label {} of record {i}, 0 to 9 expected", record[0]);
            return Err(DataError::corrupt(path, (i * RECORD) as u64, reason));
        }
        labels.push(record[0]);
        planes_to_hwc(&record[1..], image);
    }
    Ok(Batch { codes, labels, sha256: hex(&Sha256::digest(&bytes)) })
}

/// The one place where CIFAR's red, green and blue planes become interleaved pixels.
fn planes_to_hwc(planes: &[u8], image: &mut [u8]) {
    for (i, pixel) in image.chunks_exact_mut(3).enumerate() {
        for (channel, code) in pixel.iter_mut().enumerate() {
            *code = planes[channel * PLANE + i];
        }
    }
}

fn validation_mask(labels: &[u8]) -> Vec<bool> {
    let mut mask = vec![false; labels.len()];
    for class in 0..CLASSES.len() {
        let mut members: Vec<usize> =
            (0..labels.len()).filter(|&i| usize::from(labels[i]) == class).collect();
        shuffle(&mut members, &mut stream(0, Purpose::ValidationSplit, [class as u64, 0]));
        for &i in members.iter().take(VALIDATION_PER_CLASS) {
            mask[i] = true;
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_copy(dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        for (batch, name) in FILES.iter().enumerate() {
            let mut bytes = vec![0u8; RECORD * RECORDS];
            for (i, record) in bytes.chunks_exact_mut(RECORD).enumerate() {
                record[0] = (i % 10) as u8;
                record[1..=PLANE].fill(10 + batch as u8);
                record[1 + PLANE..=2 * PLANE].fill(100);
                record[1 + 2 * PLANE..].fill(200);
            }
            std::fs::write(dir.join(name), bytes).unwrap();
        }
    }

    #[test]
    fn altered_copies_load_with_warnings_and_corruption_is_located() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("cifar-10-batches-bin");
        write_copy(&dir);
        let search = DataSearch { explicit: Some(root.path().to_owned()) };
        let data = load(&search).unwrap();
        assert_eq!([data.train.len(), data.validation.len(), data.test.len()], [45_000, 5_000, 10_000]);
        assert_eq!(data.validation.class_counts(10), vec![500; 10]);
        assert_eq!(data.warnings.len(), 6);
        assert_eq!(data.test.codes[..6], [15, 100, 200, 15, 100, 200]);
        let mut ids: Vec<u32> =
            [&data.train, &data.validation, &data.test].into_iter().flat_map(|s| s.ids.clone()).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..60_000));

        // The directory itself is accepted too.
        assert_eq!(find(&dir), Some(dir.clone()));

        let path = dir.join("data_batch_2.bin");
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[7 * RECORD] = 10;
        std::fs::write(&path, &bad).unwrap();
        match load(&search).unwrap_err() {
            DataError::Corrupt { path: at, offset, .. } => {
                assert_eq!((at, offset), (path.clone(), 7 * RECORD as u64))
            }
            other => panic!("{other}"),
        }
        std::fs::write(&path, &good[..1000]).unwrap();
        assert!(matches!(load(&search), Err(DataError::Corrupt { offset: 1000, .. })));
        let longer = [good.as_slice(), &[0]].concat();
        std::fs::write(&path, longer).unwrap();
        assert!(matches!(load(&search), Err(DataError::Corrupt { .. })));
        std::fs::write(&path, []).unwrap();
        assert!(matches!(load(&search), Err(DataError::Corrupt { offset: 0, .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(load(&search), Err(DataError::Io { .. })));
    }
}
