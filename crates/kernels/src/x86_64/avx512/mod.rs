//! Loops written with AVX-512 intrinsics, where a register is what a step of a panel is.

pub(crate) mod bit_planes;
mod count;
pub(crate) mod depthwise;
pub(crate) mod epilogues;
pub(crate) mod packed2;
pub(crate) mod panels;
pub(crate) mod rows;
pub(crate) mod signs;
pub(crate) mod winograd;
