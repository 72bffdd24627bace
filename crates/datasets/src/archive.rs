//! Reads `.tar.gz` archives as a stream: nothing is written, no path is trusted, and no size announced in the file is believed.
use std::cell::Cell;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use crate::DataError;

/// What an archive may hold at most; beyond it, it is refused as a decompression bomb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Bytes of one file.
    pub file: u64,
    /// Bytes of everything, unpacked, tar headers included.
    pub total: u64,
    /// Files and folders.
    pub entries: usize,
}

/// What is done with each file: its path within the archive, its length, and its bytes to read as far as they are wanted.
pub type Visitor<'a> = dyn FnMut(&str, u64, &mut dyn Read) -> Result<(), DataError> + 'a;

/// Hands every regular file of `archive` to `each`, its path as normal components joined by `/`.
///
/// The whole stream is read, so that gzip's own checksum is checked too.
///
/// # Errors
/// [`DataError::Io`] when the file cannot be read; [`DataError::Corrupt`] with the offset in the compressed file (at or shortly after
/// the fault) when it is truncated, damaged, larger than `limits`, or holds links, devices, a path twice or one that leaves
/// the folder; and what `each` returns.
pub fn read_tar_gz(archive: &Path, limits: ArchiveLimits, each: &mut Visitor<'_>) -> Result<(), DataError> {
    let file = File::open(archive).map_err(|e| DataError::io(archive, e))?;
    read_tar_gz_from(BufReader::with_capacity(1 << 18, file), archive, limits, each)
}

/// As [`read_tar_gz`] from any reader; `archive` names it in errors.
pub(crate) fn read_tar_gz_from(
    reader: impl Read,
    archive: &Path,
    limits: ArchiveLimits,
    each: &mut Visitor<'_>,
) -> Result<(), DataError> {
    let offset = Rc::new(Cell::new(0));
    let compressed = Counted { inner: reader, offset: Rc::clone(&offset) };
    let fault = |reason: String| DataError::corrupt(archive, offset.get(), reason);
    let mut stream = Limited { inner: MultiGzDecoder::new(compressed), left: limits.total };
    let mut tar = Archive::new(&mut stream);
    let entries = tar.entries().map_err(|e| fault(e.to_string()))?;
    let mut seen = HashSet::new();
    for (count, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|e| fault(e.to_string()))?;
        if count >= limits.entries {
            return Err(fault(format!("more than {} entries", limits.entries)));
        }
        let raw = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(name) = normal(&raw) else {
            return Err(fault(format!("entry `{}` leaves the archive's folder", raw.escape_debug())));
        };
        match entry.header().entry_type() {
            EntryType::Directory => continue,
            // Archives made on a Mac or with `pax` carry notes beside the files.
            EntryType::XGlobalHeader => continue,
            EntryType::Regular | EntryType::Continuous => {}
            kind => return Err(fault(format!("entry `{name}` is neither file nor folder but {kind:?}"))),
        }
        if name.is_empty() || !seen.insert(name.clone()) {
            return Err(fault(format!("entry `{name}` is there twice")));
        }
        let size = entry.size();
        if size > limits.file {
            return Err(fault(format!("entry `{name}` has {size} bytes, at most {} expected", limits.file)));
        }
        each(&name, size, &mut entry).map_err(|error| match error {
            // Reading failed underneath: the archive is at fault, and here is where.
            DataError::Io { source, .. } => fault(format!("entry `{name}`: {source}")),
            other => other,
        })?;
    }
    // Whatever follows the last entry: padding, and gzip's checksum.
    std::io::copy(&mut stream, &mut std::io::sink()).map_err(|e| fault(e.to_string()))?;
    Ok(())
}

/// Reads one entry of at most `size` bytes whole; a shorter one is an error.
pub(crate) fn read_entry(
    archive: &Path,
    name: &str,
    size: u64,
    entry: &mut dyn Read,
) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    entry.take(size).read_to_end(&mut bytes).map_err(|e| DataError::io(archive, e))?;
    if bytes.len() as u64 != size {
        let end = std::io::Error::new(
            std::io::ErrorKind::UnexpectedEof,
            format!("entry `{name}` ends after {} of {size} bytes", bytes.len()),
        );
        return Err(DataError::io(archive, end));
    }
    Ok(bytes)
}

/// The path with `/` between its parts and `.` left out; `None` when it is absolute, leaves its folder or is no plain path.
fn normal(raw: &str) -> Option<String> {
    if raw.contains(['\\', '\0']) {
        return None;
    }
    let mut parts = Vec::new();
    for part in Path::new(raw).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(parts.join("/"))
}

/// Counts the bytes read.
struct Counted<R> {
    inner: R,
    offset: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.offset.set(self.offset.get() + n as u64);
        Ok(n)
    }
}

/// Ends in an error, not in silence, when more comes than is allowed.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => return Err(std::io::Error::other("more data than any release of this kind holds")),
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LIMITS: ArchiveLimits = ArchiveLimits { file: 100_000, total: 400_000, entries: 20 };

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A tar stream of entries whose names are written as they are, without the writer's own checks.
    fn tar(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar.gz");
        std::fs::write(&path, bytes).unwrap();
        let mut found = Vec::new();
        read_tar_gz(&path, LIMITS, &mut |name, size, entry| {
            found.push((name.to_owned(), read_entry(&path, name, size, entry)?));
            Ok(())
        })?;
        Ok(found)
    }

    fn refusal(bytes: &[u8]) -> (u64, String) {
        match read(bytes).unwrap_err() {
            DataError::Corrupt { offset, reason, path } => {
                assert!(path.ends_with("a.tar.gz") && offset <= bytes.len() as u64);
                (offset, reason)
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn files_are_read_and_every_damage_is_located() {
        use EntryType::{Directory, Regular};
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let noise: Vec<u8> = (0..50_000).map(|_| random()).collect();
        let good = gzip(&tar(&[("./d/", Directory, b""), ("./d/a", Regular, &noise), ("b", Regular, b"bb")]));
        let found = read(&good).unwrap();
        assert_eq!(found, [("d/a".to_owned(), noise.clone()), ("b".to_owned(), b"bb".to_vec())]);
        // Cut anywhere, it is an error; so is a flipped bit in the data or in the checksum at the end.
        for cut in [0, 1, 9, 10, 11, 100, 20_000, good.len() - 9, good.len() - 8, good.len() - 1] {
            refusal(&good[..cut]);
        }
        for flip in [0, 2, 25_000, good.len() - 6] {
            let mut bad = good.clone();
            bad[flip] ^= 0x10;
            refusal(&bad);
        }
        refusal(b"<html>");
        refusal(&gzip(&[0xA5; 5_000]));
    }

    #[test]
    fn paths_links_duplicates_and_bombs_are_refused() {
        use EntryType::{Link, Regular, Symlink};
        for name in ["../a", "/etc/passwd", "a/../../b", "a\\b", ".."] {
            let (_, reason) = refusal(&gzip(&tar(&[("ok", Regular, b"x"), (name, Regular, b"x")])));
            assert!(reason.contains("leaves"), "{name}: {reason}");
        }
        for kind in [Link, Symlink, EntryType::Fifo, EntryType::Block] {
            let (_, reason) = refusal(&gzip(&tar(&[("link", kind, b"")])));
            assert!(reason.contains("neither"), "{reason}");
        }
        let (_, reason) = refusal(&gzip(&tar(&[("a", Regular, b"1"), ("./a", Regular, b"2")])));
        assert!(reason.contains("twice"), "{reason}");
        // 100 kB of zeros and more in 500 bytes: refused by the entry, or by the sum.
        let (offset, reason) = refusal(&gzip(&tar(&[("a", Regular, &vec![0; 100_001])])));
        assert!(reason.contains("at most 100000") && offset < 20_000, "{reason}");
        let zeros = vec![0; 90_000];
        let names = ["a", "b", "c", "d", "e"];
        let (_, reason) = refusal(&gzip(&tar(&names.map(|name| (name, Regular, &zeros[..])))));
        assert!(reason.contains("more data"), "{reason}");
        let many: Vec<String> = (0..21).map(|i| format!("f{i}")).collect();
        let many: Vec<_> = many.iter().map(|name| (name.as_str(), Regular, &b""[..])).collect();
        let (_, reason) = refusal(&gzip(&tar(&many)));
        assert!(reason.contains("more than 20"), "{reason}");
    }
}
