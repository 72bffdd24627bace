//! Attacks that use gradients.

pub(crate) mod iterative;
