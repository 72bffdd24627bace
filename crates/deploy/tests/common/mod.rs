//! A plain simulation of the training graph's inference phase, and small random networks to compare on.
#![allow(dead_code, reason = "each test file uses its part")]

use qnn::Model;
use qnn::network::{BATCH_NORM, INPUT, InputGrid, LayerOp, Network, conv2d, depthwise};
use qtensor::{Codes, Phase, Quantized, Quantizer, Scratch};

/// What a layer puts out for one sample: real values and, if they lie on a grid, codes with scale and zero point.
#[derive(Clone)]
pub(crate) struct Output {
    pub(crate) shape: [usize; 3],
    pub(crate) real: Vec<f32>,
    pub(crate) codes: Option<(Vec<u8>, f32, u8)>,
}

/// Runs one sample through the network, layer by layer, in f32 (accumulators exact).
pub(crate) fn simulate(model: &Model, codes: &[u8]) -> Vec<Output> {
    let net = &model.network;
    let grid = net.grid;
    let input = Output {
        shape: net.input,
        real: codes.iter().map(|&c| grid.value(c)).collect(),
        codes: Some((codes.to_vec(), grid.scale, grid.zero_point)),
    };
    let shapes = net.shapes().unwrap();
    let mut outputs: Vec<Output> = Vec::new();
    for (i, layer) in net.layers.iter().enumerate() {
        let sources: Vec<Output> =
            net.sources(i).unwrap().iter().map(|s| s.map_or(&input, |s| &outputs[s]).clone()).collect();
        let x = &sources[0];
        let shape = shapes[i].output;
        let p = |suffix: &str| &model.param(&format!("{}/{suffix}", layer.name)).unwrap().values[..];
        let channels = shape[2];
        let added_bias = layer.op.has_bias().then(|| match &layer.bias_quantizer {
            Some(q) => q.inference_values(p("bias"), &[channels]).unwrap(),
            None => p("bias").to_vec(),
        });
        let bias = added_bias.as_deref();
        let per_channel = |f: &dyn Fn(f32, usize) -> f32| -> Vec<f32> {
            x.real.iter().enumerate().map(|(i, &v)| f(v, i % channels)).collect()
        };
        let mut out = Output { shape, real: Vec::new(), codes: None };
        match &layer.op {
            LayerOp::Conv2d { kernel, stride, dilation, padding, quantizer, .. }
            | LayerOp::DepthwiseConv2d { kernel, stride, dilation, padding, quantizer, .. } => {
                let depthwise = matches!(layer.op, LayerOp::DepthwiseConv2d { .. });
                let [kh, kw] = [0, 1].map(|a| (kernel[a] - 1) * dilation[a] + 1);
                let g = kernels::Conv2d::new(
                    image(x),
                    [kh, kw, x.shape[2], channels],
                    *stride,
                    (*padding).into(),
                );
                let w = quantize(quantizer, p("kernel"), &shapes[i].params[0].1, channels);
                out.real = convolve(x, &g.unwrap(), (*kernel, *dilation), &w, bias, depthwise);
            }
            LayerOp::Dense { units, quantizer, .. } => {
                let n = x.real.len();
                let w = quantize(quantizer, p("kernel"), &[n, *units], *units);
                if x.codes.is_some() {
                    let flat = Output { shape: [1, 1, n], ..x.clone() };
                    let g = kernels::Conv2d::new(
                        [1, 1, 1, n],
                        [1, 1, n, *units],
                        [1, 1],
                        kernels::Padding::Valid,
                    );
                    out.real = convolve(&flat, &g.unwrap(), ([1, 1], [1, 1]), &w, bias, false);
                } else {
                    out.real = (0..*units)
                        .map(|k| {
                            let dot: f32 =
                                (0..n).map(|j| x.real[j] * (f32::from(w.0[j * units + k]) * w.1[k])).sum();
                            dot + bias.map_or(0.0, |b| b[k])
                        })
                        .collect();
                }
            }
            LayerOp::BatchNorm { eps, quantizers, .. } => {
                let q = quantizers.as_deref().cloned().unwrap_or_default();
                let quantized = |q: &Option<Quantizer>, x: &[f32]| match q {
                    Some(q) => q.inference_values(x, &[channels]).unwrap(),
                    None => x.to_vec(),
                };
                let (gamma, beta) = (quantized(&q.gamma, p("gamma")), quantized(&q.beta, p("beta")));
                let (mean, var) =
                    (quantized(&q.mean, p("moving_mean")), quantized(&q.variance, p("moving_variance")));
                let factor = |c: usize| gamma[c] * (1.0 / f64::from(var[c] + eps).sqrt()) as f32;
                let a = quantized(&q.inverse, &(0..channels).map(factor).collect::<Vec<_>>());
                out.real = per_channel(&|v, c| v.mul_add(a[c], beta[c] - mean[c] * a[c]));
            }
            LayerOp::Activation { quantizer } => {
                let q = quantizer.as_ref().unwrap();
                let (mut values, mut scales) = (vec![0.0; x.real.len()], Vec::new());
                let mut codes = vec![0_i32; x.real.len()];
                let quantized = Quantized {
                    values: &mut values,
                    codes: Codes::I32(&mut codes),
                    scales: &mut scales,
                    scratch: &mut Scratch::new(),
                };
                q.quantize(&x.real, &[x.real.len()], Phase::Inference, None, quantized).unwrap();
                let bytes: Vec<u8> = codes.iter().map(|&c| u8::try_from(c).unwrap()).collect();
                assert!(bytes.iter().zip(&values).all(|(&c, &v)| f32::from(c) * scales[0] == v));
                (out.real, out.codes) = (values, Some((bytes, scales[0], 0)));
            }
            LayerOp::MaxPool { size, stride } | LayerOp::AvgPool { size, stride } => {
                let average = matches!(layer.op, LayerOp::AvgPool { .. });
                let mut picked = Vec::new();
                for (y, xx, c) in places(shape) {
                    let window: Vec<usize> = (0..size[0] * size[1])
                        .map(|k| {
                            let (iy, ix) = (y * stride[0] + k / size[1], xx * stride[1] + k % size[1]);
                            (iy * x.shape[1] + ix) * x.shape[2] + c
                        })
                        .collect();
                    if average {
                        let share = 1.0 / window.len() as f32;
                        out.real.push(window.iter().map(|&i| x.real[i]).sum::<f32>() * share);
                    } else {
                        let best = window
                            .into_iter()
                            .reduce(|a, b| if x.real[b] > x.real[a] { b } else { a })
                            .unwrap();
                        out.real.push(x.real[best]);
                        picked.push(best);
                    }
                }
                if let (false, Some((codes, scale, zero))) = (average, &x.codes) {
                    out.codes = Some((picked.iter().map(|&i| codes[i]).collect(), *scale, *zero));
                }
            }
            LayerOp::Add => {
                out.real = x.real.iter().zip(&sources[1].real).map(|(a, b)| a + b).collect();
            }
            LayerOp::Flatten => out = Output { shape, ..x.clone() },
            LayerOp::Dropout { .. } => out = x.clone(),
        }
        outputs.push(out);
    }
    outputs
}

fn image(x: &Output) -> [usize; 4] {
    [1, x.shape[0], x.shape[1], x.shape[2]]
}

fn places([h, w, c]: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..h * w * c).map(move |i| (i / (w * c), i / c % w, i % c))
}

fn quantize(q: &Option<Quantizer>, latent: &[f32], shape: &[usize], channels: usize) -> (Vec<i8>, Vec<f32>) {
    let (mut values, mut codes, mut scales) = (vec![0.0; latent.len()], vec![0; latent.len()], Vec::new());
    let out = Quantized {
        values: &mut values,
        codes: Codes::I8(&mut codes),
        scales: &mut scales,
        scratch: &mut Scratch::new(),
    };
    q.as_ref().unwrap().quantize(latent, shape, Phase::Inference, None, out).unwrap();
    // One scale, one per output channel, or (QKeras' depthwise ones) one per index of the multiplier.
    let scales = (0..channels).map(|c| scales[c % scales.len()]).collect();
    (codes, scales)
}

fn convolve(
    x: &Output,
    g: &kernels::Conv2d,
    (kernel, dilation): ([usize; 2], [usize; 2]),
    (w, scales): &(Vec<i8>, Vec<f32>),
    bias: Option<&[f32]>,
    depthwise: bool,
) -> Vec<f32> {
    let (codes, step, zero) = x.codes.as_ref().expect("convolutions read codes");
    places([g.out_h, g.out_w, g.out_c])
        .map(|(oy, ox, oc)| {
            let mut acc = 0.0_f64;
            for ky in 0..kernel[0] {
                for kx in 0..kernel[1] {
                    let (iy, ix) = (
                        (oy * g.stride_h + ky * dilation[0]).wrapping_sub(g.pad_top),
                        (ox * g.stride_w + kx * dilation[1]).wrapping_sub(g.pad_left),
                    );
                    if iy >= g.in_h || ix >= g.in_w {
                        continue;
                    }
                    for ic in 0..g.in_c {
                        let tap = ky * kernel[1] + kx;
                        let weight = match depthwise {
                            true if ic == oc / (g.out_c / g.in_c) => w[tap * g.out_c + oc],
                            true => continue,
                            false => w[(tap * g.in_c + ic) * g.out_c + oc],
                        };
                        let code = codes[(iy * g.in_w + ix) * g.in_c + ic];
                        acc += f64::from(weight) * (f64::from(code) - f64::from(*zero));
                    }
                }
            }
            acc as f32 * (scales[oc] * step) + bias.map_or(0.0, |b| b[oc])
        })
        .collect()
}

/// xorshift, so that the tests need no generator of their own crate.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Uniform between -1 and 1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn codes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| (self.next() >> 33) as u8).collect()
    }
}

/// A model with random latent kernels and a batch normalisation state as training might leave it.
pub(crate) fn random_model(network: Network, seed: u64) -> Model {
    let mut model = Model::new(network, seed).unwrap();
    let mut r = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for param in &mut model.params {
        for v in &mut param.values {
            *v = match param.name.rsplit('/').next().unwrap() {
                "gamma" => 1.5 * r.unit() + 0.4,
                "beta" => r.unit() + 0.3,
                "moving_mean" => 0.5 * r.unit(),
                "moving_variance" => 0.6 + 0.5 * r.unit(),
                "bias" => 0.3 * r.unit(),
                _ => *v,
            };
        }
    }
    model
}

pub(crate) fn q(text: &str) -> Option<Quantizer> {
    Some(text.parse().unwrap())
}

/// Small networks that together use everything that can be lowered, with this kernel quantizer and grid.
pub(crate) fn small_networks(weights: &str, activations: &str, grid: InputGrid) -> Vec<Network> {
    let (w, a) = (q(weights), q(activations));
    let act = || LayerOp::Activation { quantizer: a.clone() };
    let new = |name: &str, input| Network::new(name, input, grid, 5);
    vec![
        new("stack", [8, 6, 3])
            .then("c1", conv2d(7, [3, 3], [1, 1], true, &w))
            .bn_act("c1", &a)
            .conv("c2", 6, 3, 2, &w)
            .bn_act("c2", &a)
            .then("drop", LayerOp::Dropout { rate: 0.1 })
            .max_pool("pool", 2)
            .classifier(&w),
        new("residual", [9, 9, 2])
            .conv("c1", 6, 3, 2, &w)
            .bn_act("c1", &a)
            .conv("c2", 6, 3, 1, &w)
            .then("c2_bn", BATCH_NORM)
            .join("add1", LayerOp::Add, &["c2_bn", "c1_act"])
            .then("act1", act())
            .then("c3", conv2d(8, [3, 3], [2, 2], true, &w))
            .then("c3_bn", BATCH_NORM)
            .join("skip", conv2d(8, [1, 1], [2, 2], true, &w), &["act1"])
            .join("add2", LayerOp::Add, &["skip", "c3_bn"])
            .then("act2", act())
            .then("pool", LayerOp::AvgPool { size: [3, 3], stride: [3, 3] })
            .classifier(&w),
        new("separable", [7, 10, 1])
            .join("c1", conv2d(6, [5, 4], [2, 2], true, &w), &[INPUT])
            .bn_act("c1", &a)
            .then("dw", depthwise([3, 3], [1, 1], true, &w))
            .bn_act("dw", &a)
            .then("dw2", depthwise([3, 3], [2, 2], false, &w))
            .then("dw2_act", act())
            .then("pw", conv2d(9, [1, 1], [1, 1], true, &w))
            .bn_act("pw", &a)
            .classifier(&w),
        new("dilated", [9, 11, 2])
            .then("c1", conv2d(5, [3, 2], [1, 1], true, &w).dilated([2, 3]))
            .bn_act("c1", &a)
            .then("dw", depthwise([3, 3], [1, 1], true, &w).dilated([2, 2]))
            .bn_act("dw", &a)
            .then("dw2", depthwise([2, 3], [2, 1], true, &w).multiplied(3))
            .bn_act("dw2", &a)
            .then("c2", conv2d(6, [2, 3], [2, 2], false, &w).dilated([3, 1]))
            .bn_act("c2", &a)
            .join("left", depthwise([3, 3], [1, 1], false, &w).multiplied(2).dilated([1, 2]), &["c2_act"])
            .join("right", depthwise([1, 1], [1, 1], true, &w).multiplied(2), &["c2_act"])
            .join("sum", LayerOp::Add, &["left", "right"])
            .then("sum_act", act())
            .classifier(&w),
        new("dense", [1, 4, 5])
            .then("flatten0", LayerOp::Flatten)
            .then("d1", LayerOp::Dense { units: 12, bias: true, quantizer: w.clone() })
            .bn_act("d1", &a)
            .then("logits", LayerOp::Dense { units: 5, bias: true, quantizer: w.clone() }),
    ]
}
