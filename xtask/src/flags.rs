//! Options of the chores that live in xtask itself; the commands that `ternion` answers parse their own.

use std::ffi::OsString;
use std::fmt;

use lexopt::prelude::*;

use crate::peers;

/// The caller wrote a command line that means nothing: exit code 2, as everywhere in this workspace.
#[derive(Debug)]
pub(crate) struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        UsageError(error.to_string())
    }
}

/// What a command should do after parsing: its work, or print its help.
#[derive(Debug, PartialEq)]
pub(crate) enum Parsed<T> {
    Run(T),
    Help,
}

/// Options of `ci`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Ci {
    /// Steps to run; empty means all.
    pub(crate) only: Vec<String>,
    /// Print the steps and what each runs, and run nothing.
    pub(crate) list: bool,
    /// Stop at the first failure instead of running the other steps too.
    pub(crate) fail_fast: bool,
}

/// Parses the options of `ci`; step names must be among `steps`.
pub(crate) fn ci(args: Vec<OsString>, steps: &[&str]) -> Result<Parsed<Ci>, UsageError> {
    let mut flags = Ci::default();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("only") => {
                let step = parser.value()?.string()?;
                if !steps.contains(&step.as_str()) {
                    return Err(UsageError(format!("no step {step:?}; the steps are {}", steps.join(", "))));
                }
                flags.only.push(step);
            }
            Long("list") => flags.list = true,
            Long("fail-fast") => flags.fail_fast = true,
            Short('h') | Long("help") => return Ok(Parsed::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Parsed::Run(flags))
}

/// Parses the options of `peers`; group names must be among `groups`.
pub(crate) fn peers(args: Vec<OsString>, groups: &[&str]) -> Result<Parsed<peers::Flags>, UsageError> {
    let mut flags = peers::Flags { rounds: 9, ..Default::default() };
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("only") => {
                let group = parser.value()?.string()?;
                if !groups.contains(&group.as_str()) {
                    return Err(UsageError(format!("no group {group:?}; there are {}", groups.join(", "))));
                }
                flags.only.push(group);
            }
            Long("work") => flags.works.push(parser.value()?.string()?),
            Long("threads") => flags.threads.push(positive(parser.value()?.parse()?, "threads")?),
            Long("rounds") => flags.rounds = positive(parser.value()?.parse()?, "rounds")?,
            Long("isa") => {
                let name = parser.value()?.string()?;
                flags.isa = peers::Isa::named(&name).ok_or_else(|| {
                    UsageError(format!("no instruction set {name:?}; there are native, avx2"))
                })?;
            }
            Long("json") => flags.json = Some(parser.value()?.into()),
            Short('h') | Long("help") => return Ok(Parsed::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Parsed::Run(flags))
}

fn positive(value: usize, option: &str) -> Result<usize, UsageError> {
    if value == 0 { Err(UsageError(format!("--{option} must be at least 1"))) } else { Ok(value) }
}

/// For commands without options.
pub(crate) fn none(args: Vec<OsString>) -> Result<Parsed<()>, UsageError> {
    let mut parser = lexopt::Parser::from_args(args);
    match parser.next()? {
        None => Ok(Parsed::Run(())),
        Some(Short('h') | Long("help")) => Ok(Parsed::Help),
        Some(other) => Err(other.unexpected().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Parsed<Ci>, String> {
        ci(line.split_whitespace().map(OsString::from).collect(), &["fmt", "test"]).map_err(|e| e.to_string())
    }

    #[test]
    fn ci_options() {
        let run = |only: &[&str], list, fail_fast| {
            let only = only.iter().map(|s| s.to_string()).collect();
            Ok(Parsed::Run(Ci { only, list, fail_fast }))
        };
        assert_eq!(parse(""), run(&[], false, false));
        assert_eq!(parse("--only test --only=fmt --fail-fast"), run(&["test", "fmt"], false, true));
        assert_eq!(parse("--list"), run(&[], true, false));
        assert_eq!(parse("-h"), Ok(Parsed::Help));
        assert_eq!(parse("--only lint"), Err(r#"no step "lint"; the steps are fmt, test"#.into()));
        assert!(parse("--fast").is_err());
        assert!(parse("--only").is_err());
    }

    #[test]
    fn peers_options() {
        let parse = |line: &str| {
            peers(line.split_whitespace().map(OsString::from).collect(), &["kernels", "train"])
                .map_err(|e| e.to_string())
        };
        let Ok(Parsed::Run(flags)) = parse("--only train --threads=2 --json f") else { panic!("parses") };
        assert_eq!((flags.threads, flags.rounds, flags.json), (vec![2], 9, Some("f".into())));
        assert_eq!(flags.only, ["train"]);
        assert_eq!(parse("--only all"), Err(r#"no group "all"; there are kernels, train"#.into()));
        assert_eq!(flags.isa, peers::Isa::Native);
        assert!(matches!(parse("--isa avx2"), Ok(Parsed::Run(f)) if f.isa == peers::Isa::Avx2));
        assert_eq!(parse("--isa sse"), Err(r#"no instruction set "sse"; there are native, avx2"#.into()));
        assert_eq!(parse("--threads 0"), Err("--threads must be at least 1".into()));
        assert!(parse("--threads many").is_err());
    }

    #[test]
    fn commands_without_options_take_none() {
        assert_eq!(none(vec![]).unwrap(), Parsed::Run(()));
        assert_eq!(none(vec!["--help".into()]).unwrap(), Parsed::Help);
        assert!(none(vec!["now".into()]).is_err());
    }
}
