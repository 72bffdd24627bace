//! The graph of one training step: forward, loss, penalties and all gradients.

use qtensor::Phase;

use super::{Penalty, PenaltyInputs, Term};
use crate::QnnError;
use crate::forward::{BatchMoments, Forward, Statistics};
use crate::graph::{Executor, Graph, Leaves, NodeId, RunKey};
use crate::model::Model;

/// A compiled training step for one batch size.
#[derive(Debug)]
pub(crate) struct StepGraph {
    exec: Executor<f32>,
    loss: NodeId,
    cross_entropy: NodeId,
    /// Terms of each penalty.
    penalties: Vec<Vec<Term>>,
    logits: NodeId,
    /// Gradient of each parameter, where it has one.
    gradients: Vec<Option<NodeId>>,
    moments: Vec<BatchMoments>,
}

/// External tensors of a step: images, soft targets, adversarial images if any, one weight per penalty.
pub(crate) struct StepInputs<'a> {
    pub(crate) model: &'a Model,
    pub(crate) x: &'a [f32],
    pub(crate) target: &'a [f32],
    pub(crate) weights: &'a [f32],
    /// Adversarial images, where the loss has a term of them: they come before the weights.
    pub(crate) moved: Option<&'a [f32]>,
}

impl Leaves<f32> for StepInputs<'_> {
    fn input(&self, slot: usize) -> &[f32] {
        match slot {
            0 => self.x,
            1 => self.target,
            k => match self.moved {
                Some(moved) if k == 2 => moved,
                Some(_) => std::slice::from_ref(&self.weights[k - 3]),
                None => std::slice::from_ref(&self.weights[k - 2]),
            },
        }
    }

    fn param(&self, index: usize) -> &[f32] {
        &self.model.params[index].values
    }
}

impl StepGraph {
    /// `consistency` weighs the divergence between the predictions of the images and of their adversarial counterparts.
    pub(crate) fn new(
        model: &Model,
        batch: usize,
        penalties: &[&dyn Penalty],
        consistency: Option<f64>,
    ) -> Result<Self, QnnError> {
        let net = &model.network;
        let mut graph = Graph::default();
        let input = graph.input(&[batch, net.input[0], net.input[1], net.input[2]]);
        let target = graph.input(&[batch, net.classes]);
        let shape = graph.shape(input).to_vec();
        let moved = consistency.map(|beta| (beta, graph.input(&shape)));
        let forward = Forward::build(&mut graph, model, input, Phase::Training, Statistics::Batch)?;
        graph.set_label("loss");
        let cross_entropy = cross_entropy(&mut graph, forward.logits, target);
        let mut terms = vec![(1.0, cross_entropy)];
        let mut values = Vec::new();
        for penalty in penalties {
            let weight = graph.input(&[]);
            graph.set_label(&penalty.name());
            let inputs = PenaltyInputs { model, forward: &forward, target, statistics: Statistics::Batch };
            let parts = penalty.build(&mut graph, &inputs)?;
            let weighted: Vec<(f64, NodeId)> = parts.iter().map(|t| (t.weight, t.value)).collect();
            if weighted.is_empty() {
                return Err(QnnError::Config(format!("{} has no term", penalty.name())));
            }
            let value = graph.linear(&weighted);
            values.push(parts);
            terms.push((1.0, graph.scalar_mul(value, weight)));
        }
        if let Some((beta, moved)) = moved {
            graph.set_label("consistency");
            let counterpart = Forward::build(&mut graph, model, moved, Phase::Training, Statistics::Batch)?;
            terms.push((beta, divergence(&mut graph, forward.logits, counterpart.logits)));
        }
        let loss = graph.linear(&terms);
        let gradients = graph.grad(loss, &forward.params);
        let moments = forward.moments;
        let mut outputs = vec![loss, cross_entropy, forward.logits];
        outputs.extend(values.iter().flatten().map(|term| term.value));
        outputs.extend(gradients.iter().flatten());
        outputs.extend(moments.iter().flat_map(|m| [m.mean, m.variance]));
        let exec = Executor::new(graph, &[&outputs], Phase::Training, false);
        Ok(Self { exec, loss, cross_entropy, penalties: values, logits: forward.logits, gradients, moments })
    }

    pub(crate) fn run(&mut self, inputs: &StepInputs<'_>, key: RunKey) -> Result<(), QnnError> {
        self.exec.run(0, inputs, key)?;
        if !self.loss().is_finite() {
            let place = self.exec.first_non_finite(inputs, key)?;
            let place = place.map_or_else(|| "the loss".into(), |layer| format!("layer `{layer}`"));
            return Err(QnnError::NonFinite { step: key.step, place });
        }
        Ok(())
    }

    pub(crate) fn loss(&self) -> f32 {
        self.exec.output(self.loss)[0]
    }

    pub(crate) fn cross_entropy(&self) -> f32 {
        self.exec.output(self.cross_entropy)[0]
    }

    /// Name, weight within its penalty and value of every term of a penalty.
    pub(crate) fn terms(&self, penalty: usize) -> impl Iterator<Item = (&str, f64, f32)> {
        let terms = self.penalties[penalty].iter();
        terms.map(|t| (t.name.as_str(), t.weight, self.exec.output(t.value)[0]))
    }

    pub(crate) fn logits(&self) -> &[f32] {
        self.exec.output(self.logits)
    }

    pub(crate) fn gradient(&self, param: usize) -> Option<&[f32]> {
        self.gradients[param].map(|g| self.exec.output(g))
    }

    /// Moves the model's moving statistics towards those of the batch (images: the variance by its unbiased estimate, as Keras).
    pub(crate) fn update_moving(&self, model: &mut Model) {
        for m in &self.moments {
            let sources = [(self.exec.output(m.mean), 1.0), (self.exec.output(m.variance), m.bessel)];
            for (offset, (batch, factor)) in sources.into_iter().enumerate() {
                for (moving, &b) in model.params[m.moving_mean + offset].values.iter_mut().zip(batch) {
                    *moving = m.momentum * *moving + (1.0 - m.momentum) * b * factor;
                }
            }
        }
    }

    pub(crate) fn buffer_bytes(&self) -> usize {
        self.exec.buffer_bytes()
    }
}

/// Mean over the batch of the Kullback-Leibler divergence from `softmax(z)` to `softmax(other)`; gradients run into both.
pub(crate) fn divergence(graph: &mut Graph, z: NodeId, other: NodeId) -> NodeId {
    let scale = 1.0 / graph.shape(z)[0] as f64;
    let (p, difference) = (graph.softmax(z), graph.sub(z, other));
    let hit = graph.dot_all(p, difference);
    let (own, theirs) = (graph.log_sum_exp(z), graph.log_sum_exp(other));
    let (own, theirs) = (graph.sum_all(own), graph.sum_all(theirs));
    graph.linear(&[(scale, hit), (-scale, own), (scale, theirs)])
}

/// Mean over the batch of `-sum_k target_k ln softmax(z)_k`, for target rows that sum to one.
pub fn cross_entropy(graph: &mut Graph, logits: NodeId, target: NodeId) -> NodeId {
    let scale = 1.0 / graph.shape(logits)[0] as f64;
    let lse = graph.log_sum_exp(logits);
    let (norm, hit) = (graph.sum_all(lse), graph.dot_all(target, logits));
    graph.linear(&[(scale, norm), (-scale, hit)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::{Twin, build};
    use crate::{InputGrid, Model};

    /// Bits of the loss and of all gradients.
    fn bits(step: &mut StepGraph, inputs: &StepInputs<'_>) -> Vec<u32> {
        step.run(inputs, RunKey { seed: 3, step: 5 }).unwrap();
        let gradients = (0..inputs.model.params.len()).filter_map(|p| step.gradient(p)).flatten();
        gradients.chain([&step.loss()]).map(|v| v.to_bits()).collect()
    }

    #[test]
    fn passes_done_together_have_the_bits_of_one_after_another() {
        for (name, twin) in
            [("stq_image_s", Twin::Stq), ("stq_image_s", Twin::Float), ("resnet8", Twin::EightBit)]
        {
            let net = build(name, [16, 16, 3], InputGrid::UNIT_IMAGE, 10, &twin.quantizers()).unwrap();
            let model = Model::new(net, 1).unwrap();
            let x: Vec<f32> = (0..3 * 16 * 16 * 3).map(|i| (i * 7919 % 256) as f32 / 255.0).collect();
            let target: Vec<f32> = (0..30).map(|i| if i % 11 == 0 { 1.0 } else { 0.0 }).collect();
            let inputs = StepInputs { model: &model, x: &x, target: &target, weights: &[], moved: None };
            let mut step = StepGraph::new(&model, 3, &[], None).unwrap();
            let (merged, count) = (bits(&mut step, &inputs), step.exec.instructions());
            step.exec.one_after_another();
            assert!(count < step.exec.instructions(), "{name}: nothing was merged");
            assert_eq!(merged, bits(&mut step, &inputs), "{name} {twin:?}");
        }
    }
}
