//! Why an archive could not be downloaded: each kind of answer that is not the archive has a name.
use std::path::{Path, PathBuf};

/// Why an archive is not there.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The release is not offered as an archive.
    #[error("{name} is not offered as an archive; see {homepage}")]
    NotOffered {
        /// Release.
        name: String,
        /// Page describing it.
        homepage: String,
    },
    /// A download would be needed, and none is allowed.
    #[error("{}: not there, and offline: download {url}", path.display())]
    Offline {
        /// Where it should be.
        path: PathBuf,
        /// Where it is offered.
        url: String,
    },
    /// A file could not be written or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The disk is too full; nothing was written.
    #[error("{}: {available} bytes free, {needed} needed", dir.display())]
    Space {
        /// Directory the archive was to go to.
        dir: PathBuf,
        /// Bytes still to come, and the reserve.
        needed: u64,
        /// Bytes free.
        available: u64,
    },
    /// Another process is downloading the same archive.
    #[error("{}: another download is writing it", path.display())]
    Busy {
        /// The unfinished file.
        path: PathBuf,
    },
    /// The address is no address, or the agent could not be made.
    #[error("{url}: {reason}")]
    Address {
        /// Address asked.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server answered with a status that another attempt will not change.
    #[error("{url}: the server answered {status}")]
    Status {
        /// Address asked.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The server led in circles.
    #[error("{url}: redirected too often, or to nowhere: {reason}")]
    Redirect {
        /// Address asked.
        url: String,
        /// What the client said.
        reason: String,
    },
    /// The server answered with a web page in place of the archive: a login, a consent form, an apology.
    #[error("{url}: the answer is a web page, not the archive")]
    WebPage {
        /// Address asked.
        url: String,
    },
    /// The file the server offers has another size than the manifest's.
    #[error("{url}: {offered} bytes are offered, {expected} expected")]
    Size {
        /// Address asked.
        url: String,
        /// Bytes offered, or bytes received when more came than was announced.
        offered: u64,
        /// Bytes of the manifest.
        expected: u64,
    },
    /// The connection kept ending, stalling or answering nonsense; what came so far is kept for the next call.
    #[error("{url}: given up after {attempts} attempts at {done} bytes: {reason}")]
    Interrupted {
        /// Address asked.
        url: String,
        /// Attempts made.
        attempts: u32,
        /// Bytes on disk.
        done: u64,
        /// What ended the last attempt.
        reason: String,
    },
    /// A file of this name is there with another size. It is left as it is.
    #[error("{}: {found} bytes, {expected} expected; remove it to download it again", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes found.
        found: u64,
        /// Bytes expected.
        expected: u64,
    },
    /// The content is not the manifest's. What was downloaded is removed; a file that was there before is left as it is.
    #[error("{}: SHA-256 {found}, {expected} expected", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// SHA-256 found.
        found: String,
        /// SHA-256 expected.
        expected: String,
    },
}

impl FetchError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}
