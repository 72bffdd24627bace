//! Reads the arrays of bytes in a MATLAB 5 file (`.mat`, "Level 5 MAT-File Format", MathWorks), compressed or not; whatever
//! else such files can hold is refused.
use std::io::Read;
use std::path::Path;

use flate2::read::ZlibDecoder;

use crate::DataError;

const HEADER: usize = 128;
/// Data types of elements.
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
/// Classes of arrays that may be stored as bytes: double and uint8.
const CLASSES: [u8; 2] = [6, 9];
/// Flag of complex arrays.
const COMPLEX: u8 = 0x08;

/// An array of numbers 0 to 255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Array {
    /// Its variable's name.
    pub(super) name: String,
    /// Lengths of its axes.
    pub(super) shape: Vec<usize>,
    /// Elements, *first* axis fastest.
    pub(super) data: Vec<u8>,
    /// Where its element begins in the file.
    pub(super) offset: u64,
}

/// Reads all arrays of a file, of at most `limit` bytes each when unpacked.
///
/// # Errors
/// [`DataError::Corrupt`] with the offset in the file of the element at fault.
pub(super) fn read_arrays(path: &Path, bytes: &[u8], limit: u64) -> Result<Vec<Array>, DataError> {
    let corrupt = |offset: usize, reason: String| DataError::corrupt(path, offset as u64, reason);
    let header =
        bytes.get(..HEADER).ok_or_else(|| corrupt(bytes.len(), "the header is cut short".to_owned()))?;
    if header[124..] != [0, 1, b'I', b'M'] {
        return Err(corrupt(124, "not a little-endian MATLAB 5 file".to_owned()));
    }
    let mut arrays: Vec<Array> = Vec::new();
    let mut at = HEADER;
    while at < bytes.len() {
        let fault = |reason: String| corrupt(at, reason);
        let tag = bytes.get(at..at + 8).ok_or_else(|| fault("an element's tag is cut short".to_owned()))?;
        let (kind, size) = (word(&tag[..4]), word(&tag[4..]) as usize);
        let body = bytes[at + 8..].get(..size);
        let body = body.ok_or_else(|| fault(format!("the file ends within an element of {size} bytes")))?;
        let (name, shape, data) = match kind {
            // Compressed elements are not padded; this one is a matrix with a tag of its own.
            COMPRESSED => {
                let unpacked = inflate(body, limit).map_err(fault)?;
                let mut reader = Elements { bytes: &unpacked };
                let (kind, matrix) = reader.next().map_err(fault)?;
                if kind != MATRIX || !reader.bytes.is_empty() {
                    return Err(fault(format!("a compressed element of type {kind}, one matrix expected")));
                }
                matrix_of(matrix).map_err(fault)?
            }
            MATRIX => matrix_of(body).map_err(fault)?,
            kind => return Err(fault(format!("an element of type {kind}, a matrix expected"))),
        };
        if arrays.len() >= 16 || arrays.iter().any(|array| array.name == name) {
            return Err(fault(format!("variable `{name}` is there twice, or one of too many")));
        }
        arrays.push(Array { name, shape, data, offset: at as u64 });
        at += 8 + size;
    }
    Ok(arrays)
}

fn inflate(body: &[u8], limit: u64) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::new();
    // One byte more than allowed tells a bomb from a file that just fits.
    let mut decoder = ZlibDecoder::new(body).take(limit + 1);
    decoder.read_to_end(&mut unpacked).map_err(|e| format!("compressed element: {e}"))?;
    if unpacked.len() as u64 > limit {
        return Err(format!("more than {limit} bytes when unpacked"));
    }
    // The decoder stops at the end of the stream; what follows belongs to nothing.
    if decoder.into_inner().total_in() != body.len() as u64 {
        return Err("a compressed element with bytes after its end".to_owned());
    }
    Ok(unpacked)
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |n, &byte| n << 8 | u32::from(byte))
}

/// Elements inside a matrix, each padded to eight bytes.
struct Elements<'a> {
    bytes: &'a [u8],
}

impl<'a> Elements<'a> {
    /// Type and content of the next one.
    fn next(&mut self) -> Result<(u32, &'a [u8]), String> {
        let bytes = self.bytes;
        let tag = bytes.get(..8).ok_or("a matrix is cut short")?;
        let first = word(&tag[..4]);
        if first >> 16 != 0 {
            // Small element: type and size in two bytes each, up to four bytes of content beside them.
            let (kind, size) = (first & 0xFFFF, (first >> 16) as usize);
            let content = tag[4..].get(..size).ok_or("a small element of more than four bytes")?;
            self.bytes = &bytes[8..];
            return Ok((kind, content));
        }
        let size = word(&tag[4..]) as usize;
        let content = bytes[8..].get(..size).ok_or_else(|| format!("a matrix ends within {size} bytes"))?;
        // The last element's padding may be missing.
        let padded = size.next_multiple_of(8).min(bytes.len() - 8);
        self.bytes = &bytes[8 + padded..];
        Ok((first, content))
    }

    fn expect(&mut self, kind: u32, what: &str) -> Result<&'a [u8], String> {
        match self.next()? {
            (found, content) if found == kind => Ok(content),
            (found, _) => Err(format!("{what} of type {found}, {kind} expected")),
        }
    }
}

fn matrix_of(body: &[u8]) -> Result<(String, Vec<usize>, Vec<u8>), String> {
    let mut elements = Elements { bytes: body };
    let flags = elements.expect(UINT32, "array flags")?;
    let [class, bits, ..] = *flags else { return Err("array flags are cut short".to_owned()) };
    if !CLASSES.contains(&class) || bits & COMPLEX != 0 {
        return Err(format!("an array of class {class} (flags {bits:#x}), plain numbers expected"));
    }
    let axes = elements.expect(INT32, "dimensions")?;
    if axes.len() % 4 != 0 || axes.is_empty() || axes.len() > 32 {
        return Err(format!("{} bytes of dimensions", axes.len()));
    }
    let shape: Vec<usize> = axes.chunks_exact(4).map(|axis| word(axis) as usize).collect();
    let name = elements.expect(INT8, "name")?;
    if name.len() > 63 || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
        return Err("a name that is none".to_owned());
    }
    let name = String::from_utf8_lossy(name).into_owned();
    // MATLAB stores whole numbers of any class as bytes where they fit.
    let data = elements.expect(UINT8, "content")?;
    if !elements.bytes.is_empty() {
        return Err(format!("{} bytes after the content of `{name}`", elements.bytes.len()));
    }
    let count = shape.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis));
    if count != Some(data.len()) {
        return Err(format!("{} bytes for an array of shape {shape:?}", data.len()));
    }
    Ok((name, shape, data.to_vec()))
}
