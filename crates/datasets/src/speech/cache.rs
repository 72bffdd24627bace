//! Features on disk: computed once for given samples and parameters, and believed only when every byte is as it was written.
use std::io::Write;
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;
use sha2::{Digest, Sha256};

use crate::DataError;
use crate::digest::hex;
use crate::frontend::{FrontEnd, Parameters};

/// Changes whenever the arithmetic or the file's form does.
const MAGIC: &[u8; 16] = b"ternion-feat-002";

/// What features are a function of: the front end, its parameters, and the samples of every clip.
pub(super) fn key(front_end: FrontEnd, parameters: &Parameters, clips: &[[u8; 32]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(MAGIC);
    hash.update(format!("{front_end:?} {parameters:?} f64 max-normalised\n"));
    clips.iter().for_each(|clip| hash.update(clip));
    hash.finalize().into()
}

/// SHA-256 of one clip's samples, its length included by being all there is.
pub(super) fn clip_digest(samples: &[i16]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut block = [0u8; 1024];
    for chunk in samples.chunks(block.len() / 2) {
        for (bytes, sample) in block.chunks_exact_mut(2).zip(chunk) {
            bytes.copy_from_slice(&sample.to_le_bytes());
        }
        hash.update(&block[..2 * chunk.len()]);
    }
    hash.finalize().into()
}

fn path(dir: &Path, key: &[u8; 32]) -> PathBuf {
    dir.join(format!("features-{}.bin", hex(&key[..12])))
}

/// The features stored under `key`, `values` of them; `None` when there are none.
///
/// # Errors
/// [`DataError`] when there is a file that cannot be read or is not what was written; the caller computes anew.
pub(super) fn read(dir: &Path, key: &[u8; 32], values: usize) -> Result<Option<Vec<f32>>, DataError> {
    let path = path(dir, key);
    if !path.exists() {
        return Ok(None);
    }
    let expected = MAGIC.len() + key.len() + 4 * values + 32;
    let bytes = crate::error::read_file(&path, expected as u64)?;
    parse(&path, &bytes, key, values).map(Some)
}

/// Reads a cache file: magic, key, values (f32, little-endian), SHA-256 of all before it.
pub(crate) fn parse(path: &Path, bytes: &[u8], key: &[u8; 32], values: usize) -> Result<Vec<f32>, DataError> {
    let body = MAGIC.len() + key.len();
    let end = body + 4 * values;
    if bytes.len() != end + 32 {
        let reason = format!("the file ends here, {} bytes expected", end + 32);
        return Err(DataError::corrupt(path, bytes.len() as u64, reason));
    }
    if bytes[..MAGIC.len()] != *MAGIC || bytes[MAGIC.len()..body] != *key {
        return Err(DataError::corrupt(path, 0, "not the features asked for"));
    }
    if Sha256::digest(&bytes[..end])[..] != bytes[end..] {
        return Err(DataError::corrupt(path, end as u64, "the checksum does not agree with the content"));
    }
    Ok(bytes[body..end].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// Stores features. The file appears whole or not at all, also when two processes write it at once.
///
/// # Errors
/// [`DataError::Io`]; features are then computed again next time.
pub(super) fn write(dir: &Path, key: &[u8; 32], features: &[f32]) -> Result<(), DataError> {
    std::fs::create_dir_all(dir).map_err(|e| DataError::io(dir, e))?;
    let mut bytes = Vec::with_capacity(MAGIC.len() + key.len() + 4 * features.len() + 32);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(key);
    features.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
    let sum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&sum);
    let path = path(dir, key);
    let written =
        AtomicWriteFile::open(&path).and_then(|mut file| file.write_all(&bytes).and_then(|()| file.commit()));
    written.map_err(|e| DataError::io(&path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written_or_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("deep/cache");
        let clips = [clip_digest(&[1, 2, 3]), clip_digest(&[])];
        let key = |front_end, parameters| super::key(front_end, &parameters, &clips);
        let base = Parameters::MLPERF_TINY;
        let mine = key(FrontEnd::Mfcc, base);
        assert_eq!(read(&cache, &mine, 3).unwrap(), None);
        let features = [1.5, f32::MIN_POSITIVE, -0.0];
        write(&cache, &mine, &features).unwrap();
        assert_eq!(read(&cache, &mine, 3).unwrap().unwrap(), features);
        // Anything that changes the features changes the key.
        for other in [
            key(FrontEnd::LogMel, base),
            key(FrontEnd::Mfcc, Parameters { log_offset: 1e-7, ..base }),
            super::key(FrontEnd::Mfcc, &base, &clips[..1]),
            super::key(FrontEnd::Mfcc, &base, &[clips[1], clips[0]]),
        ] {
            assert_ne!(other, mine);
            assert_eq!(read(&cache, &other, 3).unwrap(), None);
        }
        assert_ne!(clip_digest(&[0; 10]), clip_digest(&[0; 11]));
        // Every single damage is seen.
        let file = path(&cache, &mine);
        let good = std::fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&file, &bad).unwrap();
            assert!(read(&cache, &mine, 3).is_err(), "byte {at}");
            std::fs::write(&file, &good[..at]).unwrap();
            assert!(read(&cache, &mine, 3).is_err(), "cut at {at}");
        }
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
        // A place that cannot hold it is an error, not a loss.
        assert!(write(&file, &mine, &features).is_err());
    }
}
