//! One batch of CIFAR-10, from either layout: 10,000 labels and images, checked and turned into interleaved pixels.
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{CLASSES, pickle};
use crate::DataError;
use crate::digest::hex;

/// Values of one colour of one image.
pub(super) const PLANE: usize = 32 * 32;
/// Values of one image.
pub(super) const IMAGE: usize = 3 * PLANE;
/// Bytes of one record of the binary version.
pub(super) const RECORD: usize = 1 + IMAGE;
/// Images of one batch.
pub(super) const RECORDS: usize = 10_000;
/// Length of a binary file.
pub(super) const BYTES: usize = RECORDS * RECORD;

/// Labels and images in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Images, `[RECORDS, 32, 32, 3]`.
    pub(super) codes: Vec<u8>,
    pub(super) labels: Vec<u8>,
    /// SHA-256 of the batch as the binary version stores it, whatever it was read from: both versions hold the same images
    /// in the same order, so one published sum proves either.
    pub(super) sha256: String,
}

/// From the binary version: a label and three planes for each image.
pub(super) fn from_records(path: &Path, bytes: &[u8]) -> Result<Batch, DataError> {
    if bytes.len() != BYTES {
        let reason = format!("the file ends here, {BYTES} bytes expected");
        return Err(DataError::corrupt(path, bytes.len() as u64, reason));
    }
    let mut codes = vec![0; RECORDS * IMAGE];
    let mut labels = Vec::with_capacity(RECORDS);
    for (i, (record, image)) in bytes.chunks_exact(RECORD).zip(codes.chunks_exact_mut(IMAGE)).enumerate() {
        labels.push(
            class(record[0].into(), i).map_err(|why| DataError::corrupt(path, (i * RECORD) as u64, why))?,
        );
        planes_to_hwc(&record[1..], image);
    }
    Ok(Batch { codes, labels, sha256: hex(&Sha256::digest(bytes)) })
}

/// From the Python version: a pickled dictionary of all labels and all planes.
pub(super) fn from_pickle(path: &Path, bytes: &[u8]) -> Result<Batch, DataError> {
    let pickled = pickle::read_batch(path, bytes)?;
    if pickled.shape != [RECORDS, IMAGE] {
        let [rows, columns] = pickled.shape;
        let reason = format!("an array of {rows} x {columns}, {RECORDS} x {IMAGE} expected");
        return Err(DataError::corrupt(path, pickled.offset as u64, reason));
    }
    let labels = pickled.labels.iter().enumerate().map(|(i, &label)| class(label, i));
    let labels: Vec<u8> = labels
        .collect::<Result<_, _>>()
        .map_err(|why| DataError::corrupt(path, pickled.offset as u64, why))?;
    let mut codes = vec![0; RECORDS * IMAGE];
    let mut hash = Sha256::new();
    let mut row = [0; IMAGE];
    for (i, (&label, image)) in labels.iter().zip(codes.chunks_exact_mut(IMAGE)).enumerate() {
        if pickled.fortran {
            row.iter_mut().enumerate().for_each(|(k, x)| *x = pickled.data[k * RECORDS + i]);
        } else {
            row.copy_from_slice(&pickled.data[i * IMAGE..][..IMAGE]);
        }
        hash.update([label]);
        hash.update(row);
        planes_to_hwc(&row, image);
    }
    Ok(Batch { codes, labels, sha256: hex(&hash.finalize()) })
}

fn class(label: i64, record: usize) -> Result<u8, String> {
    match u8::try_from(label) {
        Ok(class) if usize::from(class) < CLASSES.len() => Ok(class),
        _ => Err(format!("label {label} of record {record}, 0 to 9 expected")),
    }
}

/// The one place where CIFAR's red, green and blue planes become interleaved pixels.
fn planes_to_hwc(planes: &[u8], image: &mut [u8]) {
    for (i, pixel) in image.chunks_exact_mut(3).enumerate() {
        for (channel, code) in pixel.iter_mut().enumerate() {
            *code = planes[channel * PLANE + i];
        }
    }
}
