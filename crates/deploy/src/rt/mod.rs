//! The engine for microcontrollers: runs a flat model image in place, from flash.
//!
//! Core only, no allocation, integer arithmetic throughout: the caller gives the image, the input codes and an arena of
//! [`Image::arena_bytes`]. Results equal those of [`crate::Engine`] bit for bit. [`Image::parse`] checks everything about an
//! image that running it relies on, so that a hostile one is an error and never a panic or an access out of bounds. This
//! module refers to nothing outside itself, so that it can be exported as a crate of its own.

mod bytes;
mod depthwise;
pub mod float;
mod form;
mod format;
mod kernel;
mod patch;
mod record;
mod run;
mod sums;
mod table;
mod tile;
mod tiled;

/// Bytes that tell records and channels apart, as the writer needs them.
pub(crate) mod kind {
    pub(crate) use super::form::{FALLING, FLIP, FLOAT, RISING};
    pub(crate) use super::record::{CODES, LOGITS, MAX_POOL, SUM_POOL};
}

pub use format::{HEADER_BYTES, Image, MAGIC, VERSION, checksum};

/// Why an image was refused, or could not be run with what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// Shorter than a header, or than the length in its header; or longer.
    Length {
        /// Bytes the header promises (or a header has).
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// The first bytes are not [`MAGIC`].
    Magic,
    /// A version this reader does not know.
    Version(u16),
    /// The content does not match its checksum.
    Checksum {
        /// Checksum in the header.
        stored: u32,
        /// Checksum of the content.
        computed: u32,
    },
    /// A field that contradicts the format or another field.
    Malformed {
        /// Record number, from 0.
        record: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A buffer given to [`Image::run`] does not fit.
    Buffer {
        /// Which one.
        what: &'static str,
        /// Elements needed.
        expected: usize,
        /// Elements given.
        actual: usize,
    },
}

impl core::fmt::Display for ImageError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Length { expected, actual } => write!(f, "{actual} bytes, expected {expected}"),
            Self::Magic => f.write_str("not a Ternion model image"),
            Self::Version(v) => {
                write!(f, "image of version {v}, this reader knows {VERSION}: export the model again")
            }
            Self::Checksum { stored, computed } => {
                write!(f, "checksum {computed:08x}, the header says {stored:08x}")
            }
            Self::Malformed { record, reason } => write!(f, "record {record}: {reason}"),
            Self::Buffer { what, expected, actual } => {
                write!(f, "{what} has {actual} elements, needs {expected}")
            }
        }
    }
}

impl core::error::Error for ImageError {}
