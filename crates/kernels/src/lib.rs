//! Fast loops over slices: f32 and ternary GEMM, convolution, depthwise, pooling, requantisation.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod real;

pub use real::Real;
