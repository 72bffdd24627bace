//! Reading reference arrays: every numeric array of an npz as f64, with its shape. Nothing in a file is trusted.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use ndarray::{IxDyn, OwnedRepr};
use ndarray_npy::{NpzReader, ReadableElement};

/// Refused beyond this: all known archives together are a thousand times smaller.
const LARGEST_FILE: u64 = 1 << 30;

/// One array in C order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<f64>,
}

impl Array {
    /// Values as classes.
    pub(super) fn classes(&self) -> Result<Vec<u8>, String> {
        let class = |v: &f64| {
            let whole = *v as u8;
            if f64::from(whole) == *v { Ok(whole) } else { Err(format!("{v} is no class")) }
        };
        self.data.iter().map(class).collect()
    }

    /// Images `[n, c, h, w]` as `[n, h, w, c]`.
    pub(super) fn images(&self) -> Result<Vec<f64>, String> {
        let [.., c, h, w] = self.shape[..] else { return Err(format!("{:?} are no images", self.shape)) };
        let mut out = vec![0.0; self.data.len()];
        let area = h * w;
        for (image, out) in
            self.data.chunks_exact((c * area).max(1)).zip(out.chunks_exact_mut((c * area).max(1)))
        {
            for (p, v) in image.iter().enumerate() {
                out[p % area * c + p / area] = *v;
            }
        }
        Ok(out)
    }

    /// Rows along the first axis.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[f64]> {
        let width = self.shape.iter().skip(1).product::<usize>().max(1);
        self.data.chunks_exact(width)
    }
}

/// The arrays of one npz by name.
#[derive(Debug, Default)]
pub(super) struct Archive {
    file: String,
    arrays: BTreeMap<String, Array>,
}

impl Archive {
    pub(super) fn open(folder: &Path, file: &str) -> Result<Self, String> {
        let path = folder.join(file);
        let context = |e: &dyn std::fmt::Display| format!("{file}: {e}");
        let handle = File::open(&path).map_err(|e| context(&e))?;
        if handle.metadata().map_err(|e| context(&e))?.len() > LARGEST_FILE {
            return Err(format!("{file}: larger than 1 GiB"));
        }
        let mut npz = NpzReader::new(handle).map_err(|e| context(&e))?;
        let mut arrays = BTreeMap::new();
        for name in npz.names().map_err(|e| context(&e))? {
            // Arrays of other kinds (text) are left out; who needs one misses it by name.
            if let Some(array) = read(&mut npz, &name) {
                arrays.insert(name.trim_end_matches(".npy").to_owned(), array);
            }
        }
        Ok(Self { file: file.to_owned(), arrays })
    }

    /// The names of all arrays.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.arrays.keys().map(String::as_str)
    }

    pub(super) fn find(&self, name: &str) -> Option<&Array> {
        self.arrays.get(name)
    }

    pub(super) fn get(&self, name: &str) -> Result<&Array, String> {
        self.find(name).ok_or_else(|| format!("{}: no numeric array `{name}`", self.file))
    }

    /// The values of an array.
    pub(super) fn values(&self, name: &str) -> Result<&[f64], String> {
        Ok(&self.get(name)?.data)
    }
}

fn read(npz: &mut NpzReader<File>, name: &str) -> Option<Array> {
    fn of<T: ReadableElement>(npz: &mut NpzReader<File>, name: &str, cast: fn(&T) -> f64) -> Option<Array> {
        let array = npz.by_name::<OwnedRepr<T>, IxDyn>(name).ok()?;
        Some(Array { shape: array.shape().to_vec(), data: array.iter().map(cast).collect() })
    }
    of::<f32>(npz, name, |v| f64::from(*v))
        .or_else(|| of::<f64>(npz, name, |v| *v))
        .or_else(|| of::<i64>(npz, name, |v| *v as f64))
        .or_else(|| of::<i32>(npz, name, |v| f64::from(*v)))
        .or_else(|| of::<i8>(npz, name, |v| f64::from(*v)))
        .or_else(|| of::<u8>(npz, name, |v| f64::from(*v)))
        .or_else(|| of::<bool>(npz, name, |v| f64::from(u8::from(*v))))
}
