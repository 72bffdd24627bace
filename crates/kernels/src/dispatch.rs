//! Which instruction set the kernels use: found once at run time, forceable by environment variable and by API.

use core::fmt;
use core::str::FromStr;

use crate::ternary::Form;

/// An implementation of the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path {
    /// Portable Rust, any CPU.
    Scalar,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 (F, BW, VL, DQ, VNNI, VPOPCNTDQ, VBMI) and GFNI, besides AVX2 and FMA. What has no wider loop runs
    /// the AVX2 one.
    Avx512,
}

impl Path {
    /// Every path this build knows, portable first.
    pub const ALL: [Path; 3] = [Path::Scalar, Path::Avx2, Path::Avx512];

    /// Whether this CPU (and this build) can run the path.
    pub fn available(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Avx2 => detect_avx2(),
            Self::Avx512 => detect_avx512(),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

/// The text is not the name of a [`Path`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownPath;

impl fmt::Display for UnknownPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown kernel path: expected `scalar`, `avx2` or `avx512`")
    }
}

impl core::error::Error for UnknownPath {}

impl FromStr for Path {
    type Err = UnknownPath;
    fn from_str(s: &str) -> Result<Self, UnknownPath> {
        match s {
            "scalar" => Ok(Self::Scalar),
            "avx2" => Ok(Self::Avx2),
            "avx512" => Ok(Self::Avx512),
            _ => Err(UnknownPath),
        }
    }
}

/// A path this CPU can run: holding one is the proof.
///
/// ```
/// use kernels::dispatch::{Kernel, Path};
/// assert!(Kernel::new(Path::Scalar).is_some());
/// assert!(Kernel::new(Kernel::default().path()).is_some());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Path);

impl Kernel {
    /// The given path, if this CPU can run it.
    pub fn new(path: Path) -> Option<Self> {
        path.available().then_some(Self(path))
    }

    /// The path held.
    pub fn path(self) -> Path {
        self.0
    }
}

impl Default for Kernel {
    /// The path in force, see [`path`].
    fn default() -> Self {
        Self(path())
    }
}

/// Name of the environment variable that forces a path.
pub const KERNEL_VARIABLE: &str = "TERNION_KERNEL";

/// The path used where none is asked for: the one named by `TERNION_KERNEL` if this CPU can run it, else the best one
/// the CPU can run. Read once per process.
pub fn path() -> Path {
    *picked().0
}

/// One override and what it led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knob {
    /// Environment variable.
    pub variable: &'static str,
    /// What it does and which values it takes.
    pub meaning: &'static str,
    /// Its value, if set.
    pub value: Option<alloc::string::String>,
    /// What is in force, and why if that is not what was asked for.
    pub picked: alloc::string::String,
}

/// Every override of this crate and what is in force.
pub fn knobs() -> alloc::vec::Vec<Knob> {
    use alloc::string::ToString;
    let (path, asked) = picked();
    let note = match asked {
        Some(text) if text.parse() == Ok(*path) => "",
        Some(text) if text.parse::<Path>().is_ok() => " (this CPU cannot run the one asked for)",
        Some(_) => " (the value is not a path)",
        None => "",
    };
    let (form, named) = picked_form();
    let forms = match (form, named) {
        (Some(form), _) => form.to_string() + " wherever it can take the codes",
        (None, Some(_)) => "by the rule of ternary::Form::choose (the value is not a form)".into(),
        (None, None) => "by the rule of ternary::Form::choose".into(),
    };
    alloc::vec![
        Knob {
            variable: KERNEL_VARIABLE,
            meaning: "instruction set of the kernels: scalar, avx2 or avx512",
            value: asked.clone(),
            picked: path.to_string() + note,
        },
        Knob {
            variable: FORM_VARIABLE,
            meaning: concat!("packed form of ternary weights: ", crate::ternary::form_names!()),
            value: named.clone(),
            picked: forms,
        },
        Knob {
            variable: "RAYON_NUM_THREADS",
            meaning: "threads of the kernels; results do not depend on it",
            value: variable("RAYON_NUM_THREADS"),
            picked: crate::parallel::threads().to_string(),
        },
    ]
}

/// Name of the environment variable that forces a form of ternary weights.
pub const FORM_VARIABLE: &str = "TERNION_FORM";

/// The form named by `TERNION_FORM`, if it is one. Read once per process.
pub(crate) fn forced_form() -> Option<Form> {
    *picked_form().0
}

#[cfg(feature = "std")]
fn variable(name: &str) -> Option<std::string::String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

#[cfg(not(feature = "std"))]
fn variable(_: &str) -> Option<alloc::string::String> {
    None
}

#[cfg(feature = "std")]
fn picked_form() -> (&'static Option<Form>, &'static Option<std::string::String>) {
    static PICKED: std::sync::OnceLock<(Option<Form>, Option<std::string::String>)> =
        std::sync::OnceLock::new();
    let (form, named) = PICKED.get_or_init(|| {
        let named = variable(FORM_VARIABLE);
        (named.as_deref().and_then(|v| v.parse().ok()), named)
    });
    (form, named)
}

#[cfg(not(feature = "std"))]
fn picked_form() -> (&'static Option<Form>, &'static Option<alloc::string::String>) {
    (&None, &None)
}

/// Best path of this CPU.
#[cfg(feature = "std")]
fn best() -> Path {
    Path::ALL.into_iter().rfind(|path| path.available()).unwrap_or(Path::Scalar)
}

#[cfg(feature = "std")]
fn picked() -> (&'static Path, &'static Option<std::string::String>) {
    static PICKED: std::sync::OnceLock<(Path, Option<std::string::String>)> = std::sync::OnceLock::new();
    let (path, asked) = PICKED.get_or_init(|| {
        let asked = variable(KERNEL_VARIABLE);
        let path = asked.as_deref().and_then(|v| v.parse().ok()).filter(|p: &Path| p.available());
        (path.unwrap_or_else(best), asked)
    });
    (path, asked)
}

#[cfg(not(feature = "std"))]
fn picked() -> (&'static Path, &'static Option<alloc::string::String>) {
    (&Path::Scalar, &None)
}

#[cfg(all(feature = "std", target_arch = "x86_64"))]
fn detect_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

#[cfg(not(all(feature = "std", target_arch = "x86_64")))]
fn detect_avx2() -> bool {
    false
}

#[cfg(all(feature = "std", target_arch = "x86_64"))]
fn detect_avx512() -> bool {
    use std::arch::is_x86_feature_detected as has;
    detect_avx2()
        && has!("avx512f")
        && has!("avx512bw")
        && has!("avx512vl")
        && has!("avx512dq")
        && has!("avx512vnni")
        && has!("avx512vpopcntdq")
        && has!("avx512vbmi")
        && has!("gfni")
}

#[cfg(not(all(feature = "std", target_arch = "x86_64")))]
fn detect_avx512() -> bool {
    false
}

/// Calls `f`, compiled for the instruction set in force as far as it is inlined: for loops of other crates that the
/// compiler turns into vectors. Results are the same on every path, nothing is fused.
#[inline]
pub fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    {
        #[target_feature(enable = "avx2,fma")]
        fn avx2<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
        fn avx512<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        match path() {
            // SAFETY: `path()` answers `Avx512` only on a CPU with these features.
            Path::Avx512 => return unsafe { avx512(f) },
            // SAFETY: as above, for AVX2 and FMA.
            Path::Avx2 => return unsafe { avx2(f) },
            Path::Scalar => {}
        }
    }
    f()
}

/// A loop to be compiled once for each instruction set, too long to be inlined unasked as [`vectorized`] needs it.
pub trait EveryPath {
    /// The loop; to be marked `#[inline(always)]`. `FUSED` says whether there are fused multiply-adds, for
    /// [`crate::Real::madd`], and `WIDE` whether vectors have 512 bits. Results may depend on `FUSED` alone.
    fn run<const FUSED: bool, const WIDE: bool>(self);
}

/// Runs a loop as compiled for [`path`].
#[inline]
pub fn on_every_path(body: impl EveryPath) {
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    {
        #[target_feature(enable = "avx2,fma")]
        fn avx2(body: impl EveryPath) {
            body.run::<true, false>();
        }
        #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
        fn avx512(body: impl EveryPath) {
            body.run::<true, true>();
        }
        match path() {
            // SAFETY: `path()` answers `Avx512` only on a CPU with these features.
            Path::Avx512 => return unsafe { avx512(body) },
            // SAFETY: as above, for AVX2 and FMA.
            Path::Avx2 => return unsafe { avx2(body) },
            Path::Scalar => {}
        }
    }
    body.run::<false, false>();
}

/// Defines a function whose body is compiled three times, portably, for AVX2 + FMA and for AVX-512, and picks one by
/// [`path`]. Inside, the constant `FUSED` says whether there are fused multiply-adds, for [`crate::Real::madd`], and
/// `WIDE` whether vectors have 512 bits. Results depend on `FUSED` alone.
macro_rules! every_path {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$t:ident: $bound:path>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name $(<$t: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, reason = "one body, three instruction sets")]
            #[allow(clippy::extra_unused_type_parameters, reason = "not every body needs to know")]
            fn body<$($t: $bound,)? const FUSED: bool, const WIDE: bool>($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            {
                use $crate::dispatch::{Path, path};
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "one body, three instruction sets")]
                fn avx2$(<$t: $bound>)?($($arg: $ty),*) $(-> $ret)? {
                    body::<$($t,)? true, false>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")]
                #[allow(clippy::too_many_arguments, reason = "one body, three instruction sets")]
                fn avx512$(<$t: $bound>)?($($arg: $ty),*) $(-> $ret)? {
                    body::<$($t,)? true, true>($($arg),*)
                }
                match path() {
                    // SAFETY: `path()` answers `Avx512` only on a CPU with these features.
                    Path::Avx512 => return unsafe { avx512$(::<$t>)?($($arg),*) },
                    // SAFETY: as above, for AVX2 and FMA.
                    Path::Avx2 => return unsafe { avx2$(::<$t>)?($($arg),*) },
                    Path::Scalar => {}
                }
            }
            body::<$($t,)? false, false>($($arg),*)
        }
    };
}
pub(crate) use every_path;

/// Defines a function whose body is compiled twice, portably and for AVX2 + FMA, and picks one by [`path`]. Inside,
/// the constant `FUSED` says which it is, for [`crate::Real::madd`].
macro_rules! two_paths {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$t:ident: $bound:path>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name $(<$t: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, reason = "one body, two instruction sets")]
            #[allow(clippy::extra_unused_type_parameters, reason = "not every body needs to know")]
            fn body<$($t: $bound,)? const FUSED: bool>($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            {
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "one body, two instruction sets")]
                fn wide$(<$t: $bound>)?($($arg: $ty),*) $(-> $ret)? {
                    body::<$($t,)? true>($($arg),*)
                }
                if $crate::dispatch::path() != $crate::dispatch::Path::Scalar {
                    // SAFETY: `path()` answers another than `Scalar` only on a CPU with AVX2 and FMA.
                    return unsafe { wide$(::<$t>)?($($arg),*) };
                }
            }
            body::<$($t,)? false>($($arg),*)
        }
    };
}
pub(crate) use two_paths;
