//! Entrances for fuzzing: every parser of foreign bytes as a function of the bytes alone, with what must hold of its answer.
//! Not part of the interface.
pub mod seeds;

use std::path::Path;

use crate::archive::{ArchiveLimits, read_entry, read_tar_gz_from};
use crate::manifest::Manifest;
use crate::{DataError, cifar, speech, svhn};

/// A parser's entrance; the answer says how much was found.
pub type Target = fn(&[u8]) -> Result<usize, DataError>;

/// Every entrance by name; the fuzz targets are called the same.
pub const TARGETS: [(&str, Target); 10] = [
    ("pickle", pickle),
    ("records", records),
    ("mat", mat),
    ("tar_gz", tar_gz),
    ("wav", wav),
    ("flac", flac),
    ("clip_list", clip_list),
    ("fold_list", fold_list),
    ("stimuli", stimuli),
    ("manifest", manifest),
];

/// An error of a parser names its file and a place within it (a decompressor may be one buffer ahead, never past the end).
fn judged(bytes: &[u8], file: &str, result: Result<usize, DataError>) -> Result<usize, DataError> {
    if let Err(error) = &result {
        match error {
            DataError::Corrupt { path, offset, reason } => {
                assert!(path.ends_with(file), "{error}");
                assert!(*offset <= bytes.len() as u64, "{error}: of {} bytes", bytes.len());
                assert!(!reason.is_empty());
            }
            other => panic!("an error of another kind: {other}"),
        }
    }
    result
}

/// A batch of CIFAR-10's Python version; the answer is its number of labels.
pub fn pickle(bytes: &[u8]) -> Result<usize, DataError> {
    judged(bytes, "batch", cifar::parse_pickle(Path::new("batch"), bytes))
}

/// A batch of CIFAR-10's binary version.
pub fn records(bytes: &[u8]) -> Result<usize, DataError> {
    judged(bytes, "batch.bin", cifar::parse_records(Path::new("batch.bin"), bytes))
}

/// A file of SVHN; the answer is its number of images.
pub fn mat(bytes: &[u8]) -> Result<usize, DataError> {
    judged(bytes, "x.mat", svhn::parse(Path::new("x.mat"), bytes, 1 << 20).map(|digits| digits.len()))
}

/// An archive; the answer is the bytes of its files.
pub fn tar_gz(bytes: &[u8]) -> Result<usize, DataError> {
    let path = Path::new("x.tar.gz");
    let limits = ArchiveLimits { file: 1 << 18, total: 1 << 20, entries: 100 };
    let mut total = 0;
    let result = read_tar_gz_from(bytes, path, limits, &mut |name, size, entry| {
        assert!(!name.starts_with('/') && !name.split('/').any(|part| part == ".."), "{name}");
        total += read_entry(path, name, size, entry)?.len();
        Ok(())
    });
    judged(bytes, "x.tar.gz", result.map(|()| total))
}

/// A WAV clip; the answer is its length.
pub fn wav(bytes: &[u8]) -> Result<usize, DataError> {
    audio(bytes, "x.wav")
}

/// A FLAC clip; the answer is its length.
pub fn flac(bytes: &[u8]) -> Result<usize, DataError> {
    audio(bytes, "x.flac")
}

fn audio(bytes: &[u8], file: &str) -> Result<usize, DataError> {
    let samples = speech::parse_clip(Path::new(file), bytes).map(|samples| samples.len());
    if let Ok(n) = &samples {
        assert!((1..=crate::frontend::SAMPLES).contains(n));
    }
    judged(bytes, file, samples)
}

/// `validation_list.txt` and `testing_list.txt`.
pub fn clip_list(bytes: &[u8]) -> Result<usize, DataError> {
    judged(bytes, "list.txt", speech::parse_clip_list(Path::new("list.txt"), bytes))
}

/// The table of the five-fold task.
pub fn fold_list(bytes: &[u8]) -> Result<usize, DataError> {
    judged(bytes, "folds.csv", speech::parse_fold_list(Path::new("folds.csv"), bytes))
}

/// The table of the MLPerf Tiny stimuli.
pub fn stimuli(bytes: &[u8]) -> Result<usize, DataError> {
    judged(bytes, "stimuli.csv", speech::parse_stimuli(Path::new("stimuli.csv"), bytes))
}

/// A manifest.
pub fn manifest(bytes: &[u8]) -> Result<usize, DataError> {
    let text = String::from_utf8_lossy(bytes);
    judged(
        text.as_bytes(),
        "x.toml",
        Manifest::parse(&text, Path::new("x.toml")).map(|manifest| manifest.files.len()),
    )
}
