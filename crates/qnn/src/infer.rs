//! Inference: logits and vector-Jacobian products of a fixed model for any number of inputs, and accuracy.

use qtensor::Phase;
use serde::{Deserialize, Serialize};

use crate::QnnError;
use crate::forward::{Forward, Statistics};
use crate::graph::{Executor, Graph, Leaves, NodeId, RunKey};
use crate::model::{Model, kernel_quantizer};
use crate::network::LayerOp;
use crate::train::{Samples, argmax};

/// Batch sizes that graphs are compiled for; other sizes are split and padded.
const BUCKETS: [usize; 4] = [1, 8, 32, 128];

/// A fixed model, compiled for inference. Deterministic, quantizers never sample, unless it was made by [`Predictor::sampling`].
#[derive(Debug)]
pub struct Predictor {
    model: Model,
    codes: bool,
    leak: f64,
    /// Where kernels are drawn anew: what the next pass's draws are a function of.
    draws: Option<RunKey>,
    compiled: [Option<Compiled>; BUCKETS.len()],
}

#[derive(Debug)]
struct Compiled {
    exec: Executor<f32>,
    logits: NodeId,
    input_grad: NodeId,
    x: Vec<f32>,
    cotangent: Vec<f32>,
}

struct Inputs<'a> {
    model: &'a Model,
    x: &'a [f32],
    cotangent: &'a [f32],
}

impl Leaves<f32> for Inputs<'_> {
    fn input(&self, slot: usize) -> &[f32] {
        if slot == 0 { self.x } else { self.cotangent }
    }

    fn param(&self, index: usize) -> &[f32] {
        &self.model.params[index].values
    }
}

impl Predictor {
    /// Compiles nothing yet: graphs are built on first use of a batch size.
    pub fn new(model: &Model) -> Result<Self, QnnError> {
        model.validate()?;
        Ok(Self {
            model: model.clone(),
            codes: false,
            leak: 0.0,
            draws: None,
            compiled: [const { None }; BUCKETS.len()],
        })
    }

    /// As [`Self::new`] for inputs on the network's 8-bit grid only (others are rounded to it): the first layer, too,
    /// runs on integers, as it does deployed.
    pub fn for_codes(model: &Model) -> Result<Self, QnnError> {
        Ok(Self { codes: true, ..Self::new(model)? })
    }

    /// As [`Self::new`], with activation quantizers whose surrogate derivative is at least `leak`: 1 passes every gradient,
    /// 0 is what [`Self::new`] does. Logits are the same.
    pub fn leaking(model: &Model, leak: f64) -> Result<Self, QnnError> {
        Ok(Self { leak, ..Self::new(model)? })
    }

    /// As [`Self::leaking`], with stochastic kernel quantizers that sample as they do in training: another draw for every pass
    /// of at most 128 inputs, which share it. Draws are a function of `seed` and the number of the pass since this call.
    ///
    /// # Errors
    /// If no quantizer of the model samples.
    pub fn sampling(model: &Model, leak: f64, seed: u64) -> Result<Self, QnnError> {
        let draws = |op: &LayerOp| kernel_quantizer(op).is_some_and(|q| q.draws(Phase::Training));
        if !model.network.layers.iter().any(|layer| draws(&layer.op)) {
            return Err(QnnError::Config(format!(
                "no kernel of `{}` is sampled: its quantizers are deterministic",
                model.network.name
            )));
        }
        Ok(Self { draws: Some(RunKey { seed, step: 0 }), ..Self::leaking(model, leak)? })
    }

    /// Takes the parameters of another model of the same network and keeps what is compiled.
    ///
    /// # Errors
    /// If the networks differ.
    pub fn replace(&mut self, model: &Model) -> Result<(), QnnError> {
        if model.network != self.model.network {
            return Err(QnnError::Config("a predictor takes parameters of its own network only".into()));
        }
        self.model.params.clone_from(&model.params);
        for c in self.compiled.iter_mut().flatten() {
            let inputs = Inputs { model: &self.model, x: &c.x, cotangent: &c.cotangent };
            c.exec.prepare(&inputs)?;
        }
        Ok(())
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Values in one input.
    pub fn input_len(&self) -> usize {
        self.model.network.input.iter().product()
    }

    /// Logits `[n, classes]` of `x`, `[n, h, w, c]` real values.
    pub fn logits(&mut self, x: &[f32], out: &mut [f32]) -> Result<(), QnnError> {
        self.run(x, out, None)
    }

    /// Logits, and the gradient of `<cotangent, logits>` with respect to `x`. `cotangent` is called per internal batch
    /// with its logits, and fills the cotangents.
    pub fn logits_vjp(
        &mut self,
        x: &[f32],
        cotangent: &mut dyn FnMut(&[f32], &mut [f32]),
        logits: &mut [f32],
        grad: &mut [f32],
    ) -> Result<(), QnnError> {
        if grad.len() != x.len() {
            return Err(QnnError::Size { what: "gradient".into(), expected: x.len(), got: grad.len() });
        }
        self.run(x, logits, Some((cotangent, grad)))
    }

    #[allow(clippy::type_complexity, reason = "one private caller; a type alias would hide what is passed")]
    fn run(
        &mut self,
        x: &[f32],
        out: &mut [f32],
        mut backward: Option<(&mut dyn FnMut(&[f32], &mut [f32]), &mut [f32])>,
    ) -> Result<(), QnnError> {
        let (d, k) = (self.input_len(), self.model.network.classes);
        let n = x.len() / d;
        if x.len() != n * d || out.len() != n * k {
            return Err(QnnError::Size { what: "logits".into(), expected: n * k, got: out.len() });
        }
        let mut at = 0;
        while at < n {
            let left = n - at;
            let bucket = BUCKETS.iter().position(|b| *b >= left).unwrap_or(BUCKETS.len() - 1);
            let count = left.min(BUCKETS[bucket]);
            if self.compiled[bucket].is_none() {
                let phase = if self.draws.is_some() { Phase::Training } else { Phase::Inference };
                self.compiled[bucket] =
                    Some(Compiled::new(&self.model, BUCKETS[bucket], self.codes, self.leak, phase)?);
            }
            let key = self.draws.unwrap_or_default();
            if let Some(next) = &mut self.draws {
                next.step += 1;
            }
            let c = self.compiled[bucket].as_mut().expect("just compiled");
            c.x[..count * d].copy_from_slice(&x[at * d..(at + count) * d]);
            c.x[count * d..].fill(0.0);
            let inputs = Inputs { model: &self.model, x: &c.x, cotangent: &c.cotangent };
            c.exec.run(0, &inputs, key)?;
            let logits = &mut out[at * k..(at + count) * k];
            logits.copy_from_slice(&c.exec.output(c.logits)[..count * k]);
            if let Some((cotangent, grad)) = &mut backward {
                c.cotangent.fill(0.0);
                cotangent(logits, &mut c.cotangent[..count * k]);
                let inputs = Inputs { model: &self.model, x: &c.x, cotangent: &c.cotangent };
                c.exec.run(1, &inputs, key)?;
                grad[at * d..(at + count) * d].copy_from_slice(&c.exec.output(c.input_grad)[..count * d]);
            }
            at += count;
        }
        Ok(())
    }
}

impl Compiled {
    /// `phase` is that of the quantizers; everything else is as in inference.
    fn new(model: &Model, batch: usize, codes: bool, leak: f64, phase: Phase) -> Result<Self, QnnError> {
        let net = &model.network;
        let mut graph = Graph::default();
        let input = graph.input(&[batch, net.input[0], net.input[1], net.input[2]]);
        if codes {
            graph.declare_codes(input, net.grid.scale, net.grid.zero_point);
        }
        let forward = Forward::build(&mut graph, model, input, Phase::Inference, Statistics::Moving)?;
        if leak > 0.0 {
            graph.leak_activations(leak);
        }
        let logits = forward.logits;
        let cotangent = graph.input(&[batch, net.classes]);
        let shape = graph.shape(input).to_vec();
        let input_grad = graph.vjp(logits, cotangent, &[input])[0].unwrap_or_else(|| graph.fill(0.0, &shape));
        let frozen = phase == Phase::Inference;
        let mut exec = Executor::new(graph, &[&[logits], &[input_grad]], phase, frozen);
        let (x, cotangent) =
            (vec![0.0; batch * net.input.iter().product::<usize>()], vec![0.0; batch * net.classes]);
        exec.prepare(&Inputs { model, x: &x, cotangent: &cotangent })?;
        Ok(Self { exec, logits, input_grad, x, cotangent })
    }
}

/// Outputs of every activation layer, and the logits last, for the batch `x` (`[n, h, w, c]`): `(layer, [n, ...])`.
pub fn activations(model: &Model, x: &[f32]) -> Result<Vec<(String, Vec<f32>)>, QnnError> {
    let net = &model.network;
    let [h, w, c] = net.input;
    let batch = x.len() / (h * w * c);
    let mut graph = Graph::default();
    let input = graph.input(&[batch, h, w, c]);
    let forward = Forward::build(&mut graph, model, input, Phase::Inference, Statistics::Moving)?;
    let wanted = |op: &LayerOp| matches!(op, LayerOp::Activation { .. });
    let last = net.layers.len() - 1;
    let chosen: Vec<usize> = (0..=last).filter(|&i| i == last || wanted(&net.layers[i].op)).collect();
    let nodes: Vec<NodeId> = chosen.iter().map(|&i| forward.layers[i]).collect();
    let mut exec: Executor<f32> = Executor::new(graph, &[&nodes], Phase::Inference, false);
    exec.run(0, &Inputs { model, x, cotangent: &[] }, RunKey::default())?;
    let name = |i: usize| net.layers[i].name.clone();
    Ok(chosen.iter().zip(nodes).map(|(&i, n)| (name(i), exec.output(n).to_vec())).collect())
}

/// Accuracy and loss over a set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Samples seen.
    pub samples: u64,
    /// Samples whose largest logit is the label's.
    pub correct: u64,
    /// Mean cross-entropy.
    pub loss: f64,
}

impl Evaluation {
    /// Top-1 accuracy in `[0, 1]`.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples.max(1) as f64
    }
}

/// Evaluates `model` in the inference phase on all of `samples`, which must lie on the network's 8-bit input grid.
pub fn evaluate(model: &Model, samples: &dyn Samples) -> Result<Evaluation, QnnError> {
    let mut predictor = Predictor::for_codes(model)?;
    let (d, k) = (predictor.input_len(), model.network.classes);
    let batch = BUCKETS[BUCKETS.len() - 1];
    let (mut x, mut labels, mut logits) = (vec![0.0; batch * d], vec![0u8; batch], vec![0.0; batch * k]);
    let mut result = Evaluation::default();
    let all: Vec<u32> = (0..u32::try_from(samples.len()).expect("fewer than 2^32 samples")).collect();
    for indices in all.chunks(batch) {
        let n = indices.len();
        samples.fill(indices, 0, &mut x[..n * d], &mut labels[..n])?;
        predictor.logits(&x[..n * d], &mut logits[..n * k])?;
        for (z, &y) in logits[..n * k].chunks(k).zip(&labels) {
            let y = usize::from(y);
            let max = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let lse = max + z.iter().map(|v| (v - max).exp()).sum::<f32>().ln();
            result.loss += f64::from(lse - z.get(y).copied().unwrap_or(f32::NEG_INFINITY));
            result.correct += u64::from(argmax(z) == y);
        }
        result.samples += n as u64;
    }
    result.loss /= result.samples.max(1) as f64;
    Ok(result)
}
