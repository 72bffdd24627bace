//! A Python virtual environment per list of pinned packages, in the target directory.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// The Python with the packages of a file in `xtask/peers`, made if it is not there or if its pins have changed.
pub(super) fn python(requirements: &str) -> Result<PathBuf> {
    let pins = workspace::root().join("xtask/peers").join(requirements);
    let wanted = std::fs::read_to_string(&pins).with_context(|| format!("cannot read {}", pins.display()))?;
    let name = requirements.trim_end_matches(".txt");
    let directory = workspace::target_directory()?.join("peers").join(name);
    let python = directory.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let stamp = directory.join("pins.txt");
    if python.is_file() && std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(python);
    }
    if directory.exists() {
        std::fs::remove_dir_all(&directory)
            .with_context(|| format!("cannot replace {}", directory.display()))?;
    }
    let system =
        system_python().context("no python3 on this machine (python3 with its venv module is needed)")?;
    eprintln!("xtask: making a Python environment of {requirements}");
    must(Command::new(system).args(["-m", "venv"]).arg(&directory), "cannot make a virtual environment")?;
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    must(install.arg(&pins), "pip cannot install the pinned packages (no network?)")?;
    // Last, so that an interrupted installation is made anew.
    std::fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

fn system_python() -> Option<&'static str> {
    ["python3", "python"].into_iter().find(|name| {
        let version =
            Command::new(name).args(["-c", "import sys; sys.exit(sys.version_info < (3, 10))"]).status();
        version.is_ok_and(|status| status.success())
    })
}

fn must(command: &mut Command, what: &str) -> Result<()> {
    let output = command.output().with_context(|| what.to_owned())?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{what}: {}", error.lines().last().unwrap_or("it failed and said nothing"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_what_failed() {
        let error = must(&mut Command::new("no-such-program-at-all"), "cannot do it").unwrap_err();
        assert!(error.to_string().starts_with("cannot do it"));
        #[cfg(unix)]
        {
            let mut command = Command::new("sh");
            command.args(["-c", "echo first >&2; echo why >&2; exit 3"]);
            assert_eq!(must(&mut command, "cannot do it").unwrap_err().to_string(), "cannot do it: why");
        }
    }
}
