//! `deploy::rt` compiles without `std` and `alloc`.

use std::path::Path;
use std::process::Command;

#[test]
fn rt_needs_core_only() {
    let rt = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rt/mod.rs");
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let root = dir.join("rt_no_std.rs");
    std::fs::write(&root, format!("#![no_std]\n#![forbid(unsafe_code)]\n#[path = {rt:?}]\npub mod rt;\n"))
        .unwrap();
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let args = ["--edition=2024", "--crate-type=lib", "--emit=metadata", "--cap-lints=allow", "--out-dir"];
    match Command::new(&rustc).args(args).arg(dir).arg(&root).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(e) => println!("`{rustc}` cannot be run ({e}): not checked"),
    }
}
