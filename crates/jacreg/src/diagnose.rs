//! How steep a trained network is: Jacobian norms per layer, and per sample the margin, the input Jacobian and the
//! first-order robustness radius.

use qnn::graph::{Executor, Graph, Leaves, RunKey};
use qnn::train::Probe;
use qnn::{Forward, Model, Phase, Predictor, QnnError, Statistics};
use serde::Serialize;

use crate::frobenius::{Directions, squares};
use crate::select::{EACH, INPUT, LOGITS, PREVIOUS, pairs};

/// Samples per pass of [`layer_norms`].
const BATCH: usize = 32;

/// Root mean square Frobenius norms of one layer's Jacobians over samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerNorms {
    /// The layer; `input` for the network's input.
    pub layer: String,
    /// Of the logits with respect to the layer's output, exact.
    pub logits: f64,
    /// Of the layer's output with respect to the network's input, estimated.
    pub input: Option<f64>,
    /// Of the layer's output with respect to the activation before, estimated.
    pub local: Option<f64>,
}

struct Inputs<'a> {
    model: &'a Model,
    x: &'a [f32],
}

impl Leaves<f32> for Inputs<'_> {
    fn input(&self, _: usize) -> &[f32] {
        self.x
    }

    fn param(&self, index: usize) -> &[f32] {
        &self.model.params[index].values
    }
}

/// Norms at the input and every activation, in the inference phase, over the whole batches of 32 in `x` (`[n, h, w, c]`).
/// Wide Jacobians are estimated from `projections` random directions per sample, the same ones in every call.
///
/// # Errors
/// Fewer than 32 samples, or a network that cannot be run.
pub fn layer_norms(model: &Model, x: &[f32], projections: u32) -> Result<Vec<LayerNorms>, QnnError> {
    let [h, w, c] = model.network.input;
    let d = h * w * c;
    let batches = x.len() / (BATCH * d);
    if batches == 0 {
        return Err(QnnError::Config(format!(
            "Jacobian norms need at least {BATCH} samples, there are {}",
            x.len() / d
        )));
    }
    let mut graph = Graph::default();
    let input = graph.input(&[BATCH, h, w, c]);
    let forward = Forward::build(&mut graph, model, input, Phase::Inference, Statistics::Moving)?;
    let mut wanted =
        vec![(INPUT.to_owned(), 0, squares(&mut graph, forward.logits, input, Directions::Exact)?)];
    for (of, wrt, which, directions) in [
        (LOGITS, EACH, 0, Directions::Exact),
        (EACH, INPUT, 1, Directions::Random(projections)),
        (EACH, PREVIOUS, 2, Directions::Random(projections)),
    ] {
        // A network without activations has no such pairs.
        for pair in pairs(model, &forward, of, wrt).unwrap_or_default() {
            let norm = squares(&mut graph, pair.of, pair.wrt, directions)?;
            wanted.push((pair.layer().to_owned(), which, norm));
        }
    }
    let outputs: Vec<_> = wanted.iter().filter_map(|w| w.2).collect();
    let mut exec: Executor<f32> = Executor::new(graph, &[&outputs], Phase::Inference, true);
    exec.prepare(&Inputs { model, x: &x[..BATCH * d] })?;
    let mut sums = vec![0.0; wanted.len()];
    for (step, x) in x.chunks_exact(BATCH * d).enumerate() {
        exec.run(0, &Inputs { model, x }, RunKey { seed: 0, step: step as u64 })?;
        for (sum, (_, _, node)) in sums.iter_mut().zip(&wanted) {
            *sum += node.map_or(0.0, |n| exec.output(n).iter().map(|v| f64::from(*v)).sum());
        }
    }
    let mut norms: Vec<LayerNorms> = Vec::new();
    for ((layer, which, _), sum) in wanted.into_iter().zip(sums) {
        let norm = (sum / (batches * BATCH) as f64).sqrt();
        let at = norms.iter().position(|n| n.layer == layer).unwrap_or_else(|| {
            norms.push(LayerNorms { layer, logits: 0.0, input: None, local: None });
            norms.len() - 1
        });
        match which {
            0 => norms[at].logits = norm,
            1 => norms[at].input = Some(norm),
            _ => norms[at].local = Some(norm),
        }
    }
    Ok(norms)
}

/// Measures [`layer_norms`] after every epoch, on samples of its own.
#[derive(Debug)]
pub struct JacobianProbe {
    x: Vec<f32>,
    projections: u32,
}

impl JacobianProbe {
    /// A probe on the samples `x` (`[n, h, w, c]`), at least 32 of them.
    pub fn new(x: Vec<f32>, projections: u32) -> Self {
        Self { x, projections }
    }
}

/// Head of the names under which [`JacobianProbe`] records `||d logits / d layer||`, followed by the layer.
pub const LOGITS_BY: &str = "jacobian logits/";
/// Head of the names under which it records `||d layer / d input||`.
pub const BY_INPUT: &str = "jacobian input/";
/// Head of the names under which it records `||d layer / d previous layer||`.
pub const BY_PREVIOUS: &str = "jacobian local/";

impl Probe for JacobianProbe {
    fn measure(&mut self, model: &Model) -> Result<Vec<(String, f64)>, QnnError> {
        let mut numbers = Vec::new();
        for norms in layer_norms(model, &self.x, self.projections)? {
            let mut add = |head: &str, value: f64| numbers.push((format!("{head}{}", norms.layer), value));
            add(LOGITS_BY, norms.logits);
            norms.input.into_iter().for_each(|v| add(BY_INPUT, v));
            norms.local.into_iter().for_each(|v| add(BY_PREVIOUS, v));
        }
        Ok(numbers)
    }
}

/// How far one sample is from being misclassified, to first order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Steepness {
    /// Smallest lead of the true class's logit; negative if misclassified.
    pub margin: f64,
    /// Frobenius norm of the input Jacobian.
    pub frobenius: f64,
    /// Largest singular value of the input Jacobian.
    pub spectral: f64,
    /// `min_k (z_y - z_k) / ||grad (z_y - z_k)||_2`: the Euclidean radius of the linearised network; 0 if misclassified.
    pub radius_l2: f64,
    /// The same with the dual of the maximum norm, `||.||_1`: the radius in every input at once.
    pub radius_linf: f64,
}

/// Margin, Jacobian norms and first-order robustness radii (the linearisation behind DeepFool, Moosavi-Dezfooli et al. 2016,
/// arXiv 1511.04599) of every sample of `x` (`[n, h, w, c]`), through surrogates where the network is quantized.
///
/// # Errors
/// Labels that do not fit, or a network that cannot be run.
pub fn steepness(predictor: &mut Predictor, x: &[f32], labels: &[u8]) -> Result<Vec<Steepness>, QnnError> {
    let (d, k) = (predictor.input_len(), predictor.model().network.classes);
    if x.len() != labels.len() * d {
        return Err(QnnError::Size { what: "samples".into(), expected: labels.len() * d, got: x.len() });
    }
    if let Some(label) = labels.iter().find(|l| usize::from(**l) >= k) {
        return Err(QnnError::Config(format!("label {label}, but the network has {k} classes")));
    }
    let (mut logits, mut jacobian) = (vec![0.0; BATCH * k], vec![vec![0.0; BATCH * d]; k]);
    let mut found = Vec::with_capacity(labels.len());
    for (x, labels) in x.chunks(BATCH * d).zip(labels.chunks(BATCH)) {
        let n = labels.len();
        for (class, rows) in jacobian.iter_mut().enumerate() {
            let mut one = |_: &[f32], out: &mut [f32]| {
                out.chunks_mut(k).for_each(|row| {
                    row.fill(0.0);
                    row[class] = 1.0;
                });
            };
            predictor.logits_vjp(x, &mut one, &mut logits[..n * k], &mut rows[..n * d])?;
        }
        for (i, &label) in labels.iter().enumerate() {
            let rows: Vec<&[f32]> = jacobian.iter().map(|rows| &rows[i * d..][..d]).collect();
            found.push(of_sample(&logits[i * k..][..k], &rows, usize::from(label)));
        }
    }
    Ok(found)
}

/// From a sample's logits and the rows of its Jacobian.
fn of_sample(z: &[f32], rows: &[&[f32]], label: usize) -> Steepness {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let gram: Vec<f64> = rows.iter().flat_map(|a| rows.iter().map(|b| dot(a, b))).collect();
    let k = rows.len();
    let trace: f64 = (0..k).map(|i| gram[i * k + i]).sum();
    let mut found = Steepness {
        margin: f64::INFINITY,
        frobenius: trace.sqrt(),
        spectral: largest_eigenvalue(&gram, k).sqrt(),
        radius_l2: f64::INFINITY,
        radius_linf: f64::INFINITY,
    };
    for other in (0..k).filter(|other| *other != label) {
        let lead = f64::from(z[label]) - f64::from(z[other]);
        let differences = || rows[label].iter().zip(rows[other]).map(|(a, b)| f64::from(*a) - f64::from(*b));
        let l1: f64 = differences().map(f64::abs).sum();
        let l2 = differences().map(|v| v * v).sum::<f64>().sqrt();
        let radius = |norm: f64| if lead <= 0.0 { 0.0 } else { lead / norm };
        found.margin = found.margin.min(lead);
        found.radius_l2 = found.radius_l2.min(radius(l2));
        found.radius_linf = found.radius_linf.min(radius(l1));
    }
    found
}

/// Of a symmetric positive semidefinite matrix, by power iteration from its largest row.
fn largest_eigenvalue(matrix: &[f64], k: usize) -> f64 {
    let start = (0..k).max_by(|a, b| matrix[a * k + a].total_cmp(&matrix[b * k + b])).unwrap_or(0);
    let mut v: Vec<f64> = matrix[start * k..][..k].to_vec();
    let mut value = 0.0;
    for _ in 0..1000 {
        let length = v.iter().map(|v| v * v).sum::<f64>().sqrt();
        if length == 0.0 || !length.is_finite() {
            return 0.0;
        }
        v.iter_mut().for_each(|v| *v /= length);
        let next: Vec<f64> =
            matrix.chunks(k).map(|row| row.iter().zip(&v).map(|(m, v)| m * v).sum()).collect();
        let rayleigh = next.iter().zip(&v).map(|(a, b)| a * b).sum::<f64>();
        v = next;
        if (rayleigh - value).abs() <= 1e-12 * rayleigh {
            return rayleigh;
        }
        value = rayleigh;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_classifier_has_its_own_radius() {
        // z0 - z1 = 2 x0 + 1, z0 - z2 = x0 + 3 x1 + 2 at the point with these logits.
        let rows: [&[f32]; 3] = [&[2.0, 3.0], &[0.0, 3.0], &[1.0, 0.0]];
        let found = of_sample(&[3.0, 2.0, 1.0], &rows, 0);
        assert_eq!(found.margin, 1.0);
        assert!((found.radius_l2 - (1.0f64 / 2.0).min(2.0 / 10f64.sqrt())).abs() < 1e-12);
        assert!((found.radius_linf - (1.0f64 / 2.0).min(2.0 / 4.0)).abs() < 1e-12);
        assert!((found.frobenius - 23f64.sqrt()).abs() < 1e-12);
        // The Gram matrix of the columns is [[5, 6], [6, 18]].
        let largest = 11.5 + (6.5f64 * 6.5 + 36.0).sqrt();
        assert!((found.spectral - largest.sqrt()).abs() < 1e-6, "{} {largest}", found.spectral);
        assert_eq!(of_sample(&[1.0, 2.0, 0.0], &rows, 0).radius_l2, 0.0);
    }
}
