//! Holding every participant to one instruction set, so that implementations are compared and not what each makes of the
//! newest processor: on one with AVX-512 and VNNI, all can be measured as on one that has AVX2 and FMA.
//!
//! No variable tells ONNX Runtime, LiteRT or a Rust crate what to use; they ask the processor. So they run as copies in which
//! the CPUID instructions are replaced by undefined ones of the same length, and a preloaded library (`cpuid_avx2.c`)
//! answers those. PyTorch and TensorFlow, which read variables, are told by these. Needs Linux on x86-64, `cc` and `objdump`.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::workspace;

/// What participants may use.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    /// Whatever each finds.
    #[default]
    Native,
    /// AVX2 and FMA at most.
    Avx2,
}

/// Beginnings of the names of shared libraries that ask the processor themselves.
const ASKING: &[&str] = &["onnxruntime_pybind11_state", "libpywrap_litert_common", "libLiteRt.so"];

/// What tells the other libraries.
const VARIABLES: &[(&str, &str)] =
    &[("ATEN_CPU_CAPABILITY", "avx2"), ("ONEDNN_MAX_CPU_ISA", "AVX2"), ("MKL_ENABLE_INSTRUCTIONS", "AVX2")];

const CPUID: [u8; 2] = [0x0f, 0xa2];
const UD2: [u8; 2] = [0x0f, 0x0b];

impl Isa {
    /// The set of a name on the command line.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Native, Self::Avx2].into_iter().find(|isa| isa.name() == name)
    }

    /// Its name on the command line and in rows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Avx2 => "avx2",
        }
    }

    /// What to run instead of a program of ours.
    pub(super) fn program(self, program: &Path) -> Result<PathBuf> {
        if self == Self::Native {
            return Ok(program.to_owned());
        }
        let directory = directory()?;
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let copy = directory.join(program.file_name().context("a program has a name")?);
        replace(program, &copy)?;
        Ok(copy)
    }

    /// What to run instead of the Python of an environment.
    pub(super) fn python(self, python: &Path) -> Result<PathBuf> {
        if self == Self::Native {
            return Ok(python.to_owned());
        }
        let environment = python.parent().and_then(Path::parent).context("an environment has a directory")?;
        let copy = directory()?.join(environment.file_name().context("an environment has a name")?);
        let (stamp, made) = (environment.join("pins.txt"), copy.join("pins.txt"));
        let pins = fs::read(&stamp).with_context(|| format!("cannot read {}", stamp.display()))?;
        if !fs::read(&made).is_ok_and(|made| made == pins) {
            eprintln!("xtask: holding {} to {}", environment.display(), self.name());
            if copy.exists() {
                fs::remove_dir_all(&copy).with_context(|| format!("cannot replace {}", copy.display()))?;
            }
            mirror(environment, &copy)?;
            // Last, so that an interrupted copy is made anew.
            fs::write(&made, pins).with_context(|| format!("cannot write {}", made.display()))?;
        }
        Ok(copy.join(python.strip_prefix(environment)?))
    }

    /// Tells a participant's process.
    pub(super) fn hold(self, command: &mut Command) -> Result<()> {
        if self == Self::Avx2 {
            command.env("LD_PRELOAD", library(&directory()?)?).envs(VARIABLES.iter().copied());
        }
        Ok(())
    }
}

fn directory() -> Result<PathBuf> {
    ensure!(cfg!(all(target_os = "linux", target_arch = "x86_64")), "--isa needs Linux on x86-64");
    Ok(workspace::target_directory()?.join("peers/avx2"))
}

/// The library that answers for the processor, compiled.
fn library(directory: &Path) -> Result<PathBuf> {
    let source = workspace::root().join("xtask/peers/cpuid_avx2.c");
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let library = directory.join("libcpuid_avx2.so");
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&library).arg(&source);
    let status = cc.status().context("cannot start cc (--isa needs a C compiler)")?;
    ensure!(status.success(), "cc cannot compile {}", source.display());
    Ok(library)
}

/// A copy of an environment with links to its files, and with libraries that ask nothing.
fn mirror(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            mirror(&path, &copy)?;
        } else if kind.is_symlink() {
            #[cfg(unix)]
            std::os::unix::fs::symlink(fs::read_link(&path)?, &copy)?;
        } else if asks(&entry.file_name()) {
            replace(&path, &copy)?;
        } else if entry.file_name() != "pins.txt" {
            fs::hard_link(&path, &copy).with_context(|| format!("cannot link {}", path.display()))?;
        }
    }
    Ok(())
}

fn asks(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| ASKING.iter().any(|start| name.starts_with(start)))
}

/// Copies a program or library with its CPUID instructions replaced.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let mut bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let sections = sections(from)?;
    let addresses = cpuids(from)?;
    ensure!(!addresses.is_empty(), "{} asks the processor nothing", from.display());
    for address in addresses {
        let at = sections.iter().find_map(|s| s.offset(address));
        match at.and_then(|at| bytes.get_mut(at..at + CPUID.len())) {
            Some(code) if *code == CPUID => code.copy_from_slice(&UD2),
            _ => bail!("{}: no CPUID instruction at {address:#x}", from.display()),
        }
    }
    fs::write(to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
    let permissions = fs::metadata(from)?.permissions();
    fs::set_permissions(to, permissions).with_context(|| format!("cannot write {}", to.display()))
}

/// Where a section is in memory and in its file.
#[derive(Debug, PartialEq)]
struct Section {
    address: u64,
    size: u64,
    offset: u64,
}

impl Section {
    fn offset(&self, address: u64) -> Option<usize> {
        let inside = address.checked_sub(self.address)?;
        (inside < self.size).then(|| usize::try_from(self.offset + inside).ok())?
    }
}

fn sections(file: &Path) -> Result<Vec<Section>> {
    let output = Command::new("objdump").arg("--section-headers").arg(file).output();
    let output = output.context("cannot start objdump (--isa needs binutils)")?;
    ensure!(output.status.success(), "objdump cannot read {}", file.display());
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(section).collect())
}

/// A line of `objdump --section-headers`: index, name, size, virtual and load address, offset in the file, alignment.
fn section(line: &str) -> Option<Section> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [index, _, size, address, _, offset, _] = fields[..] else { return None };
    index.parse::<u32>().ok()?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    Some(Section { address: hex(address)?, size: hex(size)?, offset: hex(offset)? })
}

/// Addresses of the CPUID instructions of all code.
fn cpuids(file: &Path) -> Result<Vec<u64>> {
    let mut objdump = Command::new("objdump");
    objdump.args(["--disassemble", "--no-show-raw-insn"]).arg(file).stdout(Stdio::piped());
    let mut child = objdump.spawn().context("cannot start objdump (--isa needs binutils)")?;
    let mut output = BufReader::new(child.stdout.take().context("no stdout")?);
    let (mut addresses, mut line) = (Vec::new(), Vec::new());
    while output.read_until(b'\n', &mut line)? > 0 {
        addresses.extend(cpuid(&line));
        line.clear();
    }
    ensure!(child.wait()?.success(), "objdump cannot read {}", file.display());
    Ok(addresses)
}

/// The address before the colon if the line is of a CPUID instruction.
fn cpuid(line: &[u8]) -> Option<u64> {
    let line = line.trim_ascii().strip_suffix(b"cpuid")?;
    let text = std::str::from_utf8(line).ok()?.trim_end().strip_suffix(':')?;
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_objdump() {
        let line = " 14 .text         012a3b40  0000000000a01000  0000000000a01000  009ff000  2**12";
        let text = section(line).unwrap();
        assert_eq!(text, Section { address: 0xa01000, size: 0x12a_3b40, offset: 0x9f_f000 });
        assert_eq!((text.offset(0xa01002), text.offset(0xa00fff)), (Some(0x9f_f002), None));
        assert_eq!(
            section("Idx Name          Size      VMA               LMA               File off  Algn"),
            None
        );
        assert_eq!(cpuid(b"  12150b2:\tcpuid\n"), Some(0x121_50b2));
        assert_eq!(cpuid(b"  12150b4:\tcall   1234 <cpuid>\n"), None);
        assert_eq!(cpuid(b"0000000000001234 <cpuid>:\n"), None);
    }

    #[test]
    fn sets_have_names() {
        assert_eq!(Isa::named("avx2"), Some(Isa::Avx2));
        assert_eq!(Isa::named("native"), Some(Isa::default()));
        assert_eq!(Isa::named("mmx"), None);
    }

    /// Compiles a program that prints three bits of leaf 7: AVX2, AVX-512F, VNNI.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[test]
    fn a_held_program_sees_avx2_at_most() {
        let tools = ["cc", "objdump"].iter().all(|t| Command::new(t).arg("--version").output().is_ok());
        if !tools {
            eprintln!("passed over: no cc or no objdump on this machine");
            return;
        }
        let directory = std::env::temp_dir().join(format!("ternion-isa-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (source, program, held) = (directory.join("p.c"), directory.join("p"), directory.join("held"));
        let text = "#include <cpuid.h>\n#include <stdio.h>\nint main(void) { unsigned a, b, c, d; \
            __cpuid_count(7, 0, a, b, c, d); printf(\"%u%u%u\", b >> 5 & 1, b >> 16 & 1, c >> 11 & 1); }";
        fs::write(&source, text).unwrap();
        assert!(Command::new("cc").arg("-o").arg(&program).arg(&source).status().unwrap().success());
        replace(&program, &held).unwrap();
        let bits = |command: &mut Command| String::from_utf8(command.output().unwrap().stdout).unwrap();
        let free = bits(&mut Command::new(&program));
        let preloaded = bits(Command::new(&held).env("LD_PRELOAD", library(&directory).unwrap()));
        assert_eq!(preloaded, format!("{}00", &free[..1]), "unheld it sees {free}");
        assert!(!Command::new(&held).status().unwrap().success(), "nobody answers");
        fs::remove_dir_all(&directory).unwrap();
    }
}
