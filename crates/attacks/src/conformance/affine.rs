//! The affine model, whose optimum is known in closed form: nothing beats it, and attacks come as close as the libraries.

use qtensor::conformance::Verdict;

use super::folder::{Config, Folder, close, once};
use super::linear::Affine;
use super::minimum::{find, ratios};
use crate::geometry::Norm;
use crate::model::Access;
use crate::run::{Options, Samples};
use crate::stats::median;
use crate::white::fab::to_hyperplane;

/// One set of samples in the model's own order.
struct Set {
    x: Vec<f64>,
    y: Vec<u8>,
    ids: Vec<u32>,
}

impl Set {
    fn load(folder: &Folder, file: &str, set: &str) -> Result<Self, String> {
        let archive = folder.archive(file)?;
        let y = archive.get(&format!("{set}.y"))?.classes()?;
        Ok(Self { x: archive.values(&format!("{set}.x"))?.to_vec(), ids: (0..y.len() as u32).collect(), y })
    }

    fn samples(&self) -> Samples<'_, f64> {
        Samples::new(&self.x, &self.y, &self.ids)
    }
}

pub(super) fn judge(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let (set_name, case) = config.name.split_once('.').ok_or("no set")?;
    let set = Set::load(folder, &config.file, set_name)?;
    let mut net = Affine::load(folder.archive("models.npz")?)?;
    if let Some(norm) = case.strip_prefix("exact_robust_acc_") {
        return exact(folder, config, set_name, norm, &set);
    }
    if let Some((attack, eps)) =
        case.rsplit_once('_').and_then(|(a, eps)| Some((a, eps.parse::<f64>().ok()?)))
    {
        return fixed(folder, config, (set_name, attack, eps), &mut net, &set);
    }
    let (text, norm) = match case {
        "fab_Linf" => ("fab(norm=linf)", "linf"),
        "fab_L2" => ("fab(norm=l2)", "l2"),
        "deepfool_foolbox" => ("deepfool(norm=l2)", "l2"),
        "deepfool_linf_foolbox" => ("deepfool(norm=linf)", "linf"),
        "deepfool_art" => ("deepfool(preset=art-default)", "l2"),
        "cw_foolbox" => {
            ("cw(search_steps=9, steps=200, step=0.01, initial_weight=1, abort_early=false)", "l2")
        }
        _ if case.starts_with("cw_art") => ("cw(search_steps=9, steps=200, initial_weight=1)", "l2"),
        _ => return Err(format!("no known attack `{case}`")),
    };
    let optimum = folder.archive(&config.file)?.values(&format!("{set_name}.box.min_{norm}"))?;
    let out = find(text, &mut net, &set.samples())?;
    let found = ratios(&out, optimum);
    if let Some(beaten) = found.iter().find(|r| **r < 1.0 - 1e-6) {
        return Err(format!("a distance is {beaten} of the optimum"));
    }
    let theirs =
        config.field("ratio_to_exact_optimum").and_then(|r| r.get("median")).and_then(|m| m.as_f64());
    let (got, want) = (median(found).unwrap_or(f64::INFINITY), theirs.ok_or("no median ratio")?);
    let account = format!("median ratio to the optimum {got:.5}, library {want:.5}");
    if case.starts_with("cw_art") {
        let bug = "ART: its lower bound aliases the weight, so the binary search never narrows";
        return Ok(Verdict::Informational(format!("{bug}; {account}")));
    }
    // Adam's path depends on rounding, and stops anywhere near; the others are determined.
    let ok = if case == "cw_foolbox" { got < want + 0.02 } else { (got - want).abs() < 1e-4 };
    if ok { Ok(Verdict::Passed(account)) } else { Err(account) }
}

/// An attack at a fixed eps: as many broken as by the library, and none that the optimum says is robust.
fn fixed(
    folder: &Folder,
    config: &Config<'_>,
    (set_name, attack, eps): (&str, &str, f64),
    net: &mut Affine,
    set: &Set,
) -> Result<Verdict, String> {
    let norm = config.norm()?;
    let text = match attack.split('_').next() {
        Some("fgsm") => format!("fgsm(norm={norm})"),
        Some("pgd") => format!("pgd(norm={norm}, steps=40, restarts=1, step=rel 0.25)"),
        Some("apgd") => format!("apgd(norm={norm})"),
        _ => return Err(format!("no known attack `{attack}`")),
    };
    let optimum = folder.archive(&config.file)?.values(&format!("{set_name}.box.min_{norm}"))?;
    let attack = text.parse().map_err(|e: crate::ParseError| e.to_string())?;
    let out = once(&attack, Access::White(net), &set.samples(), eps, 0, &mut Options::default())?;
    for (record, least) in out.records.iter().zip(optimum) {
        if !record.robust() && record.clean_correct && eps * (1.0 + 1e-6) < *least {
            return Err(format!("sample {} is broken below its optimum {least}", record.id));
        }
    }
    let (got, want) = (out.robust_accuracy().value, config.number("robust_acc")?);
    let account =
        format!("robust accuracy {got:.4}, library {want:.4}, optimum {:.4}", config.number("exact")?);
    // Random starts may move one sample.
    let slack = if text.starts_with("fgsm") { 0.0 } else { 1.0 / set.y.len() as f64 };
    if (got - want).abs() <= slack + 1e-6 { Ok(Verdict::Passed(account)) } else { Err(account) }
}

/// Robust accuracy by the closed form at each eps.
fn exact(
    folder: &Folder,
    config: &Config<'_>,
    set_name: &str,
    norm: &str,
    set: &Set,
) -> Result<Verdict, String> {
    let archive = folder.archive(&config.file)?;
    let grid = config.field("eps_grid").and_then(|g| g.as_array()).ok_or("no list `eps_grid`")?;
    let want = archive.values(&config.name)?;
    let norm: Norm = norm.parse().map_err(|e: crate::ParseError| e.to_string())?;
    let least = smallest(folder, set, norm, true)?;
    for (eps, want) in grid.iter().filter_map(serde_json::Value::as_f64).zip(want) {
        let robust =
            least.iter().filter(|row| row.iter().copied().fold(f64::INFINITY, f64::min) > eps).count();
        close(&format!("robust accuracy at {eps}"), robust as f64 / set.y.len() as f64, *want, 1e-9)?;
    }
    Ok(Verdict::Passed(format!("{} radii of {set_name}", want.len())))
}

/// For every sample and class, the smallest move to the class's boundary: inside the box, or anywhere. The label's own
/// entry is infinite, a boundary already crossed 0, one out of reach infinite.
fn smallest(folder: &Folder, set: &Set, norm: Norm, boxed: bool) -> Result<Vec<Vec<f64>>, String> {
    let net = Affine::load(folder.archive("models.npz")?)?;
    let (k, d) = (net.b.len(), net.w.len() / net.b.len());
    if set.x.len() != set.y.len() * d || set.y.iter().any(|y| usize::from(*y) >= k) {
        return Err("the samples do not fit the affine model".to_owned());
    }
    let far = if boxed { 0.0 } else { 1e6 };
    let (lo, hi) = (vec![-far; d], vec![1.0 + far; d]);
    let mut out = vec![0.0; d];
    let mut row = |x: &[f64], label: usize| -> Vec<f64> {
        let class = |class: usize| {
            let normal: Vec<f64> = net.row(class).iter().zip(net.row(label)).map(|(a, b)| a - b).collect();
            let offset = net.b[label] - net.b[class];
            let gap = offset - normal.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
            if class == label {
                return f64::INFINITY;
            }
            if gap <= 0.0 {
                return 0.0;
            }
            let length = to_hyperplane(norm, x, &normal, offset, (&lo, &hi), &mut out);
            let reached: f64 = normal.iter().zip(x.iter().zip(&out)).map(|(w, (x, o))| w * (x + o)).sum();
            if reached < offset - 1e-9 { f64::INFINITY } else { length }
        };
        (0..k).map(class).collect()
    };
    Ok(set.x.chunks_exact(d).zip(&set.y).map(|(x, y)| row(x, usize::from(*y))).collect())
}

/// The closed-form distances themselves, from our projections.
pub(super) fn optimum(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let set_name = config.name.split('.').next().unwrap_or_default();
    let (archive, set) = (folder.archive(&config.file)?, Set::load(folder, &config.file, set_name)?);
    let mut compared = 0;
    for (boxed, place) in [(true, "box"), (false, "nobox")] {
        for norm in [Norm::Linf, Norm::L2] {
            let rows = smallest(folder, &set, norm, boxed)?;
            let name = format!("{set_name}.{place}.min_{norm}_per_class");
            for (i, (got, want)) in rows.iter().flatten().zip(archive.values(&name)?).enumerate() {
                compared += 1;
                if got != want {
                    close(&format!("{name} {i}"), *got, *want, 1e-7)?;
                }
            }
        }
    }
    Ok(Verdict::Passed(format!("{compared} closed-form distances")))
}
