//! Reading the oracle: arrays by name as f64, and the manifest beside them.

use std::fs::File;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn, OwnedRepr};
use ndarray_npy::{NpzReader, ReadNpzError, ReadableElement};
use serde_json::Value;

/// The oracle's folder of attacks, when it is there.
pub fn folder() -> Option<PathBuf> {
    match std::env::var_os("TERNION_ORACLE") {
        Some(dir) => Some(Path::new(&dir).join("attacks")),
        None => {
            println!("TERNION_ORACLE is not set: nothing compared");
            None
        }
    }
}

/// The manifest's entry of one file.
pub fn manifest(folder: &Path, file: &str) -> Value {
    let text = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    all["files"][file].clone()
}

/// Configurations of a file by name.
pub fn configs(folder: &Path, file: &str) -> Vec<(String, Value)> {
    let entry = manifest(folder, file);
    entry["configs"].as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

pub struct Npz(NpzReader<File>);

impl Npz {
    pub fn open(folder: &Path, file: &str) -> Self {
        Self(NpzReader::new(File::open(folder.join(file)).unwrap()).unwrap())
    }

    fn read<T: ReadableElement>(&mut self, name: &str) -> Result<ArrayD<T>, ReadNpzError> {
        self.0.by_name::<OwnedRepr<T>, IxDyn>(name)
    }

    /// Any numeric array, in C order, with its shape.
    pub fn array(&mut self, name: &str) -> (Vec<f64>, Vec<usize>) {
        macro_rules! attempt {
            ($($t:ty => $cast:expr),*) => {
                $(if let Ok(a) = self.read::<$t>(name) {
                    let shape = a.shape().to_vec();
                    return (a.iter().map($cast).collect(), shape);
                })*
            };
        }
        attempt!(f32 => |v| f64::from(*v), f64 => |v| *v, i64 => |v| *v as f64, i32 => |v| f64::from(*v),
                 i8 => |v| f64::from(*v), bool => |v| f64::from(u8::from(*v)));
        panic!("{name}: not a numeric array of the archive");
    }

    pub fn f64(&mut self, name: &str) -> Vec<f64> {
        self.array(name).0
    }

    pub fn u8(&mut self, name: &str) -> Vec<u8> {
        self.array(name).0.iter().map(|v| *v as u8).collect()
    }

    /// Images `[n, c, h, w]` as `[n, h, w, c]`, with `[h, w, c]`.
    pub fn images(&mut self, name: &str) -> (Vec<f64>, [usize; 3]) {
        let (v, shape) = self.array(name);
        let &[.., c, h, w] = &shape[..] else { panic!("{name}: shape {shape:?}") };
        let mut out = vec![0.0; v.len()];
        for (i, v) in v.iter().enumerate() {
            let (image, p) = (i / (c * h * w), i % (c * h * w));
            out[(image * h * w + p % (h * w)) * c + p / (h * w)] = *v;
        }
        (out, [h, w, c])
    }
}
