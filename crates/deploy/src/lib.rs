//! Lowers a trained model to an integer program, proves it equal, measures it and writes it.
#![forbid(unsafe_code)]
