//! Attacks that use logits alone.

pub(crate) mod noise;
pub(crate) mod square;
