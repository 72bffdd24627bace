//! Model files written once and kept: later programs must read those of every format version, and write the bytes of the last.
#![forbid(unsafe_code)]

use qnn::network::{BatchNormQuantizers, conv2d, depthwise};
use qnn::{InputGrid, Model, Network};

const VERSION_1: &[u8] = include_bytes!("golden/version1.qnn");
const VERSION_2: &[u8] = include_bytes!("golden/version2.qnn");
const VERSION_3: &[u8] = include_bytes!("golden/version3.qnn");

/// The model in the file: parameters are eighths, so that nothing depends on how numbers are drawn.
fn tiny() -> Model {
    let ternary = Some("stochastic_ternary(alpha=auto)".parse().unwrap());
    let relu = Some("quantized_relu(8, 2)".parse().unwrap());
    let network = Network::new("tiny", [4, 4, 1], InputGrid::UNIT_IMAGE, 2)
        .conv("c1", 2, 3, 1, &ternary)
        .bn_act("c1", &relu)
        .max_pool("p1", 2)
        .classifier(&ternary);
    eighths(network)
}

/// What version 3 added: dilation, a depth multiplier, quantized batch normalisation.
fn dilated() -> Model {
    let ternary = Some("stochastic_ternary(alpha=auto)".parse().unwrap());
    let relu = Some("quantized_relu(8, 2)".parse().unwrap());
    let mut network = Network::new("dilated", [4, 4, 1], InputGrid::UNIT_IMAGE, 2)
        .then("c1", conv2d(2, [2, 2], [1, 1], true, &ternary).dilated([2, 1]))
        .bn_act("c1", &relu)
        .then("d", depthwise([2, 1], [1, 1], false, &ternary).multiplied(3).dilated([1, 2]))
        .bn_act("d", &relu)
        .classifier(&ternary);
    network.quantize_biases(&Some("quantized_bits(6, 1)".parse().unwrap()));
    network.quantize_batch_norms(&Some(BatchNormQuantizers::qkeras()));
    eighths(network)
}

/// A model of that network whose parameters depend on nothing but their place.
fn eighths(network: Network) -> Model {
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
fn golden_files_read_and_write_unchanged() {
    let mut model = tiny();
    assert_eq!(Model::from_bytes(VERSION_1, "golden/version1.qnn").unwrap(), model);
    model.network.quantize_biases(&Some("quantized_bits(6, 1)".parse().unwrap()));
    let model = Model { params: with_kinds(&model), ..model };
    assert_eq!(Model::from_bytes(VERSION_2, "golden/version2.qnn").unwrap(), model);
    let model = dilated();
    if let Some(path) = std::env::var_os("TERNION_BLESS") {
        model.save(std::path::Path::new(&path)).unwrap();
        return;
    }
    assert_eq!(Model::from_bytes(VERSION_3, "golden/version3.qnn").unwrap(), model);
    assert_eq!(model.to_bytes().unwrap(), VERSION_3);
}

/// The model's parameters as its network now wants them.
fn with_kinds(model: &Model) -> Vec<qnn::Param> {
    let mut params = Model::new(model.network.clone(), 0).unwrap().params;
    params.iter_mut().zip(&model.params).for_each(|(new, old)| new.values.clone_from(&old.values));
    params
}
