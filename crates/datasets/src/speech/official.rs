//! The official task: the full Speech Commands v0.02 archive for training and validation, the separate test archive for
//! testing, split as TensorFlow Datasets 0.0.2 does it and MLPerf Tiny therefore trains.
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

use super::assemble::{Item, Plan, Splits, assemble};
use super::mixing::census;
use super::{CLASSES, Clips, Mixing, NOISE, Recording, SILENCE, TEST_SET, UNKNOWN, load_noise_beside};
use crate::frontend::SAMPLES;
use crate::manifest::Manifest;
use crate::{DataError, DataSearch, Dataset, LoadOptions, Origin, Task};

/// Silence clips are windows of the background recordings, one second long, starting every half second.
const HOP: usize = SAMPLES / 2;
/// The recording whose windows are validation silence; the others' are training silence.
const VALIDATION_NOISE: &str = "running_tap";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Train,
    Validation,
    Testing,
}

#[derive(Debug)]
enum Source {
    /// A clip of the main release.
    Word(String),
    /// A clip of the separate test archive.
    Test(String),
    Window {
        recording: usize,
        start: usize,
    },
    /// One second of nothing.
    Zeros,
}

/// Where the two releases are.
struct Place {
    words: PathBuf,
    tests: PathBuf,
    root: PathBuf,
}

/// The folders of either release in `root`, the main one also as `root` itself, else the archives.
fn find(root: &Path) -> Option<Place> {
    let [test_folder, test_archive] = TEST_SET.map(|name| root.join(name));
    let tests = if test_archive.is_file() && !test_folder.is_dir() { test_archive } else { test_folder };
    let place = |words| Some(Place { words, tests: tests.clone(), root: root.to_owned() });
    let folder = ["speech_commands_v0.02", "speech_commands", ""]
        .iter()
        .map(|name| root.join(name))
        // The test archive has the ten words too, but beside a folder of silence.
        .find(|dir| dir.join("yes").is_dir() && !dir.join("_silence_").is_dir());
    match folder {
        Some(words) => place(words),
        None => place(Some(root.join("speech_commands_v0.02.tar.gz")).filter(|path| path.is_file())?),
    }
}

/// Where the task's clips are.
pub(crate) fn located(search: &DataSearch) -> Result<PathBuf, DataError> {
    Ok(search.find(&Task::SpeechCommands, find)?.words)
}

fn open(path: PathBuf) -> Result<Clips, DataError> {
    if path.is_file() { Clips::open_archive(&path) } else { Ok(Clips::Folder(path)) }
}

/// Loads the task from `DIR/speech_commands_v0.02`, `DIR/speech_commands` or DIR (`WORD/*.wav` or `.flac`,
/// `_background_noise_`), and `speech_commands_test_set_v0.02` in DIR; either also straight from its `.tar.gz`, which then lies in
/// memory while it is read (3.4 GB for the main one).
///
/// Words are assigned by `validation_list.txt` and `testing_list.txt` when both are there, else by the official rule: the
/// SHA-1 of the speaker id. Silence and unknown words are mixed in as [`LoadOptions::mixing`] says.
pub(crate) fn load_official(search: &DataSearch, options: &LoadOptions) -> Result<Dataset, DataError> {
    let task = Task::SpeechCommands;
    let place = search.find(&task, find)?;
    let words = open(place.words)?;
    let lists = Lists::read(&words)?;
    let recordings = load_noise_beside(&place.root, &words)?;
    if recordings.is_empty() {
        let missing = std::io::Error::new(
            std::io::ErrorKind::NotFound,
            "no background recordings to make silence from",
        );
        return Err(DataError::io(&words.path(NOISE), missing));
    }

    // Every clip has its number whatever is mixed, so that a choice of mixing does not change another clip's augmentation.
    let mut splits = Splits { train: Vec::new(), validation: Vec::new(), test: Vec::new() };
    let mut id = 0u32;
    let mut number = || {
        id += 1;
        id - 1
    };
    let mut left_out = 0usize;
    for word in words.folders()? {
        if word.starts_with('_') || word.starts_with('.') {
            continue;
        }
        let label =
            CLASSES.iter().zip(0u8..).find(|(class, _)| **class == word).map_or(UNKNOWN, |(_, label)| label);
        for name in words.audio(&word)? {
            let stem = Path::new(&name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let items = match lists.set_of(&word, &stem) {
                Set::Train => &mut splits.train,
                Set::Validation => &mut splits.validation,
                Set::Testing => {
                    left_out += 1;
                    continue;
                }
            };
            items.push(Item { source: Source::Word(name), label, id: number() });
        }
    }
    let missing = lists.missing(splits.validation.len(), left_out);
    match options.mixing {
        Mixing::MlperfTiny => {
            for (recording, Recording { stem, samples }) in recordings.iter().enumerate() {
                let held = stem == VALIDATION_NOISE;
                let items = if held { &mut splits.validation } else { &mut splits.train };
                for start in (0..samples.len() - SAMPLES).step_by(HOP) {
                    let source = Source::Window { recording, start };
                    items.push(Item { source, label: SILENCE, id: number() });
                }
            }
        }
        Mixing::Published => {
            for (items, split) in [&mut splits.train, &mut splits.validation].into_iter().zip(0u64..) {
                let labels: Vec<u8> = items.iter().map(|item| item.label).collect();
                let (kept, silent) = options.mixing.choose(&labels, split);
                let mut kept = kept.into_iter();
                items.retain(|_| kept.next().unwrap_or(true));
                items.extend((0..silent).map(|_| Item {
                    source: Source::Zeros,
                    label: SILENCE,
                    id: number(),
                }));
            }
        }
    }
    let tests = open(place.tests)?;
    for (label, class) in (0u8..).zip(CLASSES) {
        for name in tests.audio(class)? {
            splits.test.push(Item { source: Source::Test(name), label, id: number() });
        }
    }

    let counts = [splits.train.len(), splits.validation.len(), splits.test.len()];
    let [train_mix, validation_mix, test_mix] = [&splits.train, &splits.validation, &splits.test]
        .map(|items| census(items.iter().map(|item| item.label)));
    let note = format!(
        "Speech Commands v0.02, 12 classes, {}, splits by the {}. Words / silence / unknown: training {train_mix:?}, \
         validation {validation_mix:?}, test {test_mix:?}. {left_out} clips of the archive's own testing share are left out: \
         the test split is the separate test archive.",
        options.mixing.describe(),
        if lists.listed { "official lists" } else { "official SHA-1 rule (no lists there)" }
    );
    let official = Manifest::named("speech_commands")?.counts;
    let official = [official.train, official.validation, official.test];
    // The manifest counts what TensorFlow Datasets makes; the published mixing has the same test split only.
    let complete = match options.mixing {
        Mixing::MlperfTiny => counts == official,
        Mixing::Published => counts[2] == official[2] && missing == 0 && lists.listed,
    };
    let plan = Plan {
        name: task.to_string(),
        origin: if complete { Origin::Official } else { Origin::OfficialSubset },
        note,
        front_end: options.front_end,
        noise: recordings.iter().map(|recording| recording.samples.clone()).collect(),
        cache: options.cache.as_deref(),
    };
    let mut dataset = assemble(plan, &splits, |source: &Source| match source {
        Source::Word(name) => words.read(name, SAMPLES),
        Source::Test(name) => tests.read(name, SAMPLES),
        Source::Window { recording, start } => {
            Ok(recordings[*recording].samples[*start..start + SAMPLES].to_vec())
        }
        Source::Zeros => Ok(vec![0; SAMPLES]),
    })?;
    if !complete {
        dataset.warnings.push(format!(
            "{} / {} / {} clips (train / validation / test), the official release mixed as MLPerf Tiny does has {} / {} / {}",
            counts[0], counts[1], counts[2], official[0], official[1], official[2]
        ));
    }
    if missing > 0 {
        dataset.warnings.push(format!("{missing} clips named in the official lists are not there"));
    }
    Ok(dataset)
}

/// The official lists, or the rule that made them.
struct Lists {
    listed: bool,
    validation: HashSet<String>,
    testing: HashSet<String>,
}

impl Lists {
    fn read(clips: &Clips) -> Result<Lists, DataError> {
        let names = ["validation_list.txt", "testing_list.txt"];
        let listed = names.iter().all(|name| clips.contains(name));
        let read = |name| parse_list(&clips.path(name), &clips.bytes(name, 64 << 20)?);
        let [validation, testing] =
            if listed { [read(names[0])?, read(names[1])?] } else { [HashSet::new(), HashSet::new()] };
        Ok(Lists { listed, validation, testing })
    }

    fn set_of(&self, word: &str, stem: &str) -> Set {
        if !self.listed {
            return which_set(stem);
        }
        let key = format!("{word}/{stem}");
        if self.validation.contains(&key) {
            Set::Validation
        } else if self.testing.contains(&key) {
            Set::Testing
        } else {
            Set::Train
        }
    }

    /// Listed clips that were not found.
    fn missing(&self, validated: usize, left_out: usize) -> usize {
        (self.validation.len() + self.testing.len()).saturating_sub(validated + left_out)
            * usize::from(self.listed)
    }
}

/// Lines `word/clip.wav` as `word/clip`, so that FLAC copies match too.
pub(super) fn parse_list(path: &Path, bytes: &[u8]) -> Result<HashSet<String>, DataError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| DataError::corrupt(path, e.valid_up_to() as u64, "not UTF-8 text"))?;
    let mut clips = HashSet::new();
    let mut offset = 0u64;
    for line in text.split_inclusive('\n') {
        let entry = line.trim();
        if !entry.is_empty() {
            let clip = entry.strip_suffix(".wav").filter(|clip| clip.matches('/').count() == 1);
            let Some(clip) = clip else {
                return Err(DataError::corrupt(path, offset, format!("`{entry}`, `word/clip.wav` expected")));
            };
            clips.insert(clip.to_owned());
        }
        offset += line.len() as u64;
    }
    Ok(clips)
}

/// The official rule (`which_set` in the release's README, 10 % validation and 10 % testing): the SHA-1 of the part of
/// the clip's name before `_nohash_`, modulo 2^27, as a percentage.
fn which_set(stem: &str) -> Set {
    const MODULUS: u64 = 1 << 27;
    let speaker = stem.split("_nohash_").next().unwrap_or(stem);
    // The digest is a big-endian number; modulo a power of two only its last bytes count.
    let digest = Sha1::digest(speaker.as_bytes());
    let last = digest[12..].iter().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
    let percentage = (last % MODULUS) as f64 * (100.0 / (MODULUS - 1) as f64);
    if percentage < 10.0 {
        Set::Validation
    } else if percentage < 20.0 {
        Set::Testing
    } else {
        Set::Train
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_puts_known_test_speakers_into_testing() {
        // Speakers of the official test archive.
        for stem in ["4c6167ca_nohash_3", "563aa4e6_nohash_3", "fb7eb481_nohash_3", "18f8afd5_nohash_3"] {
            assert_eq!(which_set(stem), Set::Testing, "{stem}");
        }
    }

    fn write(path: PathBuf, samples: usize) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        (0..samples).for_each(|i| writer.write_sample((i * 37 % 4001) as i16).unwrap());
        writer.finalize().unwrap();
    }

    #[test]
    fn splits_of_a_tiny_archive() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("speech_commands_v0.02");
        for clip in ["yes/a_nohash_0", "yes/b_nohash_0", "yes/c_nohash_0", "bed/a_nohash_0"] {
            write(dir.join(format!("{clip}.wav")), 12_000);
        }
        write(dir.join("_background_noise_/running_tap.wav"), 32_000);
        write(dir.join("_background_noise_/pink_noise.wav"), 40_000);
        std::fs::write(dir.join("validation_list.txt"), "yes/b_nohash_0.wav\n").unwrap();
        std::fs::write(dir.join("testing_list.txt"), "yes/c_nohash_0.wav\nyes/d_nohash_0.wav\n").unwrap();
        let search = DataSearch { explicit: Some(root.path().to_owned()) };
        assert!(matches!(load_official(&search, &LoadOptions::default()), Err(DataError::Io { .. })));
        let test = root.path().join("speech_commands_test_set_v0.02");
        for class in CLASSES {
            write(test.join(class).join("x.wav"), 16_000);
        }
        let data = load_official(&search, &LoadOptions::default()).unwrap();
        // bed is unknown; pink noise gives windows at 0, 8000 and 16000, running tap at 0 and 8000.
        assert_eq!(data.train.labels, [UNKNOWN, 9, SILENCE, SILENCE, SILENCE]);
        assert_eq!(data.validation.labels, [9, SILENCE, SILENCE]);
        assert!(data.test.labels.iter().copied().eq(0..12));
        assert_eq!(data.warnings.len(), 3, "{:?}", data.warnings);
        assert!(data.warnings[0].contains("earlier split"), "{:?}", data.warnings);
        assert_eq!(data.origin, Origin::OfficialSubset);

        std::fs::write(dir.join("testing_list.txt"), "yes/c_nohash_0.wav\nnonsense\n").unwrap();
        match load_official(&search, &LoadOptions::default()).unwrap_err() {
            DataError::Corrupt { offset, .. } => assert_eq!(offset, 19),
            other => panic!("{other}"),
        }
    }
}
