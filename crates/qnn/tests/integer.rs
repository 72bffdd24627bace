//! Quantized layers on the integer kernels against the simulation in double precision.
#![forbid(unsafe_code)]

use qnn::graph::{Executor, Graph, Leaves, RunKey};
use qnn::network::{BatchNormQuantizers, conv2d, depthwise};
use qnn::zoo::Twin;
use qnn::{Forward, InputGrid, Model, Network, Phase, Predictor, Statistics};
use qtensor::Quantizer;
use qtensor::stream::{Purpose, normal_pair, stream};

struct Doubles<'a> {
    params: Vec<Vec<f64>>,
    x: &'a [f64],
}

impl Leaves<f64> for Doubles<'_> {
    fn input(&self, _: usize) -> &[f64] {
        self.x
    }
    fn param(&self, index: usize) -> &[f64] {
        &self.params[index]
    }
}

/// Three quantized convolutions; the last two read codes (and so does the first, when the input is declared to be codes).
fn model(twin: Twin, grid: InputGrid) -> Model {
    let q = twin.quantizers();
    let net = Network::new("two", [9, 7, 3], grid, 5)
        .conv("c1", 20, 3, 1, &q.weights)
        .bn_act("c1", &q.activations)
        .max_pool("p1", 2)
        .then("d", depthwise([3, 3], [1, 1], true, &q.weights))
        .bn_act("d", &q.activations)
        .conv("c2", 17, 3, 2, &q.weights)
        .bn_act("c2", &q.activations)
        .classifier(&q.weights);
    with_state(net)
}

/// A dilated convolution, dilated and multiplied depthwise ones, QKeras' quantized batch normalisation.
fn dilated(twin: Twin, grid: InputGrid) -> Model {
    let q = twin.quantizers();
    let mut net = Network::new("dilated", [9, 7, 3], grid, 5)
        .then("c1", conv2d(20, [3, 2], [1, 1], false, &q.weights).dilated([2, 3]))
        .bn_act("c1", &q.activations)
        .then("d", depthwise([3, 3], [1, 1], true, &q.weights).multiplied(2).dilated([1, 2]))
        .bn_act("d", &q.activations)
        .then("c2", conv2d(17, [2, 2], [2, 2], false, &q.weights).dilated([2, 2]))
        .bn_act("c2", &q.activations)
        .classifier(&q.weights);
    net.quantize_batch_norms(&Some(BatchNormQuantizers::qkeras()));
    with_state(net)
}

/// A model with batch normalisation as after training.
fn with_state(net: Network) -> Model {
    let mut model = Model::new(net, 4).unwrap();
    let mut rng = stream(8, Purpose::Test, &[]);
    for p in model.params.iter_mut().filter(|p| !p.name.ends_with("kernel")) {
        for v in &mut p.values {
            *v += 0.3 * normal_pair(&mut rng)[0].abs() as f32;
        }
    }
    model
}

#[test]
fn integer_layers_give_the_simulations_logits() {
    for twin in [Twin::Stq, Twin::StochasticBinary, Twin::EightBit] {
        for grid in [InputGrid::UNIT_IMAGE, InputGrid::STANDARDISED] {
            for make in [model, dilated] {
                assert_simulated(&make(twin, grid), grid, &format!("{twin:?} {grid:?}"));
            }
        }
    }
}

/// Not all that has codes has one scale per output channel, and then the integer kernels do not do.
#[test]
fn kernels_of_every_quantizer_give_the_simulations_logits() {
    let twin = Twin::EightBit.quantizers();
    for text in [
        "quantized_bits(4, 0, alpha=auto, scale_axis=2)",
        "binary(alpha=auto, scale_axis=[0, 3])",
        "binary(alpha=auto, scale_axis=3, elements_per_scale=2)",
        "quantized_linear(5, 1, alpha=auto)",
        "quantized_linear(2, 0, alpha=auto, scale_axis=2)",
        "quantized_bits(1, 0, alpha=1)",
        "quantized_linear(1, 0, alpha=auto)",
        "quantized_bits(6, 1, alpha=1, qnoise_factor=0.5)",
        "quantized_linear(4, 0, alpha=auto, qnoise_factor=0.5)",
        "quantized_po2(4)",
        "quantized_relu(4, 1)",
        "quantized_tanh(5)",
        "depthwise_ternary(alpha=auto)",
        "quantized_relu_po2(4)",
        "bernoulli(alpha=1)",
        "ternary(alpha=auto_po2)",
    ] {
        let model = two_convolutions(&text.parse().ok(), &twin.activations);
        assert_simulated(&model, InputGrid::UNIT_IMAGE, text);
    }
}

/// Activations with negative codes, half steps, powers of two or mixtures are no codes for the integer kernels.
#[test]
fn activations_of_every_quantizer_give_the_simulations_logits() {
    let twin = Twin::Stq.quantizers();
    for text in [
        "quantized_relu(1, 1)",
        "quantized_relu(4, 2, negative_slope=0.25)",
        "quantized_relu(4, 2, use_stochastic_rounding=1)",
        "quantized_relu(4, 2, qnoise_factor=0.5)",
        "quantized_relu(4, 2, is_quantized_clip=0, relu_upper_bound=1.1)",
        "quantized_relu_po2(4)",
        "quantized_bits(4, 1, alpha=1)",
        "quantized_bits(4, 1, keep_negative=0, alpha=1)",
        "quantized_linear(4, 1, alpha=1, keep_negative=0)",
        "quantized_sigmoid(4)",
        "quantized_tanh(4)",
        "binary(1, alpha=1)",
        "ternary(alpha=1)",
    ] {
        let model = two_convolutions(&twin.weights, &text.parse().ok());
        assert_simulated(&model, InputGrid::UNIT_IMAGE, text);
    }
}

fn two_convolutions(weights: &Option<Quantizer>, activations: &Option<Quantizer>) -> Model {
    assert!(weights.is_some() && activations.is_some(), "both are quantizers");
    let net = Network::new("odd", [9, 7, 3], InputGrid::UNIT_IMAGE, 5)
        .conv("c1", 20, 3, 1, weights)
        .bn_act("c1", activations)
        .conv("c2", 6, 3, 2, weights)
        .bn_act("c2", activations)
        .classifier(&Twin::EightBit.quantizers().weights);
    with_state(net)
}

/// Asserts that both predictors agree with the simulation in double precision on six images of random codes.
fn assert_simulated(model: &Model, grid: InputGrid, what: &str) {
    let mut rng = stream(2, Purpose::Test, &[]);
    let codes: Vec<u8> = (0..6 * 9 * 7 * 3).map(|_| qtensor::stream::below(&mut rng, 256) as u8).collect();
    let x: Vec<f32> = codes.iter().map(|c| grid.value(*c)).collect();
    let doubles: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();

    let mut graph = Graph::default();
    let input = graph.input(&[6, 9, 7, 3]);
    let forward = Forward::build(&mut graph, model, input, Phase::Inference, Statistics::Moving).unwrap();
    let logits = forward.logits;
    let mut exec: Executor<f64> = Executor::new(graph, &[&[logits]], Phase::Inference, false);
    let params = model.params.iter().map(|p| p.values.iter().map(|v| f64::from(*v)).collect()).collect();
    exec.run(0, &Doubles { params, x: &doubles }, RunKey::default()).unwrap();
    let simulated = exec.output(logits);

    for predictor in [Predictor::new(model), Predictor::for_codes(model)] {
        let mut got = vec![0.0; 6 * 5];
        predictor.unwrap().logits(&x, &mut got).unwrap();
        // Rounding may move an activation that sits on a tie by one code of 1/64, so not every bit agrees.
        let scale = simulated.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for (a, b) in got.iter().zip(simulated) {
            assert!((f64::from(*a) - b).abs() < 2e-3 * scale, "{what}: {a} against {b}");
        }
    }
}

/// What one convolution reads, exactly: codes minus the zero point, `[h, w, c]` per sample.
struct Map {
    codes: Vec<i64>,
    shape: [usize; 3],
    step: f32,
}

/// Codes and scales of a kernel in inference.
fn kernel_codes(model: &Model, layer: &str) -> (Vec<i64>, Vec<f32>, Vec<usize>) {
    let param = model.param(&format!("{layer}/kernel")).unwrap();
    let q = qnn::kernel_quantizer(&model.network.layer(layer).unwrap().op).unwrap();
    let n = param.values.len();
    let (mut values, mut codes, mut scales) = (vec![0f32; n], vec![0i32; n], Vec::new());
    let out = qtensor::Quantized {
        values: &mut values,
        codes: qtensor::Codes::I32(&mut codes),
        scales: &mut scales,
        scratch: &mut qtensor::Scratch::new(),
    };
    q.quantize(&param.values, &param.shape, Phase::Inference, None, out).unwrap();
    (codes.into_iter().map(i64::from).collect(), scales, param.shape.clone())
}

/// Sums of products by the definition of a SAME convolution in TensorFlow, in 64-bit integers.
fn accumulate(
    map: &Map,
    kernel: &[i64],
    shape: &[usize],
    stride: usize,
    dilation: [usize; 2],
    depthwise: bool,
) -> (Vec<i64>, usize) {
    let [h, w, c] = map.shape;
    let [kh, kw, ci, co] = shape.try_into().unwrap();
    let channels = if depthwise { ci * co } else { co };
    let axis = |n: usize, k: usize| {
        let out = n.div_ceil(stride);
        (out, ((out - 1) * stride + k).saturating_sub(n) / 2)
    };
    let ((oh, top), (ow, left)) = (axis(h, (kh - 1) * dilation[0] + 1), axis(w, (kw - 1) * dilation[1] + 1));
    let mut sums = Vec::new();
    for image in map.codes.chunks(h * w * c) {
        for (y, x, o) in
            (0..oh * ow * channels).map(|i| (i / (ow * channels), i / channels % ow, i % channels))
        {
            let mut sum = 0;
            for (ky, kx) in (0..kh * kw).map(|k| (k / kw, k % kw)) {
                let (row, column) = (y * stride + ky * dilation[0], x * stride + kx * dilation[1]);
                if row < top || column < left || row - top >= h || column - left >= w {
                    continue;
                }
                let pixel = &image[((row - top) * w + column - left) * c..][..c];
                let at = (ky * kw + kx) * ci;
                sum += match depthwise {
                    true => pixel[o / co] * kernel[at * co + o],
                    false => (0..ci).map(|i| pixel[i] * kernel[(at + i) * co + o]).sum(),
                };
            }
            sums.push(sum);
        }
    }
    (sums, channels)
}

#[test]
fn accumulators_are_the_same_integers_in_training_and_inference() {
    for (twin, grid) in [Twin::StqDeterministic, Twin::EightBit]
        .into_iter()
        .flat_map(|t| [InputGrid::UNIT_IMAGE, InputGrid::STANDARDISED].map(|g| (t, g)))
    {
        let q = twin.quantizers();
        for (times, dilation) in [(1, [1, 1]), (3, [2, 3])] {
            let net = Network::new("bare", [9, 7, 3], grid, 5)
                .then("c1", conv2d(20, [3, 3], [1, 1], false, &q.weights).dilated(dilation))
                .bn_act("c1", &q.activations)
                .then("d", depthwise([3, 3], [1, 1], false, &q.weights).multiplied(times).dilated(dilation))
                .bn_act("d", &q.activations)
                .then("c2", conv2d(17, [3, 3], [2, 2], false, &q.weights).dilated(dilation))
                .bn_act("c2", &q.activations)
                .classifier(&q.weights);
            same_accumulators(&Model::new(net, 11).unwrap(), dilation, times);
        }
    }
}

fn same_accumulators(model: &Model, dilation: [usize; 2], times: usize) {
    let grid = model.network.grid;
    let activations = model.network.layers.iter().find_map(|l| match &l.op {
        qnn::LayerOp::Activation { quantizer } => quantizer.clone(),
        _ => None,
    });
    {
        let mut rng = stream(5, Purpose::Test, &[]);
        let codes: Vec<u8> =
            (0..4 * 9 * 7 * 3).map(|_| qtensor::stream::below(&mut rng, 256) as u8).collect();
        let x: Vec<f32> = codes.iter().map(|c| grid.value(*c)).collect();
        let singles = Singles { params: model.params.iter().map(|p| p.values.clone()).collect(), x: &x };

        for phase in [Phase::Training, Phase::Inference] {
            let mut graph = Graph::default();
            let input = graph.input(&[4, 9, 7, 3]);
            graph.declare_codes(input, grid.scale, grid.zero_point);
            let forward = Forward::build(&mut graph, model, input, phase, Statistics::Batch).unwrap();
            let node = |name: &str| {
                forward.layers[model.network.layers.iter().position(|l| l.name == name).unwrap()]
            };
            let names = ["c1", "c1_act", "d", "d_act", "c2"];
            let nodes = names.map(node);
            let mut exec: Executor<f32> = Executor::new(graph, &[&nodes], phase, phase == Phase::Inference);
            exec.prepare(&singles).unwrap();
            exec.run(0, &singles, RunKey::default()).unwrap();
            let value = |name: &str| exec.output(nodes[names.iter().position(|n| *n == name).unwrap()]);

            let step = qtensor::Quantizer::grid(activations.as_ref().unwrap()).unwrap().step as f32;
            let read = |name: &str, c| {
                let codes = value(name).iter().map(|v| (v / step) as i64).collect();
                Map { codes, shape: [9, 7, c], step }
            };
            let first = codes.iter().map(|&c| i64::from(c) - i64::from(grid.zero_point)).collect();
            let first = Map { codes: first, shape: [9, 7, 3], step: grid.scale };
            for (layer, map, stride) in
                [("c1", first, 1), ("d", read("c1_act", 20), 1), ("c2", read("d_act", 20 * times), 2)]
            {
                let (kernel, scales, shape) = kernel_codes(model, layer);
                let (sums, channels) = accumulate(&map, &kernel, &shape, stride, dilation, layer == "d");
                let got = value(layer);
                assert_eq!(got.len(), sums.len());
                for (i, (&y, &sum)) in got.iter().zip(&sums).enumerate() {
                    let scale = scales[i % channels % scales.len()] * map.step;
                    // Below 2^24 a sum is an f32 exactly, so equal outputs mean equal accumulators.
                    assert!(sum.abs() < 1 << 24);
                    assert_eq!(
                        y,
                        sum as f32 * scale,
                        "{grid:?} {dilation:?} {phase:?} {layer}[{i}]: sum {sum}"
                    );
                }
            }
        }
    }
}

struct Singles<'a> {
    params: Vec<Vec<f32>>,
    x: &'a [f32],
}

impl Leaves<f32> for Singles<'_> {
    fn input(&self, _: usize) -> &[f32] {
        self.x
    }
    fn param(&self, index: usize) -> &[f32] {
        &self.params[index]
    }
}
