//! Exports on an emulated Cortex-M4: QEMU's board mps2-an386 with semihosting and counted instructions.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::tool::{check, parse, refused, run, write};
use super::{Check, Outcome};
use crate::export::{Samples, c, identifier, rust};
use crate::program::Program;

const C_HINT: &str = "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm";
const RUST_HINT: &str =
    "rustup target add thumbv7em-none-eabi, or apt-get install rustc-web cargo-web rust-web-src";
const TARGET: &str = "thumbv7em-none-eabi";

/// C, by GCC for bare Arm.
pub(super) fn c(program: &Program, samples: &Samples, dir: &Path) -> Check {
    let ran = || -> Result<Outcome, Outcome> {
        let export = c::write(program, samples).map_err(refused)?;
        let mut files = export.files();
        files.extend([
            ("board.c".to_owned(), include_bytes!("../../firmware/c/board.c").to_vec()),
            ("mps2_an386.ld".to_owned(), include_bytes!("../../firmware/c/mps2_an386.ld").to_vec()),
        ]);
        write(dir, &files)?;
        let mut build = Command::new("arm-none-eabi-gcc");
        build.args(["-std=gnu99", "-O2", "-mcpu=cortex-m4", "-mthumb", "-ffunction-sections"]);
        build.args(["-Wall", "-Wextra", "-Werror", "-DTERNION_PROFILE", "-nostartfiles"]);
        build.args(["--specs=nano.specs", "-Wl,--gc-sections", "-T", "mps2_an386.ld", "-o", "firmware.elf"]);
        build.args(export.sources()).arg("board.c").current_dir(dir);
        run(&mut build, C_HINT)?;
        emulate(&dir.join("firmware.elf"))
    };
    check("C99, Cortex-M4 in QEMU", ran())
}

/// The Rust crate, with a `main` of its own; by Debian's compiler if asked for, else by the one in use if it can.
pub(super) fn rust(program: &Program, samples: &Samples, dir: &Path, debian: bool) -> Check {
    let mut by = "";
    let mut ran = || -> Result<Outcome, Outcome> {
        let manifest = include_str!("../../firmware/rust/Cargo.toml")
            .replace("\"NAME\"", &format!("\"{}\"", identifier(&program.name)));
        let firmware = dir.join("firmware");
        write(&dir.join("model"), &rust::write(program, samples).map_err(refused)?)?;
        write(
            &firmware,
            &[
                ("Cargo.toml".to_owned(), manifest.into_bytes()),
                ("memory.x".to_owned(), include_bytes!("../../firmware/rust/memory.x").to_vec()),
                ("src/main.rs".to_owned(), include_bytes!("../../firmware/rust/src/main.rs").to_vec()),
            ],
        )?;
        let (mut build, toolchain) = cross_cargo(&firmware, debian)?;
        by = toolchain;
        build.current_dir(&firmware).env("CARGO_TARGET_DIR", firmware.join("target"));
        run(&mut build, RUST_HINT)?;
        emulate(&firmware.join("target").join(TARGET).join("release/firmware"))
    };
    let outcome = ran();
    check(&format!("Rust crate{by}, Cortex-M4 in QEMU"), outcome)
}

/// `cargo build` for the device, and which one it is: by the toolchain in use if it has the target's library, else (or if
/// asked for) by Debian's, which brings the library's source.
fn cross_cargo(firmware: &Path, debian: bool) -> Result<(Command, &'static str), Outcome> {
    let script = format!("-C target-cpu=cortex-m4 -C link-arg=-L{} -C link-arg=-Tlink.x", firmware.display());
    let arguments = ["build", "--quiet", "--release", "--target", TARGET];
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let library = run(Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]), RUST_HINT)?;
    if !debian && Path::new(library.trim()).is_dir() {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
        cargo.args(arguments).env("RUSTFLAGS", script);
        return Ok((cargo, " by rustup's toolchain"));
    }
    let tools = ["/usr/bin/cargo", "/usr/bin/rustc"].map(Path::new);
    if !tools.iter().all(|tool| tool.exists()) {
        return Err(Outcome::Missing { hint: format!("no Rust library for {TARGET}: {RUST_HINT}") });
    }
    let mut cargo = Command::new(tools[0]);
    cargo.args(arguments).arg("-Zbuild-std=core").env("RUSTC", tools[1]).env("RUSTC_BOOTSTRAP", "1");
    cargo.env("RUSTFLAGS", format!("{script} -C linker=arm-none-eabi-ld -C linker-flavor=ld"));
    Ok((cargo, " by Debian's rustc-web"))
}

/// Bytes of the C export's code on a Cortex-M4, data not counted.
pub(super) fn code_bytes(program: &Program, dir: &Path) -> Result<u64, Outcome> {
    let samples = Samples { inputs: Vec::new(), logits: Vec::new() };
    let export = c::write(program, &samples).map_err(refused)?;
    write(dir, &export.files())?;
    let mut build = Command::new("arm-none-eabi-gcc");
    build.args([
        "-std=gnu99",
        "-O2",
        "-mcpu=cortex-m4",
        "-mthumb",
        "-ffunction-sections",
        "-c",
        "-o",
        "code.o",
    ]);
    run(build.arg(&export.sources()[0]).current_dir(dir), C_HINT)?;
    let sections = run(Command::new("arm-none-eabi-size").args(["-A", "code.o"]).current_dir(dir), C_HINT)?;
    let size = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        name.starts_with(".text").then(|| words.next()?.parse::<u64>().ok())?
    };
    Ok(sections.lines().filter_map(size).sum())
}

fn emulate(program: &Path) -> Result<Outcome, Outcome> {
    let mut qemu = Command::new("qemu-system-arm");
    qemu.args(["-machine", "mps2-an386", "-cpu", "cortex-m4", "-icount", "shift=0", "-nographic"]);
    qemu.args(["-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native"]);
    let text = run(qemu.arg("-kernel").arg(program), C_HINT)?;
    let mut outcome = parse(&text);
    if let (Outcome::Ran { size, .. }, Ok(sizes)) =
        (&mut outcome, run(Command::new("arm-none-eabi-size").arg(program), C_HINT))
    {
        // Berkeley format: text, data, bss.
        let row: Vec<u64> =
            sizes.lines().nth(1).unwrap_or("").split_whitespace().filter_map(|n| n.parse().ok()).collect();
        if let [text, data, bss, ..] = row[..] {
            *size = Some([text + data, data + bss]);
        }
    }
    Ok(outcome)
}
