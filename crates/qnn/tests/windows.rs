//! Dilated and depth-multiplied convolutions against their definition in plain loops, over random geometries.
#![forbid(unsafe_code)]

use proptest::prelude::*;
use qnn::graph::{Executor, Graph, Leaves, RunKey};
use qnn::layer::{Window, conv2d, depthwise_conv2d};
use qnn::network::Pad;
use qnn::{Phase, QnnError};

struct Inputs(Vec<f64>, Vec<f64>);

impl Leaves<f64> for Inputs {
    fn input(&self, slot: usize) -> &[f64] {
        if slot == 0 { &self.0 } else { &self.1 }
    }
    fn param(&self, _: usize) -> &[f64] {
        &[]
    }
}

/// Whole numbers, so that sums are exact in any order.
fn numbers(n: usize, seed: usize) -> Vec<f64> {
    (0..n).map(|i| ((i * 31 + seed * 17 + i * i) % 13) as f64 - 6.0).collect()
}

#[derive(Clone, Debug)]
struct Shape {
    image: [usize; 4],
    kernel: [usize; 2],
    out: usize,
    window: Window,
    depthwise: bool,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let sizes = (1usize..3, 1usize..9, 1usize..9, 1usize..4);
    let kernel = (1usize..4, 1usize..4, 1usize..4);
    let window = ([1usize..4, 1..4], [1usize..3, 1..3], any::<bool>());
    (sizes, kernel, window, any::<bool>()).prop_map(|((n, h, w, c), (kh, kw, out), window, depthwise)| {
        Shape {
            image: [n, h, w, c],
            kernel: [kh, kw],
            out,
            window: Window {
                dilation: window.0,
                stride: window.1,
                padding: if window.2 { Pad::Same } else { Pad::Valid },
            },
            depthwise,
        }
    })
}

/// Size and leading padding of one axis, from the rows a kernel covers (TensorFlow's SAME and VALID).
fn axis(input: usize, covered: usize, stride: usize, padding: Pad) -> Option<(usize, usize)> {
    match padding {
        Pad::Same => {
            let out = input.div_ceil(stride);
            Some((out, ((out - 1) * stride + covered).saturating_sub(input) / 2))
        }
        Pad::Valid => Some((input.checked_sub(covered)? / stride + 1, 0)),
    }
}

fn definition(s: &Shape, x: &[f64], w: &[f64]) -> Option<Vec<f64>> {
    let ([n, h, width, c], [kh, kw], v) = (s.image, s.kernel, &s.window);
    let (oh, top) = axis(h, (kh - 1) * v.dilation[0] + 1, v.stride[0], v.padding)?;
    let (ow, left) = axis(width, (kw - 1) * v.dilation[1] + 1, v.stride[1], v.padding)?;
    let channels = if s.depthwise { c * s.out } else { s.out };
    let mut y = vec![0.0; n * oh * ow * channels];
    for (at, y) in y.iter_mut().enumerate() {
        let (image, row, column, o) =
            (at / (oh * ow * channels), at / (ow * channels) % oh, at / channels % ow, at % channels);
        for tap in 0..kh * kw {
            let r = (row * v.stride[0] + tap / kw * v.dilation[0]).wrapping_sub(top);
            let q = (column * v.stride[1] + tap % kw * v.dilation[1]).wrapping_sub(left);
            if r >= h || q >= width {
                continue;
            }
            let pixel = &x[((image * h + r) * width + q) * c..][..c];
            *y += if s.depthwise {
                pixel[o / s.out] * w[tap * channels + o]
            } else {
                (0..c).map(|i| pixel[i] * w[(tap * c + i) * s.out + o]).sum::<f64>()
            };
        }
    }
    Some(y)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn convolutions_are_their_definition(s in shapes()) {
        let ([_, _, _, c], [kh, kw]) = (s.image, s.kernel);
        let (x, w) = (numbers(s.image.iter().product(), 1), numbers(kh * kw * c * s.out, 2));
        let mut graph = Graph::default();
        let nodes = [graph.input(&s.image), graph.input(&[kh, kw, c, s.out])];
        let layer = if s.depthwise { depthwise_conv2d } else { conv2d };
        let y = layer(&mut graph, nodes[0], nodes[1], &s.window);
        let Some(expected) = definition(&s, &x, &w) else {
            prop_assert!(y.is_err(), "a kernel larger than the image");
            return Ok(());
        };
        let y = y.unwrap();
        let mut exec: Executor<f64> = Executor::new(graph, &[&[y]], Phase::Inference, false);
        let ran: Result<(), QnnError> = exec.run(0, &Inputs(x, w), RunKey::default());
        ran.unwrap();
        prop_assert_eq!(exec.output(y), &expected[..]);
    }
}

/// Networks refuse dilations and multipliers that mean nothing, and those that only make zeros.
#[test]
fn nonsense_is_refused_by_the_layers_name() {
    use qnn::network::{conv2d as conv, depthwise};
    use qnn::{InputGrid, Network};
    let network = |op| Network::new("n", [6, 5, 2], InputGrid::UNIT_IMAGE, 3).then("c", op).classifier(&None);
    let plain = || conv(4, [3, 3], [1, 1], false, &None);
    assert!(network(plain().dilated([5, 4])).shapes().is_ok());
    for (op, word) in [
        (plain().dilated([0, 1]), "dilation"),
        (plain().dilated([6, 1]), "dilation"),
        (plain().dilated([1, usize::MAX]), "dilation"),
        (depthwise([3, 3], [1, 1], false, &None).multiplied(0), "multiplier"),
        (depthwise([3, 3], [1, 1], false, &None).multiplied(usize::MAX), "multiplier"),
    ] {
        let error = network(op).shapes().unwrap_err().to_string();
        assert!(error.contains("`c`") && error.contains(word), "{error}");
    }
    let mut both = network(plain()).then("x", qnn::network::BATCH_NORM);
    both.quantize_batch_norms(&Some(qnn::network::BatchNormQuantizers {
        inverse: "quantized_bits(8, 2)".parse().ok(),
        ..qnn::network::BatchNormQuantizers::qkeras()
    }));
    let error = both.shapes().unwrap_err().to_string();
    assert!(error.contains("`x`") && error.contains("inverse"), "{error}");
}
