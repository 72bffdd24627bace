//! Compares a data directory with a manifest, file by file, without loading it as a task.
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::digest::sha256_file;
use crate::manifest::{ExpectedFile, ExpectedFolder, Manifest};
use crate::speech::audio_files;

/// What was found at one expected path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// As expected in all that the manifest knows.
    Good,
    /// Not there.
    Missing,
    /// There but unreadable.
    Unreadable(String),
    /// Another number of bytes.
    WrongSize {
        /// Bytes found.
        found: u64,
        /// Bytes expected.
        expected: u64,
    },
    /// Another content.
    WrongChecksum {
        /// SHA-256 found.
        found: String,
        /// SHA-256 expected.
        expected: String,
    },
    /// Another number of audio files.
    WrongCount {
        /// Files found.
        found: usize,
        /// Files expected.
        expected: usize,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Good => f.write_str("good"),
            Finding::Missing => f.write_str("missing"),
            Finding::Unreadable(reason) => write!(f, "unreadable: {reason}"),
            Finding::WrongSize { found, expected } => write!(f, "{found} bytes, {expected} expected"),
            Finding::WrongChecksum { found, expected } => write!(f, "SHA-256 {found}, {expected} expected"),
            Finding::WrongCount { found, expected } => write!(f, "{found} clips, {expected} expected"),
        }
    }
}

/// One expected path and what was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// File or folder.
    pub path: PathBuf,
    /// What was found.
    pub finding: Finding,
}

/// Checks everything the manifest expects below `dir`, in the manifest's order, files first, then folders, then those archives
/// that are there. Where an archive is there and nothing of it unpacked, the archive is all that is checked.
pub fn verify(manifest: &Manifest, dir: &Path) -> Vec<Check> {
    let files = manifest.files.par_iter().map(|file| check_file(file, &dir.join(&file.path)));
    let mut checks: Vec<Check> = files.collect();
    checks.extend(manifest.folders.iter().map(|folder| check_folder(folder, &dir.join(&folder.path))));
    let archives: Vec<Check> = manifest
        .archives
        .iter()
        .filter(|archive| !manifest.files.iter().any(|file| file.path == archive.file_name()))
        .map(|archive| {
            let name = archive.file_name();
            let expected =
                ExpectedFile { path: name.to_owned(), bytes: archive.bytes, sha256: archive.sha256.clone() };
            check_file(&expected, &dir.join(name))
        })
        .filter(|check| check.finding != Finding::Missing)
        .collect();
    if !archives.is_empty() {
        if checks.iter().all(|check| check.finding == Finding::Missing) {
            checks.clear();
        }
        checks.extend(archives);
    }
    checks
}

fn check_file(expected: &ExpectedFile, path: &Path) -> Check {
    Check { path: path.to_owned(), finding: file_finding(expected, path) }
}

fn file_finding(expected: &ExpectedFile, path: &Path) -> Finding {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Finding::Missing,
        Err(e) => return Finding::Unreadable(e.to_string()),
    };
    let length = match file.metadata() {
        Ok(metadata) => metadata.len(),
        Err(e) => return Finding::Unreadable(e.to_string()),
    };
    if let Some(bytes) = expected.bytes
        && bytes != length
    {
        return Finding::WrongSize { found: length, expected: bytes };
    }
    let Some(sha256) = &expected.sha256 else { return Finding::Good };
    let found = match sha256_file(file) {
        Ok(found) => found,
        Err(e) => return Finding::Unreadable(e.to_string()),
    };
    if found == *sha256 { Finding::Good } else { Finding::WrongChecksum { found, expected: sha256.clone() } }
}

fn check_folder(expected: &ExpectedFolder, path: &Path) -> Check {
    let finding = match audio_files(path) {
        _ if !path.is_dir() => Finding::Missing,
        Err(e) => Finding::Unreadable(e.to_string()),
        Ok(files) if files.len() == expected.clips => Finding::Good,
        Ok(files) => Finding::WrongCount { found: files.len(), expected: expected.clips },
    };
    Check { path: path.to_owned(), finding }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_difference_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"
            name = "x"
            title = "X"
            homepage = ""
            licence = ""
            citation = ""
            [counts]
            [[file]]
            path = "a"
            bytes = 3
            sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
            [[file]]
            path = "b"
            bytes = "unknown"
            sha256 = "unknown"
            [[folder]]
            path = "words"
            clips = 1
        "#;
        let manifest = Manifest::parse(text, Path::new("x.toml")).unwrap();
        let findings = || -> Vec<Finding> {
            verify(&manifest, dir.path()).into_iter().map(|check| check.finding).collect()
        };
        assert_eq!(findings(), [Finding::Missing, Finding::Missing, Finding::Missing]);
        std::fs::write(dir.path().join("a"), "abc").unwrap();
        std::fs::write(dir.path().join("b"), "").unwrap();
        std::fs::create_dir(dir.path().join("words")).unwrap();
        let found = findings();
        assert_eq!(found[..2], [Finding::Good, Finding::Good]);
        assert_eq!(found[2], Finding::WrongCount { found: 0, expected: 1 });
        std::fs::write(dir.path().join("words/w.wav"), "").unwrap();
        std::fs::write(dir.path().join("a"), "abd").unwrap();
        let found = findings();
        assert!(matches!(found[0], Finding::WrongChecksum { .. }), "{}", found[0]);
        assert_eq!(found[2], Finding::Good);
        std::fs::write(dir.path().join("a"), "abcd").unwrap();
        assert_eq!(findings()[0], Finding::WrongSize { found: 4, expected: 3 });

        // An archive is checked where it is there, and alone where nothing of it is unpacked.
        let archived = text.replace(
            "[counts]",
            "[counts]\n[[archive]]\nurl = \"http://x/c.gz\"\nbytes = 5\nsha256 = \"unknown\"",
        );
        let manifest = Manifest::parse(&archived, Path::new("x.toml")).unwrap();
        assert_eq!(verify(&manifest, dir.path()).len(), 3);
        std::fs::write(dir.path().join("c.gz"), "five!").unwrap();
        assert_eq!(verify(&manifest, dir.path()).len(), 4);
        let other = tempfile::tempdir().unwrap();
        std::fs::write(other.path().join("c.gz"), "six!!!").unwrap();
        let checks = verify(&manifest, other.path());
        assert_eq!(checks.len(), 1);
        assert_eq!(checks[0].finding, Finding::WrongSize { found: 6, expected: 5 });
    }
}
