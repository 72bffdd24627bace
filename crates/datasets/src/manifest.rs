//! The manifests in `datasets/*.toml`: where each release comes from, under what licence, and what it must contain.
use std::path::Path;

use serde::{Deserialize, Deserializer};

use crate::DataError;

/// One release: source, terms, content.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Short name; also the file's.
    pub name: String,
    /// Name as its authors write it.
    pub title: String,
    /// Page describing it.
    pub homepage: String,
    /// Licence, or what is known of it.
    pub licence: String,
    /// How to cite it.
    pub citation: String,
    /// Folder the archives unpack into, when their own entries name none.
    #[serde(default)]
    pub unpack_into: Option<String>,
    /// Archives to download; none when the release is not offered as one.
    #[serde(default, rename = "archive")]
    pub archives: Vec<Archive>,
    /// Samples per split.
    pub counts: Counts,
    /// Files after unpacking.
    #[serde(default, rename = "file")]
    pub files: Vec<ExpectedFile>,
    /// Folders of audio after unpacking.
    #[serde(default, rename = "folder")]
    pub folders: Vec<ExpectedFolder>,
}

/// A file to download.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Address.
    pub url: String,
    /// Size, if known.
    #[serde(deserialize_with = "bytes_or_unknown")]
    pub bytes: Option<u64>,
    /// SHA-256 in lower-case hexadecimal, if known.
    #[serde(deserialize_with = "sha256_or_unknown")]
    pub sha256: Option<String>,
}

impl Archive {
    /// Its name on disk: the last part of the address.
    pub fn file_name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or(&self.url)
    }
}

/// A file of the unpacked release.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedFile {
    /// Path below the data directory.
    pub path: String,
    /// Size, if known.
    #[serde(deserialize_with = "bytes_or_unknown")]
    pub bytes: Option<u64>,
    /// SHA-256 in lower-case hexadecimal, if known.
    #[serde(deserialize_with = "sha256_or_unknown")]
    pub sha256: Option<String>,
}

/// A folder of WAV or FLAC files of the unpacked release.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedFolder {
    /// Path below the data directory.
    pub path: String,
    /// Number of audio files.
    pub clips: usize,
}

/// Samples per split; zero where the release has no such split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Training samples.
    #[serde(default)]
    pub train: usize,
    /// Validation samples.
    #[serde(default)]
    pub validation: usize,
    /// Test samples.
    #[serde(default)]
    pub test: usize,
}

/// The manifests this build knows: file name and text.
const BUILT_IN: [(&str, &str); 6] = [
    ("datasets/cifar10.toml", include_str!("../../../datasets/cifar10.toml")),
    ("datasets/cifar10_python.toml", include_str!("../../../datasets/cifar10_python.toml")),
    ("datasets/svhn.toml", include_str!("../../../datasets/svhn.toml")),
    ("datasets/speech_commands.toml", include_str!("../../../datasets/speech_commands.toml")),
    ("datasets/speech_commands_test.toml", include_str!("../../../datasets/speech_commands_test.toml")),
    ("datasets/mlperf_tiny_kws01.toml", include_str!("../../../datasets/mlperf_tiny_kws01.toml")),
];

impl Manifest {
    /// Reads a manifest's text; `path` is for the error.
    ///
    /// # Errors
    /// [`DataError::Corrupt`] with the offset of the fault.
    pub fn parse(text: &str, path: &Path) -> Result<Manifest, DataError> {
        toml::from_str(text).map_err(|e| {
            let offset = e.span().map_or(0, |span| span.start as u64);
            DataError::corrupt(path, offset, e.message())
        })
    }

    /// All manifests of this build.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); a test shows that the committed ones parse.
    pub fn all() -> Result<Vec<Manifest>, DataError> {
        BUILT_IN.iter().map(|(path, text)| Manifest::parse(text, Path::new(path))).collect()
    }

    /// The manifest of that name.
    ///
    /// # Errors
    /// [`DataError::Request`] when this build has none.
    pub fn named(name: &str) -> Result<Manifest, DataError> {
        Manifest::all()?
            .into_iter()
            .find(|manifest| manifest.name == name)
            .ok_or_else(|| DataError::request("manifest", format!("no release is called `{name}`")))
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

fn bytes_or_unknown<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match NumberOrText::deserialize(deserializer)? {
        NumberOrText::Number(bytes) => Ok(Some(bytes)),
        NumberOrText::Text(text) if text == "unknown" => Ok(None),
        NumberOrText::Text(text) => {
            Err(serde::de::Error::custom(format!("`{text}`, a number of bytes or \"unknown\" expected")))
        }
    }
}

fn sha256_or_unknown<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "unknown" {
        return Ok(None);
    }
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Ok(Some(text));
    }
    Err(serde::de::Error::custom(format!(
        "`{text}`, 64 lower-case hexadecimal digits or \"unknown\" expected"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_manifests_parse_and_are_named_after_their_files() {
        let manifests = Manifest::all().unwrap();
        for (manifest, (path, _)) in manifests.iter().zip(BUILT_IN) {
            assert_eq!(path, format!("datasets/{}.toml", manifest.name));
        }
        let folders = Manifest::named("speech_commands_test").unwrap();
        assert_eq!(folders.folders.iter().map(|folder| folder.clips).sum::<usize>(), folders.counts.test);
        assert!(Manifest::named("imagenet").is_err());
    }

    #[test]
    fn bad_manifests_are_refused_with_the_offset() {
        let good = BUILT_IN[0].1;
        for (from, to) in [
            ("sha256 = \"cee9", "sha256 = \"CEE9"),
            ("bytes = 170052171", "bytes = \"many\""),
            ("licence", "license"),
            ("[counts]", "[counts"),
        ] {
            let error = Manifest::parse(&good.replacen(from, to, 1), Path::new("m.toml")).unwrap_err();
            assert!(matches!(error, DataError::Corrupt { .. }), "{to}: {error}");
        }
    }
}
