//! What can go wrong in a study, naming the file, stage or run at fault.
use std::path::{Path, PathBuf};

use crate::recipe::RecipeError;
use crate::stage::Stage;

/// Why a study, or a stage of it, stopped.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// A recipe is wrong.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A file or folder could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The path at fault.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A file of ours does not hold what it should.
    #[error("{}: {source}", .path.display())]
    Json {
        /// The file at fault.
        path: PathBuf,
        /// The parser's message.
        source: serde_json::Error,
    },
    /// A line of a results or history file does not hold what it should.
    #[error("{}:{line}: {source}", .path.display())]
    Line {
        /// The file at fault.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// The parser's message.
        source: serde_json::Error,
    },
    /// Two parts of a sharded stage disagree about a sample.
    #[error("two parts disagree about sample {sample}: they were made by different programs or machines")]
    Conflict {
        /// Identifier of the sample.
        sample: u32,
    },
    /// An earlier stage's result is needed and not there, and `--only` forbids making it.
    #[error("needs the result of stage {0}, which is not cached; run it first")]
    NotCached(Stage),
    /// Parts of a sharded attack are still to come.
    #[error("{present} of {expected} samples are there; other parts are still to come")]
    PartsMissing {
        /// Samples present.
        present: usize,
        /// Samples expected.
        expected: usize,
    },
    /// A model, dataset or attack refused its work.
    #[error("{context}: {message}")]
    Work {
        /// What was being done.
        context: String,
        /// The library's message.
        message: String,
    },
    /// There is nothing to report on.
    #[error("{}: no results; run `ternion reproduce` first", .0.display())]
    NoResults(PathBuf),
}

impl StudyError {
    /// Turns an i/o error about `path` into a study error.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// Turns a library's error into a study error that says what was being done.
    pub(crate) fn work<E: std::fmt::Display>(context: impl Into<String>) -> impl FnOnce(E) -> Self {
        let context = context.into();
        move |error| Self::Work { context, message: error.to_string() }
    }
}
