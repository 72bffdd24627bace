//! Batch normalisation over the last axis, plain or with quantized parameters and statistics.

use qtensor::Quantizer;

use super::quantize;
use crate::graph::{Graph, NodeId, Unary};

/// Batch statistics over all axes but the last.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// Mean `[c]`.
    pub mean: NodeId,
    /// Biased variance `[c]`.
    pub variance: NodeId,
    /// Values per channel.
    pub count: usize,
}

impl Moments {
    /// Those of `x` (`[.., c]`); gradients run through them.
    pub fn of(graph: &mut Graph, x: NodeId) -> Self {
        let shape = graph.shape(x);
        let count: usize = shape[..shape.len() - 1].iter().product();
        let inverse = 1.0 / count as f64;
        let sum = graph.channel_sum(x);
        let square = graph.channel_dot(x, x);
        let mean = graph.scale(inverse, sum);
        let mean_square = graph.scale(inverse, square);
        let squared_mean = graph.mul(mean, mean);
        Self { mean, variance: graph.sub(mean_square, squared_mean), count }
    }

    /// What the biased variance is multiplied by to become the unbiased one that Keras' fused kernel (inputs of rank 4)
    /// averages; inputs of rank 2 and QKeras' layer average the biased one.
    pub fn bessel(&self) -> f32 {
        self.count as f32 / (self.count.max(2) - 1) as f32
    }
}

/// Quantizers of QKeras' `QBatchNormalization`; all of them straight-through.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchNormQuantizers {
    /// Of the scale.
    pub gamma: Option<Quantizer>,
    /// Of the shift.
    pub beta: Option<Quantizer>,
    /// Of the mean, batch or moving.
    pub mean: Option<Quantizer>,
    /// Of the variance, batch or moving.
    pub variance: Option<Quantizer>,
}

/// Parameters of one normalisation.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    /// Scale `[c]`; 1 if absent.
    pub gamma: Option<NodeId>,
    /// Shift `[c]`; 0 if absent.
    pub beta: Option<NodeId>,
    /// Mean `[c]`, of the batch or moving.
    pub mean: NodeId,
    /// Variance `[c]`, of the batch or moving.
    pub variance: NodeId,
    /// Added to the variance.
    pub eps: f64,
}

impl BatchNorm {
    /// `(x - mean) / sqrt(variance + eps) * gamma + beta`
    pub fn apply(&self, graph: &mut Graph, x: NodeId) -> NodeId {
        let inverse = inverse_deviation(graph, self.variance, self.eps);
        let a = self.gamma.map_or(inverse, |gamma| graph.mul(gamma, inverse));
        let ma = graph.mul(self.mean, a);
        let b = match self.beta {
            Some(beta) => graph.sub(beta, ma),
            None => graph.scale(-1.0, ma),
        };
        let shape = graph.shape(x).to_vec();
        graph.channel_affine(&[(x, a)], Some(b), &shape)
    }

    /// The same with everything quantized first: QKeras' `QBatchNormalization`.
    pub fn quantized(&self, graph: &mut Graph, quantizers: &BatchNormQuantizers) -> Self {
        let mut through = |q: &Option<Quantizer>, x: NodeId| match q {
            Some(q) => quantize(graph, q, 0, x),
            None => x,
        };
        Self {
            gamma: self.gamma.map(|x| through(&quantizers.gamma, x)),
            beta: self.beta.map(|x| through(&quantizers.beta, x)),
            mean: through(&quantizers.mean, self.mean),
            variance: through(&quantizers.variance, self.variance),
            eps: self.eps,
        }
    }
}

/// `1 / sqrt(variance + eps)`
pub(super) fn inverse_deviation(graph: &mut Graph, variance: NodeId, eps: f64) -> NodeId {
    let shifted = graph.add_scalar(variance, eps);
    graph.unary(Unary::Rsqrt, shifted)
}
