//! Every reference array of the folder named by TERNION_ORACLE, and refusals of folders that are not what they claim.
#![forbid(unsafe_code)]

use std::path::Path;

use jacreg::conformance;
use qtensor::conformance::Verdict;

#[test]
fn reference_values_and_gradients_agree() {
    let Some(root) = std::env::var_os("TERNION_ORACLE") else {
        println!("TERNION_ORACLE is not set: nothing compared");
        return;
    };
    let (mut passed, mut failures) = (0, Vec::new());
    conformance::run(&Path::new(&root).join("jacobian"), &mut |case, verdict| match verdict {
        Verdict::Passed(text) => {
            println!("{case}: {text}");
            passed += 1;
        }
        Verdict::Failed(why) => failures.push(format!("{case}: {why}")),
        other => println!("{case}: {other:?}"),
    });
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(passed >= 90, "{passed} cases only");
}

#[test]
fn a_broken_folder_fails_and_says_where() {
    let dir = std::env::temp_dir().join(format!("ternion-jacreg-folder-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let failures = |manifest: &str| {
        std::fs::write(dir.join("manifest.json"), manifest).unwrap();
        let mut found = Vec::new();
        conformance::run(&dir, &mut |case, verdict| {
            let Verdict::Failed(why) = verdict else { panic!("{case}: {verdict:?}") };
            found.push(format!("{case}: {why}"));
        });
        found
    };
    let gone = failures(r#"{"files": {"jr_gone.npz": {"arrays": {"jr_full": []}}}}"#);
    let outside = failures(r#"{"files": {"../jr.npz": {"arrays": {}}}}"#);
    let broken = failures("{");
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(gone.len() == 1 && gone[0].contains("jr_gone"), "{gone:?}");
    assert!(outside.len() == 1 && outside[0].contains("outside"), "{outside:?}");
    assert!(broken.len() == 1 && broken[0].contains("manifest.json"), "{broken:?}");
}
