//! Conformance with the real libraries over the reference folder, and with folders that are not what they should be.

use attacks::conformance;
use qtensor::conformance::Verdict;

/// Cases that take minutes in a test build; `ternion conformance` runs them.
const SLOW: &[&str] = &[
    "autoattack_linf_8",
    "autoattack_l2_0.5",
    "autoattack_linf_12",
    "boundary",
    "zoo",
    "hsj",
    "aa_square_l2",
];

#[test]
fn quick_cases_pass() {
    judge(&|name| !SLOW.iter().any(|slow| name.contains(slow)));
}

fn judge(wanted: &dyn Fn(&str) -> bool) {
    let Some(dir) = std::env::var_os("TERNION_ORACLE") else {
        println!("TERNION_ORACLE is not set: nothing compared");
        return;
    };
    let (mut failed, mut passed) = (Vec::new(), 0);
    conformance::run_where(&std::path::Path::new(&dir).join("attacks"), wanted, &mut |name, verdict| {
        println!("{name}: {verdict:?}");
        match verdict {
            Verdict::Passed(_) => passed += 1,
            Verdict::Failed(why) => failed.push(format!("{name}: {why}")),
            Verdict::Skipped(_) | Verdict::Informational(_) => {}
        }
    });
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(passed > 0);
}

fn verdicts(dir: &std::path::Path) -> Vec<(String, Verdict)> {
    let mut all = Vec::new();
    conformance::run(dir, &mut |name, verdict| all.push((name.to_owned(), verdict)));
    all
}

#[test]
fn folders_that_cannot_be_read_fail_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let failures = |manifest: &str| {
        std::fs::write(dir.path().join("manifest.json"), manifest).unwrap();
        let all = verdicts(dir.path());
        assert!(!all.is_empty() && all.iter().all(|(_, v)| matches!(v, Verdict::Failed(_))), "{all:?}");
        all
    };
    failures("{");
    failures(r#"{"files": 3}"#);
    // A file that is missing, one outside the folder, one that is no archive.
    failures(r#"{"files": {"models.npz": {}}}"#);
    failures(r#"{"files": {"../models.npz": {}}}"#);
    std::fs::write(dir.path().join("models.npz"), b"PK\x03\x04 and then nothing").unwrap();
    failures(r#"{"files": {"models.npz": {}}}"#);
    // An archive without the arrays that its configurations are about.
    let mut npz = ndarray_npy::NpzWriter::new(std::fs::File::create(dir.path().join("models.npz")).unwrap());
    npz.add_array("A_b", &ndarray::arr1(&[0.0f32, 1.0])).unwrap();
    npz.finish().unwrap();
    let known = [
        "fgsm_linf_8",
        "apgd_ce_linf_8_100",
        "cw_l2_foolbox",
        "fab_l2_100",
        "gradient_masking_panel_eps12",
        "a.b",
    ];
    for name in known {
        let manifest = format!(
            r#"{{"files": {{"models.npz": {{"configs": {{"{name}": {{"plain": {{}}, "eps": 0.1}}}}}}}}}}"#
        );
        failures(&manifest);
    }
}
