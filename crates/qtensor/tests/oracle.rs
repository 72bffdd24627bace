//! Every quantizer case of the reference folder named by TERNION_ORACLE, at its stated tolerance.

use std::path::PathBuf;

use qtensor::conformance::{KINDS, Manifest, check};

#[test]
fn reference_vectors_agree() {
    let Some(root) = std::env::var_os("TERNION_ORACLE").map(PathBuf::from) else {
        println!("skipped: TERNION_ORACLE is not set");
        return;
    };
    let manifest = Manifest::read(&root.join("quantizers")).expect("a readable folder");
    let (mut passed, mut failures) = (0, Vec::new());
    for case in manifest.cases().iter().filter(|case| KINDS.contains(&case.kind())) {
        match check(&manifest, case) {
            Ok(_) => passed += 1,
            Err(why) => failures.push(format!("{}: {why}", case.id())),
        }
    }
    println!("{passed} passed, {} failed", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(passed > 0);
}
