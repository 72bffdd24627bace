//! The official task: the full Speech Commands v0.02 archive for training and validation, the separate test archive for
//! testing, split as TensorFlow Datasets 0.0.2 does it and MLPerf Tiny therefore trains.
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

use super::assemble::{Item, Splits, assemble};
use super::{CLASSES, SILENCE, UNKNOWN, audio, audio_files, load_noise};
use crate::error::read_file;
use crate::frontend::SAMPLES;
use crate::manifest::Manifest;
use crate::{DataError, DataSearch, Dataset, Origin, Task};

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
    File(PathBuf),
    Window { recording: usize, start: usize },
}

/// Loads the task from `DIR/speech_commands_v0.02`, `DIR/speech_commands` or DIR (`WORD/*.wav` or `.flac`,
/// `_background_noise_`), and `speech_commands_test_set_v0.02` in DIR.
///
/// Words are assigned by `validation_list.txt` and `testing_list.txt` when both are there, else by the official rule: the
/// SHA-1 of the speaker id. Every word outside the ten is `_unknown_`, silence is cut from the background recordings.
pub(crate) fn load_official(search: &DataSearch) -> Result<Dataset, DataError> {
    let task = Task::SpeechCommands;
    let (dir, root) = search.find(&task, |root| {
        ["speech_commands_v0.02", "speech_commands", ""]
            .iter()
            .map(|name| root.join(name))
            // The test archive has the ten words too, but beside a folder of silence.
            .find(|dir| dir.join("yes").is_dir() && !dir.join("_silence_").is_dir())
            .map(|dir| (dir, root.to_owned()))
    })?;
    let lists = Lists::read(&dir)?;
    let recordings = load_noise(&[
        dir.join("_background_noise_"),
        root.join("speech_commands_background_noise").join("_background_noise_"),
    ])?;
    if recordings.is_empty() {
        let missing =
            std::io::Error::new(std::io::ErrorKind::NotFound, "no background recordings to cut silence from");
        return Err(DataError::io(&dir.join("_background_noise_"), missing));
    }

    let mut splits = Splits { train: Vec::new(), validation: Vec::new(), test: Vec::new() };
    let mut id = 0u32;
    let mut left_out = 0usize;
    let mut push = |items: &mut Vec<Item<Source>>, source, label| {
        items.push(Item { source, label, id });
        id += 1;
    };
    for word in folders(&dir)? {
        let name = word.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('_') || name.starts_with('.') {
            continue;
        }
        let label =
            CLASSES.iter().zip(0u8..).find(|(class, _)| **class == name).map_or(UNKNOWN, |(_, label)| label);
        for path in audio_files(&word)? {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            match lists.set_of(&name, &stem) {
                Set::Train => push(&mut splits.train, Source::File(path), label),
                Set::Validation => push(&mut splits.validation, Source::File(path), label),
                Set::Testing => left_out += 1,
            }
        }
    }
    for (recording, (path, samples)) in recordings.iter().enumerate() {
        let held = path.file_stem().is_some_and(|stem| stem == VALIDATION_NOISE);
        let items = if held { &mut splits.validation } else { &mut splits.train };
        for start in (0..samples.len() - SAMPLES).step_by(HOP) {
            push(items, Source::Window { recording, start }, SILENCE);
        }
    }
    let test_dir = root.join("speech_commands_test_set_v0.02");
    for (label, class) in (0u8..).zip(CLASSES) {
        for path in audio_files(&test_dir.join(class))? {
            push(&mut splits.test, Source::File(path), label);
        }
    }

    let counts = [splits.train.len(), splits.validation.len(), splits.test.len()];
    let note = format!(
        "Speech Commands v0.02, 12 classes, splits as TensorFlow Datasets and MLPerf Tiny ({}). Every other word is \
         `_unknown_`; silence is cut from the background recordings. {left_out} clips of the archive's own testing share \
         are left out: the test split is the separate test archive.",
        if lists.listed { "official lists" } else { "official SHA-1 rule, no lists in the folder" }
    );
    let official = Manifest::named("speech_commands")?.counts;
    let official = [official.train, official.validation, official.test];
    let origin = if counts == official { Origin::Official } else { Origin::OfficialSubset };
    let read = |source: &Source| match source {
        Source::File(path) => audio::read_clip(path),
        Source::Window { recording, start } => Ok(recordings[*recording].1[*start..start + SAMPLES].to_vec()),
    };
    let noise = recordings.iter().map(|(_, samples)| samples.clone()).collect();
    let mut dataset = assemble(task.to_string(), origin, note, &splits, noise, read)?;
    if counts != official {
        dataset.warnings.push(format!(
            "{} / {} / {} clips (train / validation / test), the official release has {} / {} / {}",
            counts[0], counts[1], counts[2], official[0], official[1], official[2]
        ));
    }
    if lists.listed && lists.missing(&splits, left_out) > 0 {
        dataset.warnings.push(format!(
            "{} clips named in the official lists are not in the folder",
            lists.missing(&splits, left_out)
        ));
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
    fn read(dir: &Path) -> Result<Lists, DataError> {
        let paths = [dir.join("validation_list.txt"), dir.join("testing_list.txt")];
        let listed = paths.iter().all(|path| path.is_file());
        let [validation, testing] = if listed {
            [read_list(&paths[0])?, read_list(&paths[1])?]
        } else {
            [HashSet::new(), HashSet::new()]
        };
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

    fn missing(&self, splits: &Splits<Source>, left_out: usize) -> usize {
        let validated =
            splits.validation.iter().filter(|item| matches!(item.source, Source::File(_))).count();
        (self.validation.len() + self.testing.len()).saturating_sub(validated + left_out)
    }
}

/// Lines `word/clip.wav` as `word/clip`, so that FLAC copies match too.
fn read_list(path: &Path) -> Result<HashSet<String>, DataError> {
    let bytes = read_file(path, 64 << 20)?;
    let text = std::str::from_utf8(&bytes)
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

fn folders(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| DataError::io(dir, e))? {
        let path = entry.map_err(|e| DataError::io(dir, e))?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
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
        assert!(matches!(load_official(&search), Err(DataError::Io { .. })));
        let test = root.path().join("speech_commands_test_set_v0.02");
        for class in CLASSES {
            write(test.join(class).join("x.wav"), 16_000);
        }
        let data = load_official(&search).unwrap();
        // bed is unknown; pink noise gives windows at 0, 8000 and 16000, running tap at 0 and 8000.
        assert_eq!(data.train.labels, [UNKNOWN, 9, SILENCE, SILENCE, SILENCE]);
        assert_eq!(data.validation.labels, [9, SILENCE, SILENCE]);
        assert!(data.test.labels.iter().copied().eq(0..12));
        assert_eq!(data.warnings.len(), 2, "{:?}", data.warnings);
        assert_eq!(data.origin, Origin::OfficialSubset);

        std::fs::write(dir.join("testing_list.txt"), "yes/c_nohash_0.wav\nnonsense\n").unwrap();
        match load_official(&search).unwrap_err() {
            DataError::Corrupt { offset, .. } => assert_eq!(offset, 19),
            other => panic!("{other}"),
        }
    }
}
