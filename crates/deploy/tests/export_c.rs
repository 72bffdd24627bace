//! Exported C, compiled with every warning an error and run under the address and undefined-behaviour sanitizers, against
//! the host engine.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{random_model, small_networks};
use deploy::export::{Samples, c};
use deploy::lower;
use qnn::zoo::{self, Twin};
use qnn::{InputGrid, Network};

/// The host's C compiler, if there is one.
fn compiler() -> Option<String> {
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let found = Command::new(&cc).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        println!("no C compiler (`{cc}`): not checked");
    }
    found.then_some(cc)
}

/// Compiles and runs one network's self-test.
fn check(cc: &str, dir: &Path, tag: &str, network: Network, seed: u64, flags: &[&str]) {
    let model = random_model(network, seed);
    let program = lower(&model.network, &model).unwrap().program;
    let export = c::write(&program, &Samples::of_program(&program).unwrap()).unwrap();
    let dir = dir.join(tag);
    std::fs::create_dir_all(&dir).unwrap();
    let file = |suffix: &str| -> PathBuf { dir.join(format!("{}{suffix}", export.name)) };
    std::fs::write(file(".h"), &export.header).unwrap();
    std::fs::write(file(".c"), &export.source).unwrap();
    std::fs::write(file("_selftest.c"), &export.selftest).unwrap();
    let built = Command::new(cc)
        .args(["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"])
        .args(flags)
        .args([file(".c"), file("_selftest.c")])
        .arg("-o")
        .arg(file(""))
        .output()
        .unwrap();
    assert!(built.status.success(), "{tag}: {}", String::from_utf8_lossy(&built.stderr));
    let run = Command::new(file("")).output().unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success() && text.contains("largest difference 0, ok"),
        "{tag}: {text} {}",
        String::from_utf8_lossy(&run.stderr)
    );
}

const SANITIZE: &[&str] = &["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("export_c")
}

#[test]
fn small_networks_give_the_engine_s_logits() {
    let Some(cc) = compiler() else { return };
    let mut seed = 900;
    for (weights, activations, grid) in [
        ("stochastic_ternary(alpha=auto)", "quantized_relu(8, 2)", InputGrid::UNIT_IMAGE),
        ("ternary(alpha=auto_po2)", "quantized_relu(2, 1)", InputGrid::STANDARDISED),
        ("quantized_bits(8, 0, alpha=auto)", "quantized_relu(8, 2)", InputGrid::STANDARDISED),
        ("stochastic_binary(alpha=auto)", "quantized_relu(4, 1)", InputGrid { scale: 0.02, zero_point: 77 }),
    ] {
        for network in small_networks(weights, activations, grid) {
            seed += 1;
            let tag = format!("{}_{seed}", network.name);
            check(&cc, &directory(), &tag, network, seed, SANITIZE);
        }
    }
}

#[test]
fn zoo_networks_give_the_engine_s_logits() {
    let Some(cc) = compiler() else { return };
    let (image_input, audio) = ([32, 32, 3], [49, 10, 1]);
    for (name, input, grid, classes) in [
        ("stq_image_s", image_input, InputGrid::UNIT_IMAGE, 10),
        ("resnet8", image_input, InputGrid::UNIT_IMAGE, 10),
        ("stq_audio_s", audio, InputGrid::STANDARDISED, 12),
        ("ds_cnn", audio, InputGrid::STANDARDISED, 12),
    ] {
        for twin in [Twin::Stq, Twin::EightBit] {
            let network = zoo::build(name, input, grid, classes, &twin.quantizers()).unwrap();
            check(&cc, &directory(), &format!("{name}_{twin:?}"), network, 3, &["-O2"]);
        }
    }
}
