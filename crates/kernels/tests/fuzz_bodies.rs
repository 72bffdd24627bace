//! The bodies of the fuzz targets over random and mutated inputs, so that a stable compiler runs them too.

mod common;

use common::bits;
use kernels::fuzzing;

/// Random bytes of random lengths.
fn inputs(count: u64, longest: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(move |seed| {
        let len = bits(seed).next().unwrap_or(0) as usize % (longest + 1);
        bits(seed ^ 0xabcd).take(len).map(|b| (b >> 33) as u8).collect()
    })
}

#[test]
fn convolutions_run_or_are_refused() {
    let (mut ran, mut refused) = (0, 0);
    for mut bytes in inputs(3000, 200) {
        // Half of the inputs keep to sizes that can be.
        if bytes.len() > 16 && bytes[15] % 2 == 0 {
            bytes[..9].iter_mut().for_each(|byte| *byte &= 127);
            bytes[10] = 0;
        }
        match fuzzing::convolution(&bytes) {
            Ok(true) => ran += 1,
            Ok(false) => {}
            Err(_) => refused += 1,
        }
    }
    assert!(ran > 200 && refused > 200, "{ran} ran, {refused} were refused");
}

#[test]
fn stored_trits_come_back_or_are_refused() {
    let (mut read, mut refused) = (0, 0);
    for (i, mut bytes) in inputs(3000, 6).enumerate() {
        // Most random bytes hold no trits: make half of them likely to.
        if i % 2 == 0 {
            bytes
                .iter_mut()
                .skip(1)
                .for_each(|byte| *byte = *byte & 0b10_10_10_10 & 0b00_10_10_10 | 0b01_00_00_00);
        }
        match fuzzing::stored_trits(&bytes) {
            Ok(true) => read += 1,
            Ok(false) => {}
            Err(_) => refused += 1,
        }
    }
    assert!(read > 100 && refused > 100, "{read} were read, {refused} were refused");
}
