//! Curvature regularisation (CURE): how fast the loss gradient turns along the direction in which attacks move.

use qnn::graph::{Graph, NodeId, Unary};
use qnn::train::{Penalty, PenaltyInputs, Term, cross_entropy};
use qnn::{Forward, Phase, QnnError};
use serde::{Deserialize, Serialize};

use crate::schedule::WeightSchedule;
use crate::spectral::unit_rows;

/// How curvature is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Curvature {
    /// The difference of two gradients, `grad(x + h z) - grad(x)`: what the paper does. It sees kinks between the two points.
    #[default]
    Difference,
    /// Its limit for small h, `h H z` with the exact Hessian-vector product. Piecewise linear activations have no curvature of
    /// their own: what is left is that of the softmax (and of batch statistics).
    Exact,
}

/// `lambda * mean_b ||grad l(x_b + h z_b) - grad l(x_b)||_2^2` with `z = sign(grad l(x)) / ||sign(grad l(x))||_2`.
///
/// Source: Moosavi-Dezfooli, Fawzi, Uesato, Frossard 2019, *Robustness via curvature regularization, and vice versa*
/// (CVPR, arXiv 1811.09716), section 4; l is the cross-entropy of one sample. The direction z is held fixed in
/// derivatives, as in the authors' code (F-Salehi/CURE_robustness), which differs from the paper in taking the norm without
/// the square, the gradient of the batch's mean loss and, for both passes, moving batch statistics. Here both passes use the
/// statistics of the training step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurvaturePenalty {
    /// Weight in the loss.
    pub lambda: f64,
    /// Length h of the step, in units of the input and the Euclidean norm.
    #[serde(default = "paper_step")]
    pub step: f64,
    /// How curvature is measured.
    #[serde(default)]
    pub form: Curvature,
    /// Applied on every k-th step, with k times the weight.
    #[serde(default = "crate::penalty::every_step")]
    pub every: u64,
    /// Factor on the weight over the epochs.
    #[serde(default)]
    pub schedule: WeightSchedule,
}

/// h = 1.5, the paper's value for CIFAR-10.
fn paper_step() -> f64 {
    1.5
}

impl CurvaturePenalty {
    /// CURE with the paper's step of 1.5.
    pub fn new(lambda: f64) -> Self {
        Self {
            lambda,
            step: paper_step(),
            form: Curvature::Difference,
            every: 1,
            schedule: WeightSchedule::Constant,
        }
    }

    fn value(&self, graph: &mut Graph, inputs: &PenaltyInputs<'_>) -> Result<NodeId, QnnError> {
        let x = inputs.forward.input;
        let batch = graph.shape(x)[0];
        let flat = || QnnError::Config("curvature penalty: the loss does not depend on the input".into());
        let gradient = |graph: &mut Graph, forward: &Forward| {
            let mean = cross_entropy(graph, forward.logits, inputs.target);
            // The mean's gradient is 1/batch of a sample's own.
            let sum = graph.scale(batch as f64, mean);
            graph.grad(sum, &[forward.input])[0].ok_or_else(flat)
        };
        let here = gradient(graph, inputs.forward)?;
        let sign = graph.unary(Unary::Sign, here);
        let z = unit_rows(graph, sign);
        let turn = match self.form {
            Curvature::Difference => {
                let moved = graph.linear(&[(1.0, x), (self.step, z)]);
                let there = Forward::build(graph, inputs.model, moved, Phase::Training, inputs.statistics)?;
                graph.set_label(&self.name());
                let there = gradient(graph, &there)?;
                graph.sub(there, here)
            }
            Curvature::Exact => match graph.vjp(here, z, &[x])[0] {
                Some(product) => graph.scale(self.step, product),
                None => return Err(flat()),
            },
        };
        let square = graph.dot_all(turn, turn);
        Ok(graph.scale(1.0 / batch as f64, square))
    }
}

impl Penalty for CurvaturePenalty {
    fn name(&self) -> String {
        match self.form {
            Curvature::Difference => format!("curvature(step={})", self.step),
            Curvature::Exact => format!("curvature(step={}, exact)", self.step),
        }
    }

    fn build(&self, graph: &mut Graph, inputs: &PenaltyInputs<'_>) -> Result<Vec<Term>, QnnError> {
        if !(self.step > 0.0 && self.step.is_finite()) {
            return Err(QnnError::Config(format!("curvature penalty: step {} is not above 0", self.step)));
        }
        Ok(vec![Term { name: "loss".into(), weight: 1.0, value: self.value(graph, inputs)? }])
    }

    fn weight(&self, epoch: u32, epochs: u32) -> f64 {
        self.lambda * self.schedule.factor(epoch, epochs)
    }

    fn every(&self) -> u64 {
        self.every
    }
}
