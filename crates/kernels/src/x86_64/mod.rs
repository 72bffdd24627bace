//! Loops written with x86-64 intrinsics.

pub(crate) mod avx512;
pub(crate) mod epilogues;
pub(crate) mod floats;
pub(crate) mod floats512;
pub(crate) mod lut;
pub(crate) mod packed2;
pub(crate) mod pairs;
pub(crate) mod panels;
pub(crate) mod planes;
pub(crate) mod rows;
