//! `cargo xtask bench-check`: counts the instructions of a few kernels under callgrind and compares with the record.
//!
//! Timings depend on the machine and its neighbours, counts hardly: a kernel that suddenly needs more of them has lost
//! something. The record holds for the compiler that `Cargo.toml` names, on CPUs with AVX2.

use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::flags::{self, Parsed};
use crate::{forward, workspace};

/// Where the counts are recorded, a name and a count a line.
const RECORD: &str = "benches/instructions.txt";
/// What a count may grow by, as a part: libraries of the system differ a little.
const SLACK: f64 = 0.03;

const HELP: &str = "\
Usage: cargo xtask bench-check

Counts instructions of kernels with valgrind's callgrind and compares them with benches/instructions.txt.
Where valgrind or AVX2 is missing it says so and passes over.
To accept new counts, copy the lines printed into that file.
";

/// `cargo xtask bench-check`.
pub(crate) fn run(args: Vec<OsString>) -> Result<ExitCode> {
    if let Parsed::Help = flags::none(args)? {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(match check()? {
        Verdict::Fine => ExitCode::SUCCESS,
        Verdict::Worse => ExitCode::FAILURE,
        Verdict::Skipped(why) => {
            println!("bench-check: passed over: {why}");
            ExitCode::SUCCESS
        }
    })
}

/// What came of the comparison.
pub(crate) enum Verdict {
    Fine,
    Worse,
    /// Nothing was compared; why.
    Skipped(String),
}

/// Counts and compares.
pub(crate) fn check() -> Result<Verdict> {
    let valgrind =
        Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !valgrind.is_ok_and(|status| status.success()) {
        return Ok(Verdict::Skipped("valgrind is not installed".into()));
    }
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !info.split_whitespace().any(|flag| flag == "avx2") {
        return Ok(Verdict::Skipped("the record is for CPUs with AVX2".into()));
    }
    let path = workspace::root().join(RECORD);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let program = forward::build_example("kernels", "instructions")?;
    let mut worse = false;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, recorded) =
            record(line).with_context(|| format!("{RECORD}: not a name and a count: {line}"))?;
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--toggle-collect=*measured*", "--callgrind-out-file=/dev/null"])
            .arg(&program)
            .arg(name)
            .env("RAYON_NUM_THREADS", "1")
            .env("TERNION_KERNEL", "avx2")
            .output()
            .context("cannot start valgrind")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let Some(count) = collected(&said).filter(|&count| output.status.success() && count > 0) else {
            bail!("callgrind counted nothing for {name}:\n{said}");
        };
        let more = count as f64 / recorded as f64 - 1.0;
        worse |= more > SLACK;
        println!("{name} {count}  ({:+.1} % of {recorded})", 100.0 * more);
    }
    Ok(if worse { Verdict::Worse } else { Verdict::Fine })
}

fn record(line: &str) -> Option<(&str, u64)> {
    let (name, count) = line.split_once(' ')?;
    Some((name, count.trim().parse().ok().filter(|&count| count > 0)?))
}

/// The count in callgrind's last words.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{RECORD, collected, record};
    use crate::workspace;

    #[test]
    fn reads_counts() {
        assert_eq!(collected("==1== \n==1== Collected : 123456\n==1==\n"), Some(123_456));
        assert_eq!(collected("==1== I   refs: 5"), None);
        assert_eq!(record("panel8-conv 12"), Some(("panel8-conv", 12)));
        assert_eq!(record("panel8-conv"), None);
        assert_eq!(record("panel8-conv 0"), None);
    }

    #[test]
    fn the_record_can_be_read() {
        let text = std::fs::read_to_string(workspace::root().join(RECORD)).unwrap();
        assert!(text.lines().filter(|line| !line.starts_with('#')).all(|line| record(line).is_some()));
    }
}
