//! Footprints of lowered networks and of those that cannot be lowered.

mod common;

use common::{random_model, small_networks};
use deploy::{Footprint, arena, lower};
use qnn::InputGrid;
use qnn::zoo::{self, Twin};

#[test]
fn memory_is_planned_alike_for_network_and_program() {
    let mut networks = small_networks("ternary(alpha=auto)", "quantized_relu(8, 2)", InputGrid::STANDARDISED);
    let quantizers = Twin::Stq.quantizers();
    networks.push(zoo::build("resnet8", [32, 32, 3], InputGrid::UNIT_IMAGE, 10, &quantizers).unwrap());
    networks.push(zoo::build("ds_cnn", [49, 10, 1], InputGrid::STANDARDISED, 12, &quantizers).unwrap());
    for network in networks {
        let model = random_model(network, 5);
        let program = lower(&model.network, &model).unwrap().program;
        let footprint = Footprint::of_program(&model.network, &program).unwrap();
        let plan = arena::plan(&program);
        assert_eq!((footprint.ram.arena, footprint.ram.bound), (plan.peak, plan.bound), "{}", program.name);
        let macs: u64 = program.steps.iter().flat_map(|s| s.op.branches()).map(|b| b.linear.macs()).sum();
        assert_eq!(footprint.macs.total(), macs);
        let image = footprint.image_bytes.unwrap();
        // Lines on 16-bit sums take fewer bytes than the forms they stand for.
        assert!(
            image >= footprint.weight_bytes_base3 && image < footprint.flash() + 4096,
            "{image} {}",
            footprint.flash()
        );
    }
}

#[test]
fn twins_of_stq_image_s() {
    let of = |twin: Twin| {
        let net =
            zoo::build("stq_image_s", [32, 32, 3], InputGrid::UNIT_IMAGE, 10, &twin.quantizers()).unwrap();
        Footprint::of_network(&net).unwrap()
    };
    let (stq, int8, float) = (of(Twin::Stq), of(Twin::EightBit), of(Twin::Float));
    let weights = 864 + 9_216 + 18_432 + 36_864 + 73_728 + 147_456 + 20_480;
    assert_eq!(
        (stq.weight_bytes, int8.weight_bytes, float.weight_bytes),
        (weights / 4, weights, 4 * weights)
    );
    assert_eq!(stq.weight_bytes_base3, stq.layers.iter().map(|l| l.weights.div_ceil(5)).sum::<u64>());
    // Two 32x32x32 maps of codes; four bytes each in the float twin.
    assert_eq!((stq.ram.arena, int8.ram.arena, float.ram.arena), (65_536, 65_536, 262_144));
    assert_eq!(stq.macs.total(), float.macs.total());
    assert_eq!((stq.macs.int8, stq.macs.float, float.macs.ternary), (0, 0, 0));
    assert!(stq.flash() < 96 * 1024);
    let table = stq.to_string();
    assert!(table.contains("conv6") && table.contains("147456"), "{table}");
    assert!(stq.to_json().contains("\"weight_bytes\": 76760"));
}
