//! Fuzzes `datasets::fuzzing::fold_list`, which says what is read and what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = datasets::fuzzing::fold_list(bytes);
});
