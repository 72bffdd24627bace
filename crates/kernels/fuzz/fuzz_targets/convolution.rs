//! Fuzzes `kernels::fuzzing::convolution`, which says what is read and what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = kernels::fuzzing::convolution(bytes);
});
