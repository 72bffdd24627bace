//! The only place that names bincode: values to checksummed, versioned bytes and back, written atomically.
//!
//! Layout: magic (8 bytes) | format version u32 | codec u32 (1 = bincode legacy: fixed-size little-endian integers) |
//! payload length u64 | SHA-256 of the payload (32 bytes) | payload. All integers little-endian.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use atomic_write_file::AtomicWriteFile;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::QnnError;

/// Format of what is written. 2: layers have a quantizer for their bias. 3: batch normalisations have quantizers, convolutions
/// dilation and multiplier.
pub(super) const VERSION: u32 = 3;
const BINCODE_LEGACY: u32 = 1;
const HEADER: usize = 8 + 4 + 4 + 8 + 32;
/// Largest payload accepted: far above any tiny network with optimizer state, far below an allocation that hurts.
const LIMIT: usize = 1 << 30;

/// Encodes a value behind the header.
pub(crate) fn encode<V: Serialize>(magic: &[u8; 8], value: &V) -> Result<Vec<u8>, String> {
    let config = bincode::config::legacy();
    let payload = bincode::serde::encode_to_vec(value, config).map_err(|e| e.to_string())?;
    Ok(seal(magic, &payload))
}

/// A payload behind its header.
pub(crate) fn seal(magic: &[u8; 8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend(magic);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(BINCODE_LEGACY.to_le_bytes());
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(Sha256::digest(payload));
    bytes.extend(payload);
    bytes
}

/// Decodes and checks; every defect of the bytes is an error with its reason.
pub(crate) fn decode<V: DeserializeOwned>(magic: &[u8; 8], bytes: &[u8]) -> Result<V, String> {
    let (version, payload) = open(magic, bytes)?;
    if version != VERSION {
        return Err(format!("format version {version}, this program reads {VERSION}"));
    }
    value(payload)
}

/// The version and the payload, whose length and checksum are right.
pub(super) fn open<'a>(magic: &[u8; 8], bytes: &'a [u8]) -> Result<(u32, &'a [u8]), String> {
    if bytes.len() < HEADER {
        return Err(format!("{} bytes are too few for a header of {HEADER}", bytes.len()));
    }
    let (header, payload) = bytes.split_at(HEADER);
    if &header[..8] != magic {
        return Err(format!("not a {} file", String::from_utf8_lossy(magic).trim_end()));
    }
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if word(12) != BINCODE_LEGACY {
        return Err(format!("unknown payload codec {}", word(12)));
    }
    let length = u64::from(word(16)) | u64::from(word(20)) << 32;
    if length != payload.len() as u64 {
        return Err(format!("truncated: the payload has {} of {length} bytes", payload.len()));
    }
    if Sha256::digest(payload).as_slice() != &header[24..56] {
        return Err("checksum mismatch: the file is damaged".into());
    }
    Ok((word(8), payload))
}

/// Decodes a whole payload.
pub(super) fn value<V: DeserializeOwned>(payload: &[u8]) -> Result<V, String> {
    let config = bincode::config::legacy().with_limit::<LIMIT>();
    let (value, used) =
        bincode::serde::decode_from_slice(payload, config).map_err(|e| format!("bad payload: {e}"))?;
    if used != payload.len() {
        return Err(format!("{} bytes left over after the payload", payload.len() - used));
    }
    Ok(value)
}

/// Writes to a sibling, flushes it to disk and renames it into place: readers see the old file or the new one.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), QnnError> {
    let written =
        AtomicWriteFile::open(path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.commit()));
    written.map_err(|source| QnnError::Io { path: path.display().to_string(), source })
}

/// Reads a whole file, refusing absurd sizes before allocating.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, QnnError> {
    let io = |source| QnnError::Io { path: path.display().to_string(), source };
    let mut file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    if size > (HEADER + LIMIT) as u64 {
        let reason = format!("{size} bytes are more than a model can have");
        return Err(QnnError::File { path: path.display().to_string(), reason });
    }
    let mut bytes = Vec::with_capacity(size as usize);
    file.read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}
