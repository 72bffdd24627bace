//! Small networks in double precision, and penalties evaluated and differentiated on them.
#![allow(dead_code, reason = "each test file uses its part")]

use qnn::graph::{Executor, Graph, Leaves, NodeId, RunKey};
use qnn::network::conv2d;
use qnn::train::{Penalty, PenaltyInputs};
use qnn::{Forward, InputGrid, LayerOp, Model, Network, Phase, QnnError, Statistics};
use qtensor::stream::{self, Purpose};

pub(crate) const BATCH: usize = 4;
pub(crate) const CLASSES: usize = 5;

pub(crate) fn noise(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = stream::stream(seed, Purpose::Test, &[]);
    (0..n).map(|_| stream::normal_pair(&mut rng)[0]).collect()
}

pub(crate) fn relu() -> LayerOp {
    LayerOp::Activation { quantizer: None }
}

pub(crate) fn bn() -> LayerOp {
    qnn::network::BATCH_NORM
}

pub(crate) fn net(shape: [usize; 3]) -> Network {
    Network::new("test", shape, InputGrid::UNIT_IMAGE, CLASSES)
}

/// Two convolutions with pooling between them.
pub(crate) fn deep() -> Network {
    net([6, 6, 2])
        .then("c1", conv2d(4, [3, 3], [1, 1], true, &None))
        .then("a1", relu())
        .max_pool("p1", 2)
        .then("c2", conv2d(6, [3, 3], [1, 1], true, &None))
        .then("a2", relu())
        .classifier(&None)
}

/// Batch normalisation, a strided convolution and a residual connection.
pub(crate) fn residual() -> Network {
    net([5, 5, 2])
        .then("c1", conv2d(3, [3, 3], [1, 1], false, &None))
        .then("b1", bn())
        .then("a1", relu())
        .then("c2", conv2d(3, [3, 3], [1, 1], false, &None))
        .then("b2", bn())
        .join("sum", LayerOp::Add, &["b2", "a1"])
        .then("a2", relu())
        .then("c3", conv2d(4, [3, 3], [2, 2], false, &None))
        .then("a3", relu())
        .classifier(&None)
}

pub(crate) struct Values {
    pub(crate) inputs: [Vec<f64>; 2],
    pub(crate) params: Vec<Vec<f64>>,
}

impl Leaves<f64> for Values {
    fn input(&self, slot: usize) -> &[f64] {
        &self.inputs[slot]
    }
    fn param(&self, index: usize) -> &[f64] {
        &self.params[index]
    }
}

/// A penalty on a network, compiled with its gradients.
pub(crate) struct Bench {
    pub(crate) model: Model,
    pub(crate) values: Values,
    pub(crate) key: RunKey,
    exec: Executor<f64>,
    value: NodeId,
    gradients: Vec<Option<NodeId>>,
}

impl Bench {
    pub(crate) fn new(
        network: Network,
        penalty: &dyn Penalty,
        statistics: Statistics,
    ) -> Result<Self, QnnError> {
        let model = Model::new(network, 9)?;
        let [h, w, c] = model.network.input;
        let mut graph = Graph::default();
        let input = graph.input(&[BATCH, h, w, c]);
        let target = graph.input(&[BATCH, CLASSES]);
        let forward = Forward::build(&mut graph, &model, input, Phase::Training, statistics)?;
        let inputs = PenaltyInputs { model: &model, forward: &forward, target, statistics };
        let terms = penalty.build(&mut graph, &inputs)?;
        let weighted: Vec<(f64, NodeId)> = terms.iter().map(|t| (t.weight, t.value)).collect();
        let value = graph.linear(&weighted);
        let gradients = graph.grad(value, &forward.params);
        let mut outputs = vec![value];
        outputs.extend(gradients.iter().flatten());
        let exec = Executor::new(graph, &[&outputs], Phase::Training, false);
        // Away from the initial zeros and ones, so that nothing cancels by symmetry.
        let jittered = |(i, p): (usize, &qnn::Param)| {
            let jitter = noise(p.values.len(), 100 + i as u64);
            p.values.iter().zip(jitter).map(|(&v, z)| f64::from(v) + 0.05 * z.abs()).collect()
        };
        let params = model.params.iter().enumerate().map(jittered).collect();
        let mut soft = vec![0.1 / CLASSES as f64; BATCH * CLASSES];
        (0..BATCH).for_each(|b| soft[b * CLASSES + b % CLASSES] += 0.9);
        let values = Values { inputs: [noise(BATCH * h * w * c, 6), soft], params };
        Ok(Self { model, values, key: RunKey { seed: 3, step: 8 }, exec, value, gradients })
    }

    pub(crate) fn value(&mut self) -> f64 {
        self.exec.run(0, &self.values, self.key).unwrap();
        self.exec.output(self.value)[0]
    }

    /// Gradient with respect to every parameter; `None` where it is zero by construction.
    pub(crate) fn gradients(&mut self) -> Vec<Option<Vec<f64>>> {
        self.value();
        self.gradients.iter().map(|g| g.map(|g| self.exec.output(g).to_vec())).collect()
    }

    /// Compares the gradients with central differences; the largest deviation relative to `1 + |difference|`.
    pub(crate) fn check(&mut self, name: &str, bound: f64) -> f64 {
        let gradients = self.gradients();
        let (mut worst, mut seen, step) = (0.0f64, 0, 1e-5);
        for (which, gradient) in gradients.iter().enumerate() {
            let len = self.values.params[which].len();
            for i in (0..len).step_by(1 + len / 12) {
                let mut at = |delta: f64| {
                    let kept = self.values.params[which][i];
                    self.values.params[which][i] = kept + delta;
                    let value = self.value();
                    self.values.params[which][i] = kept;
                    value
                };
                let numeric = (at(step) - at(-step)) / (2.0 * step);
                let analytic = gradient.as_ref().map_or(0.0, |g| g[i]);
                let param = &self.model.params[which];
                if !param.kind.is_trainable() {
                    continue;
                }
                let error = (numeric - analytic).abs() / (1.0 + numeric.abs());
                assert!(
                    error < bound,
                    "{name}: {} element {i}: {analytic} by graph, {numeric} by differences",
                    param.name
                );
                worst = worst.max(error);
                seen += usize::from(numeric.abs() > 1e-6);
            }
        }
        assert!(seen > 5, "{name}: only {seen} derivatives differ from zero");
        worst
    }
}

/// Mean cross-entropy gradient of plain logits, for closed forms.
pub(crate) fn softmax(z: &[f64]) -> Vec<f64> {
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = z.iter().map(|v| (v - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|e| e / sum).collect()
}
