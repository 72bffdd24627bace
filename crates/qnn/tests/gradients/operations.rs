//! Every operation and every layer function by itself: a smooth functional of its output, differentiated once and twice.

use kernels::{Padding, Pool2d};
use qnn::Phase;
use qnn::graph::{Executor, Graph, NodeId, Nonlinearity, RunKey, Unary};
use qnn::layer::{self, BatchNorm, Conv2dBatchnorm, Folding, Moments, Window};
use qnn::network::Pad;

use super::{Table, Values, noise};

type Build = fn(&mut Graph, &[NodeId]) -> NodeId;

/// Name, shapes of the inputs, whether they must be positive, and the operation.
struct Row(&'static str, &'static [&'static [usize]], bool, Build);

const ROWS: &[Row] = &[
    Row("linear", &[&[3, 4], &[3, 4], &[3, 4]], false, |g, x| {
        g.linear(&[(0.5, x[0]), (-2.0, x[1]), (1.5, x[2])])
    }),
    Row("add_scalar", &[&[5]], false, |g, x| g.add_scalar(x[0], 0.7)),
    Row("mul", &[&[3, 4], &[3, 4]], false, |g, x| g.mul(x[0], x[1])),
    Row("square", &[&[3, 4]], false, |g, x| g.mul(x[0], x[0])),
    Row("rsqrt", &[&[5]], true, |g, x| g.unary(Unary::Rsqrt, x[0])),
    Row("recip", &[&[5]], true, |g, x| g.unary(Unary::Recip, x[0])),
    Row("exp", &[&[5]], false, |g, x| g.unary(Unary::Exp, x[0])),
    Row("ln", &[&[5]], true, |g, x| g.unary(Unary::Ln, x[0])),
    Row("relu", &[&[4, 5]], false, |g, x| g.activation(Nonlinearity::Relu, x[0])),
    Row("channel_affine", &[&[2, 3, 4], &[4], &[2, 3, 4], &[4], &[4]], false, |g, x| {
        g.channel_affine(&[(x[0], x[1]), (x[2], x[3])], Some(x[4]), &[2, 3, 4])
    }),
    Row("channel_dot", &[&[2, 3, 4], &[2, 3, 4]], false, |g, x| g.channel_dot(x[0], x[1])),
    Row("channel_sum", &[&[2, 3, 4]], false, |g, x| g.channel_sum(x[0])),
    Row("row_sum", &[&[3, 2, 2]], false, |g, x| g.row_sum(x[0])),
    Row("row_dot", &[&[3, 4], &[3, 4]], false, |g, x| g.row_dot(x[0], x[1])),
    Row("row_scale", &[&[3, 4], &[3]], false, |g, x| g.row_scale(x[0], x[1])),
    Row("row_broadcast", &[&[3]], false, |g, x| g.row_broadcast(x[0], &[3, 2, 2])),
    Row("sum_all", &[&[3, 4]], false, |g, x| g.sum_all(x[0])),
    Row("dot_all", &[&[3, 4], &[3, 4]], false, |g, x| g.dot_all(x[0], x[1])),
    Row("scalar_mul", &[&[3, 4], &[]], false, |g, x| g.scalar_mul(x[0], x[1])),
    Row("log_sum_exp", &[&[3, 4]], false, |g, x| g.log_sum_exp(x[0])),
    Row("softmax", &[&[3, 4]], false, |g, x| g.softmax(x[0])),
    Row("reshape", &[&[3, 4]], false, |g, x| g.reshape(x[0], &[2, 6])),
    Row("dropout", &[&[4, 6]], false, |g, x| g.dropout(0.4, x[0])),
    Row("conv2d, same", &[&[2, 5, 4, 3], &[3, 3, 3, 2]], false, |g, x| {
        layer::conv2d(g, x[0], x[1], &Window::new(Pad::Same)).unwrap()
    }),
    Row("conv2d, same, stride 2", &[&[2, 6, 5, 2], &[3, 2, 2, 3]], false, |g, x| {
        layer::conv2d(g, x[0], x[1], &Window { stride: [2, 2], ..Window::new(Pad::Same) }).unwrap()
    }),
    Row("conv2d, valid, stride 1x2", &[&[1, 5, 6, 2], &[2, 3, 2, 3]], false, |g, x| {
        layer::conv2d(g, x[0], x[1], &Window { stride: [1, 2], ..Window::new(Pad::Valid) }).unwrap()
    }),
    Row("conv2d, dilation 2", &[&[1, 7, 7, 2], &[3, 3, 2, 2]], false, |g, x| {
        layer::conv2d(g, x[0], x[1], &Window { dilation: [2, 2], ..Window::new(Pad::Valid) }).unwrap()
    }),
    Row("depthwise_conv2d, stride 2", &[&[2, 5, 5, 3], &[3, 3, 3, 1]], false, |g, x| {
        layer::depthwise_conv2d(g, x[0], x[1], &Window { stride: [2, 2], ..Window::new(Pad::Same) }).unwrap()
    }),
    Row("depthwise_conv2d, multiplier 2", &[&[2, 4, 4, 3], &[2, 3, 3, 2]], false, |g, x| {
        layer::depthwise_conv2d(g, x[0], x[1], &Window::new(Pad::Same)).unwrap()
    }),
    Row("separable convolution", &[&[2, 4, 4, 3], &[3, 3, 3, 1], &[1, 1, 3, 4]], false, |g, x| {
        let depthwise = layer::depthwise_conv2d(g, x[0], x[1], &Window::new(Pad::Same)).unwrap();
        layer::conv2d(g, depthwise, x[2], &Window::new(Pad::Same)).unwrap()
    }),
    Row("dense", &[&[3, 5], &[5, 4], &[4]], false, |g, x| {
        let y = g.dense(x[0], x[1]).unwrap();
        layer::add_bias(g, y, x[2])
    }),
    Row("max_pool, overlapping", &[&[2, 5, 5, 2]], false, |g, x| {
        g.max_pool(Pool2d::new([2, 5, 5, 2], [3, 3], [2, 2], Padding::Valid).unwrap(), x[0])
    }),
    Row("avg_pool", &[&[2, 5, 6, 2]], false, |g, x| {
        g.avg_pool(Pool2d::new([2, 5, 6, 2], [2, 3], [2, 3], Padding::Valid).unwrap(), x[0])
    }),
    Row("batch norm, batch statistics", &[&[3, 2, 2, 3], &[3], &[3]], false, |g, x| {
        let batch = Moments::of(g, x[0]);
        let (mean, variance) = (batch.mean, batch.variance);
        BatchNorm { gamma: Some(x[1]), beta: Some(x[2]), mean, variance, eps: 1e-3 }.apply(g, x[0])
    }),
    Row("batch norm, moving statistics", &[&[3, 2, 2, 3], &[3], &[3], &[3], &[3]], true, |g, x| {
        BatchNorm { gamma: Some(x[1]), beta: Some(x[2]), mean: x[3], variance: x[4], eps: 1e-3 }
            .apply(g, x[0])
    }),
    Row(
        "folded batch norm, moving kernel",
        &[&[3, 4, 4, 2], &[3, 3, 2, 2], &[2], &[2], &[2], &[2]],
        true,
        |g, x| folded(g, x, Folding::EmaStats),
    ),
    Row(
        "folded batch norm, batch kernel",
        &[&[3, 4, 4, 2], &[3, 3, 2, 2], &[2], &[2], &[2], &[2]],
        true,
        |g, x| folded(g, x, Folding::BatchStats),
    ),
];

fn folded(g: &mut Graph, x: &[NodeId], folding: Folding) -> NodeId {
    let layer = Conv2dBatchnorm {
        kernel: x[1],
        bias: None,
        gamma: Some(x[2]),
        beta: Some(x[3]),
        moving_mean: x[4],
        moving_variance: x[5],
        eps: 1e-3,
        window: Window::new(Pad::Same),
        kernel_quantizer: None,
        bias_quantizer: None,
    };
    let moments = layer.moments(g, x[0]).unwrap();
    layer.training(g, x[0], &moments, folding).unwrap()
}

pub(crate) fn rows(table: &mut Table) {
    for row in ROWS {
        check(row, table);
    }
}

fn check(&Row(name, shapes, positive, build): &Row, table: &mut Table) {
    let mut graph = Graph::default();
    let inputs: Vec<NodeId> = shapes.iter().map(|s| graph.input(s)).collect();
    let y = build(&mut graph, &inputs);
    // Linear and quadratic in the output, so that neither derivative vanishes.
    let shape = graph.shape(y).to_vec();
    let c = graph.input(&shape);
    let (linear, square) = (graph.dot_all(y, c), graph.dot_all(y, y));
    let loss = graph.linear(&[(1.0, linear), (0.5, square)]);
    // An input that does not matter (a moving mean in training) has no gradient: differences must find zero.
    let mut first = Vec::new();
    for (gradient, shape) in graph.grad(loss, &inputs).into_iter().zip(shapes) {
        first.push(gradient.unwrap_or_else(|| graph.fill(0.0, shape)));
    }
    // The second derivative along a direction.
    let directions: Vec<NodeId> = shapes.iter().map(|s| graph.input(s)).collect();
    let terms: Vec<(f64, NodeId)> =
        first.iter().zip(&directions).map(|(g, v)| (1.0, graph.dot_all(*g, *v))).collect();
    let slope = graph.linear(&terms);
    let second = graph.grad(slope, &inputs);

    let mut outputs = vec![loss, slope];
    outputs.extend(&first);
    outputs.extend(second.iter().flatten());
    table.saw(&graph);
    let mut exec: Executor<f64> = Executor::new(graph, &[&outputs], Phase::Training, false);
    let mut values = Values { params: Vec::new(), inputs: Vec::new() };
    let mut add = |shape: &[usize], positive: bool| {
        let mut x = noise(shape.iter().product(), 40 + values.inputs.len() as u64);
        if positive {
            x.iter_mut().for_each(|v| *v = 0.3 + v.abs());
        }
        values.inputs.push(x);
    };
    shapes.iter().for_each(|s| add(s, positive));
    add(&shape, false);
    shapes.iter().for_each(|s| add(s, false));

    let key = RunKey { seed: 1, step: 2 };
    exec.run(0, &values, key).expect(name);
    let analytic = |exec: &Executor<f64>, nodes: &[Option<NodeId>]| -> Vec<Option<Vec<f64>>> {
        nodes.iter().map(|n| n.map(|n| exec.output(n).to_vec())).collect()
    };
    let first: Vec<Option<NodeId>> = first.into_iter().map(Some).collect();
    for (order, of, gradients) in [(1, loss, analytic(&exec, &first)), (2, slope, analytic(&exec, &second))] {
        let mut largest: f64 = 0.0;
        for (which, gradient) in gradients.iter().enumerate() {
            for i in 0..values.inputs[which].len() {
                let mut at = |delta: f64| {
                    let kept = values.inputs[which][i];
                    values.inputs[which][i] = kept + delta;
                    exec.run(0, &values, key).expect(name);
                    values.inputs[which][i] = kept;
                    exec.value(of, &values)[0]
                };
                let step = 1e-5;
                let numeric = (at(step) - at(-step)) / (2.0 * step);
                let got = gradient.as_ref().map_or(0.0, |g| g[i]);
                let error = (numeric - got).abs() / (1.0 + numeric.abs());
                largest = largest.max(error);
                assert!(
                    error < 2e-6,
                    "{name}, order {order}, input {which}[{i}]: {got} by graph, {numeric} by differences"
                );
            }
        }
        table.row(name, order, largest);
    }
}
