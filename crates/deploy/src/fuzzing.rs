//! Body of the fuzz target of model images: what is tried, and what must hold whatever the bytes.

use crate::rt::{Image, checksum};

/// Reads `bytes` as an image, once as they are and once with length and checksum made right, so that the checks behind
/// those are reached; runs what is accepted. Nothing may panic, and what is accepted must run and predict a class.
pub fn image(bytes: &[u8]) {
    read_and_run(bytes);
    let mut sealed = bytes.to_vec();
    seal(&mut sealed);
    read_and_run(&sealed);
}

/// Makes the length and checksum of an image right; what is too short to have them stays as it is.
pub fn seal(bytes: &mut [u8]) {
    if bytes.len() >= 16 {
        let length = (bytes.len() as u32).to_le_bytes();
        bytes[8..12].copy_from_slice(&length);
        let crc = checksum(&bytes[16..]).to_le_bytes();
        bytes[12..16].copy_from_slice(&crc);
    }
}

fn read_and_run(bytes: &[u8]) {
    let Ok(image) = Image::parse(bytes) else { return };
    // A huge arena is a legitimate demand that the caller may decline.
    if image.arena_bytes > 1 << 20 || image.classes > 1 << 12 {
        return;
    }
    let (mut arena, mut logits) = (vec![0; image.arena_bytes], vec![0; image.classes]);
    let run = image.run(&vec![0x5a; image.input_len()], &mut arena, &mut logits);
    assert!(run.is_ok(), "an accepted image does not run: {run:?}");
    assert!(image.predict(&logits) < image.classes.max(1), "a class that does not exist");
}
