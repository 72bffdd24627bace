//! Fuzzes `kernels::fuzzing::stored_trits`, which says what is read and what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = kernels::fuzzing::stored_trits(bytes);
});
