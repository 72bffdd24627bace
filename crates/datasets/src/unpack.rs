//! Unpacks a downloaded archive: checked as it is read, each file in place only when it is whole.
use std::io::Write;
use std::path::Path;

use atomic_write_file::AtomicWriteFile;

use crate::DataError;
use crate::archive::{ArchiveLimits, read_tar_gz};

/// Beyond the largest release known here (105,829 clips, 3.4 GB), and far below what fills a disk by malice.
const LIMITS: ArchiveLimits = ArchiveLimits { file: 256 << 20, total: 16 << 30, entries: 200_000 };

/// Writes every file of a `.tar.gz` archive below `folder` and returns how many there were. A file that is there already is
/// replaced.
///
/// # Errors
/// As [`read_tar_gz`], and [`DataError::Io`] for what cannot be written. Files before the fault are in place and whole;
/// calling again does them anew.
pub fn unpack(archive: &Path, folder: &Path) -> Result<usize, DataError> {
    let mut files = 0;
    let mut block = vec![0; 1 << 18];
    read_tar_gz(archive, LIMITS, &mut |name, size, entry| {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|e| DataError::io(parent, e))?;
        let written = |e| DataError::io(&path, e);
        let mut file = AtomicWriteFile::open(&path).map_err(written)?;
        let mut left = size;
        while left > 0 {
            let n = match entry.read(&mut block) {
                Ok(0) => {
                    let reason = format!("entry `{name}` ends {left} bytes early");
                    return Err(DataError::io(archive, std::io::Error::other(reason)));
                }
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(DataError::io(archive, e)),
            };
            left = left.saturating_sub(n as u64);
            file.write_all(&block[..n]).map_err(written)?;
        }
        file.commit().map_err(written)?;
        files += 1;
        Ok(())
    })?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn files_appear_whole_and_a_damaged_archive_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.tar.gz");
        let gzip =
            flate2::write::GzEncoder::new(File::create(&archive).unwrap(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        let noise: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
        for (name, bytes) in [("./yes/a.wav", &noise[..]), ("./LICENSE", b"CC-BY")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o600);
            tar.append_data(&mut header, name, bytes).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        let out = dir.path().join("out");
        assert_eq!(unpack(&archive, &out).unwrap(), 2);
        assert_eq!(unpack(&archive, &out).unwrap(), 2);
        assert_eq!(std::fs::read(out.join("yes/a.wav")).unwrap(), noise);
        assert!(!out.join("yes/.unpacking").exists());

        let good = std::fs::read(&archive).unwrap();
        std::fs::write(&archive, &good[..good.len() / 2]).unwrap();
        let again = dir.path().join("again");
        match unpack(&archive, &again).unwrap_err() {
            DataError::Corrupt { path, reason, .. } => {
                assert!(path == archive && reason.contains("yes/a.wav"), "{reason}");
            }
            other => panic!("{other}"),
        }
        assert!(!again.join("yes/a.wav").exists());
    }
}
