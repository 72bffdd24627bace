//! A safetensors file as named f32 tensors; nothing in it is trusted.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::QnnError;
use crate::checkpoint::read;

/// Named tensors of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    path: String,
    tensors: BTreeMap<String, Tensor>,
    metadata: HashMap<String, String>,
}

/// One tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl Weights {
    /// Reads a safetensors file's bytes: f32, f64, f16 and bf16 tensors become f32, 64-bit integers (PyTorch's batch
    /// counters) are kept by name only. `path` names the bytes in messages.
    pub fn from_bytes(bytes: &[u8], path: &str) -> Result<Self, QnnError> {
        let file = |reason: String| QnnError::File { path: path.to_owned(), reason };
        let bad = |e: safetensors::SafeTensorError| file(format!("not a safetensors file: {e}"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(bad)?;
        let parsed = SafeTensors::deserialize(bytes).map_err(bad)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in parsed.iter() {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => words(data).map(f32::from_le_bytes).collect(),
                Dtype::F64 => words(data).map(|b| f64::from_le_bytes(b) as f32).collect(),
                Dtype::F16 => words(data).map(|b| half(u16::from_le_bytes(b))).collect(),
                Dtype::BF16 => {
                    words(data).map(|b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)).collect()
                }
                Dtype::I64 => Vec::new(),
                other => return Err(file(format!("tensor `{name}` is of type {other:?}; floats are read"))),
            };
            tensors.insert(name.to_owned(), Tensor { shape: view.shape().to_vec(), values });
        }
        let metadata = header.metadata().clone().unwrap_or_default();
        Ok(Self { path: path.to_owned(), tensors, metadata })
    }

    /// Loads a safetensors file.
    pub fn load(path: &Path) -> Result<Self, QnnError> {
        Self::from_bytes(&read(path)?, &path.display().to_string())
    }

    /// Where they came from.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// An entry of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Values in all tensors together.
    pub fn elements(&self) -> usize {
        self.tensors.values().map(|t| t.values.len()).sum()
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }
}

fn words<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.chunks_exact(N).map(|b| b.try_into().expect("chunks of N bytes"))
}

/// IEEE half precision: 1 sign, 5 exponent (bias 15), 10 fraction bits.
fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, bits >> 10 & 31, f32::from(bits & 1023) / 1024.0);
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-14),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        e => (1.0 + fraction) * 2f32.powi(i32::from(e) - 15),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::half;

    #[test]
    fn half_precision_is_read_exactly() {
        let cases = [
            (0x0000, 0.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x7c00, f32::INFINITY),
        ];
        for (bits, value) in cases {
            assert_eq!(half(bits), value, "{bits:#06x}");
        }
        assert!(half(0x7e00).is_nan());
        assert!(half(0x8000).is_sign_negative());
    }
}
