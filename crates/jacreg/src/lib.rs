//! Jacobian penalties: input and per layer, exact and by random projection.
#![forbid(unsafe_code)]
