//! Verified bytes to arrays: CIFAR-10, SVHN, Speech Commands and its MFCC front end, the embedded sets.
//!
//! Every sample of every task is an array of u8 codes on one [`InputGrid`], so that training, attack and deployment see the
//! same numbers. [`load`] finds a [`Task`]'s files ([`DataSearch`]), checks them and returns a [`Dataset`] of three splits;
//! [`Dataset::fill_batch`] turns samples into (augmented) network input, each a pure function of seed, epoch and sample id.
//!
//! ```
//! use datasets::{Augmentation, DataSearch, Part, Task, load};
//!
//! # fn main() -> Result<(), datasets::DataError> {
//! let data = load(&Task::SyntheticShapes, &DataSearch::default())?;
//! let augmentation = Augmentation { pad_crop: 4, horizontal_flip: true, ..Augmentation::default() };
//! let (mut x, mut y) = (vec![0.0; 2 * data.sample_len()], vec![0; 2]);
//! data.fill_batch(Part::Train, &[0, 1], 0, 42, &augmentation, &mut x, &mut y)?;
//! assert!(x.iter().all(|x| (0.0..=1.0).contains(x)));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod archive;
mod augment;
pub mod cifar;
pub mod conformance;
mod dataset;
mod digest;
pub mod embedded;
mod error;
#[cfg(feature = "fetch")]
pub mod fetch;
pub mod frontend;
#[doc(hidden)]
pub mod fuzzing;
pub mod manifest;
mod search;
mod sheet;
pub mod speech;
mod stream;
pub mod svhn;
mod task;
pub mod unpack;
mod verify;

pub use augment::{Augmentation, NoiseMixing};
pub use dataset::{Dataset, InputGrid, Origin, Part, Split};
pub use error::DataError;
pub use search::DataSearch;
pub use sheet::{sheet, spectrogram_sheet};
pub use task::Task;
pub use verify::{Check, Finding, verify};

/// How a task is made from its files, where there is a choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Which features of spoken tasks.
    pub front_end: frontend::FrontEnd,
    /// Silence and unknown words of [`Task::SpeechCommands`].
    pub mixing: speech::Mixing,
    /// Directory where features of spoken tasks are kept between runs; nowhere when `None`. It never changes a result:
    /// features are stored under a hash of the samples and parameters they follow from, and checked when read.
    pub cache: Option<std::path::PathBuf>,
}

/// Loads a task's data, verified; embedded tasks are made by code and need no files. Features of spoken tasks are kept in
/// `ternion/features` of the user's cache directory.
///
/// # Errors
/// [`DataError::NotFound`] when no searched directory holds the task's files (the caller may then load
/// [`Task::embedded_twin`]); [`DataError::Io`] and [`DataError::Corrupt`] when files are there but missing, unreadable or
/// wrong.
pub fn load(task: &Task, search: &DataSearch) -> Result<Dataset, DataError> {
    load_with(task, search, &LoadOptions { cache: search::feature_cache(), ..LoadOptions::default() })
}

/// As [`load`] with choices made.
///
/// # Errors
/// As [`load`], and [`DataError::Request`] for a front end the task does not have.
pub fn load_with(task: &Task, search: &DataSearch, options: &LoadOptions) -> Result<Dataset, DataError> {
    if task.is_embedded() && options.front_end != frontend::FrontEnd::Mfcc {
        return Err(DataError::request("front end", format!("{task} comes with one only")));
    }
    match task {
        Task::Cifar10 => cifar::load(search),
        Task::Svhn => svhn::load(search),
        Task::SpeechCommands => speech::load_official(search, options),
        Task::SpeechCommands5Fold { fold } => speech::load_five_fold(*fold, search, options),
        Task::SyntheticShapes => Ok(embedded::shapes(embedded::Sizes::default(), 0)),
        Task::SyntheticKeywords => embedded::keywords(embedded::Sizes::default(), 0),
    }
}

/// Where a task's files are, without reading them: a folder or an archive. `None` when they are nowhere, or made by code.
///
/// # Errors
/// [`DataError::Io`] when the directory named explicitly does not exist.
pub fn located(task: &Task, search: &DataSearch) -> Result<Option<std::path::PathBuf>, DataError> {
    let found = match task {
        Task::Cifar10 => cifar::located(search),
        Task::Svhn => svhn::located(search),
        Task::SpeechCommands => speech::official_located(search),
        Task::SpeechCommands5Fold { .. } => speech::five_fold_located(search),
        Task::SyntheticShapes | Task::SyntheticKeywords => return Ok(None),
    };
    match found {
        Ok(path) => Ok(Some(path)),
        Err(DataError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
