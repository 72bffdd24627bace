//! Whole models: every layer's output, quantized kernels, losses, Jacobian penalty, gradients in both phases, and three
//! steps of each optimizer.

use std::collections::HashMap;

use qtensor::Quantizer;
use qtensor::conformance::{Case, Manifest, Tensor};
use serde_json::Value;

use super::compare::{Arguments, Bound};
use super::layer::{activation, batch_norm_quantizers, kernel_quantizer, window};
use super::run::{self, Tensors};
use crate::graph::{Graph, NodeId};
use crate::layer::{self, BatchNorm, Moments, add_bias};
use crate::network::Pad;
use crate::train::{Optimizer, Step, cross_entropy};

/// Steps of each optimizer in the reference.
const STEPS: u64 = 3;
/// Learning rates of the reference.
const ADAM_RATE: f32 = 0.01;
const SGD_RATE: f32 = 0.05;
/// A gradient whose largest value is below this share of the model's largest is rounding noise in f32.
const NOISE: f32 = 4e-6;

/// Compares everything the case holds.
pub(super) fn check(manifest: &Manifest, case: &Case) -> Result<String, String> {
    let reference = Reference { manifest, case };
    let weights = Weights::read(&reference)?;
    let mut got: HashMap<String, Vec<f32>> = HashMap::new();
    forward(&reference, &weights, &mut got)?;
    let lambda = case.field("jr_lambda").and_then(Value::as_f64).unwrap_or(0.0);
    for (mode, training, lambda) in [
        ("infer", false, None),
        ("train", true, None),
        ("infer_jr", false, Some(lambda)),
        ("train_jr", true, Some(lambda)),
    ] {
        let step = TrainingStep::build(&reference, &weights, training, lambda)?;
        let result = step.run(&reference, &weights.values)?;
        got.insert(format!("{mode}:ce"), vec![result.cross_entropy]);
        got.insert(format!("{mode}:jr"), vec![result.jacobian]);
        for (name, gradient) in weights.names.iter().zip(result.gradients) {
            got.extend(gradient.map(|g| (format!("{mode}:grad:{name}"), g)));
        }
        if mode == "train" {
            let mut after = weights.values.clone();
            result.moved.iter().for_each(|(index, values)| after[*index].clone_from(values));
            got.extend(weights.names.iter().zip(after).map(|(n, v)| (format!("{mode}:after:{n}"), v)));
        }
    }
    for (name, optimizer, rate) in [
        ("adam", Optimizer::adam(), ADAM_RATE),
        ("sgdm", Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 }, SGD_RATE),
    ] {
        trajectory(&reference, &weights, name, &optimizer, rate, &mut got)?;
    }
    let compared = reference.compare(&got)?;
    Ok(format!("{compared}; {}", super::qstats::check(case, &weights)?))
}

/// A case with its folder.
#[derive(Clone, Copy)]
pub(super) struct Reference<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) case: &'a Case,
}

impl<'a> Reference<'a> {
    fn tensor(&self, name: &str) -> Result<Tensor<'a>, String> {
        self.manifest.tensor(self.case, name)
    }

    fn layers(&self) -> Result<&'a [Value], String> {
        let list = self.case.field("layers").and_then(Value::as_array).ok_or("no `layers`")?;
        Ok(list)
    }

    /// Compares each tensor of the case that is no input with ours of the same name.
    fn compare(&self, got: &HashMap<String, Vec<f32>>) -> Result<String, String> {
        let (mut compared, mut noisy, mut used) = (0, 0, 0f64);
        for name in self.case.tensor_names() {
            if ["x", "labels_onehot", "jr_v"].contains(&name) || name.starts_with("w:") {
                continue;
            }
            let Some(ours) = got.get(name) else {
                return Err(format!("nothing to compare tensor `{name}` with"));
            };
            let kind = match name {
                _ if name.contains(":grad:") => "grads",
                _ if name.starts_with("adam:") || name.starts_with("sgdm:") => "trajectories",
                _ => "out",
            };
            let want = self.tensor(name)?;
            if let Some((mode, parameter)) = name.split_once(":grad:")
                && let Some(limit) = self.noise(mode, parameter)?
            {
                let bound = Bound::within(f64::from(limit));
                bound.check(name, ours, &vec![0.0; want.data.len()])?;
                noisy += 1;
                continue;
            }
            if let Some(parameter) = name.strip_prefix("adam:final:")
                && self.noise("train", parameter)?.is_some()
            {
                self.stays_near(name, parameter, ours, want.data)?;
                noisy += 1;
                continue;
            }
            let ours =
                if name.starts_with("scale:") { run::spread(ours, want.data.len()) } else { ours.clone() };
            used = used.max(Bound::of(self.case, kind)?.check(name, &ours, want.data)?);
            compared += 1;
        }
        let noise = match noisy {
            0 => String::new(),
            n => format!(", {n} that are rounding errors in the reference within the size of such"),
        };
        Ok(format!("{compared} tensors within {:.1} % of their tolerances{noise}", 100.0 * used))
    }

    /// The size of rounding errors, if the reference's gradient of a parameter consists of nothing else: a bias in front of
    /// batch normalisation has none. Errors of another order of summation agree in size only; and Adam divides a gradient
    /// by its own size, so that the path of such a parameter is made of rounding errors, too.
    fn noise(&self, mode: &str, parameter: &str) -> Result<Option<f32>, String> {
        let largest = |name: &str| -> Result<f32, String> {
            Ok(self.tensor(name)?.data.iter().fold(0f32, |m, v| m.max(v.abs())))
        };
        let prefix = format!("{mode}:grad:");
        let own = format!("{prefix}{parameter}");
        if !self.case.has_tensor(&own) {
            return Ok(None);
        }
        let mut all = 0f32;
        for name in self.case.tensor_names().filter(|n| n.starts_with(&prefix)) {
            all = all.max(largest(name)?);
        }
        Ok((largest(&own)? <= NOISE * all).then_some(NOISE * all))
    }

    /// Both paths start at the same values and move by at most Adam's largest step each time.
    fn stays_near(&self, name: &str, parameter: &str, ours: &[f32], theirs: &[f32]) -> Result<(), String> {
        let start = self.tensor(&format!("w:{parameter}"))?;
        if ours.len() != start.data.len() || theirs.len() != start.data.len() {
            return Err(format!("{name}: {} elements, reference has {}", ours.len(), theirs.len()));
        }
        // |m| / sqrt(v) is at most 1.06 in the first three steps, by Cauchy's inequality.
        let reach = 1.1 * STEPS as f32 * ADAM_RATE;
        for (i, &start) in start.data.iter().enumerate() {
            for (who, value) in [("ours", ours[i]), ("the reference", theirs[i])] {
                let moved = (value - start).abs();
                if moved.is_nan() || moved > reach {
                    return Err(format!(
                        "{name}[{i}]: {who} moved by {moved:e}, at most {reach:e} is possible"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The model's parameters by name, `layer.variable`.
pub(super) struct Weights {
    pub(super) names: Vec<String>,
    pub(super) shapes: Vec<Vec<usize>>,
    pub(super) values: Vec<Vec<f32>>,
    /// Bound of each on its magnitude, from its quantizer.
    clips: Vec<Option<f32>>,
}

impl Weights {
    fn read(reference: &Reference<'_>) -> Result<Self, String> {
        let mut weights =
            Self { names: Vec::new(), shapes: Vec::new(), values: Vec::new(), clips: Vec::new() };
        for stored in reference.case.tensor_names() {
            let Some(name) = stored.strip_prefix("w:") else { continue };
            let tensor = reference.tensor(stored)?;
            weights.names.push(name.to_owned());
            weights.shapes.push(tensor.shape.clone());
            weights.values.push(tensor.data.to_vec());
            weights.clips.push(None);
        }
        for layer in reference.layers()? {
            let arguments = Arguments(layer);
            let name = arguments.text("name").ok_or("a layer without a name")?;
            let clip = |q: Option<Quantizer>| q.and_then(|q| q.weight_clip()).map(|c| c as f32);
            if let Some(kernel) = weights.kernel(name) {
                weights.clips[kernel] = clip(kernel_quantizer(&arguments)?);
            }
            if let Some(bias) = weights.find(name, "bias") {
                weights.clips[bias] = clip(arguments.quantizer("bias_quantizer")?);
            }
            if arguments.text("type") == Some("QBatchNormalization") {
                let quantizers = batch_norm_quantizers(&arguments)?;
                for (suffix, q) in [("gamma", quantizers.gamma), ("beta", quantizers.beta)] {
                    if let Some(index) = weights.find(name, suffix) {
                        weights.clips[index] = clip(q);
                    }
                }
            }
        }
        // QKeras' own clips are stated beside; ours must be the same.
        if let Some(constraints) = reference.case.field("constraints").and_then(Value::as_object) {
            for (name, range) in constraints {
                let index = weights.names.iter().position(|n| n == name);
                let clip = index.and_then(|i| weights.clips[i]).map(f64::from);
                let want = range.as_array().and_then(|r| r.last()).and_then(Value::as_f64);
                if clip != want {
                    return Err(format!("{name} is clipped to {clip:?}, reference {want:?}"));
                }
            }
        }
        Ok(weights)
    }

    fn find(&self, layer: &str, variable: &str) -> Option<usize> {
        let name = format!("{layer}.{variable}");
        self.names.iter().position(|n| *n == name)
    }

    pub(super) fn kernel(&self, layer: &str) -> Option<usize> {
        self.find(layer, "kernel").or_else(|| self.find(layer, "depthwise_kernel"))
    }

    pub(super) fn bias(&self, layer: &str) -> Option<usize> {
        self.find(layer, "bias")
    }

    fn is_trainable(&self, index: usize) -> bool {
        !self.names[index].contains(".moving_")
    }
}

/// Statistics of one normalisation that training moves.
struct Moved {
    mean: usize,
    variance: usize,
    batch: Moments,
    momentum: f32,
    bessel: f32,
}

/// The forward pass of a case.
struct Built {
    graph: Graph,
    input: NodeId,
    params: Vec<NodeId>,
    outputs: Vec<(String, NodeId)>,
    moved: Vec<Moved>,
}

impl Built {
    fn new(reference: &Reference<'_>, weights: &Weights, training: bool) -> Result<Self, String> {
        let mut graph = Graph::default();
        let input = graph.input(&reference.tensor("x")?.shape);
        let params = weights.shapes.iter().enumerate().map(|(i, shape)| graph.param(i, shape)).collect();
        let mut built = Self { graph, input, params, outputs: Vec::new(), moved: Vec::new() };
        let mut x = input;
        for value in reference.layers()? {
            let arguments = Arguments(value);
            let name = arguments.text("name").ok_or("a layer without a name")?;
            built.graph.set_label(name);
            x = built
                .layer(&arguments, name, weights, training, x)
                .map_err(|why| format!("{name}: {why}"))?;
            built.outputs.push((name.to_owned(), x));
        }
        Ok(built)
    }

    fn layer(
        &mut self,
        arguments: &Arguments<'_>,
        name: &str,
        weights: &Weights,
        training: bool,
        x: NodeId,
    ) -> Result<NodeId, String> {
        let failed = |e: kernels::KernelError| e.to_string();
        let kind = arguments.text("type").ok_or("no type")?;
        let y = match kind {
            "QConv2D" | "Conv2D" | "QDepthwiseConv2D" | "DepthwiseConv2D" | "QDense" | "Dense" => {
                let index = weights.kernel(name).ok_or("no kernel")?;
                let kernel = self.params[index];
                let graph = &mut self.graph;
                let kernel = match kernel_quantizer(arguments)? {
                    Some(q) => graph.quantize_kernel(&q, index as u64, kernel),
                    None => kernel,
                };
                let y = match kind {
                    "QDense" | "Dense" => graph.dense(x, kernel),
                    "QDepthwiseConv2D" | "DepthwiseConv2D" => {
                        layer::depthwise_conv2d(graph, x, kernel, &window(arguments)?)
                    }
                    _ => layer::conv2d(graph, x, kernel, &window(arguments)?),
                };
                let y = y.map_err(failed)?;
                match (weights.bias(name), arguments.quantizer("bias_quantizer")?) {
                    (None, _) => y,
                    (Some(b), None) => add_bias(graph, y, self.params[b]),
                    (Some(b), Some(q)) => {
                        let bias = layer::quantize(graph, &q, b as u64, self.params[b]);
                        add_bias(graph, y, bias)
                    }
                }
            }
            "BatchNormalization" | "QBatchNormalization" => {
                self.batch_norm(arguments, name, weights, training, x)?
            }
            "QActivation" | "Activation" | "ReLU" => x,
            "MaxPooling2D" | "AveragePooling2D" => {
                let size = arguments.pair("pool_size")?.unwrap_or([2, 2]);
                let stride = arguments.pair("strides")?.unwrap_or(size);
                let padding = match arguments.text("padding") {
                    Some("same") => Pad::Same,
                    _ => Pad::Valid,
                };
                let dims = self.graph.shape(x).try_into().map_err(|_| "pools an image only")?;
                let g = kernels::Pool2d::new(dims, size, stride, padding.into()).map_err(failed)?;
                match kind {
                    "MaxPooling2D" => self.graph.max_pool(g, x),
                    _ => self.graph.avg_pool(g, x),
                }
            }
            "GlobalAveragePooling2D" => {
                let dims: [usize; 4] = self.graph.shape(x).try_into().map_err(|_| "pools an image only")?;
                let size = [dims[1], dims[2]];
                let g = kernels::Pool2d::new(dims, size, size, kernels::Padding::Valid).map_err(failed)?;
                let pooled = self.graph.avg_pool(g, x);
                self.graph.reshape(pooled, &[dims[0], dims[3]])
            }
            "Flatten" => {
                let shape = self.graph.shape(x).to_vec();
                self.graph.reshape(x, &[shape[0], shape[1..].iter().product()])
            }
            // Reference cases are deterministic: dropout is off in them.
            "Dropout" | "InputLayer" => x,
            other => return Err(format!("unknown layer type `{other}`")),
        };
        if kind == "ReLU" {
            return Ok(self.graph.activation(crate::graph::Nonlinearity::Relu, y));
        }
        activation(&mut self.graph, arguments, y)
    }

    fn batch_norm(
        &mut self,
        arguments: &Arguments<'_>,
        name: &str,
        weights: &Weights,
        training: bool,
        x: NodeId,
    ) -> Result<NodeId, String> {
        let index = |suffix: &str| weights.find(name, suffix);
        let need = |suffix: &str| index(suffix).ok_or_else(|| format!("no `{suffix}`"));
        let (mean, variance) = (need("moving_mean")?, need("moving_variance")?);
        let node = |i: usize| self.params[i];
        let mut norm = BatchNorm {
            gamma: index("gamma").map(node),
            beta: index("beta").map(node),
            mean: node(mean),
            variance: node(variance),
            eps: arguments.number("epsilon").unwrap_or(1e-3),
        };
        let quantized = arguments.text("type") == Some("QBatchNormalization");
        if training {
            let batch = Moments::of(&mut self.graph, x);
            (norm.mean, norm.variance) = (batch.mean, batch.variance);
            let fused = !quantized && self.graph.shape(x).len() == 4;
            let bessel = if fused { batch.bessel() } else { 1.0 };
            let momentum = arguments.number("momentum").unwrap_or(0.99) as f32;
            self.moved.push(Moved { mean, variance, batch, momentum, bessel });
        }
        Ok(if quantized {
            norm.apply_quantized(&mut self.graph, &batch_norm_quantizers(arguments)?, 0, x)
        } else {
            norm.apply(&mut self.graph, x)
        })
    }

    fn logits(&self) -> Result<NodeId, String> {
        self.outputs.last().map(|o| o.1).ok_or_else(|| "a model without layers".to_owned())
    }
}

/// Outputs of every layer in inference, quantized kernels and their scales.
fn forward(
    reference: &Reference<'_>,
    weights: &Weights,
    got: &mut HashMap<String, Vec<f32>>,
) -> Result<(), String> {
    let built = Built::new(reference, weights, false)?;
    let x = reference.tensor("x")?;
    let leaves = Tensors { inputs: vec![x.data], params: &weights.values };
    let nodes: Vec<NodeId> = built.outputs.iter().map(|o| o.1).collect();
    let values = run::values(&built.graph, &nodes, &leaves)?;
    got.extend(built.outputs.iter().zip(values).map(|(o, v)| (format!("out:{}", o.0), v)));
    for value in reference.layers()? {
        let arguments = Arguments(value);
        let name = arguments.text("name").unwrap_or_default();
        if let (Some(index), Some(q)) = (weights.kernel(name), kernel_quantizer(&arguments)?) {
            let (values, scales) = run::quantize(&q, &weights.values[index], &weights.shapes[index])?;
            got.insert(format!("q:{name}"), values);
            got.insert(format!("scale:{name}"), scales);
        }
    }
    Ok(())
}

/// One step's losses and gradients.
struct TrainingStep {
    built: Built,
    cross_entropy: NodeId,
    jacobian: Option<NodeId>,
    gradients: Vec<Option<NodeId>>,
}

struct StepResult {
    cross_entropy: f32,
    jacobian: f32,
    gradients: Vec<Option<Vec<f32>>>,
    /// Moving statistics after the step, by parameter.
    moved: Vec<(usize, Vec<f32>)>,
}

impl TrainingStep {
    fn build(
        reference: &Reference<'_>,
        weights: &Weights,
        training: bool,
        lambda: Option<f64>,
    ) -> Result<Self, String> {
        let mut built = Built::new(reference, weights, training)?;
        let logits = built.logits()?;
        let labels = reference.tensor("labels_onehot")?;
        let graph = &mut built.graph;
        if graph.shape(logits) != labels.shape {
            return Err(format!("logits have shape {:?}, labels {:?}", graph.shape(logits), labels.shape));
        }
        let target = graph.input(&labels.shape);
        let projection = graph.input(&labels.shape);
        let ce = cross_entropy(graph, logits, target);
        let mut loss = ce;
        let mut jacobian = None;
        if let Some(lambda) = lambda {
            let Some(row) = graph.vjp(logits, projection, &[built.input])[0] else {
                return Err("the logits do not depend on the input".into());
            };
            let square = graph.dot_all(row, row);
            let value = graph.scale(1.0 / labels.shape[0].max(1) as f64, square);
            jacobian = Some(value);
            loss = graph.linear(&[(1.0, ce), (lambda, value)]);
        }
        let gradients = graph.grad(loss, &built.params);
        Ok(Self { built, cross_entropy: ce, jacobian, gradients })
    }

    fn run(&self, reference: &Reference<'_>, params: &[Vec<f32>]) -> Result<StepResult, String> {
        let names = ["x", "labels_onehot", "jr_v"].map(|name| reference.tensor(name));
        let [x, labels, projection] = names;
        let (x, labels, projection) = (x?, labels?, projection?);
        let leaves = Tensors { inputs: vec![x.data, labels.data, projection.data], params };
        let mut outputs = vec![self.cross_entropy, self.jacobian.unwrap_or(self.cross_entropy)];
        outputs.extend(self.built.moved.iter().flat_map(|m| [m.batch.mean, m.batch.variance]));
        outputs.extend(self.gradients.iter().flatten());
        let mut values = run::values(&self.built.graph, &outputs, &leaves)?.into_iter();
        let mut next = || values.next().unwrap_or_default();
        let (ce, jr) = (next(), next());
        let mut moved = Vec::new();
        for m in &self.built.moved {
            for (index, factor) in [(m.mean, 1.0), (m.variance, m.bessel)] {
                let batch = next();
                let after = params[index].iter().zip(&batch);
                let after = after.map(|(old, b)| m.momentum * old + (1.0 - m.momentum) * b * factor);
                moved.push((index, after.collect()));
            }
        }
        let gradients = self.gradients.iter().map(|g| g.map(|_| next())).collect();
        let jacobian = if self.jacobian.is_some() { jr[0] } else { 0.0 };
        Ok(StepResult { cross_entropy: ce[0], jacobian, gradients, moved })
    }
}

/// Losses of the first steps and the parameters after them.
fn trajectory(
    reference: &Reference<'_>,
    weights: &Weights,
    name: &str,
    optimizer: &Optimizer,
    rate: f32,
    got: &mut HashMap<String, Vec<f32>>,
) -> Result<(), String> {
    let step = TrainingStep::build(reference, weights, true, None)?;
    let mut values = weights.values.clone();
    let zeros = || weights.values.iter().map(|v| vec![0.0; v.len()]).collect::<Vec<_>>();
    let (mut first, mut second) = (zeros(), zeros());
    let mut losses = Vec::new();
    for updates in 1..=STEPS {
        let result = step.run(reference, &values)?;
        losses.push(result.cross_entropy);
        for (index, gradient) in result.gradients.iter().enumerate() {
            let (Some(gradient), true) = (gradient, weights.is_trainable(index)) else { continue };
            let clip = weights.clips[index];
            let step = Step { optimizer, updates, scale: 1.0, rate, decays: false, clip };
            step.apply(&mut values[index], gradient, &mut first[index], &mut second[index]);
        }
        result.moved.into_iter().for_each(|(index, after)| values[index] = after);
    }
    got.insert(format!("{name}:losses"), losses);
    got.extend(weights.names.iter().zip(values).map(|(n, v)| (format!("{name}:final:{n}"), v)));
    Ok(())
}
