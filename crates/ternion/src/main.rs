//! The `ternion` command line: argument parsing and progress only.
#![forbid(unsafe_code)]
fn main() {}
