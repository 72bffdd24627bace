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
