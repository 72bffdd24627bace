//! Arrays of one `.npz` file, by name, in double precision; nothing in the file is trusted.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use ndarray::{ArrayD, IxDyn, OwnedRepr};
use ndarray_npy::{NpzReader, ReadableElement};

/// Refused beyond this; reference files are far smaller.
const LARGEST_FILE: u64 = 1 << 28;

/// One array, in C order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f64>,
}

/// All arrays of a file.
pub(super) type Arrays = BTreeMap<String, Array>;

/// Reads every array of `path`, whatever its number type.
pub(super) fn read(path: &Path) -> Result<Arrays, String> {
    let fail = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let file = File::open(path).map_err(|e| fail(&e))?;
    let length = file.metadata().map_err(|e| fail(&e))?.len();
    if length > LARGEST_FILE {
        return Err(fail(&format!("{length} bytes, more than the {LARGEST_FILE} that are read")));
    }
    let mut npz = NpzReader::new(file).map_err(|e| fail(&e))?;
    let names = npz.names().map_err(|e| fail(&e))?;
    let mut arrays = Arrays::new();
    for entry in names {
        let name = entry.strip_suffix(".npy").unwrap_or(&entry).to_owned();
        let array = number(&mut npz, &entry).map_err(|e| format!("{}: `{name}`: {e}", path.display()))?;
        arrays.insert(name, array);
    }
    Ok(arrays)
}

fn number(npz: &mut NpzReader<File>, name: &str) -> Result<Array, String> {
    fn typed<T: ReadableElement>(
        npz: &mut NpzReader<File>,
        name: &str,
        cast: impl Fn(&T) -> f64,
    ) -> Result<Array, String> {
        let array: ArrayD<T> = npz.by_name::<OwnedRepr<T>, IxDyn>(name).map_err(|e| e.to_string())?;
        Ok(Array { shape: array.shape().to_vec(), values: array.iter().map(cast).collect() })
    }
    typed::<f64>(npz, name, |v| *v)
        .or_else(|_| typed::<f32>(npz, name, |v| f64::from(*v)))
        .or_else(|_| typed::<i64>(npz, name, |v| *v as f64))
        .or_else(|_| typed::<i32>(npz, name, |v| f64::from(*v)))
        .or_else(|_| typed::<i8>(npz, name, |v| f64::from(*v)))
        .or_else(|_| typed::<bool>(npz, name, |v| f64::from(u8::from(*v))))
}

/// `[n, c, h, w]` to `[n, h, w, c]`.
pub(super) fn nhwc(array: &Array) -> Result<(Vec<f64>, [usize; 4]), String> {
    let &[n, c, h, w] = &array.shape[..] else {
        return Err(format!("images of shape {:?}, expected [n, c, h, w]", array.shape));
    };
    Ok((permute(array, [0, 2, 3, 1]), [n, h, w, c]))
}

/// The values of a four-dimensional array with its axes in the order of `axes`.
pub(super) fn permute(array: &Array, axes: [usize; 4]) -> Vec<f64> {
    let shape: [usize; 4] = array.shape[..].try_into().expect("four axes");
    let mut strides = [1; 4];
    (0..3).rev().for_each(|a| strides[a] = strides[a + 1] * shape[a + 1]);
    let [s0, s1, s2, s3] = axes.map(|a| shape[a]);
    let [t0, t1, t2, t3] = axes.map(|a| strides[a]);
    let mut out = Vec::with_capacity(array.values.len());
    for i in 0..s0 {
        for j in 0..s1 {
            for k in 0..s2 {
                for l in 0..s3 {
                    out.push(array.values[i * t0 + j * t1 + k * t2 + l * t3]);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_move_and_values_follow() {
        let array = Array { shape: vec![1, 2, 1, 3], values: vec![0.0, 1.0, 2.0, 10.0, 11.0, 12.0] };
        assert_eq!(nhwc(&array).unwrap().0, [0.0, 10.0, 1.0, 11.0, 2.0, 12.0]);
        assert!(nhwc(&Array { shape: vec![2], values: vec![0.0; 2] }).is_err());
    }

    #[test]
    fn files_that_are_no_archives_are_errors() {
        let path = std::env::temp_dir().join(format!("ternion-jacreg-{}.npz", std::process::id()));
        assert!(read(&path).unwrap_err().contains("ternion-jacreg"));
        std::fs::write(&path, b"PK\x03\x04 cut short").unwrap();
        let error = read(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(error.is_err());
    }
}
