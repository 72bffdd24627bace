//! `cargo xtask …`: the workspace's chores, and the quick-to-build way into the `ternion` program.
//!
//! This crate has no heavy dependency, so that it builds in seconds; everything that computes is spawned from `ternion`.
#![forbid(unsafe_code)]

mod bench_check;
mod ci;
mod flags;
mod forward;
mod map;
mod peers;
mod tidy;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

/// One subcommand: its name, one line of help, and what it does with the arguments after its name.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(Vec<OsString>) -> anyhow::Result<ExitCode>,
}

/// Every subcommand. Adding one is adding a row.
#[rustfmt::skip]
const COMMANDS: &[Command] = &[
    Command { name: "reproduce", about: "run the whole study: train, attack, audit, deploy, report", run: |a| forward::run("reproduce", a) },
    Command { name: "conformance", about: "check against reference vectors of other libraries", run: |a| forward::run("conformance", a) },
    Command { name: "data", about: "list, fetch, verify and show the data sets", run: |a| forward::run("data", a) },
    Command { name: "peers", about: "time ours beside what others wrote, in one run", run: peers::run },
    Command { name: "bench-check", about: "compare instruction counts of kernels with the record", run: bench_check::run },
    Command { name: "tidy", about: "check layering, file sizes, licences, unsafe placement, docs", run: tidy::run },
    Command { name: "map", about: "rewrite the file map of ARCHITECTURE.md", run: map::run },
    Command { name: "ci", about: "every check of continuous integration, in its order", run: ci::run },
];

const EXAMPLES: &str = "\
Examples:
  cargo xtask reproduce                       the study, on real data if found, else in small on embedded data
  cargo xtask reproduce --profile quick --data DIR --out out/quick
  cargo xtask conformance --dir DIR           one line per reference case
  cargo xtask peers --only kernels --json FILE
  cargo xtask ci                              what a change must pass
  cargo xtask ci --only clippy --only tidy    some of it
";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let Some(name) = args.next() else {
        eprint!("{}", help());
        return ExitCode::from(2);
    };
    if matches!(name.to_str(), Some("help" | "--help" | "-h")) {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|c| name == c.name) else {
        eprint!("xtask: no command {}\n\n{}", name.display(), help());
        return ExitCode::from(2);
    };
    match (command.run)(args.collect()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask {}: {error:#}", command.name);
            ExitCode::from(if error.is::<flags::UsageError>() { 2 } else { 1 })
        }
    }
}

fn help() -> String {
    let mut text = String::from("Usage: cargo xtask COMMAND [OPTION…]\n\nCommands:\n");
    for command in COMMANDS {
        text += &format!("  {:<12} {}\n", command.name, command.about);
    }
    text + "\n`cargo xtask COMMAND --help` tells a command's options. Exit code: 0 done, 1 failed, 2 wrong usage.\n\n"
        + EXAMPLES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_command_once() {
        let text = help();
        for command in COMMANDS {
            assert_eq!(text.matches(&format!("\n  {:<12} ", command.name)).count(), 1, "{}", command.name);
            assert_eq!(COMMANDS.iter().filter(|c| c.name == command.name).count(), 1);
        }
    }
}
