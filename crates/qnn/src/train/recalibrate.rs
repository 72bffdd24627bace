//! Moving statistics of batch normalisation, estimated anew for the kernels that inference uses.

use qtensor::Phase;

use crate::QnnError;
use crate::forward::{BatchMoments, Forward, Statistics};
use crate::graph::{Executor, Graph, Leaves, NodeId, RunKey};
use crate::model::Model;

/// A forward pass with inference kernels and batch statistics, and the sums of those statistics.
#[derive(Debug)]
pub(super) struct MomentsGraph {
    exec: Executor<f32>,
    moments: Vec<BatchMoments>,
    /// Sums of mean and unbiased variance, one after the other, per normalisation.
    sums: Vec<Vec<f64>>,
    batches: u32,
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

impl MomentsGraph {
    pub(super) fn new(model: &Model, batch: usize) -> Result<Self, QnnError> {
        let [h, w, c] = model.network.input;
        let mut graph = Graph::default();
        let input = graph.input(&[batch, h, w, c]);
        let forward = Forward::build(&mut graph, model, input, Phase::Inference, Statistics::Batch)?;
        let moments = forward.moments;
        let outputs: Vec<NodeId> = moments.iter().flat_map(|m| [m.mean, m.variance]).collect();
        let exec = Executor::new(graph, &[&outputs], Phase::Inference, true);
        Ok(Self { exec, moments, sums: Vec::new(), batches: 0 })
    }

    /// Forgets earlier sums and takes the model's present kernels.
    pub(super) fn start(&mut self, model: &Model) -> Result<(), QnnError> {
        let length = |m: &BatchMoments| 2 * model.params[m.moving_mean].values.len();
        self.sums = self.moments.iter().map(|m| vec![0.0; length(m)]).collect();
        self.batches = 0;
        self.exec.prepare(&Inputs { model, x: &[] })
    }

    /// Adds the statistics of one batch.
    pub(super) fn run(&mut self, model: &Model, x: &[f32]) -> Result<(), QnnError> {
        self.exec.run(0, &Inputs { model, x }, RunKey::default())?;
        for (m, sums) in self.moments.iter().zip(&mut self.sums) {
            let unbias = f64::from(m.bessel);
            let (mean, variance) = (self.exec.output(m.mean), self.exec.output(m.variance));
            let values =
                mean.iter().map(|v| f64::from(*v)).chain(variance.iter().map(|v| f64::from(*v) * unbias));
            sums.iter_mut().zip(values).for_each(|(s, v)| *s += v);
        }
        self.batches += 1;
        Ok(())
    }

    /// Writes the means over the batches into the model.
    pub(super) fn finish(&self, model: &mut Model) {
        let batches = f64::from(self.batches.max(1));
        for (m, sums) in self.moments.iter().zip(&self.sums) {
            let (mean, variance) = sums.split_at(sums.len() / 2);
            for (offset, sums) in [mean, variance].into_iter().enumerate() {
                let values = &mut model.params[m.moving_mean + offset].values;
                values.iter_mut().zip(sums).for_each(|(v, s)| *v = (s / batches) as f32);
            }
        }
    }
}
