//! The MLPerf Tiny reference topologies (mlcommons/tiny @1afd2c9): ResNetv1-8 with 16/32/64 filters and DS-CNN.

use super::Quantizers;
use crate::network::{BATCH_NORM, INPUT, InputGrid, LayerOp, Network, conv2d, depthwise};

/// ResNetv1-8, the classic 16/32/64 filters: 78,666 parameters, 12.5 M multiply-accumulates at 32x32x3.
/// The shortcut convolutions have no batch normalisation. MLPerf's own weights expect raw 0..255 inputs.
pub fn resnet8(input: [usize; 3], grid: InputGrid, classes: usize, q: &Quantizers) -> Network {
    let conv = |filters, size: usize, stride: usize| {
        conv2d(filters, [size, size], [stride, stride], true, &q.weights)
    };
    let act = || LayerOp::Activation { quantizer: q.activations.clone() };
    let mut net = Network::new("resnet8", input, grid, classes).then("conv0", conv(16, 3, 1));
    net = net.bn_act("conv0", &q.activations);
    let mut from = "conv0_act".to_owned();
    for (stage, (filters, stride)) in [(16, 1), (32, 2), (64, 2)].into_iter().enumerate() {
        let name = |part: &str| format!("s{}_{part}", stage + 1);
        net = net
            .join(&name("a"), conv(filters, 3, stride), &[&from])
            .bn_act(&name("a"), &q.activations)
            .then(&name("b"), conv(filters, 3, 1))
            .then(&name("b_bn"), BATCH_NORM);
        let shortcut = if stride == 1 {
            from
        } else {
            net = net.join(&name("skip"), conv(filters, 1, stride), &[&from]);
            name("skip")
        };
        net = net.join(&name("add"), LayerOp::Add, &[&name("b_bn"), &shortcut]).then(&name("act"), act());
        from = name("act");
    }
    let pool = [input[0].div_ceil(4), input[1].div_ceil(4)];
    net.then("pool", LayerOp::AvgPool { size: pool, stride: pool }).classifier(&q.weights)
}

/// DS-CNN for keyword spotting: a 10x4 convolution of stride 2 and four depthwise-separable blocks of 64 filters;
/// 24,908 parameters at 49x10x1 (pooling over the whole 25x5 map, as the shipped model does).
pub fn ds_cnn(input: [usize; 3], grid: InputGrid, classes: usize, q: &Quantizers) -> Network {
    let mut net = Network::new("ds_cnn", input, grid, classes)
        .join("conv0", conv2d(64, [10, 4], [2, 2], true, &q.weights), &[INPUT])
        .bn_act("conv0", &q.activations)
        .then("drop0", LayerOp::Dropout { rate: 0.2 });
    for block in 1..=4 {
        let (dw, pw) = (format!("dw{block}"), format!("pw{block}"));
        net = net
            .then(&dw, depthwise([3, 3], [1, 1], true, &q.weights))
            .bn_act(&dw, &q.activations)
            .then(&pw, conv2d(64, [1, 1], [1, 1], true, &q.weights))
            .bn_act(&pw, &q.activations);
    }
    let pool = [input[0].div_ceil(2), input[1].div_ceil(2)];
    net.then("drop1", LayerOp::Dropout { rate: 0.4 })
        .then("pool", LayerOp::AvgPool { size: pool, stride: pool })
        .classifier(&q.weights)
}
