//! Whole models: every layer's output, quantized kernels, losses, Jacobian penalty, gradients in both phases, and three
//! steps of each optimizer.

mod forward;
mod training;
mod weights;

pub(super) use weights::Weights;

use std::collections::HashMap;

use qtensor::conformance::{Case, Manifest, Tensor};
use serde_json::Value;

use super::compare::Bound;
use super::run;
use crate::train::Optimizer;
use forward::forward;
use training::{TrainingStep, trajectory};

/// Steps of each optimizer in the reference.
const STEPS: u64 = 3;
/// Learning rates of the reference.
const ADAM_RATE: f32 = 0.01;
const SGD_RATE: f32 = 0.05;
/// A gradient whose largest value is below this share of the model's largest is rounding noise in f32.
const NOISE: f32 = 4e-6;

/// Compares everything the case holds.
pub(super) fn check(manifest: &Manifest, case: &Case) -> Result<String, String> {
    let reference = Reference { manifest, case };
    let weights = Weights::read(&reference)?;
    let mut got: HashMap<String, Vec<f32>> = HashMap::new();
    forward(&reference, &weights, &mut got)?;
    let lambda = case.field("jr_lambda").and_then(Value::as_f64).unwrap_or(0.0);
    for (mode, training, lambda) in [
        ("infer", false, None),
        ("train", true, None),
        ("infer_jr", false, Some(lambda)),
        ("train_jr", true, Some(lambda)),
    ] {
        let step = TrainingStep::build(&reference, &weights, training, lambda)?;
        let result = step.run(&reference, &weights.values)?;
        got.insert(format!("{mode}:ce"), vec![result.cross_entropy]);
        got.insert(format!("{mode}:jr"), vec![result.jacobian]);
        for (name, gradient) in weights.names.iter().zip(result.gradients) {
            got.extend(gradient.map(|g| (format!("{mode}:grad:{name}"), g)));
        }
        if mode == "train" {
            let mut after = weights.values.clone();
            result.moved.iter().for_each(|(index, values)| after[*index].clone_from(values));
            got.extend(weights.names.iter().zip(after).map(|(n, v)| (format!("{mode}:after:{n}"), v)));
        }
    }
    for (name, optimizer, rate) in [
        ("adam", Optimizer::adam(), ADAM_RATE),
        ("sgdm", Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 }, SGD_RATE),
    ] {
        trajectory(&reference, &weights, name, &optimizer, rate, &mut got)?;
    }
    let compared = reference.compare(&got)?;
    Ok(format!("{compared}; {}", super::qstats::check(case, &weights)?))
}

/// A case with its folder.
#[derive(Clone, Copy)]
struct Reference<'a> {
    manifest: &'a Manifest,
    case: &'a Case,
}

impl<'a> Reference<'a> {
    fn tensor(&self, name: &str) -> Result<Tensor<'a>, String> {
        self.manifest.tensor(self.case, name)
    }

    fn layers(&self) -> Result<&'a [Value], String> {
        let list = self.case.field("layers").and_then(Value::as_array).ok_or("no `layers`")?;
        Ok(list)
    }

    /// Compares each tensor of the case that is no input with ours of the same name.
    fn compare(&self, got: &HashMap<String, Vec<f32>>) -> Result<String, String> {
        let (mut compared, mut noisy, mut used) = (0, 0, 0f64);
        for name in self.case.tensor_names() {
            if ["x", "labels_onehot", "jr_v"].contains(&name) || name.starts_with("w:") {
                continue;
            }
            let Some(ours) = got.get(name) else {
                return Err(format!("nothing to compare tensor `{name}` with"));
            };
            let kind = match name {
                _ if name.contains(":grad:") => "grads",
                _ if name.starts_with("adam:") || name.starts_with("sgdm:") => "trajectories",
                _ => "out",
            };
            let want = self.tensor(name)?;
            if let Some((mode, parameter)) = name.split_once(":grad:")
                && let Some(limit) = self.noise(mode, parameter)?
            {
                let bound = Bound::within(f64::from(limit));
                bound.check(name, ours, &vec![0.0; want.data.len()])?;
                noisy += 1;
                continue;
            }
            if let Some(parameter) = name.strip_prefix("adam:final:")
                && self.noise("train", parameter)?.is_some()
            {
                self.stays_near(name, parameter, ours, want.data)?;
                noisy += 1;
                continue;
            }
            let ours =
                if name.starts_with("scale:") { run::spread(ours, want.data.len()) } else { ours.clone() };
            used = used.max(Bound::of(self.case, kind)?.check(name, &ours, want.data)?);
            compared += 1;
        }
        let noise = match noisy {
            0 => String::new(),
            n => format!(", {n} that are rounding errors in the reference within the size of such"),
        };
        Ok(format!("{compared} tensors within {:.1} % of their tolerances{noise}", 100.0 * used))
    }

    /// The size of rounding errors, if the reference's gradient of a parameter consists of nothing else: a bias in front of
    /// batch normalisation has none. Errors of another order of summation agree in size only; and Adam divides a gradient
    /// by its own size, so that the path of such a parameter is made of rounding errors, too.
    fn noise(&self, mode: &str, parameter: &str) -> Result<Option<f32>, String> {
        let largest = |name: &str| -> Result<f32, String> {
            Ok(self.tensor(name)?.data.iter().fold(0f32, |m, v| m.max(v.abs())))
        };
        let prefix = format!("{mode}:grad:");
        let own = format!("{prefix}{parameter}");
        if !self.case.has_tensor(&own) {
            return Ok(None);
        }
        let mut all = 0f32;
        for name in self.case.tensor_names().filter(|n| n.starts_with(&prefix)) {
            all = all.max(largest(name)?);
        }
        Ok((largest(&own)? <= NOISE * all).then_some(NOISE * all))
    }

    /// Both paths start at the same values and move by at most Adam's largest step each time.
    fn stays_near(&self, name: &str, parameter: &str, ours: &[f32], theirs: &[f32]) -> Result<(), String> {
        let start = self.tensor(&format!("w:{parameter}"))?;
        if ours.len() != start.data.len() || theirs.len() != start.data.len() {
            return Err(format!("{name}: {} elements, reference has {}", ours.len(), theirs.len()));
        }
        // |m| / sqrt(v) is at most 1.06 in the first three steps, by Cauchy's inequality.
        let reach = 1.1 * STEPS as f32 * ADAM_RATE;
        for (i, &start) in start.data.iter().enumerate() {
            for (who, value) in [("ours", ours[i]), ("the reference", theirs[i])] {
                let moved = (value - start).abs();
                if moved.is_nan() || moved > reach {
                    return Err(format!(
                        "{name}[{i}]: {who} moved by {moved:e}, at most {reach:e} is possible"
                    ));
                }
            }
        }
        Ok(())
    }
}
