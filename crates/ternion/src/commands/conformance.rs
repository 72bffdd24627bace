//! `ternion conformance`: reference vectors of other libraries, folder by folder, each judged by the crate that knows its form.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use qnn::conformance::LabelledCodes;
use qtensor::conformance::Verdict;
use serde_json::{Value, json};

use crate::End;
use crate::cli::ConformanceArgs;

pub(crate) fn run(args: &ConformanceArgs) -> Result<End> {
    let mut folders = Vec::new();
    for dir in &args.dir {
        let before = folders.len();
        find(dir, &mut folders)?;
        if folders.len() == before {
            bail!(
                "{}: no folder with reference cases (a `{MANIFEST}`, or known networks) in it",
                dir.display()
            );
        }
    }
    let mut tally = Tally { json: args.json, ..Tally::default() };
    for folder in &folders {
        judge(folder, &mut |case, verdict| tally.count(folder, case, &verdict));
    }
    tally.close();
    Ok(if tally.failed == 0 { End::Done } else { End::Failed })
}

const MANIFEST: &str = "manifest.json";

/// Every folder at or below `dir` that holds reference cases, in the order of their paths.
fn find(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if dir.join(MANIFEST).is_file() || qnn::conformance::has_networks(dir) {
        found.push(dir.to_owned());
    }
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut below = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
        if path.is_dir() {
            below.push(path);
        }
    }
    below.sort();
    below.iter().try_for_each(|path| find(path, found))
}

/// Hands a folder to the crate that knows its form; an unreadable or unknown one is a failure of its own.
fn judge(folder: &Path, each: &mut dyn FnMut(&str, Verdict)) {
    if qnn::conformance::has_networks(folder) {
        judge_networks(folder, each);
        if !folder.join(MANIFEST).is_file() {
            return;
        }
    }
    let manifest = match read_manifest(folder) {
        Ok(manifest) => manifest,
        Err(why) => return each(MANIFEST, Verdict::Failed(format!("{why:#}"))),
    };
    match form(&manifest) {
        Some(Form::Attacks) => attacks::conformance::run(folder, each),
        Some(Form::Quantizers) => qnn::conformance::run(folder, each),
        Some(Form::FrontEnd) => datasets::conformance::run(folder, &mut |case, verdict| {
            each(case, verdict.map_or_else(Verdict::Failed, Verdict::Passed));
        }),
        Some(Form::Jacobian) => jacreg::conformance::run(folder, each),
        None => each(MANIFEST, Verdict::Failed("no known form of reference cases".to_owned())),
    }
}

/// Trained networks, on CIFAR-10's test set where the data search order finds it.
fn judge_networks(folder: &Path, each: &mut dyn FnMut(&str, Verdict)) {
    let loaded = datasets::load(&datasets::Task::Cifar10, &datasets::DataSearch::default());
    let cifar10 = match &loaded {
        Ok(data) => Ok(LabelledCodes { codes: &data.test.codes, labels: &data.test.labels }),
        Err(error) => Err(format!("needs CIFAR-10: {error}")),
    };
    qnn::conformance::run_networks(folder, cifar10.as_ref().map(|set| *set).map_err(String::as_str), each);
}

fn read_manifest(folder: &Path) -> Result<Value> {
    let text = std::fs::read(folder.join(MANIFEST))?;
    Ok(serde_json::from_slice(&text)?)
}

/// What a folder's manifest says it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    /// Attacks, their losses and masked models: files of configurations beside the weights they are about.
    Attacks,
    /// Quantizers, layers and models of QKeras: a list of cases over one `tensors.npy`.
    Quantizers,
    /// The MFCC of TensorFlow: cases that each name a file of arrays.
    FrontEnd,
    /// Jacobian penalties of small networks with their gradients: `.npz` files with `jr_*` and `layer_*` arrays.
    Jacobian,
}

fn form(manifest: &Value) -> Option<Form> {
    if attacks::conformance::recognises(manifest) {
        return Some(Form::Attacks);
    }
    let cases = manifest.get("cases").and_then(Value::as_array);
    if cases.is_some_and(|cases| cases.iter().any(|case| case.get("tensors").is_some())) {
        return Some(Form::Quantizers);
    }
    let front_end = |case: &Value| case["kind"] == datasets::conformance::KIND && case["file"].is_string();
    if cases.is_some_and(|cases| cases.iter().any(front_end)) {
        return Some(Form::FrontEnd);
    }
    if jacreg::conformance::recognises(manifest) {
        return Some(Form::Jacobian);
    }
    None
}

/// Counts and prints verdicts.
#[derive(Debug, Default)]
struct Tally {
    json: bool,
    passed: usize,
    failed: usize,
    skipped: usize,
    informational: usize,
}

impl Tally {
    fn count(&mut self, folder: &Path, case: &str, verdict: &Verdict) {
        let (word, text) = match verdict {
            Verdict::Passed(text) => ("passed", text),
            Verdict::Failed(text) => ("FAILED", text),
            Verdict::Skipped(text) => ("skipped", text),
            Verdict::Informational(text) => ("informational", text),
        };
        match verdict {
            Verdict::Passed(_) => self.passed += 1,
            Verdict::Failed(_) => self.failed += 1,
            Verdict::Skipped(_) => self.skipped += 1,
            Verdict::Informational(_) => self.informational += 1,
        }
        if self.json {
            let row = json!({
                "folder": folder, "case": case, "verdict": word.to_lowercase(), "detail": text,
            });
            println!("{row}");
        } else {
            let name = folder.file_name().unwrap_or(folder.as_os_str()).display();
            println!("{word:8} {name}/{case}: {text}");
        }
    }

    fn close(&self) {
        let Tally { passed, failed, skipped, informational, json } = self;
        if *json {
            let row = json!({
                "passed": passed, "failed": failed, "skipped": skipped, "informational": informational,
            });
            println!("{row}");
            return;
        }
        if *informational > 0 {
            println!("{informational} informational: known bugs of another library, counted neither way");
        }
        println!("{passed} passed, {failed} failed, {skipped} skipped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_found_at_any_depth_and_unknown_ones_fail() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join(MANIFEST), r#"{"cases": [{"id": "x", "kind": "soup"}]}"#).unwrap();
        let mut found = Vec::new();
        find(root.path(), &mut found).unwrap();
        assert_eq!(found, std::slice::from_ref(&deep));

        let mut failures = 0;
        judge(&deep, &mut |_, verdict| failures += usize::from(matches!(verdict, Verdict::Failed(_))));
        std::fs::write(deep.join(MANIFEST), "{").unwrap();
        judge(&deep, &mut |_, verdict| failures += usize::from(matches!(verdict, Verdict::Failed(_))));
        assert_eq!(failures, 2);

        let manifest: Value =
            serde_json::from_str(r#"{"cases": [{"kind": "mfcc", "file": "a.npz"}]}"#).unwrap();
        assert_eq!(form(&manifest), Some(Form::FrontEnd));
    }
}
