//! Losses, gradients and the first steps of each optimizer.

use std::collections::HashMap;

use super::forward::Built;
use super::{Reference, STEPS, Weights};
use crate::conformance::run::{self, Tensors};
use crate::graph::NodeId;
use crate::train::{Optimizer, Step, cross_entropy};

/// One step's losses and gradients.
pub(super) struct TrainingStep {
    built: Built,
    cross_entropy: NodeId,
    jacobian: Option<NodeId>,
    gradients: Vec<Option<NodeId>>,
}

pub(super) struct StepResult {
    pub(super) cross_entropy: f32,
    pub(super) jacobian: f32,
    pub(super) gradients: Vec<Option<Vec<f32>>>,
    /// Moving statistics after the step, by parameter.
    pub(super) moved: Vec<(usize, Vec<f32>)>,
}

impl TrainingStep {
    pub(super) fn build(
        reference: &Reference<'_>,
        weights: &Weights,
        training: bool,
        lambda: Option<f64>,
    ) -> Result<Self, String> {
        let mut built = Built::new(reference, weights, training)?;
        let logits = built.logits()?;
        let labels = reference.tensor("labels_onehot")?;
        let graph = &mut built.graph;
        if graph.shape(logits) != labels.shape {
            return Err(format!("logits have shape {:?}, labels {:?}", graph.shape(logits), labels.shape));
        }
        let target = graph.input(&labels.shape);
        let projection = graph.input(&labels.shape);
        let ce = cross_entropy(graph, logits, target);
        let mut loss = ce;
        let mut jacobian = None;
        if let Some(lambda) = lambda {
            let Some(row) = graph.vjp(logits, projection, &[built.input])[0] else {
                return Err("the logits do not depend on the input".into());
            };
            let square = graph.dot_all(row, row);
            let value = graph.scale(1.0 / labels.shape[0].max(1) as f64, square);
            jacobian = Some(value);
            loss = graph.linear(&[(1.0, ce), (lambda, value)]);
        }
        let gradients = graph.grad(loss, &built.params);
        Ok(Self { built, cross_entropy: ce, jacobian, gradients })
    }

    pub(super) fn run(&self, reference: &Reference<'_>, params: &[Vec<f32>]) -> Result<StepResult, String> {
        let names = ["x", "labels_onehot", "jr_v"].map(|name| reference.tensor(name));
        let [x, labels, projection] = names;
        let (x, labels, projection) = (x?, labels?, projection?);
        let leaves = Tensors { inputs: vec![x.data, labels.data, projection.data], params };
        let mut outputs = vec![self.cross_entropy, self.jacobian.unwrap_or(self.cross_entropy)];
        outputs.extend(self.built.moved.iter().flat_map(|m| [m.batch.mean, m.batch.variance]));
        outputs.extend(self.gradients.iter().flatten());
        let mut values = run::values(&self.built.graph, &outputs, &leaves)?.into_iter();
        let mut next = || values.next().unwrap_or_default();
        let (ce, jr) = (next(), next());
        let mut moved = Vec::new();
        for m in &self.built.moved {
            for (index, factor) in [(m.mean, 1.0), (m.variance, m.bessel)] {
                let batch = next();
                let after = params[index].iter().zip(&batch);
                let after = after.map(|(old, b)| m.momentum * old + (1.0 - m.momentum) * b * factor);
                moved.push((index, after.collect()));
            }
        }
        let gradients = self.gradients.iter().map(|g| g.map(|_| next())).collect();
        let jacobian = if self.jacobian.is_some() { jr[0] } else { 0.0 };
        Ok(StepResult { cross_entropy: ce[0], jacobian, gradients, moved })
    }
}

/// Losses of the first steps and the parameters after them.
pub(super) fn trajectory(
    reference: &Reference<'_>,
    weights: &Weights,
    name: &str,
    optimizer: &Optimizer,
    rate: f32,
    got: &mut HashMap<String, Vec<f32>>,
) -> Result<(), String> {
    let step = TrainingStep::build(reference, weights, true, None)?;
    let mut values = weights.values.clone();
    let zeros = || weights.values.iter().map(|v| vec![0.0; v.len()]).collect::<Vec<_>>();
    let (mut first, mut second) = (zeros(), zeros());
    let mut losses = Vec::new();
    for updates in 1..=STEPS {
        let result = step.run(reference, &values)?;
        losses.push(result.cross_entropy);
        for (index, gradient) in result.gradients.iter().enumerate() {
            let (Some(gradient), true) = (gradient, weights.is_trainable(index)) else { continue };
            let clip = weights.clips[index];
            let step = Step { optimizer, updates, scale: 1.0, rate, decays: false, clip };
            step.apply(&mut values[index], gradient, &mut first[index], &mut second[index]);
        }
        result.moved.into_iter().for_each(|(index, after)| values[index] = after);
    }
    got.insert(format!("{name}:losses"), losses);
    got.extend(weights.names.iter().zip(values).map(|(n, v)| (format!("{name}:final:{n}"), v)));
    Ok(())
}
