//! Tells the program which commit it was built from, so that every result can say so.
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=..");
    println!("cargo:rerun-if-changed=../../.git/logs/HEAD");
    let git = |args: &[&str]| -> Option<String> {
        let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // Without git, or outside a clone, results say that the commit is unknown.
    if let Some(commit) = git(&["rev-parse", "HEAD"]) {
        let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "../.."]);
        let dirty = if changed.is_some_and(|list| !list.is_empty()) { "-dirty" } else { "" };
        println!("cargo:rustc-env=TERNION_COMMIT={commit}{dirty}");
    }
}
