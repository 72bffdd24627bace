//! What can be wrong with a call: geometry that makes no sense, or a slice of the wrong length.

use core::fmt;

/// Why a kernel refused a call. Nothing has been written to the outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelError {
    /// A slice does not have the length its geometry asks for.
    Length {
        /// Operation that was called.
        op: &'static str,
        /// Name of the slice in the signature of `op`.
        slice: &'static str,
        /// Elements the geometry asks for.
        expected: usize,
        /// Elements given.
        actual: usize,
    },
    /// A shape, stride or padding no operation can have.
    Geometry {
        /// Operation whose geometry was being made.
        op: &'static str,
        /// What is wrong with it.
        reason: &'static str,
        /// The sizes at fault, in the order `reason` names them.
        sizes: [usize; 4],
    },
    /// A weight is outside the set its format can hold.
    Weight {
        /// Format that was being packed or unpacked.
        format: &'static str,
        /// Position of the weight, or of the byte holding it.
        index: usize,
        /// The value or byte found there.
        value: i32,
    },
    /// A packed weight is of another form or shape than the operation needs.
    Pack {
        /// Operation that was called.
        op: &'static str,
        /// Rows (`k`) and columns (`n`) the operation needs.
        expected: [usize; 2],
        /// Rows and columns of the packed weight.
        actual: [usize; 2],
    },
    /// A code is beyond what the packed weight's form can take.
    Code {
        /// Operation that was called.
        op: &'static str,
        /// Largest code the form can take.
        largest: u8,
        /// A code above it.
        value: u8,
    },
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { op, slice, expected, actual } => {
                write!(f, "{op}: `{slice}` has {actual} elements, the geometry needs {expected}")
            }
            Self::Geometry { op, reason, sizes } => write!(f, "{op}: {reason} (sizes {sizes:?})"),
            Self::Weight { format, index, value } => {
                write!(f, "{format}: value {value} at index {index} cannot be stored")
            }
            Self::Code { op, largest, value } => {
                write!(f, "{op}: code {value}, but the weight is packed for codes up to {largest}")
            }
            Self::Pack { op, expected, actual } => write!(
                f,
                "{op}: packed weight is {} x {}, the operation needs {} x {}",
                actual[0], actual[1], expected[0], expected[1]
            ),
        }
    }
}

impl core::error::Error for KernelError {}

/// Fails unless `actual == expected`.
#[inline]
pub(crate) fn length(
    op: &'static str,
    slice: &'static str,
    expected: usize,
    actual: usize,
) -> Result<(), KernelError> {
    if expected == actual { Ok(()) } else { Err(KernelError::Length { op, slice, expected, actual }) }
}

/// Fails unless `trits` are `expected` values of -1, 0 and 1.
pub(crate) fn check_trits(
    op: &'static str,
    format: &'static str,
    expected: usize,
    trits: &[i8],
) -> Result<(), KernelError> {
    length(op, "trits", expected, trits.len())?;
    // One more than a trit is at most 2 as a byte, one more than anything else is not. A largest byte is found in vectors.
    if trits.iter().fold(0, |largest, &trit| (trit as u8).wrapping_add(1).max(largest)) <= 2 {
        return Ok(());
    }
    let index = trits.iter().position(|trit| !(-1..=1).contains(trit)).unwrap_or_default();
    Err(KernelError::Weight { format, index, value: trits[index].into() })
}
