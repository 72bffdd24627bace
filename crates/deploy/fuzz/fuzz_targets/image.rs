//! Fuzzes `deploy::fuzzing::image`, which says what is read and what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    deploy::fuzzing::image(bytes);
});
