//! `cargo xtask tidy`: the rules of this workspace that neither rustc, clippy nor rustfmt can check.
//!
//! Each check is a function from plain data to findings, so that it can be tested on a few lines of text.

mod docs;
mod files;
mod layering;
mod licences;
mod manifests;
mod source;
mod spdx;
mod unsafe_code;

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;

use anyhow::Result;

use crate::flags::{self, Parsed};
use crate::workspace::{self, External, File, Member};

const HELP: &str = "\
Usage: cargo xtask tidy

Checks, over every file git knows or would add:
  layering     each crate depends only on the crates below it (ARCHITECTURE.md, \"Layers\")
  manifests    one version per dependency, shared lints, exact pins
  files        a first line that says why, at most 600 lines of Rust, no leftovers, no machine paths
  unsafe_code  `unsafe` only in crates/kernels, each block with its SAFETY line, forbidden elsewhere
  licences     every dependency's licence is allowed by deny.toml
  docs         the file map is current, every path the documents name exists

Notes do not fail; errors do. Exit code: 0 clean, 1 errors.
";

/// Everything the checks look at.
pub(crate) struct Workspace {
    pub(crate) files: Vec<File>,
    pub(crate) members: Vec<Member>,
    pub(crate) externals: Vec<External>,
}

impl Workspace {
    fn load() -> Result<Self> {
        let (files, members, externals) =
            (workspace::files()?, workspace::members()?, workspace::externals()?);
        Ok(Workspace { files, members, externals })
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    fn rust_files(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Note,
    Error,
}

/// One thing that is not as it should be, where, and what to do about it.
#[derive(Debug, PartialEq)]
struct Finding {
    severity: Severity,
    path: String,
    /// From 1; 0 for the file as a whole.
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.severity {
            Severity::Note => "note",
            Severity::Error => "error",
        };
        match self.line {
            0 => write!(f, "{kind}: {}: {}", self.path, self.message),
            line => write!(f, "{kind}: {}:{line}: {}", self.path, self.message),
        }
    }
}

/// The findings of a run.
#[derive(Debug, Default)]
struct Report(Vec<Finding>);

impl Report {
    fn error(&mut self, path: &str, line: usize, message: impl Into<String>) {
        self.push(Severity::Error, path, line, message.into());
    }

    fn note(&mut self, path: &str, line: usize, message: impl Into<String>) {
        self.push(Severity::Note, path, line, message.into());
    }

    fn push(&mut self, severity: Severity, path: &str, line: usize, message: String) {
        self.0.push(Finding { severity, path: path.to_owned(), line, message });
    }

    /// The findings as text lines, for tests.
    #[cfg(test)]
    fn lines(&self) -> Vec<String> {
        self.0.iter().map(Finding::to_string).collect()
    }
}

/// `cargo xtask tidy`.
pub(crate) fn run(args: Vec<OsString>) -> Result<ExitCode> {
    match flags::none(args)? {
        Parsed::Help => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Parsed::Run(()) => Ok(if check()? { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
    }
}

/// Runs every check and prints the findings, notes first. True when there is no error.
pub(crate) fn check() -> Result<bool> {
    let workspace = Workspace::load()?;
    let mut report = Report::default();
    layering::check(&workspace, &mut report);
    manifests::check(&workspace, &mut report);
    files::check(&workspace, &mut report);
    unsafe_code::check(&workspace, &mut report);
    licences::check(&workspace, &mut report);
    docs::check(&workspace, &mut report);

    report.0.sort_by(|a, b| (a.severity, &a.path, a.line).cmp(&(b.severity, &b.path, b.line)));
    for finding in &report.0 {
        println!("{finding}");
    }
    let errors = report.0.iter().filter(|finding| finding.severity == Severity::Error).count();
    println!(
        "tidy: {} files, {} crates, {} dependencies: {errors} errors, {} notes",
        workspace.files.len(),
        workspace.members.len(),
        workspace.externals.len(),
        report.0.len() - errors
    );
    Ok(errors == 0)
}
