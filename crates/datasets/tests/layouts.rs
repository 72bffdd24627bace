//! Every layout of a release gives the same dataset, with silence and unknown words mixed by either recipe, from a cache or anew.
use std::path::Path;

use datasets::frontend::FrontEnd;
use datasets::fuzzing::seeds;
use datasets::speech::{CLASSES, Mixing, SILENCE, UNKNOWN};
use datasets::{Augmentation, DataError, DataSearch, Dataset, LoadOptions, Part, Task, load_with, located};

const WORDS: &str = "speech_commands_v0.02";
const TESTS: &str = "speech_commands_test_set_v0.02";

/// A clip that no other clip equals.
fn clip(seed: usize, samples: usize) -> Vec<u8> {
    let wave: Vec<i16> =
        (0..samples).map(|n| ((n * (2 * seed + 3) * 13 + seed * 7919) % 20_011) as i16 - 9_000).collect();
    seeds::wav(&wave)
}

/// Files of a tiny main release: ten words of three clips, two other words of 12 clips, noise, lists.
fn words() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for (w, word) in CLASSES[..10].iter().chain(&["bed", "cat"]).enumerate() {
        for i in 0..if w < 10 { 3 } else { 12 } {
            files.push((format!("{word}/s{i}_nohash_0.wav"), clip(100 * w + i, 9_000 + i)));
        }
    }
    for (i, name) in ["running_tap", "pink_noise"].iter().enumerate() {
        files.push((format!("_background_noise_/{name}.wav"), clip(5_000 + i, 40_000)));
    }
    files.push(("validation_list.txt".to_owned(), b"yes/s1_nohash_0.wav\nbed/s3_nohash_0.wav\n".to_vec()));
    files.push(("testing_list.txt".to_owned(), b"go/s2_nohash_0.wav\n".to_vec()));
    files.push(("README.md".to_owned(), b"text".to_vec()));
    files
}

fn tests() -> Vec<(String, Vec<u8>)> {
    CLASSES
        .iter()
        .enumerate()
        .map(|(i, class)| (format!("{class}/t_nohash_0.wav"), clip(9_000 + i, 16_000)))
        .collect()
}

fn write_folder(dir: &Path, files: &[(String, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

fn write_archive(path: &Path, files: &[(String, Vec<u8>)]) {
    let entries: Vec<(String, &[u8])> =
        files.iter().map(|(name, bytes)| (format!("./{name}"), &bytes[..])).collect();
    let entries: Vec<(&str, &[u8])> = entries.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    std::fs::write(path, seeds::tar_gz(&entries)).unwrap();
}

fn search(root: &Path) -> DataSearch {
    DataSearch { explicit: Some(root.to_owned()) }
}

fn load(root: &Path, options: &LoadOptions) -> Result<Dataset, DataError> {
    load_with(&Task::SpeechCommands, &search(root), options)
}

#[test]
fn folders_and_archives_of_speech_commands_are_the_same_data() {
    let options = LoadOptions::default();
    let folders = tempfile::tempdir().unwrap();
    write_folder(&folders.path().join(WORDS), &words());
    write_folder(&folders.path().join(TESTS), &tests());
    let archives = tempfile::tempdir().unwrap();
    let main = archives.path().join(format!("{WORDS}.tar.gz"));
    write_archive(&main, &words());
    write_archive(&archives.path().join(format!("{TESTS}.tar.gz")), &tests());
    let [a, b] = [folders.path(), archives.path()].map(|root| load(root, &options).unwrap());
    assert_eq!((a.checksum, a.note), (b.checksum.clone(), b.note.clone()));
    assert_eq!(located(&Task::SpeechCommands, &search(archives.path())).unwrap(), Some(main.clone()));
    // 30 + 24 clips; one of each kind in the validation list, one in the testing list; 3 windows of each recording.
    assert_eq!([b.train.len(), b.validation.len(), b.test.len()], [51 + 3, 2 + 3, 12]);
    assert!(b.note.contains("official lists"), "{}", b.note);

    // A damaged clip within the archive is named by archive and entry; a damaged archive by itself.
    let mut files = words();
    files[4].1.truncate(1_000);
    write_archive(&main, &files);
    match load(archives.path(), &options).unwrap_err() {
        DataError::Corrupt { path, offset, .. } => {
            assert_eq!((path, offset), (main.join(&files[4].0), 1_000))
        }
        other => panic!("{other}"),
    }
    let bytes = std::fs::read(&main).unwrap();
    std::fs::write(&main, &bytes[..bytes.len() / 2]).unwrap();
    assert!(matches!(load(archives.path(), &options), Err(DataError::Corrupt { path, .. }) if path == main));
    // No noise, no silence: an error that names the folder.
    let quiet: Vec<_> = words().into_iter().filter(|(name, _)| !name.starts_with("_background")).collect();
    write_archive(&main, &quiet);
    let error = load(archives.path(), &options).unwrap_err();
    assert!(error.to_string().contains("_background_noise_"), "{error}");
}

#[test]
fn the_five_fold_task_reads_the_test_archive() {
    let mut list = "file,label12,label,fold5,duplicate_of\n".to_owned();
    for (i, class) in CLASSES.iter().enumerate() {
        list.push_str(&format!("{class}/t_nohash_0.wav,{i},{class},{},\n", i % 5));
    }
    let [folder, archive] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    write_folder(&folder.path().join(TESTS), &tests());
    std::fs::write(folder.path().join(TESTS).join("gsc_v0.02_test.csv"), &list).unwrap();
    write_archive(&archive.path().join(format!("{TESTS}.tar.gz")), &tests());
    std::fs::write(archive.path().join("gsc_v0.02_test.csv"), &list).unwrap();
    let task = Task::SpeechCommands5Fold { fold: 1 };
    let [a, b] = [folder, archive].map(|root| {
        let data = load_with(&task, &search(root.path()), &LoadOptions::default()).unwrap();
        assert!(data.warnings.iter().any(|warning| warning.contains("no background recordings")));
        data.checksum
    });
    assert_eq!(a, b);
}

#[test]
fn silence_and_unknown_words_are_mixed_by_either_recipe() {
    let root = tempfile::tempdir().unwrap();
    write_folder(&root.path().join(WORDS), &words());
    write_folder(&root.path().join(TESTS), &tests());
    let data = |mixing| load(root.path(), &LoadOptions { mixing, ..LoadOptions::default() }).unwrap();
    let count = |data: &Dataset, part, label: u8| data.split(part).class_counts(12)[usize::from(label)];
    let (tiny, published) = (data(Mixing::MlperfTiny), data(Mixing::Published));
    assert_eq!([count(&tiny, Part::Train, UNKNOWN), count(&tiny, Part::Train, SILENCE)], [23, 3]);
    // A tenth of 28 words, rounded up.
    assert_eq!([count(&published, Part::Train, UNKNOWN), count(&published, Part::Train, SILENCE)], [3, 3]);
    assert_eq!(
        [count(&published, Part::Validation, UNKNOWN), count(&published, Part::Validation, SILENCE)],
        [1, 1]
    );
    assert_eq!(tiny.test.labels, published.test.labels);
    assert!(published.note.contains("as published") && tiny.note.contains("MLPerf Tiny"));
    // A word's clip has the same id under both, and so the same augmentation.
    let ids = |data: &Dataset| -> Vec<u32> {
        data.train.ids.iter().zip(&data.train.labels).filter(|(_, l)| **l < 10).map(|(id, _)| *id).collect()
    };
    assert_eq!(ids(&tiny), ids(&published));
    // Published silence is zeros until noise is mixed in.
    let speech = published.speech.as_ref().unwrap();
    let silent = published.train.labels.iter().position(|&label| label == SILENCE).unwrap();
    assert!(speech.wave(silent).iter().all(|&x| x == 0));
    let fill = |augmentation: &Augmentation, seed| {
        let mut codes = vec![0; 490];
        published
            .fill_codes(Part::Train, &[silent as u32], 0, seed, augmentation, &mut codes, &mut [0])
            .unwrap();
        codes
    };
    let clean = fill(&Augmentation::NONE, 0);
    let noisy = (0..10).filter(|&seed| fill(&Augmentation::PUBLISHED_SPEECH, seed) != clean).count();
    assert!((4..=10).contains(&noisy), "noise in {noisy} of 10");
    // The two kinds of noise differ on a clip that is not at full scale.
    let word = |augmentation: &Augmentation| {
        let mut codes = vec![0; 490];
        published.fill_codes(Part::Train, &[0], 0, 3, augmentation, &mut codes, &mut [0]).unwrap();
        codes
    };
    let sure = Augmentation { noise_probability: 1.0, ..Augmentation::SPEECH };
    assert_ne!(word(&sure), word(&Augmentation { noise_probability: 1.0, ..Augmentation::PUBLISHED_SPEECH }));
}

#[test]
fn features_come_from_the_cache_only_when_it_is_sound() {
    let root = tempfile::tempdir().unwrap();
    write_folder(&root.path().join(WORDS), &words());
    write_folder(&root.path().join(TESTS), &tests());
    let cache = root.path().join("cache");
    let cached = LoadOptions { cache: Some(cache.clone()), ..LoadOptions::default() };
    let plain = load(root.path(), &LoadOptions::default()).unwrap();
    let files = || -> Vec<std::path::PathBuf> {
        let mut files: Vec<_> =
            std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };
    let first = load(root.path(), &cached).unwrap();
    assert_eq!(files().len(), 3);
    // The second time the values come from there. (One file altered to prove it, its checksum made good again.)
    let second = load(root.path(), &cached).unwrap();
    assert_eq!([&first.checksum, &second.checksum], [&plain.checksum; 2]);
    assert_eq!(second.warnings, plain.warnings);
    for file in files() {
        let mut bytes = std::fs::read(&file).unwrap();
        let end = bytes.len() - 32;
        bytes[48..end].fill(0);
        let sum = <sha2::Sha256 as sha2::Digest>::digest(&bytes[..end]);
        bytes[end..].copy_from_slice(&sum);
        std::fs::write(file, bytes).unwrap();
    }
    assert_ne!(load(root.path(), &cached).unwrap().checksum, plain.checksum);
    // Damage is told and repaired.
    for file in files() {
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[100] ^= 1;
        std::fs::write(file, bytes).unwrap();
    }
    let repaired = load(root.path(), &cached).unwrap();
    assert_eq!(repaired.checksum, plain.checksum);
    assert_eq!(repaired.warnings.iter().filter(|warning| warning.contains("feature cache")).count(), 3);
    assert_eq!(load(root.path(), &cached).unwrap().warnings, plain.warnings);
    // Another clip: other features, other files.
    let mut altered = words();
    altered[0].1[45..4_045].iter_mut().step_by(2).for_each(|high| *high ^= 0x20);
    write_folder(&root.path().join(WORDS), &altered);
    assert_ne!(load(root.path(), &cached).unwrap().checksum, plain.checksum);
    assert_eq!(files().len(), 4);
}

#[test]
fn log_mel_is_a_front_end_like_the_mfcc() {
    let root = tempfile::tempdir().unwrap();
    write_folder(&root.path().join(WORDS), &words());
    write_folder(&root.path().join(TESTS), &tests());
    let options = LoadOptions { front_end: FrontEnd::LogMel, ..LoadOptions::default() };
    let data = load(root.path(), &options).unwrap();
    assert_eq!(data.shape, [49, 40, 1]);
    assert_eq!(data.speech.as_ref().unwrap().standardiser.mean.len(), 40);
    let masks = Augmentation {
        time_masks: 1,
        time_mask_frames: 9,
        coefficient_masks: 1,
        coefficient_mask_width: 20,
        ..Augmentation::SPEECH
    };
    let mut codes = vec![0; 1960];
    data.fill_codes(Part::Train, &[5], 1, 2, &masks, &mut codes, &mut [0]).unwrap();
    assert_ne!(codes, data.train.codes[5 * 1960..6 * 1960]);
    let error = load_with(&Task::SyntheticKeywords, &search(root.path()), &options).unwrap_err();
    assert!(matches!(error, DataError::Request { .. }), "{error}");
}
