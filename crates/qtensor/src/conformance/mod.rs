//! Comparison with reference vectors of the real QKeras: reading a folder of cases and judging those about quantizers.
//!
//! A folder holds `manifest.json` (`{format, cases: [...]}`) and `tensors.npy`, one flat little-endian f32 vector; a case names
//! its tensors by offset and shape. Cases of the kinds `quantizer`, `stochastic` and `meta` are judged here by [`check`];
//! the reader serves whoever judges the others.

mod deterministic;
mod manifest;
mod meta;
mod sampled;

pub use manifest::{Case, Manifest, ManifestError, Tensor};

/// What came of comparing one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Agrees; a short account of how closely.
    Passed(String),
    /// Disagrees, or cannot be read; the first disagreement.
    Failed(String),
    /// Not compared; why.
    Skipped(String),
    /// Records a known bug of another library, so that agreement is not wanted; which bug.
    Informational(String),
}

impl From<Result<String, String>> for Verdict {
    fn from(result: Result<String, String>) -> Self {
        match result {
            Ok(account) => Verdict::Passed(account),
            Err(why) => Verdict::Failed(why),
        }
    }
}

/// Judges every case of the folder `dir`, in file order; a folder that cannot be read is one failure.
pub fn run(dir: &std::path::Path, each: &mut dyn FnMut(&str, Verdict)) {
    match Manifest::read(dir) {
        Ok(manifest) => {
            for case in manifest.cases() {
                each(case.id(), check(&manifest, case).into());
            }
        }
        Err(error) => each("manifest.json", Verdict::Failed(error.to_string())),
    }
}

/// The kinds [`check`] can judge.
pub const KINDS: [&str; 3] = ["quantizer", "stochastic", "meta"];

/// Judges one case: `Ok` with a short account of what agreed, or `Err` with the first disagreement.
///
/// # Errors
/// Any disagreement, missing tensor or field, or a kind not in [`KINDS`], in words.
pub fn check(manifest: &Manifest, case: &Case) -> Result<String, String> {
    match case.kind() {
        "quantizer" => deterministic::check(manifest, case),
        "stochastic" => sampled::check(manifest, case),
        "meta" => meta::check(case),
        other => Err(format!("kind `{other}` is not about quantizers")),
    }
}

/// An error bound `atol + rtol |reference| + x_rtol |x|`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tolerance {
    /// Absolute part.
    pub atol: f64,
    /// Part relative to the reference.
    pub rtol: f64,
    /// Part relative to the input.
    pub x_rtol: f64,
}

impl Tolerance {
    /// True if `got` may stand for `reference` at input `x`; NaN agrees with NaN, an infinity with itself.
    pub fn allows(&self, got: f64, reference: f64, x: f64) -> bool {
        if got.is_nan() || reference.is_nan() {
            return got.is_nan() && reference.is_nan();
        }
        got == reference
            || (got - reference).abs() <= self.atol + self.rtol * reference.abs() + self.x_rtol * x.abs()
    }

    /// Reads `tolerance.<name>` of a case; missing parts are 0, a missing tolerance is an error.
    fn of(case: &Case, name: &str) -> Result<Tolerance, String> {
        let found =
            case.field("tolerance").and_then(|t| t.get(name)).ok_or(format!("no tolerance for `{name}`"))?;
        let part = |key: &str| found.get(key).and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        Ok(Tolerance { atol: part("atol"), rtol: part("rtol"), x_rtol: part("x_rtol") })
    }
}

/// The quantizer a case is about, from its name and `kwargs`.
fn quantizer_of(case: &Case) -> Result<crate::Quantizer, String> {
    let name = case.text("quantizer")?;
    let kwargs = case.field("kwargs").and_then(|k| k.as_object()).ok_or("no `kwargs`")?;
    let arguments: Vec<String> = kwargs
        .iter()
        .map(|(key, value)| match value {
            serde_json::Value::String(word) => format!("{key}={word}"),
            other => format!("{key}={other}"),
        })
        .collect();
    format!("{name}({})", arguments.join(", ")).parse().map_err(|e: crate::ParseError| e.to_string())
}
