//! Compares a data directory with a manifest, file by file, without loading it as a task.
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::dataset::hex;
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

/// Checks everything the manifest expects below `dir`, in the manifest's order, files first. Archives are not looked at.
pub fn verify(manifest: &Manifest, dir: &Path) -> Vec<Check> {
    let files = manifest.files.par_iter().map(|file| check_file(file, &dir.join(&file.path)));
    let mut checks: Vec<Check> = files.collect();
    checks.extend(manifest.folders.iter().map(|folder| check_folder(folder, &dir.join(&folder.path))));
    checks
}

fn check_file(expected: &ExpectedFile, path: &Path) -> Check {
    Check { path: path.to_owned(), finding: file_finding(expected, path) }
}

fn file_finding(expected: &ExpectedFile, path: &Path) -> Finding {
    let mut file = match File::open(path) {
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
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hash.update(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Finding::Unreadable(e.to_string()),
        }
    }
    let found = hex(&hash.finalize());
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
    }
}
