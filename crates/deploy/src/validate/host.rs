//! Exports on this machine.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::tool::{check, parse, refused, run, write};
use super::{Check, Outcome};
use crate::export::{Samples, c, onnx, rust};
use crate::image::write_image;
use crate::program::Program;
use crate::rt::Image;

/// The model image on [`crate::rt`].
pub(super) fn image(program: &Program, samples: &Samples) -> Check {
    let ran = || -> Result<Outcome, crate::DeployError> {
        let bytes = write_image(program)?;
        let image = Image::parse(&bytes)?;
        let (mut arena, mut logits) = (vec![0; image.arena_bytes], vec![0; image.classes]);
        let (mut inputs, mut largest) = (0, 0);
        let all = samples.inputs.chunks_exact(program.input_len());
        for (input, expected) in all.zip(samples.logits.chunks_exact(program.classes)) {
            image.run(input, &mut arena, &mut logits)?;
            largest = logits.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).fold(largest, u32::max);
            inputs += 1;
        }
        Ok(Outcome::Ran { inputs, largest_difference: largest.into(), instructions: Vec::new(), size: None })
    };
    check("model image, portable runtime", ran().map_err(refused))
}

/// C by the host's compiler.
pub(super) fn c(program: &Program, samples: &Samples, dir: &Path) -> Check {
    let ran = || -> Result<Outcome, Outcome> {
        let export = c::write(program, samples).map_err(refused)?;
        write(dir, &export.files())?;
        let cc = std::env::var_os("CC").unwrap_or_else(|| OsString::from("cc"));
        let [source, selftest] = export.sources().map(|file| dir.join(file));
        let binary = dir.join(&export.name);
        let mut build = Command::new(cc);
        build.args(["-std=c99", "-O2", "-o"]).arg(&binary).args([source, selftest]);
        run(&mut build, "install a C compiler, such as Debian's gcc, or set CC")?;
        Ok(parse(&run(&mut Command::new(binary), "")?))
    };
    check("C99, host compiler", ran())
}

/// The Rust crate by cargo.
pub(super) fn rust(program: &Program, samples: &Samples, dir: &Path) -> Check {
    let ran = || -> Result<Outcome, Outcome> {
        write(dir, &rust::write(program, samples).map_err(refused)?)?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut test = Command::new(cargo);
        test.args([
            "test",
            "--quiet",
            "--release",
            "--offline",
            "--features",
            "samples",
            "--test",
            "selftest",
        ]);
        test.args(["--", "--nocapture"]).current_dir(dir).env("CARGO_TARGET_DIR", dir.join("target"));
        Ok(parse(&run(&mut test, "install Rust from rustup.rs")?))
    };
    check("Rust crate, cargo", ran())
}

/// ONNX by onnxruntime.
pub(super) fn onnx(program: &Program, samples: &Samples, dir: &Path) -> Check {
    const HINT: &str =
        "python3 -m venv VENV && VENV/bin/pip install onnxruntime, then set TERNION_PYTHON=VENV/bin/python";
    let ran = || -> Result<Outcome, Outcome> {
        let expected = samples.logits.iter().flat_map(|v| v.to_le_bytes()).collect();
        let files = [
            ("model.onnx".to_owned(), onnx::write(program).map_err(refused)?),
            ("inputs.bin".to_owned(), samples.inputs.clone()),
            ("expected.bin".to_owned(), expected),
            ("check_onnx.py".to_owned(), include_bytes!("check_onnx.py").to_vec()),
        ];
        write(dir, &files)?;
        let python = std::env::var_os("TERNION_PYTHON").unwrap_or_else(|| OsString::from("python3"));
        let missing = |outcome| match outcome {
            Outcome::Failed { .. } => Outcome::Missing { hint: format!("onnxruntime is not there: {HINT}") },
            other => other,
        };
        run(Command::new(&python).args(["-c", "import onnxruntime, numpy"]), HINT).map_err(missing)?;
        let mut command = Command::new(python);
        command.arg("check_onnx.py").args(["model.onnx", "inputs.bin", "expected.bin"]);
        command.arg(program.classes.to_string()).current_dir(dir);
        Ok(parse(&run(&mut command, HINT)?))
    };
    check("ONNX, onnxruntime", ran())
}
