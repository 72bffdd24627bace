//! Batches are pure functions of their coordinates and refuse what they cannot give.
use datasets::embedded::{Sizes, keywords, shapes};
use datasets::{Augmentation, Dataset, Part};
use proptest::prelude::*;

const SIZES: Sizes = Sizes { train: 60, validation: 24, test: 24 };

const EVERYTHING_IMAGE: Augmentation = Augmentation {
    pad_crop: 4,
    horizontal_flip: true,
    rotation_degrees: 15.0,
    shift: 0.1,
    ..Augmentation::NONE
};
const EVERYTHING_AUDIO: Augmentation = Augmentation {
    time_masks: 2,
    time_mask_frames: 8,
    coefficient_masks: 1,
    coefficient_mask_width: 3,
    ..Augmentation::SPEECH
};

fn codes(data: &Dataset, indices: &[u32], epoch: u64, seed: u64, augmentation: &Augmentation) -> Vec<u8> {
    let mut codes = vec![0; indices.len() * data.sample_len()];
    let mut y = vec![0; indices.len()];
    data.fill_codes(Part::Train, indices, epoch, seed, augmentation, &mut codes, &mut y).unwrap();
    for (&index, label) in indices.iter().zip(y) {
        assert_eq!(label, data.train.labels[index as usize]);
    }
    codes
}

fn threads(n: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap()
}

fn check_purity(data: &Dataset, augmentation: &Augmentation) {
    let forward: Vec<u32> = (0..20).collect();
    let backward: Vec<u32> = (0..20).rev().collect();
    let base = threads(1).install(|| codes(data, &forward, 1, 2, augmentation));
    let other = threads(3).install(|| codes(data, &backward, 1, 2, augmentation));
    let n = data.sample_len();
    for (i, sample) in base.chunks_exact(n).enumerate() {
        assert_eq!(sample, &other[(19 - i) * n..][..n]);
        assert_eq!(sample, codes(data, &[i as u32], 1, 2, augmentation));
    }
    assert_ne!(base, codes(data, &forward, 2, 2, augmentation), "epoch");
    assert_ne!(base, codes(data, &forward, 1, 3, augmentation), "seed");

    let mut x = vec![0.0; base.len()];
    let mut y = vec![0; 20];
    data.fill_batch(Part::Train, &forward, 1, 2, augmentation, &mut x, &mut y).unwrap();
    assert!(x.iter().zip(&base).all(|(&x, &code)| x == data.grid.decode(code)));
}

#[test]
fn samples_are_pure_functions_of_seed_epoch_and_id() {
    check_purity(&shapes(SIZES, 1), &EVERYTHING_IMAGE);
    check_purity(&keywords(SIZES, 1).unwrap(), &EVERYTHING_AUDIO);
}

#[test]
fn a_subset_keeps_ids_and_therefore_augmentation() {
    for (data, augmentation) in
        [(shapes(SIZES, 1), EVERYTHING_IMAGE), (keywords(SIZES, 1).unwrap(), EVERYTHING_AUDIO)]
    {
        let subset = data.subset(24, 12, 1000);
        assert_eq!([subset.train.len(), subset.validation.len(), subset.test.len()], [24, 12, 24]);
        assert_ne!(subset.checksum, data.checksum);
        for (position, &id) in subset.train.ids.iter().enumerate() {
            let there = data.train.ids.iter().position(|&other| other == id).unwrap();
            assert_eq!(
                codes(&subset, &[position as u32], 0, 0, &augmentation),
                codes(&data, &[there as u32], 0, 0, &augmentation)
            );
        }
    }
}

#[test]
fn unfit_requests_are_refused() {
    let (images, words) = (shapes(SIZES, 1), keywords(SIZES, 1).unwrap());
    let fill = |data: &Dataset, part, index: u32, augmentation: &Augmentation, values: usize| {
        data.fill_batch(part, &[index], 0, 0, augmentation, &mut vec![0.0; values], &mut [0])
    };
    let none = Augmentation::NONE;
    assert!(fill(&images, Part::Train, 59, &none, 3072).is_ok());
    assert!(fill(&images, Part::Train, 60, &none, 3072).is_err());
    assert!(fill(&images, Part::Train, 0, &none, 3071).is_err());
    assert!(fill(&images, Part::Train, 0, &Augmentation::SPEECH, 3072).is_err());
    assert!(fill(&words, Part::Train, 0, &Augmentation::CIFAR, 490).is_err());
    assert!(fill(&words, Part::Test, 0, &Augmentation::SPEECH, 490).is_err());
    for bad in [
        Augmentation { shift: f32::NAN, ..none },
        Augmentation { noise_probability: 1.5, ..none },
        Augmentation { rotation_degrees: -1.0, ..none },
        Augmentation { time_shift_ms: 1001, ..none },
    ] {
        assert!(bad.check(&words).is_err(), "{bad:?}");
    }
    let mut quiet = words.clone();
    quiet.speech.as_mut().unwrap().noise = std::sync::Arc::new(Vec::new());
    let error = fill(&quiet, Part::Train, 0, &Augmentation::SPEECH, 490).unwrap_err();
    assert!(error.to_string().contains("background"), "{error}");
}

#[test]
fn recipes_refuse_unknown_fields() {
    let read: Augmentation = toml::from_str("pad_crop = 4\nhorizontal_flip = true").unwrap();
    assert_eq!(read, Augmentation::CIFAR);
    assert!(toml::from_str::<Augmentation>("pad_corp = 4").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_valid_augmentation_runs(
        pad_crop in 0u32..40, flip: bool, rotation in 0f32..=180.0, shift in 0f32..=1.0, epoch: u64, seed: u64,
        time_shift_ms in 0u32..=1000, masks in 0u32..4, width in 0u32..100,
    ) {
        let images = shapes(Sizes { train: 4, validation: 0, test: 0 }, 0);
        let image = Augmentation {
            pad_crop: pad_crop.min(32), horizontal_flip: flip, rotation_degrees: rotation, shift, ..Augmentation::NONE
        };
        codes(&images, &[0, 3], epoch, seed, &image);
        let words = keywords(Sizes { train: 2, validation: 0, test: 0 }, 0).unwrap();
        let audio = Augmentation {
            time_shift_ms, time_masks: masks, time_mask_frames: width, coefficient_masks: masks,
            coefficient_mask_width: width, ..Augmentation::SPEECH
        };
        codes(&words, &[1], epoch, seed, &audio);
    }
}
