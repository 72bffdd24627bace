//! Where CIFAR-10's six batches come from: the binary or the Python release, unpacked or straight from the archive.
use std::path::{Path, PathBuf};

use super::batch::{self, Batch};
use crate::DataError;
use crate::archive::{ArchiveLimits, read_entry, read_tar_gz};
use crate::error::read_file;

/// Official files in order; the last is the test set. Their SHA-256 are in `datasets/cifar10.toml`. The Python version has the
/// same names without the extension.
pub const FILES: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];

/// One of the official layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Binary,
    Python,
}

impl Layout {
    fn folder(self) -> &'static str {
        match self {
            Layout::Binary => "cifar-10-batches-bin",
            Layout::Python => "cifar-10-batches-py",
        }
    }

    fn archive(self) -> &'static str {
        match self {
            Layout::Binary => "cifar-10-binary.tar.gz",
            Layout::Python => "cifar-10-python.tar.gz",
        }
    }

    /// The file that holds batch `i`.
    pub(super) fn file(self, i: usize) -> &'static str {
        match self {
            Layout::Binary => FILES[i],
            Layout::Python => FILES[i].trim_end_matches(".bin"),
        }
    }

    /// Longest file accepted. The Python version adds ten thousand file names to the pixels.
    fn limit(self) -> u64 {
        match self {
            Layout::Binary => batch::BYTES as u64,
            Layout::Python => batch::BYTES as u64 + (2 << 20),
        }
    }

    pub(super) fn parse(self, path: &Path, bytes: &[u8]) -> Result<Batch, DataError> {
        match self {
            Layout::Binary => batch::from_records(path, bytes),
            Layout::Python => batch::from_pickle(path, bytes),
        }
    }
}

/// A place that holds a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Folder(PathBuf, Layout),
    Archive(PathBuf, Layout),
}

/// The first of: the folders of both layouts in `dir`, `dir` itself, the archives of both layouts.
pub(super) fn find(dir: &Path) -> Option<Source> {
    let layouts = [Layout::Binary, Layout::Python];
    let folders = layouts
        .map(|layout| (dir.join(layout.folder()), layout))
        .into_iter()
        .chain(layouts.map(|layout| (dir.to_owned(), layout)));
    for (folder, layout) in folders {
        if (0..FILES.len()).any(|i| folder.join(layout.file(i)).is_file()) {
            return Some(Source::Folder(folder, layout));
        }
    }
    layouts
        .into_iter()
        .map(|layout| (dir.join(layout.archive()), layout))
        .find(|(archive, _)| archive.is_file())
        .map(|(archive, layout)| Source::Archive(archive, layout))
}

impl Source {
    /// Reads the six batches in order; `each` may run on several threads.
    pub(super) fn batches(&self) -> Result<Vec<Batch>, DataError> {
        use rayon::prelude::*;
        match self {
            Source::Folder(folder, layout) => (0..FILES.len())
                .into_par_iter()
                .map(|i| {
                    let path = folder.join(layout.file(i));
                    layout.parse(&path, &read_file(&path, layout.limit())?)
                })
                .collect(),
            Source::Archive(archive, layout) => archived(archive, *layout),
        }
    }

    pub(super) fn into_path(self) -> PathBuf {
        match self {
            Source::Folder(path, _) | Source::Archive(path, _) => path,
        }
    }

    /// In words, for the note.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Source::Folder(_, Layout::Binary) => "binary version",
            Source::Folder(_, Layout::Python) => "Python version",
            Source::Archive(_, Layout::Binary) => "binary version, from the archive",
            Source::Archive(_, Layout::Python) => "Python version, from the archive",
        }
    }
}

fn archived(archive: &Path, layout: Layout) -> Result<Vec<Batch>, DataError> {
    let limits = ArchiveLimits { file: layout.limit(), total: 8 * layout.limit(), entries: 64 };
    let mut batches = [const { None }; FILES.len()];
    read_tar_gz(archive, limits, &mut |name, size, entry| {
        let file = name.rsplit('/').next().unwrap_or(name);
        let Some(i) = (0..FILES.len()).find(|&i| layout.file(i) == file) else { return Ok(()) };
        let bytes = read_entry(archive, name, size, entry)?;
        // Faults within an entry are named by archive and entry, their offset counted within the entry.
        batches[i] = Some(layout.parse(&archive.join(name), &bytes)?);
        Ok(())
    })?;
    let end = std::fs::metadata(archive).map_or(0, |metadata| metadata.len());
    batches
        .into_iter()
        .enumerate()
        .map(|(i, batch)| {
            batch.ok_or_else(|| DataError::corrupt(archive, end, format!("no entry `{}`", layout.file(i))))
        })
        .collect()
}
