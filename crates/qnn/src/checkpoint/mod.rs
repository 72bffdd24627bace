//! Model files and training checkpoints.

mod codec;
mod version1;
mod version2;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::QnnError;
use crate::model::Model;
use crate::train::{EpochRecord, OptimizerState};

const MODEL: &[u8; 8] = b"TERNION\n";
const CHECKPOINT: &[u8; 8] = b"TERNCK2\n";

impl Model {
    /// Bytes of a model file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, QnnError> {
        codec::encode(MODEL, self).map_err(QnnError::Config)
    }

    /// Reads a model file's bytes; damaged or inconsistent ones are errors. `path` names them in messages.
    pub fn from_bytes(bytes: &[u8], path: &str) -> Result<Self, QnnError> {
        let file = |reason| QnnError::File { path: path.to_owned(), reason };
        let model = decode(bytes).map_err(file)?;
        model.validate().map_err(|e| file(e.to_string()))?;
        Ok(model)
    }

    /// Writes a model file atomically.
    pub fn save(&self, path: &Path) -> Result<(), QnnError> {
        codec::write_atomic(path, &self.to_bytes()?)
    }

    /// Loads a model file.
    pub fn load(path: &Path) -> Result<Self, QnnError> {
        Self::from_bytes(&codec::read(path)?, &path.display().to_string())
    }
}

/// A model of any format version.
fn decode(bytes: &[u8]) -> Result<Model, String> {
    match codec::open(MODEL, bytes)? {
        (codec::VERSION, payload) => codec::value(payload),
        (2, payload) => codec::value::<version2::Model>(payload).map(Into::into),
        (1, payload) => codec::value::<version1::Model>(payload).map(|old| version2::Model::from(old).into()),
        (other, _) => Err(format!("format version {other}, this program reads 1 to {}", codec::VERSION)),
    }
}

/// Everything a run needs to go on as if it had never stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// Digest of the hyper-parameters and penalties; another run's checkpoint is refused.
    pub(crate) run: String,
    pub(crate) model: Model,
    pub(crate) state: OptimizerState,
    pub(crate) history: Vec<EpochRecord>,
}

impl Checkpoint {
    pub(crate) fn save(&self, path: &Path) -> Result<(), QnnError> {
        codec::write_atomic(path, &codec::encode(CHECKPOINT, self).map_err(QnnError::Config)?)
    }

    pub(crate) fn load(path: &Path) -> Result<Self, QnnError> {
        Self::from_bytes(&codec::read(path)?, &path.display().to_string())
    }

    /// Reads a checkpoint's bytes; `path` names them in messages.
    pub(crate) fn from_bytes(bytes: &[u8], path: &str) -> Result<Self, QnnError> {
        let file = |reason| QnnError::File { path: path.to_owned(), reason };
        codec::decode(CHECKPOINT, bytes).map_err(file)
    }
}

/// `payload` as a model file: behind a right header and checksum, whatever it is.
pub(crate) fn sealed(payload: &[u8]) -> Vec<u8> {
    codec::seal(MODEL, payload)
}

pub(crate) use codec::{read, write_atomic};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::InputGrid;
    use crate::zoo::{Twin, build};
    use proptest::prelude::*;

    fn model() -> Model {
        let net =
            build("stq_audio_s", [49, 10, 1], InputGrid::STANDARDISED, 12, &Twin::Stq.quantizers()).unwrap();
        Model::new(net, 7).unwrap()
    }

    #[test]
    fn models_round_trip() {
        let model = model();
        assert_eq!(Model::from_bytes(&model.to_bytes().unwrap(), "memory").unwrap(), model);
    }

    #[test]
    fn non_finite_parameters_are_refused() {
        let mut model = model();
        model.params[0].values[3] = f32::NAN;
        let error = Model::from_bytes(&model.to_bytes().unwrap(), "nan.model").unwrap_err();
        assert!(error.to_string().contains("conv1/kernel"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_files_are_errors(cut in 0usize..4000, flip in 0usize..4000, bit in 0u8..8) {
            let bytes = model().to_bytes().unwrap();
            prop_assert!(Model::from_bytes(&bytes[..cut.min(bytes.len() - 1)], "cut").is_err());
            let mut flipped = bytes;
            flipped[flip] ^= 1 << bit;
            prop_assert!(Model::from_bytes(&flipped, "flipped").is_err());
        }

        #[test]
        fn random_payloads_with_valid_checksums_are_errors(
            version in 0u8..5,
            payload in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            use sha2::{Digest, Sha256};
            let mut bytes = b"TERNION\n".to_vec();
            bytes.extend([version, 0, 0, 0, 1, 0, 0, 0]);
            bytes.extend((payload.len() as u64).to_le_bytes());
            bytes.extend(Sha256::digest(&payload));
            bytes.extend(&payload);
            prop_assert!(Model::from_bytes(&bytes, "hostile").is_err());
        }
    }
}
