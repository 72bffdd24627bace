//! SVHN, cropped digits (format 2): two MATLAB files of 32×32 house-number digits.
mod mat5;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::dataset::stratified_mask;
use crate::digest::hex;
use crate::error::read_file;
use crate::manifest::Manifest;
use crate::stream::Purpose;
use crate::{DataError, DataSearch, Dataset, InputGrid, Origin, Split, Task};

/// Class names by label. The files call the digit 0 class 10; here it is class 0.
pub const CLASSES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// Images held back from training for validation: 400 of each class.
pub const VALIDATION_PER_CLASS: usize = 400;

const FILES: [&str; 2] = ["train_32x32.mat", "test_32x32.mat"];
const SIDE: usize = 32;
const IMAGE: usize = SIDE * SIDE * 3;
/// Larger than the largest file of the release (`extra_32x32.mat`, 531,131 images), packed or not.
const LARGEST: u64 = 2 << 30;

/// Loads SVHN from `DIR/svhn` or DIR itself.
///
/// The validation split is fixed: of each class, the 400 training images that come first in a permutation keyed by
/// (0, validation, class). Training and validation images keep the official order; ids are positions in the official
/// training set, test ids follow. The third file of the release, `extra_32x32.mat`, is not used.
pub(crate) fn load(search: &DataSearch) -> Result<Dataset, DataError> {
    load_dir(&search.find(&Task::Svhn, find)?)
}

/// Where the files are.
pub(crate) fn located(search: &DataSearch) -> Result<PathBuf, DataError> {
    search.find(&Task::Svhn, find)
}

fn find(dir: &Path) -> Option<PathBuf> {
    [dir.join("svhn"), dir.to_owned()]
        .into_iter()
        .find(|candidate| FILES.iter().any(|name| candidate.join(name).is_file()))
}

fn load_dir(dir: &Path) -> Result<Dataset, DataError> {
    let manifest = Manifest::named("svhn")?;
    let mut warnings = Vec::new();
    let mut read = |name: &str, count: usize| -> Result<Digits, DataError> {
        let path = dir.join(name);
        let bytes = read_file(&path, LARGEST)?;
        let found = hex(&Sha256::digest(&bytes));
        let official = manifest.archives.iter().find(|archive| archive.file_name() == name);
        if official.and_then(|archive| archive.sha256.as_ref()) != Some(&found) {
            warnings.push(format!("{name} is not the official file (SHA-256 {found})"));
        }
        let digits = parse(&path, &bytes, LARGEST)?;
        if digits.labels.len() != count {
            warnings.push(format!("{name} holds {} images, the official one {count}", digits.labels.len()));
        }
        Ok(digits)
    };
    let trained = read(FILES[0], manifest.counts.train)?;
    let tested = read(FILES[1], manifest.counts.test)?;

    let held_back =
        stratified_mask(&trained.labels, CLASSES.len(), VALIDATION_PER_CLASS, Purpose::ValidationSplit);
    let mut train = Split::default();
    let mut validation = Split::default();
    train.codes.reserve_exact(trained.codes.len());
    for (id, ((&label, &held), image)) in
        trained.labels.iter().zip(&held_back).zip(trained.codes.chunks_exact(IMAGE)).enumerate()
    {
        let split = if held { &mut validation } else { &mut train };
        split.codes.extend_from_slice(image);
        split.labels.push(label);
        split.ids.push(id as u32);
    }
    let first = trained.labels.len() as u32;
    let test = Split {
        ids: (first..).take(tested.labels.len()).collect(),
        codes: tested.codes,
        labels: tested.labels,
    };
    let mut dataset = Dataset {
        name: Task::Svhn.to_string(),
        shape: [SIDE, SIDE, 3],
        grid: InputGrid::PIXELS,
        classes: CLASSES.map(str::to_owned).to_vec(),
        train,
        validation,
        test,
        checksum: String::new(),
        origin: if warnings.is_empty() { Origin::Official } else { Origin::OfficialSubset },
        note: format!(
            "SVHN, cropped digits, official training and test sets without the extra one; {VALIDATION_PER_CLASS} training \
             images of each class (fixed keyed choice) are held back for validation."
        ),
        warnings,
        speech: None,
    };
    dataset.checksum = dataset.content_checksum();
    Ok(dataset)
}

/// One file's images, `[n, 32, 32, 3]`, and their digits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Digits {
    codes: Vec<u8>,
    labels: Vec<u8>,
}

impl Digits {
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }
}

/// Reads a file's variables `X` `[32, 32, 3, n]` and `y` `[n, 1]`, neither longer than `limit` bytes.
pub(crate) fn parse(path: &Path, bytes: &[u8], limit: u64) -> Result<Digits, DataError> {
    let mut arrays = mat5::read_arrays(path, bytes, limit)?;
    let mut variable = |name: &str| {
        let at = arrays.iter().position(|array| array.name == name);
        at.map(|at| arrays.swap_remove(at))
            .ok_or_else(|| DataError::corrupt(path, bytes.len() as u64, format!("no variable `{name}`")))
    };
    let (images, digits) = (variable("X")?, variable("y")?);
    let n = match images.shape[..] {
        [SIDE, SIDE, 3, n] => n,
        // MATLAB drops a last axis of length one.
        [SIDE, SIDE, 3] => 1,
        _ => {
            let reason = format!("`X` of shape {:?}, [32, 32, 3, n] expected", images.shape);
            return Err(DataError::corrupt(path, images.offset, reason));
        }
    };
    if digits.shape != [n, 1] {
        let reason = format!("`y` of shape {:?}, [{n}, 1] expected", digits.shape);
        return Err(DataError::corrupt(path, digits.offset, reason));
    }
    if let Some(at) = digits.data.iter().position(|digit| !(1..=10).contains(digit)) {
        let reason = format!("label {} of image {at}, 1 to 10 expected", digits.data[at]);
        return Err(DataError::corrupt(path, digits.offset, reason));
    }
    let mut codes = vec![0; images.data.len()];
    codes.par_chunks_exact_mut(IMAGE).zip(images.data.par_chunks_exact(IMAGE)).for_each(
        |(image, columns)| {
            columns_to_hwc(columns, image);
        },
    );
    Ok(Digits { codes, labels: digits.data.iter().map(|digit| digit % 10).collect() })
}

/// The one place where MATLAB's order (rows fastest, then columns, then channels) becomes interleaved pixels.
fn columns_to_hwc(columns: &[u8], image: &mut [u8]) {
    for (i, pixel) in image.chunks_exact_mut(3).enumerate() {
        let (row, column) = (i / SIDE, i % SIDE);
        for (channel, code) in pixel.iter_mut().enumerate() {
            *code = columns[(channel * SIDE + column) * SIDE + row];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::seeds::mat_file;

    /// Two images whose pixels tell their place, in MATLAB's order.
    fn images(n: usize) -> Vec<u8> {
        let mut data = vec![0; IMAGE * n];
        for i in 0..n {
            for (channel, row, column) in
                (0..3).flat_map(|k| (0..SIDE).flat_map(move |c| (0..SIDE).map(move |r| (k, r, c))))
            {
                data[i * IMAGE + (channel * SIDE + column) * SIDE + row] = pixel(i, row, column, channel);
            }
        }
        data
    }

    fn pixel(i: usize, row: usize, column: usize, channel: usize) -> u8 {
        (i * 101 + row * 7 + column * 3 + channel * 50) as u8
    }

    fn file(n: u32, labels: &[u8], compressed: bool) -> Vec<u8> {
        let (x, images) = ([32, 32, 3, n], images(n as usize));
        mat_file(&[("X", &x, &images), ("y", &[labels.len() as u32, 1], labels)], compressed)
    }

    fn fault(bytes: &[u8], limit: u64) -> (u64, String) {
        match parse(Path::new("x.mat"), bytes, limit).unwrap_err() {
            DataError::Corrupt { offset, reason, .. } => (offset, reason),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn columns_become_rows_and_ten_becomes_zero() {
        for compressed in [false, true] {
            let digits = parse(Path::new("x.mat"), &file(2, &[10, 3], compressed), 1 << 20).unwrap();
            assert_eq!(digits.labels, [0, 3]);
            for (at, &code) in digits.codes.iter().enumerate() {
                let (i, place) = (at / IMAGE, at % IMAGE);
                assert_eq!(code, pixel(i, place / 96, place / 3 % 32, place % 3), "{at}");
            }
        }
    }

    #[test]
    fn damage_and_bombs_are_located() {
        let good = file(2, &[1, 2], true);
        for (bytes, word) in [
            (file(2, &[1, 0], true), "label 0 of image 1"),
            (file(2, &[11, 1], true), "label 11 of image 0"),
            (file(2, &[1, 2, 3], true), "`y` of shape [3, 1]"),
            (mat_file(&[("X", &[32, 32, 3, 1], &images(1))], true), "no variable `y`"),
            (mat_file(&[("X", &[32, 3, 32, 1], &images(1)), ("y", &[1, 1], &[1])], true), "`X` of shape"),
            (mat_file(&[("X", &[32, 32, 3, 9], &images(1))], false), "shape"),
            (mat_file(&[("y", &[1, 1], &[1]), ("y", &[1, 1], &[1])], false), "twice"),
            (good[..1_000].to_vec(), "ends within"),
            (good[..130].to_vec(), "tag"),
            (good[..50].to_vec(), "header"),
            (b"MATLAB 7.3 MAT-file".iter().copied().chain([0; 200]).collect(), "not a little-endian"),
        ] {
            let (offset, reason) = fault(&bytes, 1 << 20);
            assert!(reason.contains(word) && offset <= bytes.len() as u64, "{word}: {reason}");
        }
        let (offset, reason) = fault(&good, 6_000);
        assert!(reason.contains("more than 6000") && offset == 128, "{reason}");
        let mut flipped = good.clone();
        flipped[128 + 8 + 20] ^= 0xFF;
        fault(&flipped, 1 << 20);
    }

    #[test]
    fn a_small_copy_loads_with_warnings() {
        let root = tempfile::tempdir().unwrap();
        let labels: Vec<u8> = (0..20).map(|i| i % 10 + 1).collect();
        std::fs::write(root.path().join(FILES[0]), file(20, &labels, true)).unwrap();
        let search = DataSearch { explicit: Some(root.path().to_owned()) };
        assert!(matches!(load(&search), Err(DataError::Io { .. })), "the test file is missing");
        std::fs::write(root.path().join(FILES[1]), file(3, &[7, 8, 10], false)).unwrap();
        let data = load(&search).unwrap();
        // Fewer than 400 of a class: all of them are held back.
        assert_eq!([data.train.len(), data.validation.len(), data.test.len()], [0, 20, 3]);
        assert_eq!((&data.test.labels[..], &data.test.ids[..]), (&[7, 8, 0][..], &[20, 21, 22][..]));
        assert_eq!((data.warnings.len(), data.origin), (4, Origin::OfficialSubset));
    }
}
