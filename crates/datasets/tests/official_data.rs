//! Checks against the real releases; needs `TERNION_DATA`, a directory in the official layouts.
use std::path::{Path, PathBuf};

use datasets::frontend::{FEATURES, Mfcc, Real, SAMPLES, normalise};
use datasets::manifest::Manifest;
use datasets::speech::{Kws01, load_kws01, read_clip};
use datasets::{Augmentation, DataSearch, Dataset, Finding, Origin, Part, Task, load, verify};

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
fn augmented_speech_is_reproducible() {
    let Some(search) = search() else { return };
    let data = load(&Task::SpeechCommands5Fold { fold: 0 }, &search).unwrap();
    let indices: Vec<u32> = (0..256).collect();
    let mut batches = Vec::new();
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

#[test]
fn kws01_stimuli_follow_from_their_audio() {
    let Some(search) = search() else { return };
    let root = search.explicit.unwrap();
    let stimuli = load_kws01(&root).unwrap();
    assert_eq!(stimuli.labels.len(), 1_000);
    for (precision, [exact, within_one]) in
        [("f32", compare::<f32>(&root, &stimuli)), ("f64", compare::<f64>(&root, &stimuli))]
    {
        println!("kws01 in {precision}: {exact} bit-exact, {within_one} within one unit");
        assert!(
            exact >= 920 && exact + within_one == 1_000,
            "{precision}: {exact} bit-exact, {within_one} within one"
        );
    }
    assert_eq!(stimuli.dataset().test.class_counts(12), [92, 92, 81, 89, 70, 84, 75, 78, 84, 89, 80, 86]);
}

/// Stimuli equal to what their audio gives, and those off by one unit at most.
fn compare<T: Real>(root: &Path, stimuli: &Kws01) -> [usize; 2] {
    let mfcc = Mfcc::<T>::new();
    let (mut work, mut wave, mut out) = (mfcc.work(), vec![T::zero(); SAMPLES], [T::zero(); FEATURES]);
    let mut counts = [0; 2];
    for (clip, expected) in stimuli.clips.iter().zip(stimuli.values.chunks_exact(FEATURES)) {
        let audio = read_clip(&root.join("speech_commands_test_set_v0.02").join(clip)).unwrap();
        normalise(&audio, &mut wave).unwrap();
        mfcc.compute(&wave, &mut work, &mut out).unwrap();
        let difference = |(x, &value): (&T, &i8)| {
            (i32::from(Kws01::quantize(x.to_f32().unwrap())) - i32::from(value)).abs()
        };
        if let Some(count @ (0 | 1)) = out.iter().zip(expected).map(difference).max() {
            counts[count as usize] += 1;
        }
    }
    counts
}

#[test]
fn manifests_describe_the_data() {
    let Some(search) = search() else { return };
    let root = search.explicit.unwrap();
    for name in ["cifar10", "speech_commands_test", "mlperf_tiny_kws01"] {
        for check in verify(&Manifest::named(name).unwrap(), &root) {
            assert_eq!(check.finding, Finding::Good, "{}", check.path.display());
        }
    }
}
