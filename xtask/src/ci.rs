//! `cargo xtask ci`: every check of continuous integration, in its order, on this machine.
//!
//! `.ci/run` prepares a fresh machine and then calls this, so that what CI does is what anybody can do.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::flags::{self, Parsed};
use crate::{bench_check, forward, tidy, workspace};

/// The README's way to run the tests; `tidy` checks that the README says the same.
pub(crate) const TEST_COMMAND: &str = "cargo test --workspace";

/// A check: its name, why it is there, and what runs.
struct Step {
    name: &'static str,
    why: &'static str,
    work: Work,
}

enum Work {
    /// Arguments of cargo, and environment variables to set for it.
    Cargo(&'static str, &'static [(&'static str, &'static str)]),
    /// Something else; what it runs in words, and a function.
    Own(&'static str, fn() -> Result<Outcome>),
}

#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Passed,
    Failed,
    /// There was nothing to check; why.
    Skipped(String),
}

/// Cheapest first, so that a failure is told early. Adding a step is adding a row.
#[rustfmt::skip]
const STEPS: &[Step] = &[
    Step { name: "fmt", why: "one style", work: Work::Cargo("fmt --all --check", &[]) },
    Step { name: "tidy", why: "the rules of ARCHITECTURE.md", work: Work::Own("cargo xtask tidy", tidy_step) },
    Step { name: "no_std", why: "kernels and the firmware need no operating system", work: Work::Own("cargo check -p kernels --no-default-features, for a bare target if installed", no_std) },
    Step { name: "clippy", why: "no lint", work: Work::Cargo("clippy --locked --workspace --all-targets -- -D warnings", &[]) },
    Step { name: "doc", why: "documentation without broken links", work: Work::Cargo("doc --locked --workspace --no-deps", &[("RUSTDOCFLAGS", "-D warnings")]) },
    Step { name: "test", why: "the README's test command", work: Work::Own(TEST_COMMAND, test) },
    Step { name: "benches", why: "each bench runs once", work: Work::Cargo("test --locked --workspace --bench *", &[]) },
    Step { name: "instructions", why: "no kernel takes more instructions than recorded, where valgrind is installed", work: Work::Own("cargo xtask bench-check", instructions) },
    Step { name: "miri", why: "no undefined behaviour in kernels, where a nightly compiler with Miri is installed", work: Work::Own("cargo +nightly miri test -p kernels --test edges, with AVX2", miri) },
    Step { name: "smoke", why: "the whole study in small, as a machine without data sees it", work: Work::Own("cargo xtask reproduce --profile smoke --out TARGET/ci-smoke", smoke) },
    Step { name: "firmware", why: "exported C and Rust on an emulated Cortex-M4, bit for bit", work: Work::Own("ternion validate NETWORK --qemu", firmware) },
    Step { name: "conformance", why: "reference vectors of other libraries, where $TERNION_ORACLE holds them", work: Work::Own("cargo xtask conformance --dir $TERNION_ORACLE", conformance) },
];

const HELP: &str = "\
Usage: cargo xtask ci [--only STEP]… [--fail-fast] [--list]

Runs every check, goes on after a failure, and ends with one line per step.
Tests of real data and of reference vectors run where $TERNION_DATA and $TERNION_ORACLE name their directories.

  --only STEP   run only this step; may be repeated
  --fail-fast   stop at the first failure
  --list        print the steps and what each runs
";

/// `cargo xtask ci`.
pub(crate) fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    let flags = match flags::ci(args, &names)? {
        Parsed::Help => {
            print!("{HELP}");
            return Ok(ExitCode::SUCCESS);
        }
        Parsed::Run(flags) => flags,
    };
    let chosen =
        STEPS.iter().filter(|step| flags.only.is_empty() || flags.only.iter().any(|name| name == step.name));
    let mut results = Vec::new();
    for step in chosen {
        if flags.list {
            println!("{:<12} {} ({})", step.name, describe(&step.work), step.why);
            continue;
        }
        println!("\n=== {}: {}", step.name, describe(&step.work));
        let start = Instant::now();
        let outcome = execute(&step.work).unwrap_or_else(|error| {
            println!("{error:#}");
            Outcome::Failed
        });
        let line = summary(step.name, &outcome, start.elapsed());
        println!("{line}");
        let failed = outcome == Outcome::Failed;
        results.push((line, failed));
        if failed && flags.fail_fast {
            break;
        }
    }
    if flags.list {
        return Ok(ExitCode::SUCCESS);
    }
    println!("\n=== summary");
    for (line, _) in &results {
        println!("{line}");
    }
    Ok(if results.iter().any(|(_, failed)| *failed) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn describe(work: &Work) -> String {
    match work {
        Work::Cargo(args, env) => {
            let env: String = env.iter().map(|(name, value)| format!("{name}=\"{value}\" ")).collect();
            format!("{env}cargo {args}")
        }
        Work::Own(what, _) => (*what).to_owned(),
    }
}

fn summary(name: &str, outcome: &Outcome, time: Duration) -> String {
    let text = match outcome {
        Outcome::Passed => "ok".to_owned(),
        Outcome::Failed => "FAILED".to_owned(),
        Outcome::Skipped(why) => format!("skipped: {why}"),
    };
    format!("[{:>4} s] {name:<12} {text}", time.as_secs())
}

fn execute(work: &Work) -> Result<Outcome> {
    match work {
        Work::Cargo(args, env) => status(cargo(args).envs(env.iter().copied())),
        Work::Own(_, run) => run(),
    }
}

/// Cargo at the workspace root with arguments separated by spaces.
fn cargo(args: &str) -> Command {
    let mut command = workspace::cargo();
    command.current_dir(workspace::root()).args(args.split(' '));
    command
}

fn status(command: &mut Command) -> Result<Outcome> {
    let program = command.get_program().to_owned();
    let status = command.status().with_context(|| format!("cannot start {}", program.display()))?;
    Ok(if status.success() { Outcome::Passed } else { Outcome::Failed })
}

fn tidy_step() -> Result<Outcome> {
    Ok(if tidy::check()? { Outcome::Passed } else { Outcome::Failed })
}

fn test() -> Result<Outcome> {
    let args = TEST_COMMAND.strip_prefix("cargo ").context("the test command starts with cargo")?;
    status(&mut cargo(args))
}

/// The host proves that `std` is not named; a bare-metal target, where installed, that nothing else needs it either.
fn no_std() -> Result<Outcome> {
    const BARE: &str = "thumbv7em-none-eabihf";
    let check = "check --locked -p kernels --no-default-features";
    let host = status(&mut cargo(check))?;
    let library = Command::new("rustc").args(["--print", "target-libdir", "--target", BARE]).output();
    let installed =
        library.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir());
    if host == Outcome::Failed || !installed {
        println!(
            "{BARE}: {}",
            if installed { "not tried" } else { "not installed, so checked for this machine only" }
        );
        return Ok(host);
    }
    status(&mut cargo(&format!("{check} --target {BARE}")))
}

fn instructions() -> Result<Outcome> {
    Ok(match bench_check::check()? {
        bench_check::Verdict::Fine => Outcome::Passed,
        bench_check::Verdict::Worse => Outcome::Failed,
        bench_check::Verdict::Skipped(why) => Outcome::Skipped(why),
    })
}

/// The kernels' edge cases under an interpreter that checks every access, the intrinsics included.
fn miri() -> Result<Outcome> {
    let quiet = std::process::Stdio::null;
    let version = Command::new("cargo")
        .args(["+nightly", "miri", "--version"])
        .stdout(quiet())
        .stderr(quiet())
        .status();
    if !version.is_ok_and(|status| status.success()) {
        return Ok(Outcome::Skipped("no nightly compiler with Miri".into()));
    }
    let mut command = Command::new("cargo");
    command
        .current_dir(workspace::root())
        .args(["+nightly", "miri", "test", "-p", "kernels", "--test", "edges"]);
    status(command.env("RUSTFLAGS", "-C target-feature=+avx2,+fma").env("RAYON_NUM_THREADS", "1"))
}

/// The main job as a machine without data sees it: no `$TERNION_DATA`, an empty cache.
fn smoke() -> Result<Outcome> {
    let target = workspace::target_directory()?;
    let (out, cache) = (target.join("ci-smoke"), target.join("ci-smoke-cache"));
    for directory in [&out, &cache] {
        // Yesterday's results must not pass today's run.
        if directory.exists() {
            std::fs::remove_dir_all(directory)
                .with_context(|| format!("cannot empty {}", directory.display()))?;
        }
    }
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let mut command = cargo("xtask reproduce --profile smoke --out");
    let outcome = status(command.arg(&out).env_remove("TERNION_DATA").env("XDG_CACHE_HOME", cache))?;
    // A run that ends well and leaves no report has not done the job.
    for product in ["results.jsonl", "report.md", "report.html"] {
        if !std::fs::metadata(out.join(product)).is_ok_and(|file| file.len() > 0) {
            bail!("the run wrote no {} (its exit code said: {outcome:?})", out.join(product).display());
        }
    }
    Ok(outcome)
}

/// Networks of the zoo, exported, built for a Cortex-M4 and run in QEMU: logits equal the host's, instructions per layer.
fn firmware() -> Result<Outcome> {
    const INSTALL: &str = "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm";
    for tool in ["arm-none-eabi-gcc", "qemu-system-arm"] {
        let found = Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
        if !found {
            return Ok(Outcome::Skipped(format!("no {tool}: {INSTALL}")));
        }
    }
    let (program, keep) = (forward::build()?, workspace::target_directory()?.join("ci-firmware"));
    let mut outcome = Outcome::Passed;
    for network in ["ds_cnn", "resnet8", "stq_audio_s", "stq_image_s"] {
        let mut validate = Command::new(&program);
        validate.args(["validate", network, "--qemu", "--keep"]).arg(keep.join(network));
        if status(&mut validate)? == Outcome::Failed {
            outcome = Outcome::Failed;
        }
    }
    Ok(outcome)
}

fn conformance() -> Result<Outcome> {
    let Some(oracle) = std::env::var_os("TERNION_ORACLE") else {
        return Ok(Outcome::Skipped("TERNION_ORACLE is not set".into()));
    };
    let program = forward::build()?;
    let help = Command::new(&program).arg("--help").output().context("cannot start ternion")?;
    if !String::from_utf8_lossy(&help.stdout).contains("conformance") {
        return Ok(Outcome::Skipped("this ternion has no command `conformance`".into()));
    }
    status(Command::new(program).args(["conformance", "--dir"]).arg(oracle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_distinct_names() {
        for (index, step) in STEPS.iter().enumerate() {
            assert!(STEPS[..index].iter().all(|other| other.name != step.name), "{}", step.name);
            assert!(!describe(&step.work).is_empty() && !step.why.is_empty());
        }
    }

    #[test]
    fn lines_tell_environment_time_and_outcome() {
        let work = Work::Cargo("doc --no-deps", &[("RUSTDOCFLAGS", "-D warnings")]);
        assert_eq!(describe(&work), r#"RUSTDOCFLAGS="-D warnings" cargo doc --no-deps"#);
        let line = summary("doc", &Outcome::Skipped("why".into()), Duration::from_millis(61_900));
        assert_eq!(line, "[  61 s] doc          skipped: why");
    }
}
