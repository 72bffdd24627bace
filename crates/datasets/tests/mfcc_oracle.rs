//! The front end against TensorFlow's own numbers; needs `TERNION_ORACLE`, the folder holding `mfcc/manifest.json`.
use std::path::PathBuf;

use datasets::conformance;

#[test]
fn features_and_gradient_agree_with_tensorflow() {
    let Some(dir) = std::env::var_os("TERNION_ORACLE").map(PathBuf::from) else {
        println!("skipped: TERNION_ORACLE is not set");
        return;
    };
    let mut judged = 0;
    conformance::run(&dir.join("mfcc"), &mut |case, verdict| {
        println!("{case}: {}", verdict.unwrap_or_else(|reason| panic!("{case}: {reason}")));
        judged += 1;
    });
    assert!(judged >= 2);
}
