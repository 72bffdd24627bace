//! Weights from and for other programs: safetensors files with our names, PyTorch's, or those Keras makes up.
//!
//! | names in the file | kernels | example |
//! |---|---|---|
//! | ours | `[kh, kw, cin, cout]`, depthwise `[kh, kw, c, m]`, dense `[in, out]` | `conv1.kernel`, `conv1_bn.gamma` |
//! | PyTorch's | `[cout, cin, kh, kw]`, depthwise `[c * m, 1, kh, kw]`, linear `[out, in]` | `conv1.weight`, `conv1_bn.running_var` |
//! | Keras' automatic ones | as ours | `conv2d_3.kernel`, `batch_normalization.beta` |
//!
//! The first two are matched by layer name, so that a network can be started from a float model of the same layer
//! names trained elsewhere; a linear layer that follows a flatten is reordered from `(c, h, w)` to `(h, w, c)`. Keras'
//! automatic names are matched by order within each class of layer, which is the order of creation in both. Either way
//! every parameter must be found and every tensor used.

mod names;
mod weights;

pub use names::Naming;
pub use weights::Weights;

use std::collections::HashMap;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::QnnError;
use crate::checkpoint::write_atomic;
use crate::model::Model;
use crate::network::Network;

/// Key of the file's metadata under which our own exports keep the network as JSON.
const NETWORK: &str = "ternion.network";

impl Model {
    /// Bytes of a safetensors file: latent parameters as little-endian f32 named `layer.kernel`, and the network in the
    /// metadata, so that [`Model::from_safetensors`] needs nothing else.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, QnnError> {
        let bytes: Vec<Vec<u8>> =
            self.params.iter().map(|p| p.values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let fail = |e: String| QnnError::Config(format!("cannot export `{}`: {e}", self.network.name));
        let mut views = Vec::with_capacity(bytes.len());
        for (param, bytes) in self.params.iter().zip(&bytes) {
            let view = TensorView::new(Dtype::F32, param.shape.clone(), bytes);
            views.push((param.name.replace('/', "."), view.map_err(|e| fail(e.to_string()))?));
        }
        let network = serde_json::to_string(&self.network).map_err(|e| fail(e.to_string()))?;
        let metadata =
            HashMap::from([(NETWORK.to_owned(), network), ("format".to_owned(), "ternion".to_owned())]);
        safetensors::serialize(views, Some(metadata)).map_err(|e| fail(e.to_string()))
    }

    /// Writes a safetensors file atomically.
    pub fn export_safetensors(&self, path: &Path) -> Result<(), QnnError> {
        write_atomic(path, &self.to_safetensors()?)
    }

    /// Reads what [`Model::to_safetensors`] wrote; files of other programs hold no network and are refused (see
    /// [`Model::assign`]). `path` names the bytes in messages.
    pub fn from_safetensors(bytes: &[u8], path: &str) -> Result<Self, QnnError> {
        let weights = Weights::from_bytes(bytes, path)?;
        let file = |reason: String| QnnError::File { path: path.to_owned(), reason };
        let text = weights.metadata(NETWORK).ok_or_else(|| {
            file("holds weights but no network: build the network and assign the weights to it".into())
        })?;
        let network: Network =
            serde_json::from_str(text).map_err(|e| file(format!("its network cannot be read: {e}")))?;
        let mut model = Self::with_budget(network, weights.elements()).map_err(|e| file(e.to_string()))?;
        model.assign(&weights)?;
        Ok(model)
    }

    /// As [`Model::new`], for a network from outside: one that would need more parameters than
    /// the file holds is refused before anything is allocated.
    fn with_budget(network: Network, elements: usize) -> Result<Self, QnnError> {
        let shapes = network.shapes()?;
        let mut sizes = shapes
            .iter()
            .flat_map(|s| &s.params)
            .map(|(_, dims)| dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)));
        let need = sizes.try_fold(0usize, |sum, n| sum.checked_add(n?));
        if need != Some(elements) {
            return Err(QnnError::Size {
                what: format!("parameters of `{}`", network.name),
                expected: need.unwrap_or(usize::MAX),
                got: elements,
            });
        }
        Self::new(network, 0)
    }

    /// Replaces every parameter by the file's, and says whose names the file uses. On an error nothing has changed.
    pub fn assign(&mut self, weights: &Weights) -> Result<Naming, QnnError> {
        let file = |reason: String| QnnError::File { path: weights.path().to_owned(), reason };
        let naming = Naming::of(weights, &self.network);
        let sources = names::sources(&self.network, naming).map_err(|e| file(e.to_string()))?;
        let mut used = 0;
        let mut values = Vec::with_capacity(self.params.len());
        for (param, source) in self.params.iter().zip(&sources) {
            let Some(tensor) = source.names.iter().find_map(|n| weights.tensor(n)) else {
                return Err(file(format!(
                    "no tensor for `{}`: tried {}",
                    param.name,
                    source.names.join(", ")
                )));
            };
            used += 1;
            let read = source.layout.to_ours(tensor, &param.shape);
            values.push(read.map_err(|reason| file(format!("`{}`: {reason}", param.name)))?);
        }
        let ignored = weights.names().filter(|n| n.ends_with(".num_batches_tracked")).count();
        if used + ignored != weights.names().count() {
            let known = |n: &&str| sources.iter().any(|s| s.names.iter().any(|m| m == n));
            let left: Vec<&str> =
                weights.names().filter(|n| !known(n) && !n.ends_with(".num_batches_tracked")).collect();
            return Err(file(format!(
                "tensors without a place in `{}`: {}",
                self.network.name,
                left.join(", ")
            )));
        }
        let mut updated = self.clone();
        for (param, values) in updated.params.iter_mut().zip(values) {
            param.values = values;
        }
        updated.validate().map_err(|e| file(e.to_string()))?;
        *self = updated;
        Ok(naming)
    }
}

#[cfg(test)]
mod tests;
