//! A model file of format version 1, written once and kept: later programs must read it, and write the same bytes.
#![forbid(unsafe_code)]

use qnn::{InputGrid, Model, Network};

const GOLDEN: &[u8] = include_bytes!("golden/tiny.qnn");

/// The model in the file: parameters are eighths, so that nothing depends on how numbers are drawn.
fn tiny() -> Model {
    let ternary = Some("stochastic_ternary(alpha=auto)".parse().unwrap());
    let relu = Some("quantized_relu(8, 2)".parse().unwrap());
    let network = Network::new("tiny", [4, 4, 1], InputGrid::UNIT_IMAGE, 2)
        .conv("c1", 2, 3, 1, &ternary)
        .bn_act("c1", &relu)
        .max_pool("p1", 2)
        .classifier(&ternary);
    let mut model = Model::new(network, 0).unwrap();
    for param in &mut model.params {
        let n = param.values.len();
        for (i, v) in param.values.iter_mut().enumerate() {
            *v = (i as f32 - n as f32 / 2.0) / 8.0;
        }
        if param.name.ends_with("moving_variance") {
            param.values.fill(0.75);
        }
    }
    model
}

#[test]
fn the_golden_file_reads_and_writes_unchanged() {
    let model = tiny();
    if let Some(path) = std::env::var_os("TERNION_BLESS") {
        model.save(std::path::Path::new(&path)).unwrap();
        return;
    }
    assert_eq!(Model::from_bytes(GOLDEN, "golden/tiny.qnn").unwrap(), model);
    assert_eq!(model.to_bytes().unwrap(), GOLDEN);
}
