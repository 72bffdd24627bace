//! The reference arrays of one file: what their names ask for, our value of it, and how far apart the two are.

use std::collections::BTreeMap;

use qnn::graph::{Executor, Graph, Leaves, NodeId, RunKey};
use qnn::train::cross_entropy;
use qnn::{Forward, InputGrid, LayerOp, Model, Network, Phase, Statistics};

use super::arrays::{Array, Arrays, nhwc};
use super::torch::Torch;
use crate::frobenius::{Directions, half_square, squares};

/// Largest deviation allowed, relative to the largest reference value of the array.
const RELATIVE: f64 = 1e-10;
/// Largest deviation allowed, relative to the penalty's value: where the reference is zero up to rounding.
const ABSOLUTE: f64 = 1e-13;

/// A case and how it went.
type Judged = (String, Result<String, String>);

/// Judges every reference array of a file called `stem` with the manifest's `note`.
pub(super) fn judge(stem: &str, note: &str, arrays: &Arrays) -> Result<Vec<Judged>, String> {
    if arrays.contains_key("W") {
        return affine(arrays);
    }
    let x = arrays.get("x").ok_or("there are no images `x`")?;
    let (x, [batch, h, w, c]) = nhwc(x)?;
    let statistics = if stem.contains("train") || (!stem.contains("eval") && note.contains("in train mode")) {
        Statistics::Batch
    } else {
        Statistics::Moving
    };
    let mut first = None;
    for torch in Torch::candidates(arrays, [h, w, c])? {
        let verdicts = Case { arrays, torch, x: x.clone(), batch, statistics }.judge()?;
        let forward = |name: &str| matches!(name, "logits" | "ce");
        if verdicts.iter().all(|(name, verdict)| !forward(name) || verdict.is_ok()) {
            return Ok(verdicts);
        }
        first.get_or_insert(verdicts);
    }
    first.ok_or_else(|| "no network fits".into())
}

/// The network of a file with its inputs.
struct Case<'a> {
    arrays: &'a Arrays,
    torch: Torch,
    x: Vec<f64>,
    batch: usize,
    statistics: Statistics,
}

/// External tensors: images, targets, projection vectors, in this order.
struct Values<'a> {
    inputs: Vec<&'a [f64]>,
    params: &'a [Vec<f64>],
}

impl Leaves<f64> for Values<'_> {
    fn input(&self, slot: usize) -> &[f64] {
        self.inputs[slot]
    }

    fn param(&self, index: usize) -> &[f64] {
        &self.params[index]
    }
}

/// What is compared with an array: a node's value, zeros, or the value of `block_diagonal_half_mean_fro2`.
#[derive(Clone, Copy)]
enum Ours {
    Node(NodeId),
    Gradient { of: usize, node: Option<NodeId> },
    BlockDiagonal,
}

impl Case<'_> {
    fn judge(&self) -> Result<Vec<Judged>, String> {
        let model = &self.torch.model;
        let ([h, w, c], classes) = (model.network.input, model.network.classes);
        let mut graph = Graph::default();
        let text = |e: qnn::QnnError| e.to_string();
        let input = graph.input(&[self.batch, h, w, c]);
        let target = graph.input(&[self.batch, classes]);
        let forward =
            Forward::build(&mut graph, model, input, Phase::Training, self.statistics).map_err(text)?;
        let mut sets = BTreeMap::new();
        let (mut rows, mut leaves) = (Vec::new(), Vec::new());
        for (name, array) in self.arrays.iter().filter(|(name, _)| is_vectors(name)) {
            let &[count, batch, width] = &array.shape[..] else {
                return Err(format!("`{name}` is not [projections, batch, classes]"));
            };
            if batch != self.batch || width != classes {
                return Err(format!("`{name}` has shape {:?}", array.shape));
            }
            let nodes: Vec<NodeId> = (0..count).map(|_| graph.input(&[batch, width])).collect();
            rows.extend(array.values.chunks(batch * width));
            sets.insert(name.as_str(), nodes);
        }
        let ce = cross_entropy(&mut graph, forward.logits, target);
        let mut build =
            Terms { model, graph: &mut graph, forward: &forward, sets: &sets, ce, known: BTreeMap::new() };
        let mut wanted = Vec::new();
        for name in self.arrays.keys().filter(|name| !is_given(name)) {
            wanted.push((name.as_str(), self.ours(&mut build, name)));
        }
        let outputs: Vec<NodeId> = wanted
            .iter()
            .filter_map(|(_, ours)| match ours {
                Ok(Ours::Node(node) | Ours::Gradient { node: Some(node), .. }) => Some(*node),
                _ => None,
            })
            .collect();
        let mut exec: Executor<f64> = Executor::new(graph, &[&outputs], Phase::Training, false);
        let targets = self.targets(classes)?;
        leaves.extend([&self.x[..], &targets[..]]);
        leaves.extend(rows);
        let values = Values { inputs: leaves, params: &self.torch.params };
        exec.run(0, &values, RunKey::default()).map_err(text)?;
        let mut judged = Vec::new();
        for (name, ours) in wanted {
            let verdict = ours.and_then(|ours| {
                let reference = &self.arrays[name];
                let got = match ours {
                    Ours::Node(node) => exec.output(node).to_vec(),
                    Ours::Gradient { node: None, .. } => vec![0.0; reference.values.len()],
                    Ours::Gradient { of, node: Some(node) } => {
                        let weight = &self.torch.weights[of];
                        weight.export(exec.output(node), &model.params[weight.index].shape)
                    }
                    Ours::BlockDiagonal => vec![self.block_diagonal().map_err(text)?],
                };
                let scale = name
                    .split_once(".grad.")
                    .and_then(|(term, _)| self.arrays.get(&format!("{term}.value")))
                    .map_or(0.0, |value| value.values.first().copied().unwrap_or(0.0).abs());
                compare(&got, reference, scale)
            });
            judged.push((name.to_owned(), verdict));
        }
        Ok(judged)
    }

    /// Our counterpart of a reference array, by its name.
    fn ours(&self, build: &mut Terms<'_, '_>, name: &str) -> Result<Ours, String> {
        if let Some(place) = name.strip_suffix(".fro2_per_sample") {
            let place = place.strip_prefix("layer_").unwrap_or(place);
            let (of, wrt) = (build.forward.logits, build.place(place)?);
            let squares = squares(build.graph, of, wrt, Directions::Exact).map_err(|e| e.to_string())?;
            return squares.map(Ours::Node).ok_or_else(|| format!("logits do not depend on `{place}`"));
        }
        if let Some((term, param)) = name.split_once(".grad.") {
            let of = self.torch.weights.iter().position(|w| w.name == param);
            let of = of.ok_or_else(|| format!("there is no parameter `{param}`"))?;
            let node = build.gradients(term)?[self.torch.weights[of].index];
            return Ok(Ours::Gradient { of, node });
        }
        match name {
            "logits" => Ok(Ours::Node(build.forward.logits)),
            "ce" => Ok(Ours::Node(build.ce)),
            "block_diagonal_half_mean_fro2" => Ok(Ours::BlockDiagonal),
            _ => match name.strip_suffix(".value") {
                Some(term) => build.term(term).map(Ours::Node),
                None => Err("no known form of a reference array".into()),
            },
        }
    }

    /// One-hot rows of the labels.
    fn targets(&self, classes: usize) -> Result<Vec<f64>, String> {
        let mut targets = vec![0.0; self.batch * classes];
        let Some(labels) = self.arrays.get("y") else { return Ok(targets) };
        for (row, &label) in targets.chunks_mut(classes).zip(&labels.values) {
            let slot = (label >= 0.0).then(|| row.get_mut(label as usize)).flatten();
            *slot.ok_or_else(|| format!("label {label} of {classes} classes"))? = 1.0;
        }
        Ok(targets)
    }

    /// `1/2 * mean_b ||d z_b / d x_b||_F^2` without the influence of other samples, which batch statistics bring in: one
    /// backward pass per output and sample, of which only the sample's own row counts.
    fn block_diagonal(&self) -> Result<f64, qnn::QnnError> {
        let model = &self.torch.model;
        let ([h, w, c], classes) = (model.network.input, model.network.classes);
        let mut graph = Graph::default();
        let input = graph.input(&[self.batch, h, w, c]);
        let v = graph.input(&[self.batch, classes]);
        let forward = Forward::build(&mut graph, model, input, Phase::Training, self.statistics)?;
        let products = graph.vjp(forward.logits, v, &[input]);
        let [Some(jv)] = products[..] else { return Ok(0.0) };
        let squares = graph.row_dot(jv, jv);
        let mut exec: Executor<f64> = Executor::new(graph, &[&[squares]], Phase::Training, false);
        let (mut v, mut sum) = (vec![0.0; self.batch * classes], 0.0);
        for k in 0..v.len() {
            v[k] = 1.0;
            let values = Values { inputs: vec![&self.x, &v], params: &self.torch.params };
            exec.run(0, &values, RunKey::default())?;
            sum += exec.output(squares)[k / classes];
            v[k] = 0.0;
        }
        Ok(0.5 * sum / self.batch as f64)
    }
}

/// Builds penalties by name, each one once, with its gradients.
struct Terms<'a, 'g> {
    model: &'a Model,
    graph: &'g mut Graph,
    forward: &'a Forward,
    sets: &'a BTreeMap<&'a str, Vec<NodeId>>,
    ce: NodeId,
    known: BTreeMap<String, Vec<Option<NodeId>>>,
}

impl Terms<'_, '_> {
    /// `jr_V1`, `layer_h1.full`, `sum_x_h1_h2.V1` or `ce_plus_0.05_jr_V1`.
    fn term(&mut self, name: &str) -> Result<NodeId, String> {
        if let Some(rest) = name.strip_prefix("ce_plus_") {
            let (lambda, rest) = rest.split_once('_').ok_or("`ce_plus_` without a weight")?;
            let lambda: f64 = lambda.parse().map_err(|_| format!("weight `{lambda}`"))?;
            let term = self.term(rest)?;
            let ce = self.ce;
            return Ok(self.graph.linear(&[(1.0, ce), (lambda, term)]));
        }
        if let Some(directions) = name.strip_prefix("jr_") {
            return self.penalty("x", directions);
        }
        let unknown = || format!("no known penalty `{name}`");
        let (places, directions) = name.rsplit_once('.').ok_or_else(unknown)?;
        if let Some(place) = places.strip_prefix("layer_") {
            return self.penalty(place, directions);
        }
        let places = places.strip_prefix("sum_").ok_or_else(unknown)?;
        let terms: Result<Vec<_>, String> =
            places.split('_').map(|place| Ok((1.0, self.penalty(place, directions)?))).collect();
        Ok(self.graph.linear(&terms?))
    }

    /// The penalty of the logits' Jacobian with respect to one place.
    fn penalty(&mut self, place: &str, directions: &str) -> Result<NodeId, String> {
        let wrt = self.place(place)?;
        let directions = match directions {
            "full" => Directions::Exact,
            set => Directions::Given(self.sets.get(set).ok_or_else(|| format!("no directions `{set}`"))?),
        };
        let value =
            half_square(self.graph, self.forward.logits, wrt, directions).map_err(|e| e.to_string())?;
        value.ok_or_else(|| format!("logits do not depend on `{place}`"))
    }

    /// `x` or `input`; `a2`, what activation 2 reads; `h2`, what it puts out.
    fn place(&self, name: &str) -> Result<NodeId, String> {
        if matches!(name, "x" | "input") {
            return Ok(self.forward.input);
        }
        let layers = &self.model.network.layers;
        let number = name.strip_prefix(['a', 'h']).unwrap_or("");
        let at = layers.iter().position(|l| l.name == format!("h{number}"));
        let at = at.ok_or_else(|| format!("there is no layer `{name}`"))?;
        Ok(self.forward.layers[if name.starts_with('a') { at - 1 } else { at }])
    }

    fn gradients(&mut self, term: &str) -> Result<&[Option<NodeId>], String> {
        if !self.known.contains_key(term) {
            let value = self.term(term)?;
            let gradients = self.graph.grad(value, &self.forward.params);
            self.known.insert(term.to_owned(), gradients);
        }
        Ok(&self.known[term])
    }
}

/// `W x`: the exact penalty is `||W||_F^2 / 2` for every input, and its gradient is `W`.
fn affine(arrays: &Arrays) -> Result<Vec<Judged>, String> {
    let text = |e: qnn::QnnError| e.to_string();
    let matrix = &arrays["W"];
    let &[classes, inputs] = &matrix.shape[..] else {
        return Err(format!("`W` has shape {:?}, expected [classes, inputs]", matrix.shape));
    };
    let net = Network::new("affine", [1, 1, inputs], InputGrid::UNIT_IMAGE, classes)
        .then("flatten", LayerOp::Flatten)
        .then("logits", LayerOp::Dense { units: classes, bias: false, quantizer: None });
    let model = Model::new(net, 0).map_err(text)?;
    let transposed = |values: &[f64], columns: usize| -> Vec<f64> {
        let rows = values.len() / columns.max(1);
        (0..values.len()).map(|i| values[i % rows * columns + i / rows]).collect()
    };
    let params = [transposed(&matrix.values, inputs)];
    let mut graph = Graph::default();
    let input = graph.input(&[2, 1, 1, inputs]);
    let forward =
        Forward::build(&mut graph, &model, input, Phase::Training, Statistics::Moving).map_err(text)?;
    let value = half_square(&mut graph, forward.logits, input, Directions::Exact).map_err(text)?;
    let value = value.ok_or("logits do not depend on the input")?;
    let gradient = graph.grad(value, &forward.params)[0].ok_or("the penalty does not depend on `W`")?;
    let mut exec: Executor<f64> = Executor::new(graph, &[&[value, gradient]], Phase::Training, false);
    let x: Vec<f64> = (0..2 * inputs).map(|i| (i % 7) as f64 / 7.0).collect();
    exec.run(0, &Values { inputs: vec![&x], params: &params }, RunKey::default()).map_err(text)?;
    let judge = |(name, reference): (&String, &Array)| {
        let got = match name.as_str() {
            "jr_full" => exec.output(value).to_vec(),
            "grad_W" => transposed(exec.output(gradient), classes),
            _ => return (name.clone(), Err("no known form of a reference array".into())),
        };
        (name.clone(), compare(&got, reference, 0.0))
    };
    Ok(arrays.iter().filter(|(name, _)| *name != "W").map(judge).collect())
}

/// Compares values with a reference; `scale` is the penalty whose gradient it is.
fn compare(got: &[f64], reference: &Array, scale: f64) -> Result<String, String> {
    if got.len() != reference.values.len() {
        return Err(format!("{} values, the reference has {}", got.len(), reference.values.len()));
    }
    let largest = reference.values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let bound = RELATIVE * largest + ABSOLUTE * scale.max(1.0);
    let mut worst = 0.0f64;
    for (i, (g, r)) in got.iter().zip(&reference.values).enumerate() {
        let deviation = (g - r).abs();
        if deviation > bound || deviation.is_nan() {
            return Err(format!("element {i} is {g:e}, the reference says {r:e}; {bound:.1e} are allowed"));
        }
        worst = worst.max(deviation);
    }
    Ok(format!("{} values within {worst:.1e} of a largest {largest:.3e}", got.len()))
}

/// Projection vectors: `V` and a number.
fn is_vectors(name: &str) -> bool {
    name.strip_prefix('V').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Arrays that a case starts from rather than compares with.
fn is_given(name: &str) -> bool {
    matches!(name, "x" | "y") || name.starts_with("w.") || is_vectors(name)
}
