//! Attacks that use gradients.

pub(crate) mod apgd;
pub(crate) mod iterative;
