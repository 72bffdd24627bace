//! One file per command.
pub(crate) mod analyze;
pub(crate) mod attack;
pub(crate) mod conformance;
pub(crate) mod convert;
pub(crate) mod data;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod jacobian;
pub(crate) mod knobs;
pub(crate) mod model;
pub(crate) mod report;
pub(crate) mod reproduce;
pub(crate) mod summary;
pub(crate) mod train;
pub(crate) mod validate;
pub(crate) mod verify_adversarial;
