//! Trits on disk and in flash: four or five to a byte.
//!
//! Both formats keep trit `i` as the digit `trit + 1`, earliest trit lowest; places after the last trit hold digit 1
//! (trit 0), so that equal weights have equal bytes.

use alloc::vec::Vec;

use crate::KernelError;
use crate::error::length;

/// Bytes of `count` trits at four to a byte.
pub fn packed2_len(count: usize) -> usize {
    count.div_ceil(4)
}

/// Bytes of `count` trits at five to a byte.
pub fn packed3_len(count: usize) -> usize {
    count.div_ceil(5)
}

/// Packs four trits to a byte, two bits each.
///
/// # Errors
/// A value that is no trit.
pub fn pack2(trits: &[i8]) -> Result<Vec<u8>, KernelError> {
    pack::<4>(trits, "2-bit trits", 4)
}

/// Packs five trits to a byte, as a number of base 3.
///
/// # Errors
/// A value that is no trit.
pub fn pack3(trits: &[i8]) -> Result<Vec<u8>, KernelError> {
    pack::<5>(trits, "base-3 trits", 3)
}

/// Unpacks `trits.len()` trits packed by [`pack2`].
///
/// # Errors
/// `bytes` not [`packed2_len`] long, a byte with a digit 3, or a place after the last trit that is not trit 0.
pub fn unpack2(bytes: &[u8], trits: &mut [i8]) -> Result<(), KernelError> {
    unpack::<4>(bytes, trits, ("2-bit trits", 4))
}

/// Unpacks `trits.len()` trits packed by [`pack3`].
///
/// # Errors
/// `bytes` not [`packed3_len`] long, a byte above 242, or a place after the last trit that is not trit 0.
pub fn unpack3(bytes: &[u8], trits: &mut [i8]) -> Result<(), KernelError> {
    unpack::<5>(bytes, trits, ("base-3 trits", 3))
}

fn pack<const PER_BYTE: usize>(trits: &[i8], format: &'static str, base: u8) -> Result<Vec<u8>, KernelError> {
    let mut bytes = Vec::with_capacity(trits.len().div_ceil(PER_BYTE));
    for (i, group) in trits.chunks(PER_BYTE).enumerate() {
        let mut byte = 0;
        for place in (0..PER_BYTE).rev() {
            let trit = group.get(place).copied().unwrap_or(0);
            if !(-1..=1).contains(&trit) {
                let index = i * PER_BYTE + place;
                return Err(KernelError::Weight { format, index, value: trit.into() });
            }
            byte = byte * base + (trit + 1) as u8;
        }
        bytes.push(byte);
    }
    Ok(bytes)
}

fn unpack<const PER_BYTE: usize>(
    bytes: &[u8],
    trits: &mut [i8],
    (format, base): (&'static str, u8),
) -> Result<(), KernelError> {
    length(format, "bytes", trits.len().div_ceil(PER_BYTE), bytes.len())?;
    for (index, (&byte, group)) in bytes.iter().zip(trits.chunks_mut(PER_BYTE)).enumerate() {
        let bad = KernelError::Weight { format, index, value: byte.into() };
        let mut rest = byte;
        for place in 0..PER_BYTE {
            let digit = rest % base;
            rest /= base;
            match group.get_mut(place) {
                _ if digit > 2 => return Err(bad),
                Some(trit) => *trit = digit as i8 - 1,
                None if digit != 1 => return Err(bad),
                None => {}
            }
        }
        if rest != 0 {
            return Err(bad);
        }
    }
    Ok(())
}
