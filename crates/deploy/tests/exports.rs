//! Every export of small networks with mixed precisions, run on this machine and on an emulated Cortex-M4, where the tools
//! are there; where not, what is missing is printed.

mod common;

use std::path::Path;

use common::{q, random_model, small_networks};
use deploy::export::{Samples, onnx, rust};
use deploy::lower;
use deploy::program::Program;
use deploy::validate::{Check, Outcome, c_on_device, debian_rust_on_device, on_device, on_host};
use qnn::network::LayerOp;
use qnn::{InputGrid, Network};

/// Every other kernel gets 8 bits.
fn mix(mut network: Network) -> Network {
    let mut kernels = 0;
    for layer in &mut network.layers {
        if let LayerOp::Conv2d { quantizer, .. }
        | LayerOp::DepthwiseConv2d { quantizer, .. }
        | LayerOp::Dense { quantizer, .. } = &mut layer.op
        {
            kernels += 1;
            if kernels % 2 == 0 {
                *quantizer = q("quantized_bits(8, 0, alpha=auto)");
            }
        }
    }
    network
}

fn programs() -> Vec<(Program, Samples)> {
    let mut seed = 40;
    let mut programs = Vec::new();
    for (activations, grid) in [
        ("quantized_relu(8, 2)", InputGrid { scale: 0.02, zero_point: 77 }),
        ("quantized_relu(2, 1)", InputGrid::UNIT_IMAGE),
    ] {
        for network in small_networks("stochastic_ternary(alpha=auto)", activations, grid) {
            seed += 1;
            let model = random_model(mix(network), seed);
            let program = lower(&model.network, &model).unwrap().program;
            let samples = Samples::of_program(&program).unwrap();
            programs.push((program, samples));
        }
    }
    programs
}

fn report(name: &str, checks: Vec<Check>) {
    for check in checks {
        println!("{name}: {}: {}", check.target, check.outcome);
        assert!(check.passed(), "{name}: {check:?}");
    }
}

#[test]
fn host_exports_agree() {
    for (i, (program, samples)) in programs().iter().take(4).enumerate() {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("on_host_{i}"));
        report(&program.name, on_host(program, samples, &dir));
    }
}

#[test]
fn device_exports_agree() {
    for (i, (program, samples)) in programs().iter().enumerate() {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("on_device_{i}"));
        // One of the Rust firmwares: each is a build of its own, of the same code.
        let checks = if i == 1 {
            let mut checks = on_device(program, samples, &dir);
            checks.push(debian_rust_on_device(program, samples, &dir.join("debian")));
            checks
        } else {
            vec![c_on_device(program, samples, &dir)]
        };
        for check in &checks {
            if let Outcome::Ran { instructions, .. } = &check.outcome {
                assert_eq!(instructions.len(), program.steps.len(), "{check:?}");
            }
        }
        report(&program.name, checks);
    }
}

#[test]
fn a_wrong_logit_is_found() {
    let (program, mut samples) = programs().swap_remove(0);
    samples.logits[3] += 2;
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wrong");
    for check in on_host(&program, &samples, &dir) {
        match &check.outcome {
            Outcome::Ran { largest_difference, .. } => assert_eq!(*largest_difference, 2, "{check:?}"),
            Outcome::Missing { hint } => println!("{}: {hint}", check.target),
            Outcome::Failed { reason } => panic!("{}: {reason}", check.target),
        }
    }
}

#[test]
fn the_crate_has_no_std_and_no_unsafe_and_onnx_packs_trits() {
    let (program, samples) = programs().swap_remove(0);
    let files = rust::write(&program, &samples).unwrap();
    let text = |name: &str| {
        let (_, bytes) = files.iter().find(|(file, _)| file == name).unwrap();
        String::from_utf8(bytes.clone()).unwrap()
    };
    assert!(text("src/lib.rs").contains("#![no_std]\n#![forbid(unsafe_code)]"));
    assert!(!text("src/rt/float.rs").contains("proptest"));
    // Trits take a quarter of a byte.
    let network =
        small_networks("ternary(alpha=auto)", "quantized_relu(8, 2)", InputGrid::UNIT_IMAGE).swap_remove(3);
    let [wide, narrow] = ["quantized_bits(8, 0, alpha=auto)", "ternary(alpha=auto)"].map(|weights| {
        let mut network = network.clone();
        for layer in &mut network.layers {
            if let LayerOp::Dense { quantizer, .. } = &mut layer.op {
                *quantizer = q(weights);
            }
        }
        let model = random_model(network, 1);
        onnx::write(&lower(&model.network, &model).unwrap().program).unwrap().len()
    });
    assert!(narrow < wide, "{narrow} {wide}");
}
