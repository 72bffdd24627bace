//! Builds `ternion` in release and hands a subcommand over to it, so that nobody measures a debug build by mistake.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace;

/// Runs `ternion SUBCOMMAND ARGS…` in the caller's directory and returns its exit code.
pub(crate) fn run(subcommand: &str, args: Vec<OsString>) -> Result<ExitCode> {
    let program = build()?;
    let mut command = Command::new(&program);
    command.arg(subcommand).args(args);
    hand_over(command).with_context(|| format!("cannot start {}", program.display()))
}

/// Builds the release binary, with cargo's progress on stderr, and returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    build_target("ternion", &["--package", "ternion"])
}

/// Builds an example in release and returns its path.
pub(crate) fn build_example(package: &str, example: &str) -> Result<PathBuf> {
    build_target(example, &["--package", package, "--example", example])
}

fn build_target(name: &str, selection: &[&str]) -> Result<PathBuf> {
    let mut command = workspace::cargo();
    command.args(["build", "--release", "--message-format", "json-render-diagnostics"]).args(selection);
    eprintln!("xtask: building {name} (release)");
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("`cargo build --release {}` failed", selection.join(" "));
    }
    // Asking cargo, not guessing `target/release`, holds for any target directory or target triple.
    executable(&String::from_utf8_lossy(&output.stdout), name)
        .with_context(|| format!("cargo built {name} but named no executable"))
}

/// The path of binary `name` in cargo's JSON messages.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
}

/// On Unix this process becomes the program, so that a signal sent to it reaches the program; elsewhere the exit code is forwarded.
#[cfg(unix)]
fn hand_over(mut command: Command) -> std::io::Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    Err(command.exec())
}

#[cfg(not(unix))]
fn hand_over(mut command: Command) -> std::io::Result<ExitCode> {
    let code = command.status()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_executable_among_the_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"qnn"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"ternion"},"executable":"/t/release/ternion"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "ternion"), Some(PathBuf::from("/t/release/ternion")));
        assert_eq!(executable(messages, "qnn"), None);
    }
}
