//! The five-fold task: the official Speech Commands v0.02 test set, cut by speakers, for those without the training archive.
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::assemble::{Item, Plan, Splits, assemble};
use super::table::Table;
use super::{CLASSES, Clips, NOISE, TEST_SET, load_noise_beside};
use crate::error::read_file;
use crate::frontend::SAMPLES;
use crate::{DataError, DataSearch, Dataset, LoadOptions, Origin, Task};

const LIST: &str = "gsc_v0.02_test.csv";
const FOLDS: u8 = 5;

/// One line of the list.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    file: String,
    label: u8,
    fold: u8,
    duplicate_of: Option<String>,
}

/// Where the files are: `DIR/speech_commands_test_set_v0.02` or DIR itself with `gsc_v0.02_test.csv` beside the word folders,
/// or the archive with the list beside it in DIR.
struct Place {
    clips: PathBuf,
    list: PathBuf,
    root: PathBuf,
}

fn find(root: &Path) -> Option<Place> {
    let [folder, archive] = TEST_SET.map(|name| root.join(name));
    let place = |clips: PathBuf, list: PathBuf| Place { clips, list, root: root.to_owned() };
    if let Some(dir) =
        [folder, root.to_owned()].into_iter().find(|dir| dir.join(LIST).is_file() && dir.join("yes").is_dir())
    {
        return Some(place(dir.clone(), dir.join(LIST)));
    }
    (archive.is_file() && root.join(LIST).is_file()).then(|| place(archive, root.join(LIST)))
}

/// Where the task's clips are.
pub(crate) fn located(search: &DataSearch) -> Result<PathBuf, DataError> {
    Ok(search.find(&Task::SpeechCommands5Fold { fold: 0 }, find)?.clips)
}

/// Loads fold `fold` as the test split, `fold + 1 mod 5` as validation, the rest for training.
pub(crate) fn load_five_fold(
    fold: u8,
    search: &DataSearch,
    options: &LoadOptions,
) -> Result<Dataset, DataError> {
    let task = Task::SpeechCommands5Fold { fold };
    if fold >= FOLDS {
        return Err(DataError::request("fold", format!("{fold}, 0 to 4 expected")));
    }
    let place = search.find(&task, find)?;
    let clips =
        if place.clips.is_dir() { Clips::Folder(place.clips) } else { Clips::open_archive(&place.clips)? };
    let entries = read_list(&place.list)?;
    let duplicates = entries.iter().filter(|entry| entry.duplicate_of.is_some()).count();

    let mut splits = Splits { train: Vec::new(), validation: Vec::new(), test: Vec::new() };
    for (id, entry) in (0u32..).zip(&entries) {
        let split = match (entry.fold + FOLDS - fold) % FOLDS {
            0 => &mut splits.test,
            1 => &mut splits.validation,
            _ => &mut splits.train,
        };
        split.push(Item { source: existing(&clips, &entry.file), label: entry.label, id });
    }
    let noise = load_noise_beside(&place.root, &clips)?;
    let recordings = noise.len();
    let note = format!(
        "Speech Commands v0.02, official test set only ({} clips), cut into five unofficial speaker-disjoint folds: test \
         fold {fold}, validation fold {}. Not comparable with published results. {duplicates} clips are listed as \
         repetitions of another; they are kept, always in the same fold. Silence clips are cut from the same {recordings} \
         background recordings that augmentation mixes in.",
        entries.len(),
        (fold + 1) % FOLDS
    );
    let plan = Plan {
        name: task.to_string(),
        origin: Origin::OfficialSubset,
        note,
        front_end: options.front_end,
        noise: noise.into_iter().map(|recording| recording.samples).collect(),
        cache: options.cache.as_deref(),
    };
    let mut dataset = assemble(plan, &splits, |name: &String| clips.read(name, SAMPLES))?;
    if recordings == 0 {
        let dir = place.root.display();
        dataset
            .warnings
            .push(format!("no background recordings ({NOISE}) in {dir}: noise cannot be mixed in"));
    }
    Ok(dataset)
}

/// The file as listed, or its twin with the other extension when only that exists.
fn existing(clips: &Clips, file: &str) -> String {
    if clips.contains(file) {
        return file.to_owned();
    }
    let other = if file.ends_with(".flac") { "wav" } else { "flac" };
    let twin = Path::new(file).with_extension(other).to_string_lossy().into_owned();
    if clips.contains(&twin) { twin } else { file.to_owned() }
}

fn read_list(path: &Path) -> Result<Vec<Entry>, DataError> {
    parse_list(path, &read_file(path, 16 << 20)?)
}

pub(super) fn parse_list(path: &Path, bytes: &[u8]) -> Result<Vec<Entry>, DataError> {
    let table = Table::parse(path, bytes)?;
    let [file, label12, label, fold5, duplicate] =
        table.columns(["file", "label12", "label", "fold5", "duplicate_of"])?;

    let mut entries = Vec::with_capacity(table.rows.len());
    for row in &table.rows {
        let name = row.path(file)?;
        let class: u8 = row.number(label12, CLASSES.len() as u8)?;
        if row.field(label)? != CLASSES[usize::from(class)] {
            return Err(row.error(format!("label {class} is named `{}`", row.field(label)?)));
        }
        let duplicate_of = Some(row.field(duplicate)?).filter(|name| !name.is_empty()).map(str::to_owned);
        entries.push(Entry {
            file: name.to_owned(),
            label: class,
            fold: row.number(fold5, FOLDS)?,
            duplicate_of,
        });
    }
    let folds: HashMap<&str, u8> = entries.iter().map(|entry| (entry.file.as_str(), entry.fold)).collect();
    if folds.len() != entries.len() {
        return Err(DataError::corrupt(path, 0, "a file is listed twice"));
    }
    for (entry, row) in entries.iter().zip(&table.rows) {
        if let Some(original) = &entry.duplicate_of
            && folds.get(original.as_str()) != Some(&entry.fold)
        {
            return Err(row.error(format!("`{}` repeats `{original}`, which is not in its fold", entry.file)));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "file,label12,label,word,speaker,fold5,duplicate_of,rms,peak\n";

    #[test]
    fn list_errors_are_located() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LIST);
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_list(&path)
        };
        let good = format!("{HEADER}go/a.wav,1,go,go,s,2,,1,1\ngo/b.wav,1,go,go,s,2,go/a.wav,1,1\n");
        assert_eq!(read(&good).unwrap().len(), 2);
        for line in [
            "../a.wav,1,go,go,s,2,,1,1",
            "/etc/passwd,1,go,go,s,2,,1,1",
            ",1,go,go,s,2,,1,1",
            "go/a.wav,12,go,go,s,2,,1,1",
            "go/a.wav,2,go,go,s,2,,1,1",
            "go/a.wav,1,go,go,s,5,,1,1",
            "go/a.wav,1",
            "go/a.wav,1,go,go,s,2,go/absent.wav,1,1",
        ] {
            match read(&format!("{HEADER}{line}\n")).unwrap_err() {
                DataError::Corrupt { offset, .. } => assert_eq!(offset, HEADER.len() as u64, "{line}"),
                other => panic!("{line}: {other}"),
            }
        }
        assert!(read("file,label\n").unwrap_err().to_string().contains("label12"));
        assert!(read("").is_err());
        std::fs::write(&path, [0xFF, 0xFE]).unwrap();
        assert!(matches!(read_list(&path), Err(DataError::Corrupt { offset: 0, .. })));
    }

    #[test]
    fn folds_of_a_tiny_copy() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(TEST_SET[0]);
        std::fs::create_dir_all(dir.join("go")).unwrap();
        std::fs::create_dir_all(dir.join("yes")).unwrap();
        let mut list = HEADER.to_owned();
        for fold in 0..5 {
            let spec = hound::WavSpec {
                channels: 1,
                sample_rate: 16_000,
                bits_per_sample: 16,
                sample_format: hound::SampleFormat::Int,
            };
            let mut writer = hound::WavWriter::create(dir.join(format!("go/{fold}.wav")), spec).unwrap();
            (0..8000).for_each(|i| writer.write_sample((i * (fold + 3) % 997) as i16).unwrap());
            writer.finalize().unwrap();
            // Listed as FLAC, present as WAV: both are official material.
            list.push_str(&format!("go/{fold}.flac,1,go,go,s{fold},{fold},,1,1\n"));
        }
        std::fs::write(dir.join(LIST), list).unwrap();
        let search = DataSearch { explicit: Some(root.path().to_owned()) };
        let data = load_five_fold(4, &search, &LoadOptions::default()).unwrap();
        assert_eq!((&data.test.ids[..], &data.validation.ids[..]), (&[4][..], &[0][..]));
        assert_eq!(data.train.ids, [1, 2, 3]);
        assert_eq!(data.train.codes.len(), 3 * 490);
        assert!(
            data.warnings.iter().any(|warning| warning.contains("_background_noise_")),
            "{:?}",
            data.warnings
        );
        std::fs::remove_file(dir.join("go/2.wav")).unwrap();
        assert!(
            load_five_fold(4, &search, &LoadOptions::default()).unwrap_err().to_string().contains("2.flac")
        );
    }
}
