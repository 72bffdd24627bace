//! The parameters of a case, with what their quantizers clip them to.

use qtensor::Quantizer;
use serde_json::Value;

use super::Reference;
use crate::conformance::compare::Arguments;
use crate::conformance::layer::{batch_norm_quantizers, kernel_quantizer};

/// The model's parameters by name, `layer.variable`.
pub(in crate::conformance) struct Weights {
    pub(in crate::conformance) names: Vec<String>,
    pub(in crate::conformance) shapes: Vec<Vec<usize>>,
    pub(in crate::conformance) values: Vec<Vec<f32>>,
    /// Bound of each on its magnitude, from its quantizer.
    pub(super) clips: Vec<Option<f32>>,
}

impl Weights {
    pub(super) fn read(reference: &Reference<'_>) -> Result<Self, String> {
        let mut weights =
            Self { names: Vec::new(), shapes: Vec::new(), values: Vec::new(), clips: Vec::new() };
        for stored in reference.case.tensor_names() {
            let Some(name) = stored.strip_prefix("w:") else { continue };
            let tensor = reference.tensor(stored)?;
            weights.names.push(name.to_owned());
            weights.shapes.push(tensor.shape.clone());
            weights.values.push(tensor.data.to_vec());
            weights.clips.push(None);
        }
        for layer in reference.layers()? {
            let arguments = Arguments(layer);
            let name = arguments.text("name").ok_or("a layer without a name")?;
            let clip = |q: Option<Quantizer>| q.and_then(|q| q.weight_clip()).map(|c| c as f32);
            if let Some(kernel) = weights.kernel(name) {
                weights.clips[kernel] = clip(kernel_quantizer(&arguments)?);
            }
            if let Some(bias) = weights.find(name, "bias") {
                weights.clips[bias] = clip(arguments.quantizer("bias_quantizer")?);
            }
            if arguments.text("type") == Some("QBatchNormalization") {
                let quantizers = batch_norm_quantizers(&arguments)?;
                for (suffix, q) in [("gamma", quantizers.gamma), ("beta", quantizers.beta)] {
                    if let Some(index) = weights.find(name, suffix) {
                        weights.clips[index] = clip(q);
                    }
                }
            }
        }
        // QKeras' own clips are stated beside; ours must be the same.
        if let Some(constraints) = reference.case.field("constraints").and_then(Value::as_object) {
            for (name, range) in constraints {
                let index = weights.names.iter().position(|n| n == name);
                let clip = index.and_then(|i| weights.clips[i]).map(f64::from);
                let want = range.as_array().and_then(|r| r.last()).and_then(Value::as_f64);
                if clip != want {
                    return Err(format!("{name} is clipped to {clip:?}, reference {want:?}"));
                }
            }
        }
        Ok(weights)
    }

    pub(super) fn find(&self, layer: &str, variable: &str) -> Option<usize> {
        let name = format!("{layer}.{variable}");
        self.names.iter().position(|n| *n == name)
    }

    pub(in crate::conformance) fn kernel(&self, layer: &str) -> Option<usize> {
        self.find(layer, "kernel").or_else(|| self.find(layer, "depthwise_kernel"))
    }

    pub(in crate::conformance) fn bias(&self, layer: &str) -> Option<usize> {
        self.find(layer, "bias")
    }

    pub(super) fn is_trainable(&self, index: usize) -> bool {
        !self.names[index].contains(".moving_")
    }
}
