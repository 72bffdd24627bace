//! The image format: header and checks.
//!
//! All numbers are little-endian, all offsets count from the start of the image.
//!
//! | offset | field |
//! |---|---|
//! | 0 | magic `TRNI` |
//! | 4 | version `u16`, then 2 zero bytes |
//! | 8 | total length `u32` |
//! | 12 | CRC-32 (IEEE) of all bytes from 16 on |
//! | 16 | input height, width, channels and number of classes, `u16` each |
//! | 24 | grid of the input codes: scale (`f32` bits), zero point `u8`, 3 zero bytes |
//! | 32 | arena bytes, offset of the input in the arena, number of records, `u32` each |
//! | 44 | 4 zero bytes |
//! | 48 | records (see `record`), then the tables and weights they point to |

use super::ImageError;
use super::bytes::Reader;
use super::record::{self, Record};

/// First bytes of an image.
pub const MAGIC: [u8; 4] = *b"TRNI";
/// The version this reader knows and [`crate::image::write_image`] writes.
pub const VERSION: u16 = 3;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 48;

/// A checked model image.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    pub(super) bytes: &'a [u8],
    /// Height, width and channels of the input.
    pub input: [usize; 3],
    /// Classes, and logits.
    pub classes: usize,
    /// Real size of one input code step, as `f32` bits.
    pub scale_bits: u32,
    /// Input code of the real value 0.
    pub zero_point: u8,
    /// Bytes of working memory [`Image::run`] needs, the input's included.
    pub arena_bytes: usize,
    pub(super) input_at: usize,
    pub(super) records: usize,
}

impl<'a> Image<'a> {
    /// Reads and checks an image.
    ///
    /// # Errors
    /// Every way in which `bytes` may not be a valid image.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let short = ImageError::Length { expected: HEADER_BYTES, actual: bytes.len() };
        let header = bytes.get(..HEADER_BYTES).ok_or(short)?;
        if header[..4] != MAGIC {
            return Err(ImageError::Magic);
        }
        let mut r = Reader::new(bytes, 4);
        let version = r.u16().ok_or(short)?;
        if version != VERSION {
            return Err(ImageError::Version(version));
        }
        let _zero = r.u16().ok_or(short)?;
        let expected = r.size().ok_or(short)?;
        if expected != bytes.len() {
            return Err(ImageError::Length { expected, actual: bytes.len() });
        }
        let (stored, computed) = (r.u32().ok_or(short)?, checksum(&bytes[16..]));
        if stored != computed {
            return Err(ImageError::Checksum { stored, computed });
        }
        let mut next = || r.u16().map(usize::from).ok_or(short);
        let (input, classes) = ([next()?, next()?, next()?], next()?);
        let scale_bits = r.u32().ok_or(short)?;
        let zero_point = r.u8().ok_or(short)?;
        r.take(3).ok_or(short)?;
        let mut next = || r.size().ok_or(short);
        let (arena_bytes, input_at, records) = (next()?, next()?, next()?);
        let image = Self { bytes, input, classes, scale_bits, zero_point, arena_bytes, input_at, records };
        image.check()?;
        Ok(image)
    }

    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        // Three 16-bit sizes, checked to lie within the arena.
        self.input[0] * self.input[1] * self.input[2]
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Result<Record<'a>, ImageError>> + use<'a> {
        let (mut reader, classes) = (Reader::new(self.bytes, HEADER_BYTES), self.classes);
        (0..self.records).map(move |number| record::read(&mut reader, number, classes))
    }

    fn check(&self) -> Result<(), ImageError> {
        let malformed = |record, reason| ImageError::Malformed { record, reason };
        let [h, w, c] = self.input.map(|n| n as u64);
        let input = h * w * c;
        if input == 0 || input + self.input_at as u64 > self.arena_bytes as u64 {
            return Err(malformed(0, "the input does not lie in the arena"));
        }
        // Every record takes bytes, so a count beyond the image ends in an error soon enough.
        let mut last = false;
        for (number, record) in self.records().enumerate() {
            let record = record?;
            record.check(self.arena_bytes).map_err(|reason| malformed(number, reason))?;
            if last {
                return Err(malformed(number, "a record follows the logits"));
            }
            last = record.is_logits();
        }
        if last { Ok(()) } else { Err(malformed(self.records, "the last record is not the logits")) }
    }
}

/// CRC-32 (IEEE 802.3, reflected), bit by bit: an image is checked once, and a table would cost flash.
pub fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    #[test]
    fn checksum_is_crc_32() {
        assert_eq!(super::checksum(b"123456789"), 0xcbf4_3926);
    }
}
