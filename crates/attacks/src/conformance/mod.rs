//! Comparison with reference vectors of auto-attack, foolbox, ART and torchattacks: reading a folder and judging its cases.
//!
//! A folder holds `manifest.json` (`{files: {name: {arrays, configs}}}`) and one npz per file, among them `models.npz` with
//! the weights of an affine, a convolutional and a ternary network. Parameters come from the manifest (where it has
//! none, from the configuration's name), images, labels and targets from the archives. Deterministic cases are judged to
//! tolerance in f64, random ones against the library's spread over its seeds.

mod affine;
mod archive;
mod decision;
mod folder;
mod gradients;
mod linear;
mod masked;
mod minimum;
mod net;
mod random;
mod white;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use qtensor::conformance::Verdict;

use folder::{Config, Folder};

/// Whether a manifest is of this form.
pub fn recognises(manifest: &serde_json::Value) -> bool {
    let files = manifest.get("files").and_then(serde_json::Value::as_object);
    files.is_some_and(|files| {
        files.contains_key("models.npz") || files.values().any(|file| file.get("configs").is_some())
    })
}

/// Judges every case of the folder `dir`, in the manifest's order; a folder that cannot be read is one failure.
///
/// Cases are independent and run on all cores; verdicts do not depend on how many there are.
pub fn run(dir: &Path, each: &mut dyn FnMut(&str, Verdict)) {
    run_where(dir, &|_| true, each);
}

/// The same for the cases whose name `wanted` accepts.
pub fn run_where(dir: &Path, wanted: &dyn Fn(&str) -> bool, each: &mut dyn FnMut(&str, Verdict)) {
    let folder = match Folder::open(dir) {
        Ok(folder) => folder,
        Err(why) => return each("manifest.json", Verdict::Failed(why)),
    };
    let mut cases = cases(&folder);
    cases.retain(|case| wanted(&case.name));
    let (next, folder, cases) = (AtomicUsize::new(0), &folder, &cases);
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        for _ in 0..workers {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(place) else { break };
                    let verdict = (case.judge)(folder, &case.config).unwrap_or_else(Verdict::Failed);
                    if send.send((place, verdict)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        // Reported in order, whichever is done first.
        let (mut waiting, mut due) = (BTreeMap::new(), 0);
        for (place, verdict) in receive {
            waiting.insert(place, verdict);
            while let Some(verdict) = waiting.remove(&due) {
                each(&cases[due].name, verdict);
                due += 1;
            }
        }
    });
}

/// How a case is judged; `Err` is a disagreement, or why there is no judging it.
type Judge = fn(&Folder, &Config<'_>) -> Result<Verdict, String>;

/// One thing to compare.
struct Case<'f> {
    name: String,
    config: Config<'f>,
    judge: Judge,
}

/// Who judges a configuration, by the beginning of its name.
const JUDGES: &[(&str, Judge)] = &[
    ("fgsm_minimal", white::minimal),
    ("fgsm_", white::fgsm),
    ("fgm_", white::fgsm),
    ("pgd_", white::iterated),
    ("bim_", white::iterated),
    ("mim_", white::iterated),
    ("apgd_", white::apgd),
    ("cw_", minimum::carlini),
    ("deepfool_", minimum::deepfool),
    ("fab", minimum::fab),
    ("inputquant", gradients::quantized),
    ("ternary_", gradients::quantized),
    ("torchattacks_pgd", random::starts),
    ("aa_square", random::square),
    ("art_square", random::square),
    ("autoattack_", random::autoattack),
    ("art_hsj", decision::hop_skip_jump),
    ("fb_hsj", decision::hop_skip_jump),
    ("art_boundary", decision::boundary),
    ("fb_boundary", decision::boundary),
    ("art_zoo", decision::zoo),
    ("zoo_paper", decision::zoo),
];

/// Who judges arrays that no configuration names: their endings, and what the case is called.
const ARRAYS: &[(&str, &str, Judge)] = &[
    ("ce_grad64", "losses_and_gradients", gradients::losses),
    ("logit_jacobian_first6", "logit_jacobian", gradients::jacobian),
    ("proj_t", "projections", minimum::projections),
    ("eot_grad_at_x", "eot_gradient", gradients::expected),
    (".ste_ce_grad", "", gradients::straight_through),
    (".box.min_linf_per_class", "", affine::optimum),
];

fn unknown(_: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    Err(format!("no known kind of case: `{}`", config.name))
}

/// All cases of a folder: every configuration of the manifest, and the arrays that need none.
fn cases(folder: &Folder) -> Vec<Case<'_>> {
    let mut out: Vec<(Config<'_>, Judge)> = Vec::new();
    for (file, archive) in &folder.archives {
        for config in folder.configs(file) {
            if config.name.starts_with("gradient_masking_panel") {
                for model in masked::models(&config) {
                    let name = format!("{}.{model}", config.name);
                    out.push((Config { name, ..config.clone() }, masked::judge));
                }
            } else if config.name.contains('.') && folder.is_set(file, &config.name) {
                out.push((config, affine::judge));
            } else {
                let known = JUDGES.iter().find(|(prefix, _)| config.name.starts_with(prefix));
                out.push((config, known.map_or(unknown as Judge, |(_, judge)| *judge)));
            }
        }
        for array in archive.names() {
            let bare = |name: &str| Config::bare(file, name);
            for (ending, name, judge) in ARRAYS {
                match array.strip_suffix(ending) {
                    Some("") => out.push((bare(name), *judge)),
                    Some(prefix) if ending.starts_with('.') => {
                        out.push((bare(&format!("{prefix}{ending}")), *judge));
                    }
                    _ => {}
                }
            }
            if let Some(name) = array.strip_suffix(".adv").filter(|n| n.starts_with("eot_")) {
                out.push((bare(name), gradients::expected_attack));
            }
        }
    }
    let mut cases = Vec::with_capacity(out.len());
    for (config, judge) in out {
        let name = format!("{}/{}", config.file.trim_end_matches(".npz"), config.name);
        cases.push(Case { name, config, judge });
    }
    cases
}
