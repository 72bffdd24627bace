//! Quantized batch normalisation against QKeras' formula, written down here once more in plain loops: values, and derivatives
//! of the straight-through form `b + stop_gradient(q(b) - b)` by central differences, the brackets held where they were.

use qnn::Phase;
use qnn::graph::{Executor, Graph, NodeId, RunKey};
use qnn::layer::{BatchNorm, BatchNormQuantizers, Moments};

use super::{Table, Values, noise};

const ROWS: usize = 6;
const CHANNELS: usize = 3;
const EPS: f64 = 1e-3;

/// `+-2^k`, k the rounded binary logarithm, cut to `low..=high`; in even steps for the quadratic form.
fn power(x: f64, low: i32, high: i32, quadratic: bool) -> f64 {
    let steps = if quadratic { 2.0 } else { 1.0 };
    let exponent = steps * (x.abs().log2() / steps).round_ties_even().clamp(low.into(), high.into());
    x.signum() * exponent.exp2()
}

/// `quantized_bits(8, 2)` without alpha: steps of 1/32 from -4 to 4 - 1/32.
fn linear(x: f64) -> f64 {
    (x * 32.0).round_ties_even().clamp(-128.0, 127.0) / 32.0
}

type Function = fn(f64) -> f64;

/// What quantizes what: gamma, beta, mean, variance, inverse.
struct Case {
    name: &'static str,
    quantizers: BatchNormQuantizers,
    functions: [Function; 5],
}

fn cases() -> Vec<Case> {
    let same: Function = |x| x;
    let q = |text: &str| Some(text.parse().unwrap());
    vec![
        Case {
            name: "QKeras' defaults",
            quantizers: BatchNormQuantizers::qkeras(),
            functions: [
                |x| power(x, -32, 31, false),
                |x| power(x, -8, 7, false),
                |x| power(x, -8, 7, false),
                |x| power(x, -32, 30, true),
                same,
            ],
        },
        Case {
            name: "linear grids",
            quantizers: BatchNormQuantizers {
                gamma: q("quantized_bits(8, 2)"),
                beta: q("quantized_bits(8, 2)"),
                mean: q("quantized_bits(8, 2)"),
                variance: q("quantized_bits(8, 2)"),
                inverse: None,
            },
            functions: [linear, linear, linear, linear, same],
        },
        Case {
            name: "inverse deviation",
            quantizers: BatchNormQuantizers { inverse: q("quantized_bits(8, 2)"), ..Default::default() },
            functions: [same, same, same, same, linear],
        },
    ]
}

/// `q(b) - b` of everything that is quantized.
type Brackets = [[f64; CHANNELS]; 5];

/// Tensors x, gamma, beta and, for the inference phase, moving mean and variance.
type Tensors = Vec<Vec<f64>>;

/// The output `[ROWS, CHANNELS]` with these brackets, or with those of this point, which are returned.
fn formula(t: &Tensors, functions: &[Function; 5], held: Option<&Brackets>) -> (Vec<f64>, Brackets) {
    let mut brackets = [[0.0; CHANNELS]; 5];
    let mut y = vec![0.0; t[0].len()];
    for c in 0..CHANNELS {
        let mut through = |which: usize, b: f64| {
            brackets[which][c] = held.map_or_else(|| functions[which](b) - b, |h| h[which][c]);
            b + brackets[which][c]
        };
        let column = || t[0].iter().skip(c).step_by(CHANNELS);
        let batch = column().sum::<f64>() / ROWS as f64;
        let spread = column().map(|x| (x - batch).powi(2)).sum::<f64>() / ROWS as f64;
        let (mean, variance) = if t.len() > 3 { (t[3][c], t[4][c]) } else { (batch, spread) };
        let (gamma, beta) = (through(0, t[1][c]), through(1, t[2][c]));
        let (mean, variance) = (through(2, mean), through(3, variance));
        let factor = through(4, gamma / (variance + EPS).sqrt());
        for (y, x) in y.iter_mut().skip(c).step_by(CHANNELS).zip(column()) {
            *y = (x - mean) * factor + beta;
        }
    }
    (y, brackets)
}

pub(crate) fn rows(table: &mut Table) {
    for case in cases() {
        for batch in [true, false] {
            check(&case, batch, table);
        }
    }
}

fn check(case: &Case, batch: bool, table: &mut Table) {
    let kind = if batch { "batch" } else { "moving" };
    let name = format!("quantized batch norm, {}, {kind}", case.name);
    let shapes: Vec<&[usize]> = vec![&[ROWS, CHANNELS], &[CHANNELS], &[CHANNELS], &[CHANNELS], &[CHANNELS]];
    let shapes = &shapes[..if batch { 3 } else { 5 }];
    let mut graph = Graph::default();
    let inputs: Vec<NodeId> = shapes.iter().map(|s| graph.input(s)).collect();
    let weight = graph.input(&[ROWS, CHANNELS]);
    let directions: Vec<NodeId> = shapes.iter().map(|s| graph.input(s)).collect();
    let (mean, variance) = if batch {
        let moments = Moments::of(&mut graph, inputs[0]);
        (moments.mean, moments.variance)
    } else {
        (inputs[3], inputs[4])
    };
    let norm = BatchNorm { gamma: Some(inputs[1]), beta: Some(inputs[2]), mean, variance, eps: EPS };
    let y = norm.apply_quantized(&mut graph, &case.quantizers, 0, inputs[0]);
    let weighted = graph.mul(y, weight);
    let (first_term, second_term) = (graph.sum_all(weighted), graph.dot_all(weighted, y));
    let loss = graph.linear(&[(1.0, first_term), (0.5, second_term)]);
    let first: Vec<NodeId> = graph.grad(loss, &inputs).into_iter().map(|g| g.expect("depends")).collect();
    let terms: Vec<(f64, NodeId)> =
        first.iter().zip(&directions).map(|(g, d)| (1.0, graph.dot_all(*g, *d))).collect();
    let slope = graph.linear(&terms);
    let second: Vec<NodeId> = graph.grad(slope, &inputs).into_iter().map(|g| g.expect("depends")).collect();
    let mut outputs = vec![y];
    outputs.extend(first.iter().chain(&second));
    table.saw(&graph);
    let mut exec: Executor<f64> = Executor::new(graph, &[&outputs], Phase::Training, false);

    let draw = |seed: u64| -> Tensors {
        let each = |(i, s): (usize, &&[usize])| noise(s.iter().product(), seed + i as u64);
        shapes.iter().enumerate().map(each).collect()
    };
    let mut point = draw(70);
    // Scales and variances are positive, as the quantizers of both ask.
    for positive in [1, 4] {
        if let Some(values) = point.get_mut(positive) {
            values.iter_mut().for_each(|v| *v = 0.3 + v.abs());
        }
    }
    let (weights, along) = (noise(ROWS * CHANNELS, 80), draw(90));
    let mut all = point.clone();
    all.push(weights.clone());
    all.extend(along.iter().cloned());
    exec.run(0, &Values { params: Vec::new(), inputs: all }, RunKey::default()).unwrap();

    let (expected, brackets) = formula(&point, &case.functions, None);
    assert!(brackets.iter().flatten().any(|b| b.abs() > 1e-3), "{name}: quantization does something");
    for (got, want) in exec.output(y).iter().zip(&expected) {
        assert!((got - want).abs() < 1e-9 * (1.0 + want.abs()), "{name}: {got}, by the formula {want}");
    }
    let value = |t: &Tensors| -> f64 {
        let (y, _) = formula(t, &case.functions, Some(&brackets));
        y.iter().zip(&weights).map(|(y, w)| w * y + 0.5 * w * y * y).sum()
    };
    // The loss at the point, moved by `a` along the direction and by `b` in one element.
    let at = |a: f64, which: usize, i: usize, b: f64| {
        let mut t = point.clone();
        for (values, steps) in t.iter_mut().zip(&along) {
            values.iter_mut().zip(steps).for_each(|(v, d)| *v += a * d);
        }
        t[which][i] += b;
        value(&t)
    };
    let (mut largest, h) = ([0f64; 2], 1e-4);
    for which in 0..point.len() {
        for i in 0..point[which].len() {
            let wanted = [
                (at(0.0, which, i, h) - at(0.0, which, i, -h)) / (2.0 * h),
                (at(h, which, i, h) - at(h, which, i, -h) - at(-h, which, i, h) + at(-h, which, i, -h))
                    / (4.0 * h * h),
            ];
            let got = [exec.output(first[which])[i], exec.output(second[which])[i]];
            for order in 0..2 {
                let error = (wanted[order] - got[order]).abs() / (1.0 + wanted[order].abs());
                largest[order] = largest[order].max(error);
                assert!(
                    error < 5e-6,
                    "{name}, order {}, tensor {which}[{i}]: {} by graph, {} by differences",
                    order + 1,
                    got[order],
                    wanted[order]
                );
            }
        }
    }
    table.row(&name, 1, largest[0]);
    table.row(&name, 2, largest[1]);
}
