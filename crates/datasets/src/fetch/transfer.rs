//! One archive over HTTP: attempts, ranges, and the unfinished file between them.
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use ureq::http::{Response, header};
use ureq::{Agent, Body};

use super::{FetchError, FetchOptions, FetchProgress, Fetched, check_sha256};
use crate::digest::hex;
use crate::manifest::Archive;

/// Bytes read at a time.
const BLOCK: usize = 64 << 10;
/// Most redirects followed.
const REDIRECTS: u32 = 8;
/// An attempt that gained this much was worth it: the count of fruitless ones starts again.
const WORTH: u64 = 1 << 20;

/// The state of one download: the unfinished file `NAME.part`, and `NAME.part.tag`, the server's mark of what it is part of.
pub(super) struct Transfer<'a> {
    agent: Agent,
    url: &'a str,
    path: &'a Path,
    archive: &'a Archive,
    options: &'a FetchOptions,
    part: PathBuf,
    file: File,
    hash: Sha256,
    /// Bytes in the unfinished file, all of them in `hash`.
    done: u64,
    /// Size of the whole, once known.
    total: Option<u64>,
    downloaded: u64,
    attempts: u32,
}

/// How an attempt ended when not in success.
enum End {
    /// Another attempt may do better.
    Again(String),
    Fatal(FetchError),
}

impl From<FetchError> for End {
    fn from(error: FetchError) -> Self {
        End::Fatal(error)
    }
}

impl<'a> Transfer<'a> {
    /// Opens the unfinished file, this process's alone, and reads what is in it.
    pub(super) fn open(
        url: &'a str,
        path: &'a Path,
        archive: &'a Archive,
        options: &'a FetchOptions,
    ) -> Result<Self, FetchError> {
        let part = beside(path, ".part");
        let io = |source| FetchError::io(&part, source);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&part).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FetchError::Busy { path: part }),
            // A file system without locks: two downloads at once then end in a wrong checksum, not in wrong data.
            Err(TryLockError::Error(_)) => {}
        }
        let (mut hash, mut done) = (Sha256::new(), 0u64);
        let mut block = vec![0; BLOCK];
        loop {
            match file.read(&mut block).map_err(io)? {
                0 => break,
                n => {
                    hash.update(&block[..n]);
                    done += n as u64;
                }
            }
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(REDIRECTS)
            .timeout_connect(Some(options.patience))
            .timeout_recv_response(Some(options.patience))
            .timeout_per_read(Some(options.patience))
            .user_agent(concat!("ternion/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let total = archive.bytes;
        Ok(Transfer {
            agent,
            url,
            path,
            archive,
            options,
            part,
            file,
            hash,
            done,
            total,
            downloaded: 0,
            attempts: 0,
        })
    }

    /// Attempts until everything is there.
    pub(super) fn run(&mut self, progress: &mut dyn FnMut(&FetchProgress<'_>)) -> Result<(), FetchError> {
        if self.total.is_some_and(|total| self.done > total) {
            self.restart()?;
        }
        let (mut fruitless, mut pause) = (0, self.options.pause);
        while self.total != Some(self.done) || self.attempts == 0 && self.archive.bytes.is_none() {
            let before = self.done;
            self.attempts += 1;
            match self.attempt(progress) {
                Ok(()) => break,
                Err(End::Fatal(error)) => return Err(error),
                Err(End::Again(reason)) => {
                    self.tell(progress, Some(&reason));
                    if self.done >= before + WORTH {
                        (fruitless, pause) = (0, self.options.pause);
                    }
                    fruitless += 1;
                    if fruitless >= self.options.attempts {
                        return Err(FetchError::Interrupted {
                            url: self.url.to_owned(),
                            attempts: self.attempts,
                            done: self.done,
                            reason,
                        });
                    }
                    std::thread::sleep(pause);
                    pause *= 2;
                }
            }
        }
        Ok(())
    }

    /// Checks the finished file and gives it its name.
    pub(super) fn finish(self) -> Result<Fetched, FetchError> {
        let io = |source| FetchError::io(&self.part, source);
        let sha256 = hex(&self.hash.finalize());
        if let Err(error) = check_sha256(self.archive, self.path, &sha256) {
            // Nothing in it can be trusted, and a resumed download would only complete the fault.
            remove(&self.part)?;
            remove(&beside(&self.part, ".tag"))?;
            return Err(error);
        }
        self.file.sync_all().map_err(io)?;
        std::fs::rename(&self.part, self.path).map_err(io)?;
        remove(&beside(&self.part, ".tag"))?;
        Ok(Fetched {
            path: self.path.to_owned(),
            bytes: self.done,
            sha256,
            known: self.archive.sha256.is_some(),
            downloaded: self.downloaded,
            attempts: self.attempts,
        })
    }

    fn attempt(&mut self, progress: &mut dyn FnMut(&FetchProgress<'_>)) -> Result<(), End> {
        let mut request = self.agent.get(self.url).header(header::ACCEPT_ENCODING, "identity");
        let tag = self.tag()?;
        if self.done > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", self.done));
            // With a mark, the server itself starts over when the file has changed since.
            if let Some(tag) = &tag {
                request = request.header(header::IF_RANGE, tag);
            }
        }
        let response = request.call().map_err(|error| self.judge(error))?;
        match response.status().as_u16() {
            200 => self.restart()?,
            206 if self.done > 0 => self.check_range(&response)?,
            206 => return Err(End::Again("a part was sent though the whole was asked for".to_owned())),
            // What we have is not a beginning of what there is, or already all of it (then the checksum will tell).
            416 if self.done > 0
                && self.archive.bytes.is_none()
                && unsatisfied(&response) == Some(self.done) =>
            {
                return Ok(());
            }
            416 if self.done > 0 => {
                self.restart()?;
                return Err(End::Again("the part on disk is no part of the file offered".to_owned()));
            }
            408 | 425 | 429 | 500 | 502..=504 => {
                return Err(End::Again(format!("the server answered {}", response.status().as_u16())));
            }
            status => return Err(FetchError::Status { url: self.url.to_owned(), status }.into()),
        }
        let media = text(&response, header::CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
        if media.starts_with("text/html") || media.starts_with("application/xhtml") {
            return Err(FetchError::WebPage { url: self.url.to_owned() }.into());
        }
        let announced = response.body().content_length();
        if let Some(announced) = announced {
            self.set_total(self.done + announced)?;
        }
        self.check_space()?;
        if self.done == 0 {
            self.set_tag(&response)?;
        }
        self.receive(response, progress)
    }

    fn receive(
        &mut self,
        response: Response<Body>,
        progress: &mut dyn FnMut(&FetchProgress<'_>),
    ) -> Result<(), End> {
        self.file.seek(SeekFrom::Start(self.done)).map_err(|source| FetchError::io(&self.part, source))?;
        let mut body = response.into_body().into_reader();
        let mut block = vec![0; BLOCK];
        loop {
            let n = match body.read(&mut block) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(End::Again(format!("the connection failed: {error}"))),
            };
            if self.done == 0 && is_web_page(&block[..n]) {
                return Err(FetchError::WebPage { url: self.url.to_owned() }.into());
            }
            let done = self.done + n as u64;
            if let Some(expected) = self.total
                && done > expected
            {
                return Err(FetchError::Size { url: self.url.to_owned(), offered: done, expected }.into());
            }
            self.file.write_all(&block[..n]).map_err(|source| FetchError::io(&self.part, source))?;
            self.hash.update(&block[..n]);
            self.done = done;
            self.downloaded += n as u64;
            self.tell(progress, None);
        }
        match self.total {
            Some(total) if self.done < total => {
                Err(End::Again(format!("the answer ends after {} of {total} bytes", self.done)))
            }
            _ => Ok(()),
        }
    }

    /// What a client error means for further attempts.
    fn judge(&self, error: ureq::Error) -> End {
        let url = self.url.to_owned();
        match error {
            ureq::Error::TooManyRedirects | ureq::Error::RedirectFailed => {
                FetchError::Redirect { url, reason: error.to_string() }.into()
            }
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
                FetchError::Address { url, reason: error.to_string() }.into()
            }
            error => End::Again(error.to_string()),
        }
    }

    /// A part must go on exactly where ours ends, within the size we know.
    fn check_range(&mut self, response: &Response<Body>) -> Result<(), End> {
        let range = text(response, header::CONTENT_RANGE).unwrap_or_default().to_owned();
        let parsed = range.strip_prefix("bytes ").and_then(|range| {
            let (span, total) = range.split_once('/')?;
            let (first, last) = span.split_once('-')?;
            let total = if total == "*" { None } else { Some(total.parse::<u64>().ok()?) };
            Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?, total))
        });
        let asked = self.done;
        let length = response.body().content_length();
        let fits = |(first, last, total): (u64, u64, Option<u64>)| {
            first == asked
                && last >= first
                && total.is_none_or(|total| last < total)
                && length.is_none_or(|length| length == last - first + 1)
        };
        match parsed {
            Some(range) if fits(range) => {
                if let Some(total) = range.2 {
                    self.set_total(total)?;
                }
                Ok(())
            }
            _ => {
                // What this server calls a part cannot be put together; the whole still may do.
                self.restart()?;
                Err(End::Again(format!("asked for bytes from {asked}, the server sent `{range}`")))
            }
        }
    }

    fn set_total(&mut self, offered: u64) -> Result<(), FetchError> {
        match self.archive.bytes {
            Some(expected) if offered > expected => {
                Err(FetchError::Size { url: self.url.to_owned(), offered, expected })
            }
            // A shorter answer may be a part of a larger one; the sum decides.
            Some(_) => Ok(()),
            None => {
                self.total = Some(offered);
                Ok(())
            }
        }
    }

    fn check_space(&self) -> Result<(), FetchError> {
        let Some(total) = self.total else { return Ok(()) };
        let needed = (total - self.done.min(total)).saturating_add(self.options.reserve);
        let dir = &self.options.dir;
        let available = fs4::available_space(dir).map_err(|source| FetchError::io(dir, source))?;
        if available < needed {
            return Err(FetchError::Space { dir: dir.clone(), needed, available });
        }
        Ok(())
    }

    /// Forgets what is on disk.
    fn restart(&mut self) -> Result<(), FetchError> {
        self.file.set_len(0).map_err(|source| FetchError::io(&self.part, source))?;
        self.hash = Sha256::new();
        self.done = 0;
        self.total = self.archive.bytes;
        remove(&beside(&self.part, ".tag"))
    }

    /// The server's mark of the file that ours is a part of.
    fn tag(&self) -> Result<Option<String>, FetchError> {
        let path = beside(&self.part, ".tag");
        match std::fs::read_to_string(&path) {
            Ok(tag) => {
                Ok(Some(tag).filter(|tag| !tag.is_empty() && tag.bytes().all(|b| (32..127).contains(&b))))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            // Not text: as good as none.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Ok(None),
            Err(source) => Err(FetchError::io(&path, source)),
        }
    }

    /// A weak mark would not do: If-Range compares strongly.
    fn set_tag(&self, response: &Response<Body>) -> Result<(), FetchError> {
        let strong = text(response, header::ETAG).filter(|tag| tag.starts_with('"'));
        let Some(tag) = strong.or_else(|| text(response, header::LAST_MODIFIED)) else { return Ok(()) };
        let path = beside(&self.part, ".tag");
        std::fs::write(&path, tag).map_err(|source| FetchError::io(&path, source))
    }

    fn tell(&self, progress: &mut dyn FnMut(&FetchProgress<'_>), notice: Option<&str>) {
        let file = self.archive.file_name();
        progress(&FetchProgress { file, done: self.done, total: self.total, notice });
    }
}

/// N of `Content-Range: bytes */N`.
fn unsatisfied(response: &Response<Body>) -> Option<u64> {
    text(response, header::CONTENT_RANGE)?.strip_prefix("bytes */")?.parse().ok()
}

fn text(response: &Response<Body>, name: header::HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

/// No archive format begins with a tag.
fn is_web_page(start: &[u8]) -> bool {
    let start = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start).trim_ascii_start();
    start.first() == Some(&b'<')
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn remove(path: &Path) -> Result<(), FetchError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(FetchError::io(path, source)),
        _ => Ok(()),
    }
}
