//! QKeras' `QConv2DBatchnorm`: a convolution whose kernel is quantized after batch normalisation was folded into it.

use kernels::KernelError;
use qtensor::Quantizer;

use super::batch_norm::inverse_deviation;
use super::{Moments, Window, add_bias, conv2d, quantize};
use crate::graph::{Graph, NodeId};

/// Which variance the quantized kernel is folded with in training (`folding_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folding {
    /// The moving one, so that the kernel is that of inference; the output is rescaled to the batch's.
    EmaStats,
    /// The batch's.
    BatchStats,
}

/// Parameters and quantizers of the layer.
#[derive(Clone, Debug)]
pub struct Conv2dBatchnorm {
    /// Latent kernel `[kh, kw, cin, cout]`.
    pub kernel: NodeId,
    /// Bias before normalisation `[cout]`.
    pub bias: Option<NodeId>,
    /// Scale `[cout]`; 1 if absent.
    pub gamma: Option<NodeId>,
    /// Shift `[cout]`; 0 if absent.
    pub beta: Option<NodeId>,
    /// Moving mean `[cout]`; in training already moved towards the batch's.
    pub moving_mean: NodeId,
    /// Moving variance `[cout]`; in training already moved towards the batch's.
    pub moving_variance: NodeId,
    /// Added to variances.
    pub eps: f64,
    /// Stride, padding, dilation.
    pub window: Window,
    /// Of the folded kernel.
    pub kernel_quantizer: Option<Quantizer>,
    /// Of the folded bias.
    pub bias_quantizer: Option<Quantizer>,
}

impl Conv2dBatchnorm {
    /// Statistics of the float convolution, which training normalises with.
    pub fn moments(&self, graph: &mut Graph, x: NodeId) -> Result<Moments, KernelError> {
        let mut z = conv2d(graph, x, self.kernel, &self.window)?;
        if let Some(bias) = self.bias {
            z = add_bias(graph, z, bias);
        }
        Ok(Moments::of(graph, z))
    }

    /// Kernel and bias with moving statistics folded in, not quantized: what `unfold_model` and deployment take.
    pub fn folded(&self, graph: &mut Graph) -> (NodeId, NodeId) {
        let inverse = self.inverse(graph, self.moving_variance);
        let kernel = self.fold_kernel(graph, inverse);
        (kernel, self.fold_bias(graph, inverse, self.moving_mean))
    }

    /// Inference: the folded and quantized convolution.
    pub fn inference(&self, graph: &mut Graph, x: NodeId) -> Result<NodeId, KernelError> {
        let (kernel, bias) = self.folded(graph);
        let kernel = self.quantize_kernel(graph, kernel);
        let y = conv2d(graph, x, kernel, &self.window)?;
        let bias = self.quantize_bias(graph, bias);
        Ok(add_bias(graph, y, bias))
    }

    /// Training with the statistics of the batch.
    pub fn training(
        &self,
        graph: &mut Graph,
        x: NodeId,
        moments: &Moments,
        folding: Folding,
    ) -> Result<NodeId, KernelError> {
        let of_batch = self.inverse(graph, moments.variance);
        let of_kernel = match folding {
            Folding::EmaStats => self.inverse(graph, self.moving_variance),
            Folding::BatchStats => of_batch,
        };
        let kernel = self.fold_kernel(graph, of_kernel);
        let kernel = self.quantize_kernel(graph, kernel);
        let mut y = conv2d(graph, x, kernel, &self.window)?;
        let bias = self.fold_bias(graph, of_batch, moments.mean);
        let bias = self.quantize_bias(graph, bias);
        if folding == Folding::EmaStats {
            // From the moving deviation to the batch's.
            let batch = inverse_deviation(graph, moments.variance, self.eps);
            let moving = inverse_deviation(graph, self.moving_variance, self.eps);
            let moving = graph.unary(crate::graph::Unary::Recip, moving);
            let correction = graph.mul(moving, batch);
            let shape = graph.shape(y).to_vec();
            y = graph.channel_affine(&[(y, correction)], None, &shape);
        }
        Ok(add_bias(graph, y, bias))
    }

    /// `gamma / sqrt(variance + eps)`
    fn inverse(&self, graph: &mut Graph, variance: NodeId) -> NodeId {
        let inverse = inverse_deviation(graph, variance, self.eps);
        self.gamma.map_or(inverse, |gamma| graph.mul(gamma, inverse))
    }

    fn fold_kernel(&self, graph: &mut Graph, inverse: NodeId) -> NodeId {
        let shape = graph.shape(self.kernel).to_vec();
        graph.channel_affine(&[(self.kernel, inverse)], None, &shape)
    }

    /// `inverse * (bias - mean) + beta`
    fn fold_bias(&self, graph: &mut Graph, inverse: NodeId, mean: NodeId) -> NodeId {
        let centred = match self.bias {
            Some(bias) => graph.sub(bias, mean),
            None => graph.scale(-1.0, mean),
        };
        let scaled = graph.mul(inverse, centred);
        self.beta.map_or(scaled, |beta| graph.add(scaled, beta))
    }

    fn quantize_kernel(&self, graph: &mut Graph, kernel: NodeId) -> NodeId {
        self.kernel_quantizer.as_ref().map_or(kernel, |q| graph.quantize_kernel(q, 0, kernel))
    }

    fn quantize_bias(&self, graph: &mut Graph, bias: NodeId) -> NodeId {
        self.bias_quantizer.as_ref().map_or(bias, |q| quantize(graph, q, 0, bias))
    }
}
