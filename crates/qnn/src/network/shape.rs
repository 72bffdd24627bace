//! Shape inference: what every layer puts out, how many parameters it has and how many multiply-accumulates it costs.

use kernels::{Conv2d, Pool2d};

use super::{LayerOp, Network};
use crate::QnnError;

/// Shape facts of one layer, for one sample.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LayerShape {
    /// Input `[h, w, c]` (of the first source); flat vectors are `[1, 1, n]`.
    pub input: [usize; 3],
    /// Output `[h, w, c]`; flat vectors are `[1, 1, n]`.
    pub output: [usize; 3],
    /// Whether the output is flat, `[n, c]` rather than `[n, h, w, c]`.
    pub flat: bool,
    /// Trainable parameters by name suffix and shape, in checkpoint order.
    pub params: Vec<(&'static str, Vec<usize>)>,
    /// Multiply-accumulates.
    pub macs: u64,
}

/// [`LayerShape`] of every layer, in order.
pub type Shapes = Vec<LayerShape>;

pub(super) fn infer(net: &Network) -> Result<Shapes, QnnError> {
    let grid = net.grid;
    if !(grid.scale.is_finite() && grid.scale > 0.0) || net.input.contains(&0) || size(&net.input).is_none() {
        return Err(QnnError::Config(format!(
            "network `{}`: input {:?} on a grid of step {} is none",
            net.name, net.input, grid.scale
        )));
    }
    let mut shapes: Shapes = Vec::with_capacity(net.layers.len());
    for (i, layer) in net.layers.iter().enumerate() {
        let wiring = |reason: String| QnnError::Wiring { layer: layer.name.clone(), reason };
        if layer.name.is_empty() || layer.name.contains('/') || layer.name == super::INPUT {
            return Err(wiring("layer names must be non-empty, without `/`, and not `input`".into()));
        }
        if net.layers[..i].iter().any(|l| l.name == layer.name) {
            return Err(wiring("the name is used twice".into()));
        }
        if layer.bias_quantizer.is_some() && !layer.op.has_bias() {
            return Err(wiring("has a quantizer for a bias but no bias".into()));
        }
        let sources = net.sources(i)?;
        let (input, flat) = match sources[0] {
            None => (net.input, false),
            Some(s) => (shapes[s].output, shapes[s].flat),
        };
        let [h, w, c] = input;
        let geometry = |e: kernels::KernelError| wiring(format!("input {h}x{w}x{c}: {e}"));
        let image = || {
            if flat { Err(wiring("needs an image, got a flat vector".into())) } else { Ok([1, h, w, c]) }
        };
        let no_dilation = |d: [usize; 2]| {
            wiring(format!("a dilation of {}x{} is none, or its kernel has no place on {h}x{w}", d[0], d[1]))
        };
        let mut out = LayerShape { input, output: input, flat, params: Vec::new(), macs: 0 };
        match &layer.op {
            LayerOp::Conv2d { filters, kernel, stride, dilation, padding, bias, .. } => {
                let [kh, kw] = spread(*kernel, *dilation, [h, w]).ok_or_else(|| no_dilation(*dilation))?;
                let g = Conv2d::new(image()?, [kh, kw, c, *filters], *stride, (*padding).into())
                    .map_err(geometry)?;
                out.output = [g.out_h, g.out_w, *filters];
                out.macs = (g.output_len() as u64).saturating_mul((kernel[0] * kernel[1] * c) as u64);
                out.params.push(("kernel", vec![kernel[0], kernel[1], c, *filters]));
                if *bias {
                    out.params.push(("bias", vec![*filters]));
                }
            }
            LayerOp::DepthwiseConv2d { kernel, stride, dilation, padding, multiplier, bias, .. } => {
                let [kh, kw] = spread(*kernel, *dilation, [h, w]).ok_or_else(|| no_dilation(*dilation))?;
                let Some(channels) = c.checked_mul(*multiplier).filter(|n| *n > 0) else {
                    return Err(wiring(format!("{c} channels times a multiplier of {multiplier} are none")));
                };
                let [n, h, w, _] = image()?;
                let g =
                    Conv2d::depthwise([n, h, w, channels], [kh, kw, channels, 1], *stride, (*padding).into())
                        .map_err(geometry)?;
                out.output = [g.out_h, g.out_w, channels];
                out.macs = (g.output_len() as u64).saturating_mul((kernel[0] * kernel[1]) as u64);
                out.params.push(("kernel", vec![kernel[0], kernel[1], c, *multiplier]));
                if *bias {
                    out.params.push(("bias", vec![channels]));
                }
            }
            LayerOp::Dense { units, bias, .. } => {
                if !flat {
                    return Err(wiring("needs a flat vector: put a flatten layer before it".into()));
                }
                if *units == 0 || size(&[c, *units]).is_none() {
                    return Err(wiring(format!("{c} inputs and {units} units are no layer")));
                }
                out.output = [1, 1, *units];
                out.macs = (c * units) as u64;
                out.params.push(("kernel", vec![c, *units]));
                if *bias {
                    out.params.push(("bias", vec![*units]));
                }
            }
            LayerOp::BatchNorm { eps, momentum, quantizers } => {
                if let Some(reason) = quantizers.as_ref().and_then(|q| q.fault()) {
                    return Err(wiring(reason));
                }
                if !(eps.is_finite() && *eps >= 0.0 && (0.0..=1.0).contains(momentum)) {
                    return Err(wiring(format!("eps {eps} or momentum {momentum} is out of range")));
                }
                for name in ["gamma", "beta", "moving_mean", "moving_variance"] {
                    out.params.push((name, vec![c]));
                }
            }
            LayerOp::MaxPool { size, stride } | LayerOp::AvgPool { size, stride } => {
                let g = Pool2d::new(image()?, *size, *stride, kernels::Padding::Valid).map_err(geometry)?;
                out.output = [g.out_h, g.out_w, c];
            }
            LayerOp::Add => {
                let [Some(a), Some(b)] = sources[..] else {
                    return Err(wiring("needs two inputs that are layers".into()));
                };
                if shapes[a].output != shapes[b].output {
                    return Err(wiring(format!(
                        "inputs have shapes {:?} and {:?}",
                        shapes[a].output, shapes[b].output
                    )));
                }
            }
            LayerOp::Flatten => {
                let flat = size(&input).ok_or_else(|| wiring(format!("input {h}x{w}x{c} is too large")))?;
                out.output = [1, 1, flat];
                out.flat = true;
            }
            LayerOp::Activation { quantizer } => {
                if let Some(q) = quantizer
                    && !q.is_elementwise()
                {
                    return Err(wiring(format!("`{q}` is not an elementwise quantizer")));
                }
            }
            LayerOp::Dropout { rate } => {
                if !(0.0..1.0).contains(rate) {
                    return Err(wiring(format!("dropout rate {rate} is not in [0, 1)")));
                }
            }
        }
        shapes.push(out);
    }
    match shapes.last() {
        Some(last) if last.flat && last.output == [1, 1, net.classes] => Ok(shapes),
        last => Err(QnnError::Wiring {
            layer: net.layers.last().map_or_else(String::new, |l| l.name.clone()),
            reason: format!(
                "the last layer must put out {} logits, it puts out {:?}",
                net.classes,
                last.map(|s| s.output)
            ),
        }),
    }
}

/// Rows and columns that a kernel covers when its elements are `dilation` apart. None if that is nonsense, or so much more than
/// the image that some elements never meet it: a small file must not ask for a large kernel of zeros.
fn spread(kernel: [usize; 2], dilation: [usize; 2], image: [usize; 2]) -> Option<[usize; 2]> {
    let along = |i: usize| match (kernel[i], dilation[i]) {
        (_, 0) => None,
        (k, 1) => Some(k),
        // No kernel: the geometry says so.
        (0, _) => Some(0),
        (k, d) => (k - 1).checked_mul(d)?.checked_add(1).filter(|covered| *covered < 2 * image[i].max(1)),
    };
    Some([along(0)?, along(1)?])
}

/// The product of dimensions, if a buffer of so many f32 can exist.
fn size(dims: &[usize]) -> Option<usize> {
    let product = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    (product <= isize::MAX as usize / 4).then_some(product)
}
