//! Verified bytes to arrays: CIFAR-10, Speech Commands and its MFCC front end, the embedded sets.
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

mod augment;
pub mod cifar;
pub mod conformance;
mod dataset;
pub mod embedded;
mod error;
pub mod frontend;
pub mod manifest;
mod search;
mod sheet;
pub mod speech;
mod stream;
mod task;
mod verify;

pub use augment::Augmentation;
pub use dataset::{Dataset, InputGrid, Origin, Part, Split};
pub use error::DataError;
pub use search::DataSearch;
pub use sheet::sheet;
pub use task::Task;
pub use verify::{Check, Finding, verify};

/// Loads a task's data, verified; embedded tasks are made by code and need no files.
///
/// # Errors
/// [`DataError::NotFound`] when no searched directory holds the task's files (the caller may then load
/// [`Task::embedded_twin`]); [`DataError::Io`] and [`DataError::Corrupt`] when files are there but missing, unreadable or
/// wrong.
pub fn load(task: &Task, search: &DataSearch) -> Result<Dataset, DataError> {
    match task {
        Task::Cifar10 => cifar::load(search),
        Task::SpeechCommands => speech::load_official(search),
        Task::SpeechCommands5Fold { fold } => speech::load_five_fold(*fold, search),
        Task::SyntheticShapes => Ok(embedded::shapes(embedded::Sizes::default(), 0)),
        Task::SyntheticKeywords => embedded::keywords(embedded::Sizes::default(), 0),
    }
}
