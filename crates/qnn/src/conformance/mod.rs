//! Comparison with reference vectors of the real QKeras and with trained reference networks: reads folders of cases and
//! judges those about layers and models, leaving those about quantizers to `qtensor`.

mod compare;
mod layer;
mod mlperf;
mod model;
mod qstats;
mod run;

use std::path::Path;

use qtensor::conformance::{Case, Manifest, Verdict};

pub use mlperf::{LabelledCodes, run as run_networks};

/// True if `dir` holds trained networks that [`run_networks`] knows.
pub fn has_networks(dir: &Path) -> bool {
    mlperf::is_present(dir)
}

/// Judges every case of a folder of QKeras cases, in file order; a folder that cannot be read is one failure.
pub fn run(dir: &Path, each: &mut dyn FnMut(&str, Verdict)) {
    match Manifest::read(dir) {
        Ok(manifest) => {
            for case in manifest.cases() {
                each(case.id(), check(&manifest, case).into());
            }
        }
        Err(error) => each("manifest.json", Verdict::Failed(error.to_string())),
    }
}

/// Judges one case: `Ok` with a short account of what agreed, or `Err` with the first disagreement, missing tensor or
/// unknown kind.
pub fn check(manifest: &Manifest, case: &Case) -> Result<String, String> {
    match case.kind() {
        "layer" => layer::check(manifest, case),
        "model" => model::check(manifest, case),
        _ => qtensor::conformance::check(manifest, case),
    }
}
