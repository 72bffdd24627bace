//! `cargo xtask peers`: times what others wrote beside what we wrote, interleaved in one run, and reports ratios.
//!
//! A group of works has one program of ours (an example of the `benches` crate) and scripts of peers in `xtask/peers`.
//! Each is a process that stays up for the whole run, says what it can do, and then takes one sample whenever asked
//! (see [`worker`]). So a disturbance of the machine meets all of them, and only ratios within a round are compared.

mod groups;
mod isa;
mod run;
mod table;
mod venv;
mod worker;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::flags::{self, Parsed};
pub(crate) use isa::Isa;

/// Options of `peers`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Flags {
    /// Groups to run; empty means all.
    pub(crate) only: Vec<String>,
    /// Threads that ours and theirs may use; each number is a run of its own. Empty means one thread.
    pub(crate) threads: Vec<usize>,
    /// Samples of each participant.
    pub(crate) rounds: usize,
    /// Works to run: those whose name contains one of these; empty means all.
    pub(crate) works: Vec<String>,
    /// Instruction sets that ours and theirs may use.
    pub(crate) isa: Isa,
    /// Where the rows go.
    pub(crate) json: Option<PathBuf>,
}

const HELP: &str = "\
Usage: cargo xtask peers [--only GROUP]… [--work TEXT]… [--threads N]… [--isa ISA] [--rounds N] [--json FILE]

Times peers interleaved with ours in one run, and prints a Markdown table of medians. Ratios above 1 say that ours is faster.
Python peers run in a virtual environment with pinned versions, made in the target directory; without Python or a package
index they are left out, and the end of the output says so. AutoAttack needs a trained network: TERNION_MODELS names the
directory of MLPerf Tiny's ResNet (mlperf_tiny_resnet8.safetensors), TERNION_DATA that of CIFAR-10 in its binary version.

  --only GROUP  run only this group of works; may be repeated (see the list below)
  --work TEXT   run only works whose name contains TEXT; may be repeated
  --threads N   threads for ours and for theirs [1]; may be repeated
  --isa ISA     hold ours and theirs to an instruction set: avx2, as on a processor without AVX-512 and VNNI (Linux on x86-64
                with cc and objdump); native lets each use what it finds [native]
  --rounds N    samples of each participant, of which medians are taken [9]
  --json FILE   write the rows as a JSON array: group, work, peer, version, threads, isa, ours, theirs, unit,
                ratio, spread

Groups:
";

/// `cargo xtask peers`.
pub(crate) fn run(args: Vec<OsString>) -> Result<ExitCode> {
    let names: Vec<&str> = groups::GROUPS.iter().map(|group| group.name).collect();
    let flags = match flags::peers(args, &names)? {
        Parsed::Help => {
            print!("{HELP}");
            for group in groups::GROUPS {
                println!("  {:<8} {}", group.name, group.about);
            }
            return Ok(ExitCode::SUCCESS);
        }
        Parsed::Run(flags) => flags,
    };
    let (mut rows, mut missing) = (Vec::new(), Vec::new());
    for group in groups::GROUPS {
        if flags.only.is_empty() || flags.only.iter().any(|name| name == group.name) {
            let threads = if flags.threads.is_empty() { &[1][..] } else { &flags.threads };
            for &threads in threads {
                run::group(group, &flags, threads, &mut rows, &mut missing)?;
                // Written after each group, so that an interruption loses one group at most.
                if let Some(path) = &flags.json {
                    let text = serde_json::to_string_pretty(&table::json(&rows, flags.isa))? + "\n";
                    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
                }
            }
        }
    }
    print!("{}", table::markdown(&rows, &missing, flags.isa));
    Ok(if rows.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
