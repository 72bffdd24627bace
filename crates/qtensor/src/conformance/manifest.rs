//! Reads a folder of reference cases; nothing in it is trusted.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Refused beyond this: a manifest is text, the tensors of all known folders together are far smaller.
const LARGEST_FILE: u64 = 1 << 30;

/// Why a folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A file that cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// JSON that does not parse.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// A file that is not what it should be.
    #[error("{path}: {why}")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A folder of cases.
#[derive(Debug)]
pub struct Manifest {
    cases: Vec<Case>,
    tensors: Vec<f32>,
}

/// One case: a JSON object with at least `id` and `kind`.
#[derive(Debug)]
pub struct Case {
    id: String,
    kind: String,
    fields: Value,
}

/// A tensor of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<'a> {
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Its elements, last axis fastest.
    pub data: &'a [f32],
}

impl Case {
    /// The case's name, unique in its folder.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the case is about.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Any field.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// A field that must be text.
    ///
    /// # Errors
    /// Names the field if it is missing or not text.
    pub fn text(&self, name: &str) -> Result<&str, String> {
        self.field(name).and_then(Value::as_str).ok_or_else(|| format!("no text field `{name}`"))
    }

    /// True if the case has a tensor of this name.
    pub fn has_tensor(&self, name: &str) -> bool {
        self.tensor_entry(name).is_some()
    }

    /// Names of all tensors.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.field("tensors")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|t| t.keys().map(String::as_str))
    }

    fn tensor_entry(&self, name: &str) -> Option<&Value> {
        self.field("tensors")?.get(name)
    }
}

impl Manifest {
    /// True if `dir` holds a manifest of this form (as opposed to the other reference folders').
    pub fn is_present(dir: &Path) -> bool {
        dir.join("manifest.json").is_file() && dir.join("tensors.npy").is_file()
    }

    /// Reads `manifest.json` and `tensors.npy` of `dir`.
    ///
    /// # Errors
    /// Files that are missing, too large or not of the form.
    pub fn read(dir: &Path) -> Result<Self, ManifestError> {
        let path = dir.join("manifest.json");
        let form = |why: &str| ManifestError::Form { path: path.clone(), why: why.to_owned() };
        let mut root: Value = serde_json::from_slice(&read_file(&path)?)
            .map_err(|source| ManifestError::Json { path: path.clone(), source })?;
        let Some(Value::Array(list)) = root.get_mut("cases").map(Value::take) else {
            return Err(form("no list `cases`"));
        };
        let mut cases = Vec::with_capacity(list.len());
        for fields in list {
            let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
            let (Some(id), Some(kind)) = (text("id"), text("kind")) else {
                return Err(form(&format!("case {} has no `id` or `kind`", cases.len())));
            };
            cases.push(Case { id, kind, fields });
        }
        let path = dir.join("tensors.npy");
        let tensors = parse_npy(&read_file(&path)?).map_err(|why| ManifestError::Form { path, why })?;
        Ok(Manifest { cases, tensors })
    }

    /// All cases in file order.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// A tensor of a case.
    ///
    /// # Errors
    /// Says which tensor is missing or lies outside the file.
    pub fn tensor(&self, case: &Case, name: &str) -> Result<Tensor<'_>, String> {
        let entry = case.tensor_entry(name).ok_or_else(|| format!("no tensor `{name}`"))?;
        let number = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        let shape: Option<Vec<usize>> =
            entry.get("shape").and_then(Value::as_array).and_then(|s| s.iter().map(number).collect());
        let offset = entry.get("offset").and_then(number);
        let (Some(shape), Some(offset)) = (shape, offset) else {
            return Err(format!("tensor `{name}` has no offset or shape"));
        };
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let data = count.and_then(|n| offset.checked_add(n)).and_then(|end| self.tensors.get(offset..end));
        match data {
            Some(data) => Ok(Tensor { shape, data }),
            None => Err(format!(
                "tensor `{name}` {shape:?} at {offset} lies outside the {} stored",
                self.tensors.len()
            )),
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, ManifestError> {
    let io = |source| ManifestError::Io { path: path.to_owned(), source };
    if fs::metadata(path).map_err(io)?.len() > LARGEST_FILE {
        return Err(ManifestError::Form { path: path.to_owned(), why: "larger than 1 GiB".to_owned() });
    }
    fs::read(path).map_err(io)
}

/// Elements of a NumPy file of little-endian f32, whatever its shape, in C order.
fn parse_npy(bytes: &[u8]) -> Result<Vec<f32>, String> {
    let word = |range: std::ops::Range<usize>| bytes.get(range).ok_or("the header is cut short");
    if word(0..6)? != b"\x93NUMPY" {
        return Err("not a NumPy file".to_owned());
    }
    let (start, length) = match word(6..7)? {
        [1] => (10, word(8..10)?.iter().rev().fold(0usize, |n, &b| n << 8 | usize::from(b))),
        _ => (12, word(8..12)?.iter().rev().fold(0usize, |n, &b| n << 8 | usize::from(b))),
    };
    let header = String::from_utf8_lossy(word(start..start + length)?);
    if !header.contains("'<f4'") || !header.contains("'fortran_order': False") {
        return Err(format!("not little-endian f32 in C order: {}", header.trim()));
    }
    let data = &bytes[start + length..];
    if !data.len().is_multiple_of(4) {
        return Err(format!("{} bytes of data are no whole number of f32", data.len()));
    }
    Ok(data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(header: &str, data: &[f32]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data.iter().flat_map(|v| v.to_le_bytes()));
        bytes
    }

    const HEADER: &str = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n";

    #[test]
    fn numpy_files_are_read_and_bad_ones_refused() {
        let good = npy(HEADER, &[1.5, -2.0]);
        assert_eq!(parse_npy(&good), Ok(vec![1.5, -2.0]));
        assert!(parse_npy(&npy(&HEADER.replace("<f4", "<f8"), &[1.0])).is_err());
        assert!(parse_npy(b"hello").is_err());
        for cut in 0..good.len() {
            // Any prefix gives an answer, never a panic.
            let _ = parse_npy(&good[..cut]);
        }
    }

    #[test]
    fn tensors_outside_the_file_are_errors() {
        let fields = serde_json::json!({"tensors": {
            "x": {"offset": 1, "shape": [2]},
            "far": {"offset": u64::MAX, "shape": [2]},
            "huge": {"offset": 0, "shape": [u64::MAX, 3]},
            "odd": {"offset": -1, "shape": [1]}
        }});
        let case = Case { id: "a".into(), kind: "quantizer".into(), fields };
        let manifest = Manifest { cases: vec![], tensors: vec![1.0, 2.0, 3.0] };
        assert_eq!(manifest.tensor(&case, "x").unwrap().data, [2.0, 3.0]);
        for name in ["far", "huge", "odd", "absent"] {
            assert!(manifest.tensor(&case, name).is_err(), "{name}");
        }
        assert_eq!(case.tensor_names().count(), 4);
    }
}
