//! `ternion validate`: every export run and compared.
use anyhow::{Context, Result};
use deploy::export::Samples;
use deploy::program::Program;
use deploy::validate::{self, Check, Outcome};

use super::model;
use crate::End;
use crate::cli::ValidateArgs;

pub(crate) fn run(args: &ValidateArgs) -> Result<End> {
    let program = model::lowered(&args.model.model)?.program;
    let samples = Samples::of_program(&program).context("running the program")?;
    let temporary = tempfile::tempdir().context("cannot create a temporary folder")?;
    let dir = args.keep.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let dir = dir.canonicalize().with_context(|| format!("cannot open {}", dir.display()))?;
    let checks = if args.qemu {
        validate::on_device(&program, &samples, &dir)
    } else {
        validate::on_host(&program, &samples, &dir)
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&checks)?);
    } else {
        println!("{}", program.name);
        for check in &checks {
            print(check, &program);
        }
    }
    let missing = checks.iter().any(|c| matches!(c.outcome, Outcome::Missing { .. }));
    let passed = checks.iter().all(Check::passed) && !(args.strict && missing);
    Ok(if passed { End::Done } else { End::Failed })
}

fn print(check: &Check, program: &Program) {
    println!("{:<32} {}", check.target, check.outcome);
    let Outcome::Ran { instructions, size, .. } = &check.outcome else { return };
    if let Some([flash, ram]) = size {
        println!("  firmware with its samples: {flash} B of flash, {ram} B of RAM");
    }
    let mut total = (0, 0);
    for (step, &count) in program.steps.iter().zip(instructions) {
        let macs: u64 = step.op.branches().iter().map(|b| b.linear.macs()).sum();
        let per_mac =
            if macs == 0 { String::new() } else { format!("{:>8.3} per MAC", count as f64 / macs as f64) };
        println!("  {:<24} {count:>12} instructions {macs:>12} MAC {per_mac}", step.name);
        total = (total.0 + count, total.1 + macs);
    }
    if total.0 > 0 {
        let per_mac = total.0 as f64 / total.1 as f64;
        println!(
            "  {:<24} {:>12} instructions {:>12} MAC {per_mac:>8.3} per MAC",
            "one input", total.0, total.1
        );
    }
}
