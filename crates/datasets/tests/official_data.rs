//! Checks against the real releases; needs `TERNION_DATA`, a directory in the official layouts.
use std::path::PathBuf;

use datasets::{Augmentation, DataSearch, Dataset, Origin, Part, Task, load};

fn search() -> Option<DataSearch> {
    let dir = std::env::var_os("TERNION_DATA").map(PathBuf::from);
    if dir.is_none() {
        println!("skipped: TERNION_DATA is not set");
    }
    Some(DataSearch { explicit: Some(dir?) })
}

fn sizes(data: &Dataset) -> [usize; 3] {
    [data.train.len(), data.validation.len(), data.test.len()]
}

#[test]
fn cifar10_is_official() {
    let Some(search) = search() else { return };
    let data = load(&Task::Cifar10, &search).unwrap();
    assert_eq!(data.warnings, Vec::<String>::new());
    assert_eq!(sizes(&data), [45_000, 5_000, 10_000]);
    assert_eq!(data.train.class_counts(10), vec![4_500; 10]);
    assert_eq!(data.validation.class_counts(10), vec![500; 10]);
    assert_eq!(data.test.class_counts(10), vec![1_000; 10]);
    // The commonly quoted mean of the 50,000 training images.
    let mut sums = [0u64; 3];
    for pixel in data.train.codes.chunks_exact(3).chain(data.validation.codes.chunks_exact(3)) {
        sums.iter_mut().zip(pixel).for_each(|(sum, &code)| *sum += u64::from(code));
    }
    let mean = sums.map(|sum| sum as f64 / (50_000.0 * 1024.0));
    for (mean, known) in mean.iter().zip([125.3069, 122.9504, 113.8654]) {
        assert!((mean - known).abs() < 1e-3, "{mean} {known}");
    }
    println!("cifar10 {}", data.checksum);
}

#[test]
fn five_folds_cover_the_official_test_set() {
    let Some(search) = search() else { return };
    let mut covered = Vec::new();
    for fold in 0..5 {
        let start = std::time::Instant::now();
        let data = load(&Task::SpeechCommands5Fold { fold }, &search).unwrap();
        println!("fold {fold}: {:.2?} {:?} {}", start.elapsed(), sizes(&data), data.checksum);
        println!("  {}", data.note);
        assert_eq!(sizes(&data).iter().sum::<usize>(), 4_890);
        assert!(sizes(&data)[1..].iter().all(|n| (977..=979).contains(n)));
        assert_eq!(data.origin, Origin::OfficialSubset);
        let speech = data.speech.as_ref().unwrap();
        assert_eq!(speech.noise.len(), 6);
        assert!(speech.clipped.iter().all(|&share| share < 0.001), "{:?}", speech.clipped);
        covered.extend_from_slice(&data.test.ids);
    }
    covered.sort_unstable();
    assert!(covered.into_iter().eq(0..4_890));
}

#[test]
fn augmented_speech_is_reproducible_and_close_to_the_clean_features() {
    let Some(search) = search() else { return };
    let data = load(&Task::SpeechCommands5Fold { fold: 0 }, &search).unwrap();
    let indices: Vec<u32> = (0..256).collect();
    let mut batches = Vec::new();
    // A time shift that is always zero exercises the on-the-fly front end alone.
    for augmentation in [Augmentation::NONE, Augmentation::SPEECH, Augmentation::SPEECH] {
        let mut x = vec![0.0; 256 * data.sample_len()];
        let mut y = vec![0; 256];
        let start = std::time::Instant::now();
        data.fill_batch(Part::Train, &indices, 3, 7, &augmentation, &mut x, &mut y).unwrap();
        println!("256 clips: {:.2?}", start.elapsed());
        batches.push(x);
    }
    assert_eq!(batches[1], batches[2]);
    assert_ne!(batches[0], batches[1]);
}
