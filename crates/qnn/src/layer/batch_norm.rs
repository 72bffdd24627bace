//! Batch normalisation over the last axis, plain or with quantized parameters and statistics.

use qtensor::Quantizer;

use super::quantize;
use crate::graph::{Graph, NodeId, Unary};
use crate::network::BatchNormQuantizers;

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
        let factor = self.factor(graph);
        self.shifted(graph, x, factor)
    }

    /// The same with everything quantized first: QKeras' `QBatchNormalization`. Stochastic quantizers draw from the
    /// streams of `tag` and the three that follow it; that of the factor from one beyond 2^32.
    pub fn apply_quantized(
        &self,
        graph: &mut Graph,
        quantizers: &BatchNormQuantizers,
        tag: u64,
        x: NodeId,
    ) -> NodeId {
        let mut through = |q: &Option<Quantizer>, offset: u64, x: NodeId| match q {
            Some(q) => quantize(graph, q, tag + offset, x),
            None => x,
        };
        let norm = Self {
            gamma: self.gamma.map(|x| through(&quantizers.gamma, 0, x)),
            beta: self.beta.map(|x| through(&quantizers.beta, 1, x)),
            mean: through(&quantizers.mean, 2, self.mean),
            variance: through(&quantizers.variance, 3, self.variance),
            eps: self.eps,
        };
        let mut factor = norm.factor(graph);
        if let Some(q) = &quantizers.inverse {
            factor = quantize(graph, q, (1 << 32) + tag, factor);
        }
        norm.shifted(graph, x, factor)
    }

    /// `gamma / sqrt(variance + eps)`
    fn factor(&self, graph: &mut Graph) -> NodeId {
        let inverse = inverse_deviation(graph, self.variance, self.eps);
        self.gamma.map_or(inverse, |gamma| graph.mul(gamma, inverse))
    }

    /// `x * factor + (beta - mean * factor)`
    fn shifted(&self, graph: &mut Graph, x: NodeId, factor: NodeId) -> NodeId {
        let mean = graph.mul(self.mean, factor);
        let shift = match self.beta {
            Some(beta) => graph.sub(beta, mean),
            None => graph.scale(-1.0, mean),
        };
        let shape = graph.shape(x).to_vec();
        graph.channel_affine(&[(x, factor)], Some(shift), &shape)
    }
}

/// `1 / sqrt(variance + eps)`
pub(super) fn inverse_deviation(graph: &mut Graph, variance: NodeId, eps: f64) -> NodeId {
    let shifted = graph.add_scalar(variance, eps);
    graph.unary(Unary::Rsqrt, shifted)
}
