//! Known networks give known figures, and edges carry what the layers really exchange.

use super::*;
use crate::network::InputGrid;
use crate::zoo::{Twin, build};

fn network(name: &str, twin: Twin) -> Network {
    build(name, [32, 32, 3], InputGrid::UNIT_IMAGE, 10, &twin.quantizers()).unwrap()
}

#[test]
fn the_reference_resnet_has_its_published_size() {
    let summary = Summary::of_network(&network("resnet8", Twin::Float)).unwrap();
    assert_eq!(summary.parameters, 78_666);
    assert_eq!(summary.macs, 12_501_632);
    assert_eq!(summary.kernel_bits % 32, 0);
    assert!(summary.layers.iter().all(|l| l.output_type == EdgeType::F32 || l.kind == "flatten"));
}

#[test]
fn edges_of_a_quantized_network_are_codes_and_accumulators() {
    let summary = Summary::of_network(&network("stq_image_s", Twin::Stq)).unwrap();
    let types: Vec<String> = summary.layers.iter().take(7).map(|l| l.output_type.to_string()).collect();
    assert_eq!(types, ["i32", "f32", "u8", "i32", "f32", "u8", "u8"]);
    assert_eq!(summary.layers[0].reads, [("input".to_owned(), summary.input_type.clone())]);
    assert_eq!(summary.layers.last().unwrap().output, [10]);
    let weights: u64 = summary.layers.iter().map(|l| l.weights).sum();
    assert_eq!(summary.kernel_bits, 2 * weights);
}

#[test]
fn statistics_describe_the_kernel() {
    let mut model = Model::new(network("stq_image_s", Twin::Stq), 1).unwrap();
    let kernel = model.index_of("conv1/kernel").unwrap();
    // Channels of +-0.5 and zeros quantize without error.
    for (i, v) in model.params[kernel].values.iter_mut().enumerate() {
        *v = [0.5, 0.0, -0.5][i / 32 % 3];
    }
    let summary = Summary::of_model(&model).unwrap();
    let s = summary.layers[0].statistics.as_ref().unwrap();
    assert_eq!(s.latent, [-0.5, 0.5]);
    assert!(s.scale.iter().all(|v| (v - 0.5).abs() < 1e-6), "{:?}", s.scale);
    assert!((s.sparsity - 1.0 / 3.0).abs() < 1e-12);
    assert_eq!(s.codes.iter().map(|c| c.0).collect::<Vec<_>>(), [-1, 0, 1]);
    assert!(s.sqnr_db.is_none_or(|db| db > 100.0));
    assert_eq!(s.clipped, Some(0.0));
    let text = summary.to_string();
    assert!(text.contains("conv1_bn") && text.contains("SQNR"), "{text}");
    let json: serde_json::Value = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["layers"][0]["output_type"]["type"], "accumulators");
}

#[test]
fn quantized_normalisations_dilations_and_multipliers_are_counted() {
    let q = "ternary(alpha=auto)".parse().ok();
    let mut net = Network::new("n", [8, 8, 2], InputGrid::UNIT_IMAGE, 3)
        .then("c", crate::network::conv2d(4, [3, 3], [1, 1], true, &q).dilated([2, 2]))
        .then("d", crate::network::depthwise([3, 3], [1, 1], true, &q).multiplied(3))
        .bn_act("d", &"quantized_relu(8, 2)".parse().ok())
        .classifier(&q);
    let plain = Summary::of_network(&net).unwrap();
    net.quantize_batch_norms(&Some(crate::network::BatchNormQuantizers::qkeras()));
    let summary = Summary::of_network(&net).unwrap();
    let layer = |name: &str| summary.layers.iter().find(|l| l.name == name).unwrap();
    // Dilation adds no weights and no products; a multiplier does.
    assert_eq!((layer("c").weights, layer("c").macs), (72, 64 * 72));
    assert_eq!(
        (layer("d").output.clone(), layer("d").weights, layer("d").macs),
        (vec![8, 8, 12], 108, 64 * 108)
    );
    assert_eq!(layer("d").parameter_bits, 2 * 108 + 32 * 12);
    // gamma and variance of 6 bits, beta and mean of 5, twelve channels.
    assert_eq!(layer("d_bn").parameter_bits, 12 * (6 + 5 + 5 + 6));
    assert_eq!(plain.parameter_bits - summary.parameter_bits, 12 * (4 * 32 - 22));
    let text = summary.to_string();
    assert!(text.contains("conv2d, dilation 2x2") && text.contains("depthwise_conv2d x3"), "{text}");
    assert!(
        text.contains("gamma quantized_relu_po2(bits=6") || text.contains("gamma quantized_relu_po2(6"),
        "{text}"
    );
}
