//! Loops written with x86-64 intrinsics.

pub(crate) mod epilogues;
pub(crate) mod floats;
pub(crate) mod panels;
