//! The `ternion` command line: argument parsing and progress only.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod progress;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

/// What a command's end means to the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Everything asked for was done.
    Done,
    /// A stage or check failed; the reason has been told.
    Failed,
}

/// The command line asked for something that cannot be understood.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn main() -> ExitCode {
    // clap itself ends with 2 on wrong usage and 0 on --help.
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Reproduce(args) => commands::reproduce::run(&args),
        Command::Train(args) => commands::train::run(args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Convert(args) => commands::convert::run(&args),
        Command::Summary(args) => commands::summary::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Data(args) => commands::data::run(&args),
        Command::Attack(args) => commands::attack::run(&args),
        Command::VerifyAdversarial(args) => commands::verify_adversarial::run(&args),
        Command::Analyze(args) => commands::analyze::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Validate(args) => commands::validate::run(&args),
        Command::Jacobian(args) => commands::jacobian::run(&args),
        Command::Conformance(args) => commands::conformance::run(&args),
        Command::Knobs => commands::knobs::run(),
    };
    match result {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::Failed) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}
