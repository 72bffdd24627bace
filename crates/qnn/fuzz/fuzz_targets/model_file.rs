//! Model files, checkpoints and safetensors from hostile bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| qnn::fuzzing::model_file(data));
