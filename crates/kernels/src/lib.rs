//! Fast loops over slices: f32 and ternary GEMM, convolution, depthwise, pooling, requantisation.
//!
//! Images are `[n, h, w, c]`, weights `[kh, kw, cin, cout]`, all row-major. Every operation overwrites its output,
//! returns an error when a slice does not fit its geometry, gives the same bits on any number of threads, and has a
//! plain definition in [`mod@reference`].
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod buffer;
pub mod channel;
pub mod conv2d;
pub mod depthwise;
pub mod dispatch;
pub mod elementwise;
mod error;
mod float;
pub mod fuzzing;
pub mod gemm;
mod geometry;
pub mod int8;
mod integer;
mod lanes;
#[cfg(all(feature = "limits", target_arch = "x86_64"))]
pub mod limits;
pub mod parallel;
#[cfg(feature = "peers")]
pub mod peers;
pub mod pool;
mod prefetch;
mod real;
pub mod reference;
mod scratch;
mod strip;
pub mod ternary;
pub mod through;
mod transpose;
mod winograd;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod x86_64;

pub use buffer::Buffer;
pub use error::KernelError;
pub use geometry::{Conv2d, Conv2dSizes, Padding, Pool2d, Pool2dSizes};
pub use integer::{codes, epilogue};
pub use real::Real;
