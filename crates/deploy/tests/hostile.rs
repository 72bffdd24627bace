//! Hostile images: whatever the bytes, reading and running end in a result or a typed error.

mod common;

use std::sync::LazyLock;

use common::{random_model, small_networks};
use deploy::fuzzing::{self, seal};
use deploy::rt::{HEADER_BYTES, Image, ImageError};
use deploy::{image, lower};
use proptest::prelude::*;
use qnn::InputGrid;

static IMAGES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut images = Vec::new();
    for (weights, activations) in [
        ("ternary(alpha=auto)", "quantized_relu(8, 2)"),
        ("quantized_bits(8, 0, alpha=auto)", "quantized_relu(3, 1)"),
    ] {
        for network in small_networks(weights, activations, InputGrid::STANDARDISED) {
            let model = random_model(network, images.len() as u64 + 1);
            let program = lower(&model.network, &model).unwrap().program;
            images.push(image::write_image(&program).unwrap());
        }
    }
    images
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..600), dress in any::<bool>()) {
        if dress && bytes.len() >= HEADER_BYTES {
            bytes[..8].copy_from_slice(b"TRNI\x03\0\0\0");
            seal(&mut bytes);
        }
        fuzzing::image(&bytes);
    }

    #[test]
    fn a_flipped_bit_is_noticed(which in 0_usize..8, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = IMAGES[which].clone();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        // Two header bytes are neither read nor covered by the checksum.
        prop_assert!(Image::parse(&bytes).is_err() || (6..8).contains(&at));
    }

    #[test]
    fn forged_images(which in 0_usize..8, edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6)) {
        let mut bytes = IMAGES[which].clone();
        for (at, value, early) in edits {
            // Mostly in the header and records, where structure is.
            let at = at.index(if early { bytes.len().min(600) } else { bytes.len() });
            bytes[at] = value;
        }
        bytes[..8].copy_from_slice(b"TRNI\x03\0\0\0");
        seal(&mut bytes);
        fuzzing::image(&bytes);
    }

    #[test]
    fn truncated_images(which in 0_usize..8, keep in any::<prop::sample::Index>()) {
        let full = &IMAGES[which];
        let mut bytes = full[..keep.index(full.len())].to_vec();
        prop_assert!(Image::parse(&bytes).is_err());
        if bytes.len() >= HEADER_BYTES {
            seal(&mut bytes);
            fuzzing::image(&bytes);
        }
    }
}

#[test]
fn headers_are_told_apart() {
    let good = &IMAGES[0];
    let edit = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        Image::parse(&bytes).unwrap_err()
    };
    assert_eq!(edit(0, b'X'), ImageError::Magic);
    assert_eq!(edit(4, 9), ImageError::Version(9));
    assert!(matches!(edit(8, good[8].wrapping_add(1)), ImageError::Length { .. }));
    assert!(matches!(edit(60, good[60] ^ 1), ImageError::Checksum { .. }));
    assert!(matches!(
        Image::parse(&good[..10]),
        Err(ImageError::Length { expected: HEADER_BYTES, actual: 10 })
    ));
    let image = Image::parse(good).unwrap();
    let error = image.run(&[0; 3], &mut [], &mut []).unwrap_err();
    assert!(matches!(error, ImageError::Buffer { what: "input", actual: 3, .. }), "{error}");
}
