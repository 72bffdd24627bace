//! A release of spoken clips, as a folder or straight from its archive: `WORD/CLIP.wav` or `.flac`, and lists.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{audio, audio_files};
use crate::DataError;
use crate::archive::{ArchiveLimits, read_entry, read_tar_gz};
use crate::error::read_file;

/// The full release has 105,829 clips of 32 kB, six recordings of up to 3 MB, and two lists.
const LIMITS: ArchiveLimits = ArchiveLimits { file: 64 << 20, total: 8 << 30, entries: 200_000 };

/// Where the clips are. An archive is read once, and its files are kept in memory as they are.
#[derive(Debug)]
pub(super) enum Clips {
    Folder(PathBuf),
    Archive { path: PathBuf, files: BTreeMap<String, Vec<u8>> },
}

impl Clips {
    pub(super) fn open_archive(path: &Path) -> Result<Clips, DataError> {
        let mut files = BTreeMap::new();
        read_tar_gz(path, LIMITS, &mut |name, size, entry| {
            files.insert(name.to_owned(), read_entry(path, name, size, entry)?);
            Ok(())
        })?;
        Ok(Clips::Archive { path: path.to_owned(), files })
    }

    /// A file's path for errors; within an archive, the archive's path and the entry's.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        match self {
            Clips::Folder(dir) => dir.join(name),
            Clips::Archive { path, .. } => path.join(name),
        }
    }

    /// Folders directly inside, by name.
    pub(super) fn folders(&self) -> Result<Vec<String>, DataError> {
        match self {
            Clips::Folder(dir) => {
                let mut folders = Vec::new();
                for entry in std::fs::read_dir(dir).map_err(|e| DataError::io(dir, e))? {
                    let path = entry.map_err(|e| DataError::io(dir, e))?.path();
                    if let Some(name) = path.file_name().filter(|_| path.is_dir()) {
                        folders.push(name.to_string_lossy().into_owned());
                    }
                }
                folders.sort();
                Ok(folders)
            }
            Clips::Archive { files, .. } => {
                let folders: BTreeSet<&str> =
                    files.keys().filter_map(|name| name.split_once('/')).map(|(folder, _)| folder).collect();
                Ok(folders.into_iter().map(str::to_owned).collect())
            }
        }
    }

    /// Audio files directly in `folder`, by name, as `folder/file`.
    pub(super) fn audio(&self, folder: &str) -> Result<Vec<String>, DataError> {
        match self {
            Clips::Folder(dir) => {
                let names = audio_files(&dir.join(folder))?.into_iter();
                let names = names.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
                Ok(names.map(|name| format!("{folder}/{name}")).collect())
            }
            Clips::Archive { files, .. } => {
                let inside = |name: &&String| {
                    let file = name.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
                    file.is_some_and(|file| {
                        !file.contains('/') && (file.ends_with(".wav") || file.ends_with(".flac"))
                    })
                };
                Ok(files.keys().filter(inside).cloned().collect())
            }
        }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        match self {
            Clips::Folder(dir) => dir.join(name).is_file(),
            Clips::Archive { files, .. } => files.contains_key(name),
        }
    }

    /// A small file's bytes.
    pub(super) fn bytes(&self, name: &str, limit: u64) -> Result<Vec<u8>, DataError> {
        match self {
            Clips::Folder(dir) => read_file(&dir.join(name), limit),
            Clips::Archive { files, .. } => files.get(name).cloned().ok_or_else(|| self.absent(name)),
        }
    }

    /// Samples of a clip or recording of at most `longest` samples.
    pub(super) fn read(&self, name: &str, longest: usize) -> Result<Vec<i16>, DataError> {
        match self {
            Clips::Folder(dir) => audio::read_audio(&dir.join(name), longest),
            Clips::Archive { files, .. } => {
                let bytes = files.get(name).ok_or_else(|| self.absent(name))?;
                audio::parse_audio(&self.path(name), bytes, longest)
            }
        }
    }

    fn absent(&self, name: &str) -> DataError {
        DataError::io(&self.path(name), std::io::Error::new(std::io::ErrorKind::NotFound, "no such entry"))
    }
}
