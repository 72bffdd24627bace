//! One error type for the crate: every failure names the file and byte offset, or the argument, at fault.
use std::path::{Path, PathBuf};

/// Why data could not be read, found or handed out.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// No directory searched holds the task's files; the caller may fall back to [`Task::embedded_twin`](crate::Task::embedded_twin).
    #[error("{task}: no data found, looked in {}", list(looked_in))]
    NotFound {
        /// Task asked for, in its text form.
        task: String,
        /// Directories searched, in order.
        looked_in: Vec<PathBuf>,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file's content is not what its format promises.
    #[error("{}: byte {offset}: {reason}", path.display())]
    Corrupt {
        /// File at fault.
        path: PathBuf,
        /// Byte offset where the fault shows (for buffered decoders, at or shortly after it).
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The caller asked for something impossible: a wrong buffer length, an index out of range, an unfit augmentation.
    #[error("{what}: {reason}")]
    Request {
        /// Which argument.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl DataError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), offset, reason: reason.into() }
    }

    pub(crate) fn request(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Request { what, reason: reason.into() }
    }
}

fn list(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "no directory at all".to_owned();
    }
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Reads a whole file, refusing one longer than `limit` bytes before any of it is held in memory.
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, DataError> {
    let length = std::fs::metadata(path).map_err(|e| DataError::io(path, e))?.len();
    if length > limit {
        return Err(DataError::corrupt(
            path,
            limit,
            format!("{length} bytes long, at most {limit} expected"),
        ));
    }
    std::fs::read(path).map_err(|e| DataError::io(path, e))
}
