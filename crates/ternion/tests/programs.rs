//! The commands as people run them, on files and on an embedded set.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

use qnn::{InputGrid, Model, zoo};
use serde_json::Value;

fn ternion(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ternion"));
    command.current_dir(dir).args(args).env_remove("TERNION_DATA").output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// An untrained `stq_image_s`, saved.
fn model(dir: &Path, file: &str, grid: InputGrid) {
    let network = zoo::build("stq_image_s", [32, 32, 3], grid, 10, &zoo::Twin::Stq.quantizers()).unwrap();
    Model::new(network, 3).unwrap().save(&dir.join(file)).unwrap();
}

#[test]
fn a_model_survives_safetensors_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path(), "m.qnn", InputGrid::UNIT_IMAGE);
    for args in [["convert", "m.qnn", "m.safetensors"], ["convert", "m.safetensors", "back.qnn"]] {
        assert!(ternion(dir.path(), &args).status.success());
    }
    let read = |file: &str| std::fs::read(dir.path().join(file)).unwrap();
    assert_eq!(read("m.qnn"), read("back.qnn"));
}

#[test]
fn weights_of_another_origin_get_the_grid_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path(), "m.qnn", InputGrid::UNIT_IMAGE);
    assert!(ternion(dir.path(), &["convert", "m.qnn", "m.safetensors"]).status.success());
    let into = ["convert", "m.safetensors", "raw.qnn", "--network", "stq_image_s", "--raw"];
    assert!(ternion(dir.path(), &into).status.success());
    let (unit, raw) =
        (Model::load(&dir.path().join("m.qnn")).unwrap(), Model::load(&dir.path().join("raw.qnn")).unwrap());
    assert_eq!((unit.network.grid, raw.network.grid), (InputGrid::UNIT_IMAGE, InputGrid::RAW_IMAGE));
    assert_eq!(unit.network.layers, raw.network.layers);
    let wrong = ternion(dir.path(), &["convert", "m.safetensors", "x.qnn", "--network", "resnet8"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(!dir.path().join("x.qnn").exists());
}

#[test]
fn summary_counts_what_the_network_has() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path(), "m.qnn", InputGrid::UNIT_IMAGE);
    let summary = json(&ternion(dir.path(), &["summary", "m.qnn", "--json"]));
    let text = summary.to_string();
    // 3x3 convolutions of 3-32-32-64-64-128-128 channels, their batch normalisations, and 2048 x 10 + 10.
    assert!(text.contains("308842"), "{text}");
    assert!(text.contains("38653952"), "{text}");
}

#[test]
fn the_grid_changes_real_values_and_not_codes() {
    let dir = tempfile::tempdir().unwrap();
    // Batch normalisation in its initial state does not undo the factor of 255, so logits differ; samples do not.
    model(dir.path(), "unit.qnn", InputGrid::UNIT_IMAGE);
    model(dir.path(), "raw.qnn", InputGrid::RAW_IMAGE);
    let rows = ["unit.qnn", "raw.qnn"].map(|file| {
        let args = ["eval", file, "--task", "synthetic_shapes", "--part", "validation", "--json"];
        json(&ternion(dir.path(), &args))
    });
    assert_eq!(rows[0]["checksum"], rows[1]["checksum"]);
    assert_eq!(rows[0]["samples"], 500);
    assert_ne!(rows[0]["cross_entropy"], rows[1]["cross_entropy"]);
    let speech = ternion(dir.path(), &["eval", "unit.qnn", "--task", "synthetic_keywords"]);
    assert_eq!(speech.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&speech.stderr).contains("unit.qnn"));
}

#[test]
fn a_damaged_model_is_named() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path(), "m.qnn", InputGrid::UNIT_IMAGE);
    let path = dir.path().join("m.qnn");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    for command in ["summary", "eval", "analyze", "validate"] {
        let output = ternion(dir.path(), &[command, "m.qnn"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert!(said.contains("m.qnn") && said.contains("checksum"), "{command}: {said}");
    }
}

#[test]
fn attacks_in_l1_through_the_integer_program_and_from_another_model() {
    let dir = tempfile::tempdir().unwrap();
    let run = |extra: &[&str]| {
        let fixed = ["attack", "m.qnn", "--task", "synthetic_shapes", "--samples", "100", "--json"];
        ternion(dir.path(), &[&fixed, extra].concat())
    };
    let error = |extra: &[&str]| {
        let output = run(extra);
        assert_eq!(output.status.code(), Some(1), "{extra:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (file, grid) in [("m.qnn", InputGrid::UNIT_IMAGE), ("raw.qnn", InputGrid::RAW_IMAGE)] {
        model(dir.path(), file, grid);
    }
    let row = json(&run(&["--attack", "apgd(norm=l1, steps=10)", "--eps", "12", "--out", "adv.npz"]));
    assert_eq!(row["norm"], "l1");
    let (clean, robust) = (row["clean"]["count"].as_u64().unwrap(), row["robust"]["count"].as_u64().unwrap());
    assert!(robust < clean, "{row}");
    let check = json(&ternion(dir.path(), &["verify-adversarial", "adv.npz", "m.qnn", "--json"]));
    assert_eq!((&check["norm"], check["faults"].as_array().unwrap().len()), (&Value::from("l1"), 0));

    // Kernels drawn in every pass are another model than the deterministic one, averaged or not; one seed gives the same twice.
    let pgd = ["--attack", "pgd(steps=2, restarts=1)", "--eps", "4/255", "--sampled"];
    let sampled = [(); 2].map(|()| json(&run(&[&pgd[..], &["--eot", "3"]].concat())));
    assert_eq!(sampled[0], sampled[1]);
    for wrong in [&["--eps", "0.1", "--eot", "3"][..], &["--eps", "0.1", "--sampled", "--eot", "0"]] {
        assert_eq!(run(wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert!(ternion(dir.path(), &["convert", "m.qnn", "m.safetensors"]).status.success());
    let float =
        ["attack", "--network", "stq_image_s", "--weights", "m.safetensors", "--task", "synthetic_shapes"];
    let refused = ternion(dir.path(), &[&float[..], &["--eps", "0.1", "--sampled"]].concat());
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("deterministic"));

    // An integer program has no gradients, unless they are lent to it.
    let pgd = ["--attack", "pgd(steps=4, restarts=1)", "--eps", "8/255"];
    assert!(error(&[&pgd[..], &["--integer"]].concat()).contains("gradients"));
    let lent = json(&run(&[&pgd[..], &["--integer", "--gradients", "identity"]].concat()));
    assert!(lent["robust"]["count"].as_u64() < lent["clean"]["count"].as_u64(), "{lent}");

    // Examples of the same model transfer as they are; those of one for other inputs are refused.
    let own = json(&run(&[&pgd[..], &["--from", "m.qnn"]].concat()));
    assert!(own["robust"]["count"].as_u64() < own["clean"]["count"].as_u64(), "{own}");
    assert!(error(&[&pgd[..], &["--from", "raw.qnn"]].concat()).contains("another scale"));
}
