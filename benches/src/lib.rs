//! Shapes and helpers shared by the criterion benches.
#![forbid(unsafe_code)]
