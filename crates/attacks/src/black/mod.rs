//! Attacks that use logits alone, and of these some only the decision.

pub(crate) mod boundary;
mod decision;
pub(crate) mod hop_skip_jump;
pub(crate) mod noise;
pub(crate) mod square;
pub(crate) mod zoo;
