//! The cache: one folder per result, written aside, renamed when complete, verified when read.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::{Key, file_digest};
use super::lock::Lock;
use super::{Shard, Stage};
use crate::error::StudyError;

/// Name of the file that makes a folder a complete result.
const DONE: &str = "done.json";

/// Names one result: a stage, its key and, for a part of a sharded stage, which part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId {
    /// The stage.
    pub stage: Stage,
    /// Key over all inputs.
    pub key: Key,
    /// Which part of the stage's samples.
    pub part: Option<Shard>,
}

impl EntryId {
    /// The whole result of a stage.
    pub fn new(stage: Stage, key: Key) -> Self {
        Self { stage, key, part: None }
    }

    /// Folder name: `train-0123456789abcdef`, or `attack-0123456789abcdef-0of4` for a part.
    pub fn folder(&self) -> String {
        match self.part {
            None => format!("{}-{}", self.stage, self.key.short()),
            Some(part) => format!("{}-{}-{}of{}", self.stage, self.key.short(), part.index, part.count),
        }
    }
}

/// What `done.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Done {
    stage: Stage,
    key: Key,
    /// Everything the key was computed from, for people.
    inputs: Value,
    /// Wall-clock seconds the result took.
    seconds: f64,
    /// SHA-256 of every other file.
    files: BTreeMap<String, String>,
}

/// A complete, verified result on disk.
#[derive(Clone, Debug)]
pub struct Entry {
    dir: PathBuf,
    /// Wall-clock seconds it took to make.
    pub seconds: f64,
}

impl Entry {
    /// Path of one of its files.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// Reads one of its files as JSON.
    ///
    /// # Errors
    /// [`StudyError::Io`] or [`StudyError::Json`], naming the file.
    pub fn json<T: serde::de::DeserializeOwned>(&self, file: &str) -> Result<T, StudyError> {
        let path = self.path(file);
        let text = std::fs::read_to_string(&path).map_err(StudyError::io(&path))?;
        serde_json::from_str(&text).map_err(|source| StudyError::Json { path, source })
    }
}

/// What looking for a result found.
#[derive(Debug)]
pub enum Lookup {
    /// A complete result whose files have the recorded checksums.
    Hit(Entry),
    /// Nothing.
    Miss,
    /// Something that cannot be trusted, and why.
    Corrupt(String),
}

/// The folder `OUT/cache`.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The cache below an output folder; nothing is created before something is stored.
    pub fn new(out: &Path) -> Self {
        Self { root: out.join("cache") }
    }

    /// Looks for a result and verifies every file of it.
    ///
    /// # Errors
    /// Only if the folder cannot be read for reasons other than its absence.
    pub fn lookup(&self, id: &EntryId) -> Result<Lookup, StudyError> {
        let dir = self.root.join(id.folder());
        if !dir.try_exists().map_err(StudyError::io(&dir))? {
            return Ok(Lookup::Miss);
        }
        let done: Done = match std::fs::read(dir.join(DONE)) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(done) => done,
                Err(e) => return Ok(Lookup::Corrupt(format!("{}: {e}", dir.join(DONE).display()))),
            },
            Err(e) => return Ok(Lookup::Corrupt(format!("{}: {e}", dir.join(DONE).display()))),
        };
        if done.key != id.key || done.stage != id.stage {
            return Ok(Lookup::Corrupt(format!("{} belongs to another result", dir.display())));
        }
        for (name, want) in &done.files {
            match file_digest(&dir.join(name)) {
                Ok(got) if got == *want => {}
                Ok(_) => return Ok(Lookup::Corrupt(format!("{}: wrong checksum", dir.join(name).display()))),
                Err(e) => return Ok(Lookup::Corrupt(format!("{}: {e}", dir.join(name).display()))),
            }
        }
        Ok(Lookup::Hit(Entry { dir, seconds: done.seconds }))
    }

    /// Every verified part of a sharded result, whatever the number of shards it was cut into, in folder order.
    ///
    /// # Errors
    /// Only if the cache folder cannot be listed.
    pub fn parts(&self, stage: Stage, key: &Key) -> Result<Vec<Entry>, StudyError> {
        let prefix = format!("{stage}-{}-", key.short());
        let mut found = Vec::new();
        let listing = match std::fs::read_dir(&self.root) {
            Ok(listing) => listing,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            Err(e) => return Err(StudyError::io(&self.root)(e)),
        };
        let mut names = Vec::new();
        for item in listing {
            let name = item.map_err(StudyError::io(&self.root))?.file_name().to_string_lossy().into_owned();
            if let Some(part) = name.strip_prefix(&prefix).and_then(Shard::from_folder) {
                names.push((part, name));
            }
        }
        names.sort();
        for (part, _) in names {
            let id = EntryId { stage, key: key.clone(), part: Some(part) };
            if let Lookup::Hit(entry) = self.lookup(&id)? {
                found.push(entry);
            }
        }
        Ok(found)
    }

    /// Takes the right to make a result, waiting for any other process that is making it.
    ///
    /// # Errors
    /// If the lock file cannot be created.
    pub(super) fn lock(&self, id: &EntryId, on_wait: &dyn Fn(&str)) -> Result<Lock, StudyError> {
        let path = self.root.join("locks").join(id.folder() + ".lock");
        Lock::acquire(&path, on_wait).map_err(StudyError::io(&path))
    }

    /// The folder in which a result is being made; what an interrupted run left there is kept if `resume`.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub(super) fn work(&self, id: &EntryId, resume: bool) -> Result<PathBuf, StudyError> {
        let dir = self.root.join(id.folder() + ".work");
        if !resume && dir.exists() {
            std::fs::remove_dir_all(&dir).map_err(StudyError::io(&dir))?;
        }
        std::fs::create_dir_all(&dir).map_err(StudyError::io(&dir))?;
        Ok(dir)
    }

    /// Seals a work folder: records checksums, syncs, and renames it into place over whatever was there.
    ///
    /// # Errors
    /// If a file cannot be read, synced or renamed.
    pub(super) fn commit(&self, id: &EntryId, inputs: &Value, seconds: f64) -> Result<Entry, StudyError> {
        let work = self.root.join(id.folder() + ".work");
        let io = |e| StudyError::io(&work)(e);
        let mut files = BTreeMap::new();
        for item in std::fs::read_dir(&work).map_err(io)? {
            let item = item.map_err(io)?;
            if item.file_type().map_err(io)?.is_file() {
                let path = item.path();
                File::open(&path).and_then(|f| f.sync_all()).map_err(StudyError::io(&path))?;
                let name = item.file_name().to_string_lossy().into_owned();
                if name != DONE {
                    files.insert(name, file_digest(&path).map_err(StudyError::io(&path))?);
                }
            }
        }
        let done = Done { stage: id.stage, key: id.key.clone(), inputs: inputs.clone(), seconds, files };
        write_synced(&work.join(DONE), &json_text(&done)?)?;
        let dir = self.root.join(id.folder());
        if dir.exists() {
            // A corrupt predecessor: rename cannot replace a folder that is not empty.
            std::fs::remove_dir_all(&dir).map_err(StudyError::io(&dir))?;
        }
        std::fs::rename(&work, &dir).map_err(StudyError::io(&dir))?;
        File::open(&self.root).and_then(|f| f.sync_all()).map_err(StudyError::io(&self.root))?;
        Ok(Entry { dir, seconds })
    }
}

/// Pretty JSON with a final newline.
pub(crate) fn json_text<T: Serialize>(value: &T) -> Result<String, StudyError> {
    let path = PathBuf::from(DONE);
    serde_json::to_string_pretty(value).map(|t| t + "\n").map_err(|source| StudyError::Json { path, source })
}

/// Writes a file aside and renames it into place, so that readers see the old file or the new, never a part.
/// The file aside has a name of its own: other processes may write the same path at the same time.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), StudyError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(StudyError::io(parent))?;
    }
    AtomicWriteFile::open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.commit()))
        .map_err(StudyError::io(path))
}

fn write_synced(path: &Path, text: &str) -> Result<(), StudyError> {
    File::create(path)
        .and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all()))
        .map_err(StudyError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stored(store: &Store) -> EntryId {
        let inputs = json!({"seed": 1});
        let id = EntryId::new(Stage::Train, Key::of(Stage::Train, &inputs));
        let work = store.work(&id, false).unwrap();
        std::fs::write(work.join("model.bin"), b"weights").unwrap();
        std::fs::write(work.join("history.jsonl"), b"{}\n").unwrap();
        assert!(matches!(store.lookup(&id).unwrap(), Lookup::Miss), "a work folder is no result");
        store.commit(&id, &inputs, 1.5).unwrap();
        id
    }

    #[test]
    fn a_committed_result_is_found_and_its_work_folder_gone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let id = stored(&store);
        let Lookup::Hit(entry) = store.lookup(&id).unwrap() else { panic!("not found") };
        assert_eq!(std::fs::read(entry.path("model.bin")).unwrap(), b"weights");
        assert_eq!(entry.seconds, 1.5);
        assert!(!dir.path().join("cache").join(id.folder() + ".work").exists());
    }

    #[test]
    fn every_kind_of_damage_is_noticed_and_repaired() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let id = stored(&store);
        let folder = dir.path().join("cache").join(id.folder());
        let damage: [(&str, &dyn Fn()); 4] = [
            ("wrong checksum", &|| std::fs::write(folder.join("model.bin"), b"weightz").unwrap()),
            ("model.bin", &|| std::fs::remove_file(folder.join("model.bin")).unwrap()),
            ("done.json", &|| std::fs::write(folder.join("done.json"), b"{\"stage\":").unwrap()),
            ("done.json", &|| std::fs::remove_file(folder.join("done.json")).unwrap()),
        ];
        for (sign, harm) in damage {
            harm();
            let Lookup::Corrupt(reason) = store.lookup(&id).unwrap() else { panic!("{sign} went unnoticed") };
            assert!(reason.contains(sign), "{reason}");
            stored_again(&store, &id);
            assert!(matches!(store.lookup(&id).unwrap(), Lookup::Hit(_)));
        }
    }

    fn stored_again(store: &Store, id: &EntryId) {
        let work = store.work(id, false).unwrap();
        std::fs::write(work.join("model.bin"), b"weights").unwrap();
        store.commit(id, &json!({"seed": 1}), 0.5).unwrap();
    }

    #[test]
    fn what_an_interrupted_run_left_is_kept_only_to_resume() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let id = EntryId::new(Stage::Train, Key::of(Stage::Train, &json!(1)));
        std::fs::write(store.work(&id, true).unwrap().join("checkpoint"), b"x").unwrap();
        assert!(store.work(&id, true).unwrap().join("checkpoint").exists());
        assert!(!store.work(&id, false).unwrap().join("checkpoint").exists());
    }

    #[test]
    fn atomic_writing_replaces_and_leaves_nothing_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/results.jsonl");
        write_atomic(&path, b"one\n").unwrap();
        write_atomic(&path, b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
