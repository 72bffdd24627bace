//! One file per command.
pub(crate) mod analyze;
pub(crate) mod conformance;
pub(crate) mod data;
<<<<<<< HEAD
pub(crate) mod eval;
=======
pub(crate) mod export;
>>>>>>> 474a55d (Exports of integer programs: C99, Rust, ONNX; ternion export and validate; firmware in QEMU in CI)
pub(crate) mod knobs;
pub(crate) mod model;
pub(crate) mod report;
pub(crate) mod reproduce;
<<<<<<< HEAD
pub(crate) mod summary;
pub(crate) mod train;
=======
pub(crate) mod validate;
>>>>>>> 474a55d (Exports of integer programs: C99, Rust, ONNX; ternion export and validate; firmware in QEMU in CI)
