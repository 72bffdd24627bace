//! Single layers: output, gradients of `<g, y>`, quantized parameters, scales, moving statistics, and what QKeras does to the
//! layer's quantizers.

use qtensor::Quantizer;
use qtensor::conformance::{Case, Manifest};
use serde_json::Value;

use super::compare::{Arguments, Bound};
use super::run::{self, Tensors};
use crate::graph::{Graph, NodeId, Nonlinearity};
use crate::layer::{
    self, BatchNorm, BatchNormQuantizers, Conv2dBatchnorm, Folding, Moments, Window, add_bias,
};
use crate::network::Pad;

/// Parameters a layer can have; gradients are called `d` and the name.
const PARAMETERS: [&str; 6] = ["kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"];

/// Compares everything the case holds.
pub(super) fn check(manifest: &Manifest, case: &Case) -> Result<String, String> {
    let arguments = Arguments(case.field("params").ok_or("no `params`")?);
    let mut setup = Setup::read(manifest, case)?;
    let y = match case.text("layer")? {
        "QConv2D" | "Conv2D" | "QDense" | "Dense" | "QDepthwiseConv2D" | "DepthwiseConv2D" => {
            weighted(case, &arguments, &mut setup)?
        }
        "BatchNormalization" => normalised(case, &arguments, &mut setup, None)?,
        "QBatchNormalization" => {
            let quantizers = batch_norm_quantizers(&arguments)?;
            normalised(case, &arguments, &mut setup, Some(&quantizers))?
        }
        "QConv2DBatchnorm" => folded(case, &arguments, &mut setup)?,
        other => return Err(format!("unknown layer `{other}`")),
    };
    let y = activation(&mut setup.graph, &arguments, y)?;
    setup.want("y", y);
    setup.compare(manifest, case, y)
}

/// The graph of one case and what is to be compared.
struct Setup<'a> {
    graph: Graph,
    inputs: Vec<&'a [f32]>,
    params: Vec<Vec<f32>>,
    x: NodeId,
    nodes: Vec<(&'static str, NodeId)>,
    outputs: Vec<(String, NodeId)>,
    known: Vec<(String, Vec<f32>)>,
    training: bool,
}

impl<'a> Setup<'a> {
    fn read(manifest: &'a Manifest, case: &Case) -> Result<Self, String> {
        let x = manifest.tensor(case, "x")?;
        let mut graph = Graph::default();
        let input = graph.input(&x.shape);
        let (mut params, mut nodes) = (Vec::new(), Vec::new());
        for name in PARAMETERS {
            if case.has_tensor(name) {
                let tensor = manifest.tensor(case, name)?;
                nodes.push((name, graph.param(params.len(), &tensor.shape)));
                params.push(tensor.data.to_vec());
            }
        }
        let training = case.text("phase")? == "training";
        let (outputs, known) = (Vec::new(), Vec::new());
        Ok(Self { graph, inputs: vec![x.data], params, x: input, nodes, outputs, known, training })
    }

    fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().find(|n| n.0 == name).map(|n| n.1)
    }

    fn need(&self, name: &str) -> Result<NodeId, String> {
        self.find(name).ok_or_else(|| format!("no tensor `{name}`"))
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|n| n.0 == name)
    }

    fn want(&mut self, name: &str, node: NodeId) {
        self.outputs.push((name.to_owned(), node));
    }

    /// The new moving statistics, which also replace the old ones as parameters.
    fn move_statistics(&mut self, batch: &Moments, momentum: f32, bessel: f32) -> Result<(), String> {
        let leaves = Tensors { inputs: self.inputs.clone(), params: &self.params };
        let moments = run::values(&self.graph, &[batch.mean, batch.variance], &leaves)?;
        for (name, batch, factor) in
            [("moving_mean", &moments[0], 1.0), ("moving_variance", &moments[1], bessel)]
        {
            let index = self.index(name).ok_or_else(|| format!("no tensor `{name}`"))?;
            for (moving, b) in self.params[index].iter_mut().zip(batch) {
                *moving = momentum * *moving + (1.0 - momentum) * b * factor;
            }
            self.known.push((format!("{name}_after"), self.params[index].clone()));
        }
        Ok(())
    }

    /// Runs everything and compares each tensor of the case that is no input.
    fn compare(mut self, manifest: &'a Manifest, case: &Case, y: NodeId) -> Result<String, String> {
        if case.has_tensor("g") {
            let g = manifest.tensor(case, "g")?;
            if g.shape != self.graph.shape(y) {
                return Err(format!("y has shape {:?}, reference {:?}", self.graph.shape(y), g.shape));
            }
            let cotangent = self.graph.input(&g.shape);
            self.inputs.push(g.data);
            let mut wrt: Vec<(&str, NodeId)> = vec![("x", self.x)];
            wrt.extend(self.nodes.iter().filter(|n| !n.0.starts_with("moving")));
            let ids: Vec<NodeId> = wrt.iter().map(|w| w.1).collect();
            let gradients = self.graph.vjp(y, cotangent, &ids);
            for ((name, id), gradient) in wrt.into_iter().zip(gradients) {
                let shape = self.graph.shape(id).to_vec();
                let gradient = gradient.unwrap_or_else(|| self.graph.fill(0.0, &shape));
                self.want(&format!("d{name}"), gradient);
            }
        }
        let ids: Vec<NodeId> = self.outputs.iter().map(|o| o.1).collect();
        let leaves = Tensors { inputs: self.inputs.clone(), params: &self.params };
        let values = run::values(&self.graph, &ids, &leaves)?;
        let computed = self.outputs.iter().map(|o| o.0.clone()).zip(values);
        let got: Vec<(String, Vec<f32>)> = computed.chain(self.known).collect();
        let (mut compared, mut used) = (0, 0f64);
        for name in case.tensor_names() {
            if name == "x" || name == "g" || PARAMETERS.contains(&name) {
                continue;
            }
            let Some((_, ours)) = got.iter().find(|g| g.0 == name) else {
                return Err(format!("nothing to compare tensor `{name}` with"));
            };
            let bound = match name {
                "kernel_q" | "bias_q" | "kernel_scale" | "bias_scale" => Bound::of(case, "kernel_q")?,
                _ if name.starts_with('d') => Bound::of(case, "grads")?,
                _ => Bound::of(case, "y")?,
            };
            let reference = manifest.tensor(case, name)?;
            let ours =
                if name.ends_with("_scale") { run::spread(ours, reference.data.len()) } else { ours.clone() };
            used = used.max(bound.check(name, &ours, reference.data)?);
            compared += 1;
        }
        Ok(format!("{compared} tensors within {:.1} % of their tolerances", 100.0 * used))
    }
}

pub(super) fn window(arguments: &Arguments<'_>) -> Result<Window, String> {
    let padding = match arguments.text("padding") {
        Some("same") => Pad::Same,
        Some("valid") | None => Pad::Valid,
        Some(other) => return Err(format!("unknown padding `{other}`")),
    };
    Ok(Window {
        stride: arguments.pair("strides")?.unwrap_or([1, 1]),
        padding,
        dilation: arguments.pair("dilation_rate")?.unwrap_or([1, 1]),
    })
}

/// The function of `activation`: a quantizer, `relu` or nothing.
pub(super) fn activation(graph: &mut Graph, arguments: &Arguments<'_>, y: NodeId) -> Result<NodeId, String> {
    match arguments.text("activation") {
        None | Some("linear") => Ok(y),
        Some("relu") => Ok(graph.activation(Nonlinearity::Relu, y)),
        Some(_) => {
            let quantizer = arguments.quantizer("activation")?.ok_or("no activation")?;
            Ok(layer::quantize(graph, &quantizer, 0, y))
        }
    }
}

/// The kernel quantizer as the layer uses it, under either keyword.
pub(super) fn kernel_quantizer(arguments: &Arguments<'_>) -> Result<Option<Quantizer>, String> {
    let given = match arguments.quantizer("depthwise_quantizer")? {
        None => arguments.quantizer("kernel_quantizer")?,
        found => found,
    };
    Ok(given.map(Quantizer::for_kernel))
}

pub(super) fn batch_norm_quantizers(arguments: &Arguments<'_>) -> Result<BatchNormQuantizers, String> {
    // As a kernel's: a scale or variance quantizer without alpha gets auto_po2 (beta's and the mean's keep theirs).
    let scaled = |q: Option<Quantizer>| q.map(Quantizer::for_kernel);
    Ok(BatchNormQuantizers {
        gamma: scaled(arguments.quantizer_or("gamma_quantizer", "quantized_relu_po2(6, 2048)")?),
        beta: arguments.quantizer_or("beta_quantizer", "quantized_po2(5)")?,
        mean: arguments.quantizer_or("mean_quantizer", "quantized_po2(5)")?,
        variance: scaled(
            arguments
                .quantizer_or("variance_quantizer", "quantized_relu_po2(6, quadratic_approximation=True)")?,
        ),
        inverse: None,
    })
}

/// Convolutions and dense layers.
fn weighted(case: &Case, arguments: &Arguments<'_>, setup: &mut Setup<'_>) -> Result<NodeId, String> {
    let quantizer = kernel_quantizer(arguments)?;
    let bias_quantizer = arguments.quantizer("bias_quantizer")?;
    effective(case, quantizer.as_ref(), bias_quantizer.as_ref())?;
    let latent = setup.need("kernel")?;
    let mut kernel = latent;
    if let Some(q) = &quantizer {
        kernel = setup.graph.quantize_kernel(q, 0, latent);
        setup.want("kernel_q", kernel);
        let index = setup.index("kernel").ok_or("no kernel")?;
        let (_, scales) = run::quantize(q, &setup.params[index], setup.graph.shape(latent))?;
        setup.known.push(("kernel_scale".into(), scales));
    }
    let (graph, x) = (&mut setup.graph, setup.x);
    let y = match case.text("layer")? {
        "QDense" | "Dense" => graph.dense(x, kernel),
        "QDepthwiseConv2D" | "DepthwiseConv2D" => {
            layer::depthwise_conv2d(graph, x, kernel, &window(arguments)?)
        }
        _ => layer::conv2d(graph, x, kernel, &window(arguments)?),
    };
    let mut y = y.map_err(|e| e.to_string())?;
    if let Some(mut bias) = setup.find("bias") {
        if let Some(q) = &bias_quantizer {
            bias = layer::quantize(&mut setup.graph, q, 0, bias);
            setup.want("bias_q", bias);
            let index = setup.index("bias").ok_or("no bias")?;
            let (_, scales) = run::quantize(q, &setup.params[index], setup.graph.shape(bias))?;
            setup.known.push(("bias_scale".into(), scales));
        }
        y = add_bias(&mut setup.graph, y, bias);
    }
    Ok(y)
}

/// What the layer does to its quantizers: effective kernel quantizer, weight clips, initializer.
fn effective(case: &Case, kernel: Option<&Quantizer>, bias: Option<&Quantizer>) -> Result<(), String> {
    if let Some(text) = case.field("effective_kernel_quantizer").and_then(Value::as_str) {
        let want: Quantizer = text.parse().map_err(|e: qtensor::ParseError| e.to_string())?;
        if kernel != Some(&want) {
            return Err(format!("the kernel quantizer is {kernel:?}, reference {text}"));
        }
    }
    for (field, quantizer) in [("kernel_constraint", kernel), ("bias_constraint", bias)] {
        let Some(Value::Array(constraint)) = case.field(field) else { continue };
        let want = constraint.last().and_then(Value::as_f64);
        let clip = quantizer.and_then(Quantizer::weight_clip);
        if clip != want {
            return Err(format!("{field}: {clip:?}, reference {want:?}"));
        }
    }
    if let Some(text) = case.field("kernel_initializer").and_then(Value::as_str) {
        let scaled = kernel.is_some_and(Quantizer::scales_initializer);
        let ours = if scaled { "QInitializer" } else { "HeNormal" };
        if ours != text {
            return Err(format!("kernel initializer {ours}, reference {text}"));
        }
    }
    Ok(())
}

/// Batch normalisation in either phase, plain or quantized.
fn normalised(
    case: &Case,
    arguments: &Arguments<'_>,
    setup: &mut Setup<'_>,
    quantizers: Option<&BatchNormQuantizers>,
) -> Result<NodeId, String> {
    let momentum = arguments.number("momentum").unwrap_or(0.99) as f32;
    let (mut mean, mut variance) = (setup.need("moving_mean")?, setup.need("moving_variance")?);
    if setup.training && arguments.flag("training", true) {
        let moments = Moments::of(&mut setup.graph, setup.x);
        // Only Keras' own layer has the fused kernel, and only for images.
        let fused = case.text("layer")? == "BatchNormalization" && setup.graph.shape(setup.x).len() == 4;
        setup.move_statistics(&moments, momentum, if fused { moments.bessel() } else { 1.0 })?;
        (mean, variance) = (moments.mean, moments.variance);
    }
    let (gamma, beta) = (setup.find("gamma"), setup.find("beta"));
    let eps = arguments.number("epsilon").unwrap_or(1e-3);
    let norm = BatchNorm { gamma, beta, mean, variance, eps };
    Ok(match quantizers {
        Some(q) => norm.apply_quantized(&mut setup.graph, q, 0, setup.x),
        None => norm.apply(&mut setup.graph, setup.x),
    })
}

/// `QConv2DBatchnorm` in either phase and folding mode.
fn folded(case: &Case, arguments: &Arguments<'_>, setup: &mut Setup<'_>) -> Result<NodeId, String> {
    let kernel_quantizer = kernel_quantizer(arguments)?;
    let bias_quantizer = arguments.quantizer("bias_quantizer")?;
    effective(case, kernel_quantizer.as_ref(), None)?;
    let layer = Conv2dBatchnorm {
        kernel: setup.need("kernel")?,
        bias: setup.find("bias"),
        gamma: setup.find("gamma"),
        beta: setup.find("beta"),
        moving_mean: setup.need("moving_mean")?,
        moving_variance: setup.need("moving_variance")?,
        eps: arguments.number("epsilon").unwrap_or(1e-3),
        window: window(arguments)?,
        kernel_quantizer,
        bias_quantizer,
    };
    let folding = match arguments.text("folding_mode") {
        Some("batch_stats_folding") => Folding::BatchStats,
        Some("ema_stats_folding") | None => Folding::EmaStats,
        Some(other) => return Err(format!("unknown folding mode `{other}`")),
    };
    // The layer counts its steps from -1: after `ema_freeze_delay` of them it stays with the moving statistics.
    let frozen = arguments.number("ema_freeze_delay").is_some_and(|delay| delay < 1.0);
    let failed = |e: kernels::KernelError| e.to_string();
    let y = if setup.training && arguments.flag("training", true) && !frozen {
        let moments = layer.moments(&mut setup.graph, setup.x).map_err(failed)?;
        let momentum = arguments.number("momentum").unwrap_or(0.99) as f32;
        setup.move_statistics(&moments, momentum, moments.bessel())?;
        layer.training(&mut setup.graph, setup.x, &moments, folding).map_err(failed)?
    } else {
        for name in ["moving_mean", "moving_variance"] {
            let index = setup.index(name).ok_or("no moving statistics")?;
            setup.known.push((format!("{name}_after"), setup.params[index].clone()));
        }
        layer.inference(&mut setup.graph, setup.x).map_err(failed)?
    };
    let (kernel, bias) = layer.folded(&mut setup.graph);
    setup.want("folded_kernel_after", kernel);
    setup.want("folded_bias_after", bias);
    Ok(y)
}
