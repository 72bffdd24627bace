//! The definition of every operation as plain loops: what the fast paths are tested against, and what to read first.
//!
//! The loops ignore speed and are as short as they can be. Float sums run in the order written, with two roundings
//! per multiply-add. Slices must have the geometry's lengths, which is all that is checked (by indexing).

mod float;
pub mod integer;

pub use float::{affine, conv2d, depthwise, dot, gemm, pool, sum};
