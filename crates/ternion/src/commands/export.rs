//! `ternion export`: the integer program for elsewhere.
use std::path::Path;

use anyhow::{Context, Result};
use deploy::export::{Samples, c, onnx, rust};

use super::model;
use crate::End;
use crate::cli::ExportArgs;

pub(crate) fn run(args: &ExportArgs) -> Result<End> {
    let lowered = model::lowered(&args.model)?;
    println!("{}: {}", args.model, lowered.report);
    let program = lowered.program;
    let samples = Samples::of_program(&program).context("running the program")?;
    if let Some(dir) = &args.c {
        let export = c::write(&program, &samples).context("C")?;
        let sizes = export.sizes;
        write(dir, &export.files())?;
        println!(
            "{}: {} B of weights, {} B of tables, {} B of activations, {} B of working memory",
            dir.join(&export.sources()[0]).display(),
            sizes.weights,
            sizes.tables,
            sizes.arena,
            sizes.scratch
        );
    }
    if let Some(dir) = &args.rust {
        write(dir, &rust::write(&program, &samples).context("Rust")?)?;
        println!("{}: test it with `cargo test --features samples`", dir.display());
    }
    if let Some(file) = &args.onnx {
        let bytes = onnx::write(&program).context("ONNX")?;
        println!("{}: {} B", file.display(), bytes.len());
        std::fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(End::Done)
}

fn write(dir: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    for (name, bytes) in files {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
