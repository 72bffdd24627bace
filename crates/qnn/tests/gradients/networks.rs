//! Whole networks: the cross-entropy's gradient, and that of a Jacobian penalty, which is a second derivative.

use qnn::graph::{Executor, Graph, NodeId, Random, RunKey};
use qnn::network::{Pad, conv2d, depthwise};
use qnn::train::cross_entropy;
use qnn::{Forward, InputGrid, LayerOp, Model, Network, Phase, Statistics};

use super::{Table, Values, noise};

const BATCH: usize = 3;
const CLASSES: usize = 4;

fn net(shape: [usize; 3]) -> Network {
    Network::new("test", shape, InputGrid::UNIT_IMAGE, CLASSES)
}

fn relu() -> LayerOp {
    LayerOp::Activation { quantizer: None }
}

fn bn() -> LayerOp {
    qnn::network::BATCH_NORM
}

/// One row per layer kind or combination.
fn networks() -> Vec<(&'static str, Network)> {
    let end = |n: Network| n.classifier(&None);
    let pool = |size, stride| LayerOp::MaxPool { size: [size, size], stride: [stride, stride] };
    let avg = |size| LayerOp::AvgPool { size: [size, size], stride: [size, size] };
    vec![
        ("dense", end(net([2, 2, 2]))),
        ("two dense", {
            let hidden = LayerOp::Dense { units: 5, bias: true, quantizer: None };
            net([2, 2, 2])
                .then("f", LayerOp::Flatten)
                .then("h", hidden)
                .then("r", relu())
                .then("logits", LayerOp::Dense { units: CLASSES, bias: false, quantizer: None })
        }),
        (
            "conv same",
            end(net([4, 5, 2]).then("c", conv2d(3, [3, 3], [1, 1], true, &None)).then("r", relu())),
        ),
        (
            "conv stride 2",
            end(net([5, 4, 2]).then("c", conv2d(3, [3, 2], [2, 2], false, &None)).then("r", relu())),
        ),
        ("conv valid", {
            let op = LayerOp::Conv2d {
                filters: 3,
                kernel: [2, 3],
                stride: [1, 2],
                dilation: [1, 1],
                padding: Pad::Valid,
                bias: true,
                quantizer: None,
            };
            end(net([4, 5, 2]).then("c", op).then("r", relu()))
        }),
        (
            "depthwise",
            end(net([4, 4, 3]).then("d", depthwise([3, 3], [2, 2], true, &None)).then("r", relu())),
        ),
        (
            "conv dilated",
            end(net([6, 5, 2])
                .then("c", conv2d(3, [3, 2], [1, 1], true, &None).dilated([2, 3]))
                .then("r", relu())),
        ),
        (
            "depthwise multiplied and dilated",
            end(net([5, 6, 2])
                .then("d", depthwise([2, 3], [1, 1], true, &None).multiplied(3).dilated([3, 2]))
                .then("r", relu())),
        ),
        (
            "batch norm",
            end(net([3, 3, 2]).then("c", conv2d(3, [3, 3], [1, 1], false, &None)).then("b", bn())),
        ),
        (
            "max pool",
            end(net([5, 5, 2]).then("c", conv2d(3, [3, 3], [1, 1], false, &None)).then("p", pool(3, 2))),
        ),
        (
            "avg pool",
            end(net([4, 4, 2]).then("c", conv2d(3, [1, 1], [1, 1], false, &None)).then("p", avg(2))),
        ),
        ("dropout", end(net([3, 3, 2]).then("d", LayerOp::Dropout { rate: 0.3 }))),
        ("residual", {
            let n = net([4, 4, 2]).then("a", conv2d(3, [1, 1], [1, 1], false, &None)).then("ab", bn());
            let n = n.then("ar", relu()).then("c", conv2d(3, [3, 3], [1, 1], false, &None));
            end(n.join("s", LayerOp::Add, &["c", "ar"]).then("sr", relu()))
        }),
        ("deep", {
            let n = net([6, 6, 2]).then("c1", conv2d(3, [3, 3], [1, 1], false, &None)).then("b1", bn());
            let n = n
                .then("r1", relu())
                .then("p1", pool(2, 2))
                .then("c2", conv2d(4, [3, 3], [1, 1], false, &None));
            end(n.then("b2", bn()).then("r2", relu()))
        }),
    ]
}

/// Builds cross-entropy, plus the Jacobian penalty of one random projection if `jacobian`, and compares.
fn check(name: &str, network: Network, statistics: Statistics, jacobian: bool, table: &mut Table) {
    let model = Model::new(network, 5).expect(name);
    let [h, w, c] = model.network.input;
    let mut graph = Graph::default();
    let input = graph.input(&[BATCH, h, w, c]);
    let target = graph.input(&[BATCH, CLASSES]);
    let forward = Forward::build(&mut graph, &model, input, Phase::Training, statistics).expect(name);
    let mut loss = cross_entropy(&mut graph, forward.logits, target);
    if jacobian {
        let v = graph.random(Random::UnitRows, &[BATCH, CLASSES]);
        let jv = graph.vjp(forward.logits, v, &[input])[0].expect("logits depend on the input");
        let square = graph.dot_all(jv, jv);
        loss = graph.linear(&[(1.0, loss), (0.3, square)]);
    }
    let mut wrt: Vec<NodeId> = forward.params.clone();
    wrt.push(input);
    let grads = graph.grad(loss, &wrt);
    let mut outputs = vec![loss];
    outputs.extend(grads.iter().flatten());
    table.saw(&graph);
    let mut exec: Executor<f64> = Executor::new(graph, &[&outputs], Phase::Training, false);

    let mut values = Values { params: Vec::new(), inputs: Vec::new() };
    for (i, p) in model.params.iter().enumerate() {
        // Away from the initial zeros and ones, so that nothing cancels by symmetry.
        let jitter = noise(p.values.len(), 100 + i as u64);
        values
            .params
            .push(p.values.iter().zip(jitter).map(|(&v, z)| f64::from(v) + 0.05 * z.abs()).collect());
    }
    values.inputs.push(noise(BATCH * h * w * c, 1));
    let mut soft = vec![0.1 / CLASSES as f64; BATCH * CLASSES];
    (0..BATCH).for_each(|b| soft[b * CLASSES + b % CLASSES] += 0.9);
    values.inputs.push(soft);

    let key = RunKey { seed: 3, step: 8 };
    exec.run(0, &values, key).expect(name);
    let analytic: Vec<Option<Vec<f64>>> = grads.iter().map(|g| g.map(|g| exec.output(g).to_vec())).collect();
    let mut largest: f64 = 0.0;
    for (which, grad) in analytic.iter().enumerate() {
        let Some(grad) = grad else {
            let moving = which < model.params.len() && !model.params[which].kind.is_trainable();
            let unused_bias = jacobian || statistics == Statistics::Batch;
            assert!(moving || unused_bias, "{name}: tensor {which} has no gradient");
            continue;
        };
        for i in (0..grad.len()).step_by(1 + grad.len() / 12) {
            let mut at = |delta: f64| {
                let slot = if which < values.params.len() {
                    &mut values.params[which][i]
                } else {
                    &mut values.inputs[0][i]
                };
                let kept = *slot;
                *slot = kept + delta;
                exec.run(0, &values, key).expect(name);
                let slot = if which < values.params.len() {
                    &mut values.params[which][i]
                } else {
                    &mut values.inputs[0][i]
                };
                *slot = kept;
                exec.output(loss)[0]
            };
            let step = 1e-5;
            let numeric = (at(step) - at(-step)) / (2.0 * step);
            let error = (numeric - grad[i]).abs() / (1.0 + numeric.abs());
            largest = largest.max(error);
            assert!(
                error < 2e-6,
                "{name} ({statistics:?}, jacobian {jacobian}): tensor {which} element {i}: {} by graph, {numeric} by \
                 differences",
                grad[i]
            );
        }
    }
    let order = if jacobian { 2 } else { 1 };
    table.row(&format!("network: {name} ({statistics:?})"), order, largest);
}

/// Adds one row per network, statistics and order.
pub(crate) fn rows(table: &mut Table) {
    for statistics in [Statistics::Moving, Statistics::Batch] {
        for jacobian in [false, true] {
            for (name, network) in networks() {
                check(name, network, statistics, jacobian, table);
            }
        }
    }
}
