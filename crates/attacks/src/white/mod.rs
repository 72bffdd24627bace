//! Attacks that use gradients.

pub(crate) mod apgd;
mod apgd_l1;
pub(crate) mod carlini;
pub(crate) mod deepfool;
pub(crate) mod fab;
pub(crate) mod iterative;
