//! Layers, models and trained networks against reference vectors, where `TERNION_ORACLE` says they are.

use std::path::PathBuf;

use qtensor::conformance::Verdict;

fn oracle() -> Option<PathBuf> {
    let dir = std::env::var_os("TERNION_ORACLE").map(PathBuf::from);
    if dir.is_none() {
        eprintln!("passed over: TERNION_ORACLE is not set");
    }
    dir
}

fn judged(run: impl FnOnce(&mut dyn FnMut(&str, Verdict))) -> (usize, Vec<String>) {
    let (mut passed, mut failed) = (0, Vec::new());
    run(&mut |case, verdict| match verdict {
        Verdict::Passed(_) => passed += 1,
        Verdict::Failed(why) => failed.push(format!("{case}: {why}")),
        Verdict::Skipped(why) => eprintln!("skipped {case}: {why}"),
        Verdict::Informational(_) => {}
    });
    (passed, failed)
}

#[test]
fn qkeras_layers_and_models_agree() {
    let Some(dir) = oracle() else { return };
    let manifest = qtensor::conformance::Manifest::read(&dir.join("quantizers")).unwrap();
    let ours = ["layer", "model"];
    let cases = || manifest.cases().iter().filter(|c| ours.contains(&c.kind()));
    let wanted = cases().count();
    let (passed, failed) = judged(|each| {
        cases().for_each(|case| each(case.id(), qnn::conformance::check(&manifest, case).into()));
    });
    assert!(failed.is_empty(), "{} of {wanted} failed:\n{}", failed.len(), failed.join("\n"));
    assert_eq!(passed, wanted);
}

#[test]
fn trained_networks_give_tensorflows_logits() {
    let Some(dir) = oracle() else { return };
    let dir = dir.parent().unwrap_or(&dir).join("models");
    if !qnn::conformance::has_networks(&dir) {
        return eprintln!("passed over: no networks in {}", dir.display());
    }
    let (passed, failed) =
        judged(|each| qnn::conformance::run_networks(&dir, Err("the test loads no data"), each));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(passed > 0);
}
