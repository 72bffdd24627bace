//! Downloads of a manifest's archives: resumed, checked, and never mistaken for something else.
mod error;
mod transfer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::FetchError;
use transfer::Transfer;

use crate::digest::sha256_file;
use crate::manifest::{Archive, Manifest};

/// How to download.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// Directory the archives go to; created when absent.
    pub dir: PathBuf,
    /// Address of a folder that holds the archives under their file names, in place of the manifest's addresses.
    pub mirror: Option<String>,
    /// Only look at what is there; an archive that would have to be downloaded is [`FetchError::Offline`].
    pub offline: bool,
    /// Longest time without a connection, and longest wait for one more byte.
    pub patience: Duration,
    /// Attempts in a row that may gain nothing before it is given up.
    pub attempts: u32,
    /// Wait before the second attempt; doubled before each further one.
    pub pause: Duration,
    /// Bytes left free on the disk beyond the archive's own size.
    pub reserve: u64,
}

impl FetchOptions {
    /// Downloads to `dir`: half a minute of patience, five attempts, 64 MiB left free.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        FetchOptions {
            dir: dir.into(),
            mirror: None,
            offline: false,
            patience: Duration::from_secs(30),
            attempts: 5,
            pause: Duration::from_secs(1),
            reserve: 64 << 20,
        }
    }
}

/// How far a download is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchProgress<'a> {
    /// File name of the archive.
    pub file: &'a str,
    /// Bytes on disk.
    pub done: u64,
    /// Bytes in all, once known.
    pub total: Option<u64>,
    /// Something worth telling, such as why an attempt ended.
    pub notice: Option<&'a str>,
}

/// One archive, in place and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
    /// Whether the manifest knows the SHA-256, so that it could be compared.
    pub known: bool,
    /// Bytes that came over the network now; 0 when the archive was there already.
    pub downloaded: u64,
    /// Attempts made.
    pub attempts: u32,
}

/// Makes every archive of `manifest` present in the directory, one after the other. What is there already is checked and
/// kept; a download that was interrupted goes on where it stopped. An archive appears under its name only when its size and
/// SHA-256 are those of the manifest.
///
/// # Errors
/// [`FetchError`]; archives before the one at fault are in place.
pub fn fetch(
    manifest: &Manifest,
    options: &FetchOptions,
    progress: &mut dyn FnMut(&FetchProgress<'_>),
) -> Result<Vec<Fetched>, FetchError> {
    if manifest.archives.is_empty() {
        return Err(FetchError::NotOffered {
            name: manifest.name.clone(),
            homepage: manifest.homepage.clone(),
        });
    }
    manifest.archives.iter().map(|archive| fetch_archive(archive, options, progress)).collect()
}

fn fetch_archive(
    archive: &Archive,
    options: &FetchOptions,
    progress: &mut dyn FnMut(&FetchProgress<'_>),
) -> Result<Fetched, FetchError> {
    let name = archive.file_name();
    let url = match &options.mirror {
        Some(mirror) => format!("{}/{name}", mirror.trim_end_matches('/')),
        None => archive.url.clone(),
    };
    let path = options.dir.join(name);
    if path.is_file() {
        return present(archive, &path);
    }
    if options.offline {
        return Err(FetchError::Offline { path, url });
    }
    std::fs::create_dir_all(&options.dir).map_err(|source| FetchError::io(&options.dir, source))?;
    let mut transfer = Transfer::open(&url, &path, archive, options)?;
    transfer.run(progress)?;
    transfer.finish()
}

/// An archive that was there before is checked like one that has just come.
fn present(archive: &Archive, path: &Path) -> Result<Fetched, FetchError> {
    let io = |source| FetchError::io(path, source);
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    if let Some(expected) = archive.bytes
        && expected != bytes
    {
        return Err(FetchError::Length { path: path.to_owned(), found: bytes, expected });
    }
    let sha256 = sha256_file(file).map_err(io)?;
    check_sha256(archive, path, &sha256)?;
    Ok(Fetched {
        path: path.to_owned(),
        bytes,
        sha256,
        known: archive.sha256.is_some(),
        downloaded: 0,
        attempts: 0,
    })
}

fn check_sha256(archive: &Archive, path: &Path, found: &str) -> Result<(), FetchError> {
    match &archive.sha256 {
        Some(expected) if expected != found => Err(FetchError::Checksum {
            path: path.to_owned(),
            found: found.to_owned(),
            expected: expected.clone(),
        }),
        _ => Ok(()),
    }
}
