//! From a trained network to the integer program, with the proof that they agree.
//!
//! Convolutions, normalisations and sums stay *wide* (accumulators with the f32 operations that follow them) until an
//! activation quantizer turns them into codes; only codes are ever stored.

mod activation;
mod add;
mod batch_norm;
mod conv2d;
mod dense;
mod depthwise;
mod kernel;
mod pool;

use qnn::network::{Layer, LayerOp, LayerShape, Network};
use serde::Serialize;

use crate::DeployError;
use crate::program::{Branch, Element, Program, Step, StepOp, Tensor};
use crate::prove::EquivalenceReport;

/// Parameters by name (`conv1/kernel`, `conv1_bn/gamma`, ...).
pub trait Weights {
    /// Shape and values of a parameter, if there is one of that name.
    fn parameter(&self, name: &str) -> Option<(&[usize], &[f32])>;
}

impl Weights for qnn::Model {
    fn parameter(&self, name: &str) -> Option<(&[usize], &[f32])> {
        self.param(name).map(|p| (&p.shape[..], &p.values[..]))
    }
}

/// A lowered network and what was proved about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lowered {
    /// The integer program.
    pub program: Program,
    /// The proof, summed over the layers.
    pub report: EquivalenceReport,
    /// The proof of each step with an epilogue: step name and report.
    pub layers: Vec<(String, EquivalenceReport)>,
}

/// What a layer puts out, as far as lowering is concerned.
#[derive(Clone, Debug)]
enum Value {
    /// A stored tensor, read as `[h, w, c]`.
    Codes { tensor: usize, shape: [usize; 3] },
    /// One branch, or two to be added.
    Wide(Vec<Branch>),
}

/// Lowers `net` with `weights` in the inference phase.
///
/// # Errors
/// [`DeployError::Unsupported`] naming the layer for what has no integer form (float kernels, plain ReLU, activations of
/// more than 8 bits, ...), missing or misshapen parameters, and any failure of the proof with its layer and channel.
pub fn lower(net: &Network, weights: &dyn Weights) -> Result<Lowered, DeployError> {
    let shapes = net.shapes()?;
    let input = Tensor {
        name: qnn::network::INPUT.to_owned(),
        len: net.input.iter().product(),
        element: Element::U8,
        scale: net.grid.scale,
        zero_point: net.grid.zero_point,
        max: 255,
    };
    let mut builder = Builder { tensors: vec![input], steps: Vec::new(), layers: Vec::new() };
    let mut values: Vec<Value> = Vec::with_capacity(net.layers.len());
    for (i, (layer, shape)) in net.layers.iter().zip(&shapes).enumerate() {
        let context = Context { weights, layer, shape };
        let sources: Vec<Value> = net
            .sources(i)?
            .into_iter()
            .map(|s| s.map_or(Value::Codes { tensor: 0, shape: net.input }, |s| values[s].clone()))
            .collect();
        values.push(builder.layer(&context, &sources)?);
    }
    let last =
        Context { weights, layer: &net.layers[net.layers.len() - 1], shape: &shapes[shapes.len() - 1] };
    let Some(Value::Wide(mut branches)) = values.pop() else {
        return Err(last.unsupported("the last layer puts out codes; logits must be a dense layer's output"));
    };
    let (Some(branch), true) = (branches.pop(), branches.is_empty()) else {
        return Err(last.unsupported("logits that are a sum of two layers"));
    };
    let report = dense::prove_logits(&branch, &builder.tensors)?;
    builder.layers.push((last.layer.name.clone(), report));
    builder.steps.push(Step { name: last.layer.name.clone(), op: StepOp::Logits { branch } });

    let mut total = EquivalenceReport { logits_exact: report_exact(&builder.layers), ..Default::default() };
    for (_, report) in &builder.layers {
        total.add(report);
        total.logit_error = total.logit_error.max(report.logit_error);
    }
    let program = Program {
        name: net.name.clone(),
        input: net.input,
        grid: net.grid,
        classes: net.classes,
        tensors: builder.tensors,
        steps: builder.steps,
    };
    Ok(Lowered { program, report: total, layers: builder.layers })
}

fn report_exact(layers: &[(String, EquivalenceReport)]) -> bool {
    layers.last().is_some_and(|(_, logits)| logits.logits_exact)
}

/// The program as far as it has been built.
struct Builder {
    tensors: Vec<Tensor>,
    steps: Vec<Step>,
    layers: Vec<(String, EquivalenceReport)>,
}

impl Builder {
    fn layer(&mut self, context: &Context<'_>, sources: &[Value]) -> Result<Value, DeployError> {
        let source = &sources[0];
        Ok(match &context.layer.op {
            LayerOp::Conv2d { filters, kernel, stride, dilation, padding, quantizer, .. } => {
                let sizes = conv2d::Sizes {
                    filters: *filters,
                    kernel: *kernel,
                    stride: *stride,
                    dilation: *dilation,
                    padding: *padding,
                };
                Value::Wide(vec![conv2d::lower(
                    context,
                    self.codes(context, source)?,
                    &sizes,
                    quantizer.as_ref(),
                )?])
            }
            LayerOp::DepthwiseConv2d { kernel, stride, dilation, padding, quantizer, .. } => {
                let sizes = conv2d::Sizes {
                    filters: context.shape.output[2],
                    kernel: *kernel,
                    stride: *stride,
                    dilation: *dilation,
                    padding: *padding,
                };
                Value::Wide(vec![depthwise::lower(
                    context,
                    self.codes(context, source)?,
                    &sizes,
                    quantizer.as_ref(),
                )?])
            }
            LayerOp::Dense { units, quantizer, .. } => Value::Wide(vec![dense::lower(
                context,
                self.stored(context, source)?,
                *units,
                quantizer.as_ref(),
            )?]),
            LayerOp::BatchNorm { eps, quantizers, .. } => {
                let quantizers = quantizers.as_deref().cloned().unwrap_or_default();
                Value::Wide(batch_norm::fold(context, source, *eps, &quantizers)?)
            }
            LayerOp::Activation { quantizer } => {
                let branches = match source {
                    Value::Wide(branches) => branches.clone(),
                    Value::Codes { .. } => vec![self.shortcut(context, source)?],
                };
                let output = self.tensors.len();
                let (step, tensor, report) =
                    activation::lower(context, branches, quantizer.as_ref(), &self.tensors, output)?;
                self.steps.push(step);
                self.layers.push((context.layer.name.clone(), report));
                self.store(tensor, context)
            }
            LayerOp::MaxPool { size, stride } | LayerOp::AvgPool { size, stride } => {
                let input = self.codes(context, source)?;
                let average = matches!(context.layer.op, LayerOp::AvgPool { .. });
                let (op, tensor) =
                    pool::lower(context, input, (*size, *stride), average, self.tensors.len())?;
                self.steps.push(Step { name: context.layer.name.clone(), op });
                self.store(tensor, context)
            }
            LayerOp::Add => {
                let wide = |v: &Value| -> Result<Vec<Branch>, DeployError> {
                    match v {
                        Value::Wide(branches) => Ok(branches.clone()),
                        Value::Codes { .. } => Ok(vec![self.shortcut(context, v)?]),
                    }
                };
                Value::Wide(add::join(context, wide(&sources[0])?, wide(&sources[1])?)?)
            }
            LayerOp::Flatten => match source {
                Value::Codes { tensor, shape } => {
                    Value::Codes { tensor: *tensor, shape: [1, 1, shape.iter().product()] }
                }
                Value::Wide(_) => {
                    return Err(context.unsupported("flatten needs codes: put an activation before it"));
                }
            },
            LayerOp::Dropout { .. } => source.clone(),
        })
    }

    fn store(&mut self, tensor: Tensor, context: &Context<'_>) -> Value {
        self.tensors.push(tensor);
        Value::Codes { tensor: self.tensors.len() - 1, shape: context.shape.output }
    }

    /// A stored tensor as a layer's input.
    fn stored<'a>(&'a self, context: &Context<'_>, value: &Value) -> Result<Input<'a>, DeployError> {
        match value {
            Value::Codes { tensor, shape } => {
                Ok(Input { index: *tensor, tensor: &self.tensors[*tensor], shape: *shape })
            }
            Value::Wide(_) => {
                Err(context.unsupported("its input is not on a code grid: put an activation before it"))
            }
        }
    }

    /// A stored tensor of codes as a layer's input.
    fn codes<'a>(&'a self, context: &Context<'_>, value: &Value) -> Result<Input<'a>, DeployError> {
        let input = self.stored(context, value)?;
        match input.tensor.element {
            Element::U8 => Ok(input),
            Element::U16 => Err(context.unsupported("only a dense layer can follow an average pool")),
        }
    }

    fn shortcut(&self, context: &Context<'_>, value: &Value) -> Result<Branch, DeployError> {
        Ok(add::shortcut(&self.codes(context, value)?))
    }
}

/// A stored tensor as a layer's input.
struct Input<'a> {
    index: usize,
    tensor: &'a Tensor,
    shape: [usize; 3],
}

/// One layer with what it needs from outside.
struct Context<'a> {
    weights: &'a dyn Weights,
    layer: &'a Layer,
    shape: &'a LayerShape,
}

impl Context<'_> {
    /// The parameter `layer/suffix`, or `None` if the layer has none such.
    fn parameter(&self, suffix: &str) -> Result<Option<&[f32]>, DeployError> {
        let Some((_, expected)) = self.shape.params.iter().find(|(s, _)| *s == suffix) else {
            return Ok(None);
        };
        let name = format!("{}/{suffix}", self.layer.name);
        let Some((shape, values)) = self.weights.parameter(&name) else {
            return Err(DeployError::MissingParameter { name });
        };
        if shape != expected || values.len() != expected.iter().product::<usize>() {
            return Err(DeployError::ParameterShape {
                name,
                expected: expected.clone(),
                actual: shape.to_vec(),
            });
        }
        Ok(Some(values))
    }

    /// A parameter the layer must have.
    fn required(&self, suffix: &str) -> Result<&[f32], DeployError> {
        self.parameter(suffix)?
            .ok_or_else(|| DeployError::MissingParameter { name: format!("{}/{suffix}", self.layer.name) })
    }

    fn unsupported(&self, reason: impl Into<String>) -> DeployError {
        DeployError::Unsupported { layer: self.layer.name.clone(), reason: reason.into() }
    }

    fn geometry(&self, source: kernels::KernelError) -> DeployError {
        DeployError::Kernel { layer: self.layer.name.clone(), source }
    }
}
