//! Which tensors of a network are stored, how large they are, and for how long they live.

use qnn::network::{LayerOp, LayerShape, Network};
use serde::Serialize;

use super::{Precision, precision};
use crate::DeployError;
use crate::arena::{self, Lifetime};

/// Working memory of one inference, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ram {
    /// Activations, the input included, as the planner places them.
    pub arena: usize,
    /// Lower bound of any placement.
    pub bound: usize,
    /// 4 bytes a class.
    pub logits: usize,
}

impl Ram {
    /// Arena and logits.
    pub fn peak(&self) -> usize {
        self.arena + self.logits
    }
}

/// Plans the activations of any network.
pub(super) fn ram(net: &Network, shapes: &[LayerShape]) -> Result<Ram, DeployError> {
    let sources = (0..net.layers.len()).map(|i| net.sources(i)).collect::<Result<Vec<_>, _>>()?;
    let mut readers = vec![Vec::new(); net.layers.len()];
    let mut float_input = false;
    for (i, list) in sources.iter().enumerate() {
        for source in list {
            match source {
                Some(s) => readers[*s].push(i),
                None => {
                    let weighted = shapes[i].params.iter().any(|(suffix, _)| *suffix == "kernel");
                    float_input |= weighted && precision(&net.layers[i].op) == Precision::Float;
                }
            }
        }
    }
    // Tensor 0 is the input. `of[i]` lists the tensors layer i's output is, or is computed from where it is read.
    let input = net.input.iter().product::<usize>();
    let mut bytes = vec![if float_input { 4 } else { 1 }];
    let mut lives = vec![Lifetime { bytes: input * bytes[0], first: 0, last: 0 }];
    let mut of: Vec<Vec<usize>> = Vec::with_capacity(net.layers.len());
    let mut step = 0;
    for (i, layer) in net.layers.iter().enumerate() {
        let reads: Vec<usize> =
            sources[i].iter().flat_map(|s| s.map_or(vec![0], |s| of[s].clone())).collect();
        let last = i + 1 == net.layers.len();
        let fused = match &readers[i][..] {
            [reader] => matches!(
                net.layers[*reader].op,
                LayerOp::BatchNorm { .. } | LayerOp::Add | LayerOp::Activation { .. }
            ),
            _ => false,
        };
        let size = match &layer.op {
            LayerOp::Flatten | LayerOp::Dropout { .. } => {
                of.push(reads);
                continue;
            }
            LayerOp::Conv2d { .. }
            | LayerOp::DepthwiseConv2d { .. }
            | LayerOp::Dense { .. }
            | LayerOp::BatchNorm { .. }
            | LayerOp::Add
                if fused =>
            {
                of.push(reads);
                continue;
            }
            LayerOp::Activation { quantizer: Some(q) } if q.bits() <= 8 => 1,
            LayerOp::MaxPool { .. } => reads.first().map_or(4, |&r| bytes[r]),
            LayerOp::AvgPool { .. } if reads.first().is_some_and(|&r| bytes[r] == 1) => 2,
            _ => 4,
        };
        for &read in &reads {
            lives[read].last = step;
        }
        if !last {
            of.push(vec![lives.len()]);
            let len = shapes[i].output.iter().product::<usize>();
            lives.push(Lifetime { bytes: len * size, first: step, last: step });
            bytes.push(size);
        }
        step += 1;
    }
    let plan = arena::place(&lives);
    Ok(Ram { arena: plan.peak, bound: plan.bound, logits: 4 * net.classes })
}
