//! Quantizers: the graph's derivatives against differences of their differentiable stand-ins.

use qnn::graph::{Executor, Graph, Nonlinearity, RunKey};
use qnn::{Phase, layer};
use qtensor::Quantizer;

use super::{Table, Values, noise};

const QUANTIZERS: &[&str] = &[
    "binary()",
    "binary(alpha=0.5)",
    "ternary()",
    "ternary(alpha=1.5)",
    "quantized_bits(4, 1)",
    "quantized_relu(4, 2)",
    "quantized_relu(6, 1, negative_slope=0.25)",
    "quantized_tanh(8)",
    "quantized_tanh(8, use_real_tanh=1)",
    "quantized_sigmoid(8, use_real_sigmoid=1)",
    "quantized_po2(4)",
    "quantized_bits(4, 0, alpha=auto)",
    "stochastic_ternary(alpha=auto)",
];

pub(crate) fn rows(table: &mut Table) {
    for text in QUANTIZERS {
        check(text, table);
    }
}

/// The loss `<c, q(x)> + <c, q(x)^2> / 2` has derivatives with the stand-in's in place of the quantizer's:
/// `f' (c + q c)` first, and along a direction `f'' v (c + q c) + f'^2 v c` second.
fn check(text: &str, table: &mut Table) {
    const N: usize = 24;
    let quantizer: Quantizer = text.parse().unwrap();
    let mut graph = Graph::default();
    let (x, c, v) = (graph.input(&[N / 4, 4]), graph.input(&[N / 4, 4]), graph.input(&[N / 4, 4]));
    let y = match quantizer.elementwise() {
        Some(e) => graph.activation(Nonlinearity::Quantizer(e), x),
        None => layer::quantize(&mut graph, &quantizer, 0, x),
    };
    let yc = graph.mul(y, c);
    let (linear, square) = (graph.sum_all(yc), graph.dot_all(yc, y));
    let loss = graph.linear(&[(1.0, linear), (0.5, square)]);
    let first = graph.grad(loss, &[x])[0].expect("depends on x");
    let slope = graph.dot_all(first, v);
    let second = graph.grad(slope, &[x])[0];
    let mut outputs = vec![y, first];
    outputs.extend(second);
    table.saw(&graph);
    let mut exec: Executor<f64> = Executor::new(graph, &[&outputs], Phase::Inference, false);
    let values = Values { params: Vec::new(), inputs: vec![noise(N, 90), noise(N, 91), noise(N, 92)] };
    exec.run(0, &values, RunKey::default()).unwrap();

    let stand_in = |x: f64, order: u32| quantizer.surrogate(Phase::Inference, x, order);
    let step = 1e-5;
    let mut largest = [0f64; 2];
    for (i, &q) in exec.output(y).iter().enumerate() {
        let (x, c, v) = (values.inputs[0][i], values.inputs[1][i], values.inputs[2][i]);
        let slope = (stand_in(x + step, 0) - stand_in(x - step, 0)) / (2.0 * step);
        let curvature = (stand_in(x + step, 1) - stand_in(x - step, 1)) / (2.0 * step);
        let wanted = [slope * (c + q * c), curvature * v * (c + q * c) + slope * slope * v * c];
        let got = [exec.output(first)[i], second.map_or(0.0, |s| exec.output(s)[i])];
        for order in 0..2 {
            let error = (wanted[order] - got[order]).abs() / (1.0 + wanted[order].abs());
            assert!(
                error < 2e-6,
                "{text}, order {}, x = {x}: {} by graph, {} by differences",
                order + 1,
                got[order],
                wanted[order]
            );
            largest[order] = largest[order].max(error);
        }
    }
    table.row(&format!("stand-in: {text}"), 1, largest[0]);
    table.row(&format!("stand-in: {text}"), 2, largest[1]);
}
