//! Comparison with reference values of Jacobian regularisation and their gradients, in double precision.
//!
//! A folder holds `manifest.json` (`{files: {name: ...}}`) and the `.npz` files it names, made with
//! facebookresearch/jacobian_regularizer @32bb044 and torch autograd. A file holds a network's weights (`w.*`), images `x`, labels
//! `y`, projection vectors (`V1` of shape `[projections, batch, classes]`, and so on) and references; or, for the affine
//! network `W x`, just `W` and its references. Every array that is a reference is one case.

mod arrays;
mod cases;
mod torch;

use std::path::Path;

use qtensor::conformance::Verdict;
use serde_json::Value;

/// Whether a folder's manifest is of this form: files whose arrays are penalties, in all or per layer.
pub fn recognises(manifest: &Value) -> bool {
    let names = |file: &Value| file.get("arrays").and_then(Value::as_object).cloned().unwrap_or_default();
    let ours = |name: &String| name.starts_with("jr_") || name.starts_with("layer_");
    let files = manifest.get("files").and_then(Value::as_object);
    files.is_some_and(|files| files.values().any(|file| names(file).keys().any(ours)))
}

/// Judges every reference array of the folder `dir`, file by file.
pub fn run(dir: &Path, each: &mut dyn FnMut(&str, Verdict)) {
    let path = dir.join("manifest.json");
    let manifest = std::fs::read(&path)
        .map_err(|e| e.to_string())
        .and_then(|text| serde_json::from_slice::<Value>(&text).map_err(|e| e.to_string()));
    let manifest = match manifest {
        Ok(manifest) => manifest,
        Err(why) => return each("manifest.json", Verdict::Failed(format!("{}: {why}", path.display()))),
    };
    let Some(files) = manifest.get("files").and_then(Value::as_object) else {
        return each("manifest.json", Verdict::Failed(format!("{}: no `files`", path.display())));
    };
    for (file, entry) in files {
        let note = entry.get("note").and_then(Value::as_str).unwrap_or("");
        if file.contains(['/', '\\']) {
            each(file, Verdict::Failed("a file outside the folder".into()));
            continue;
        }
        let stem = file.strip_suffix(".npz").unwrap_or(file);
        let judged = arrays::read(&dir.join(file)).and_then(|arrays| {
            let listed = entry.get("arrays").and_then(Value::as_object);
            let gone = listed.and_then(|l| l.keys().find(|name| !arrays.contains_key(*name)));
            match gone {
                Some(name) => Err(format!("{file}: the manifest lists `{name}`, which is not there")),
                None => cases::judge(stem, note, &arrays),
            }
        });
        match judged {
            Ok(verdicts) => {
                verdicts
                    .into_iter()
                    .for_each(|(case, verdict)| each(&format!("{stem}/{case}"), verdict.into()));
            }
            Err(why) => each(stem, Verdict::Failed(why)),
        }
    }
}
