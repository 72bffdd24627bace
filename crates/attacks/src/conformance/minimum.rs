//! Minimum-norm attacks: Carlini and Wagner, DeepFool and FAB against the libraries' examples, and FAB's projections.

use qtensor::conformance::Verdict;

use super::folder::{Config, Folder, all_close, close, exhaust, once};
use crate::geometry::Norm;
use crate::model::{Access, Differentiable};
use crate::outcome::Outcome;
use crate::run::{Options, Samples};
use crate::spec::Attack;
use crate::stats::median;
use crate::white::fab::to_hyperplane;

/// Beyond every distance, so that every example found is kept.
const ANY: f64 = 1e6;

/// The smallest perturbations an attack finds.
pub(super) fn find(
    attack: &str,
    model: &mut dyn Differentiable<f64>,
    samples: &Samples<'_, f64>,
) -> Result<Outcome<f64>, String> {
    let attack: Attack = attack.parse().map_err(|e: crate::ParseError| e.to_string())?;
    let mut options = Options { keep_adversarial: true, batch: samples.len(), ..Options::default() };
    once(&attack, Access::White(model), samples, ANY, 0, &mut options)
}

/// Our distances divided by the reference's, over samples that both attacked.
pub(super) fn ratios(out: &Outcome<f64>, want: &[f64]) -> Vec<f64> {
    let pairs = out.records.iter().zip(want).filter(|(r, want)| r.clean_correct && **want > 0.0);
    pairs.map(|(r, want)| r.minimum_norm.unwrap_or(f64::INFINITY) / want).collect()
}

/// Distances of a configuration's examples in a norm.
fn distances(folder: &Folder, config: &Config<'_>, norm: Norm) -> Result<Vec<f64>, String> {
    let column = match norm {
        Norm::Linf => 0,
        Norm::L2 => 1,
        Norm::L1 => 2,
    };
    let all = folder.archive(&config.file)?.get(&format!("{}.norms_linf_l2_l1", config.name))?;
    all.rows()
        .map(|row| row.get(column).copied().ok_or_else(|| "fewer than three norms".to_owned()))
        .collect()
}

/// All distances agree to `exact`, but for a tenth whose path rounding decided: those within two hundredths.
fn agree(out: &Outcome<f64>, want: &[f64], exact: f64) -> Result<String, String> {
    let ratios = ratios(out, want);
    let near = |tolerance: f64| ratios.iter().filter(|r| (*r - 1.0).abs() < tolerance).count();
    let (n, same) = (ratios.len(), near(exact));
    if n == 0 || near(0.02) < n || same * 10 < n * 9 {
        return Err(format!("{same} of {n} distances agree to {exact:.0e}: ratios {ratios:?}"));
    }
    Ok(format!(
        "{same} of {n} distances agree to {exact:.0e}, median ratio {:.7}",
        median(ratios).unwrap_or(1.0)
    ))
}

pub(super) fn fab(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let (images, mut net) = (folder.images::<f64>()?, folder.model::<f64>("B")?);
    let (targets, first) = match config.number("target_class_rank") {
        Ok(rank) => (1, rank - 1.0),
        Err(_) => (0, 1.0),
    };
    let text = format!(
        "fab(norm={}, steps={}, alpha_max={}, eta={}, beta={}, targets={targets}, first={first})",
        config.norm()?,
        config.number("n_iter")?,
        config.number("alpha_max")?,
        config.number("eta")?,
        config.number("beta")?,
    );
    let out = find(&text, &mut net, &images.samples())?;
    agree(&out, &distances(folder, config, out.norm)?, 1e-4).map(Verdict::Passed)
}

pub(super) fn carlini(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let (images, mut net) = (folder.images::<f64>()?, folder.model::<f64>("B")?);
    let lib = config.text("lib")?;
    let text = match lib {
        "foolbox" => format!(
            "cw(search_steps={}, steps={}, step={}, confidence={}, initial_weight={}, abort_early={})",
            config.number("binary_search_steps")?,
            config.number("steps")?,
            config.number("stepsize")?,
            config.number("confidence")?,
            config.number("initial_const")?,
            config.flag("abort_early")?,
        ),
        "torchattacks" => format!(
            "cw(search_steps=1, steps={}, step={}, confidence={}, initial_weight={}, abort_early=false)",
            config.number("steps")?,
            config.number("lr")?,
            config.number("kappa")?,
            config.number("c")?,
        ),
        "ART" => "cw(search_steps=9, steps=200, step=0.05, initial_weight=0.1, abort_early=false)".to_owned(),
        other => return Err(format!("no known library `{other}`")),
    };
    let targets = config.text("target").ok().map(|name| folder.targets(name)).transpose()?;
    let mut samples = images.samples();
    if let Some(targets) = &targets {
        samples = samples.with_targets(targets);
    }
    let out = find(&text, &mut net, &samples)?;
    let want = distances(folder, config, Norm::L2)?;
    if lib == "foolbox" {
        return agree(&out, &want, 1e-4).map(Verdict::Passed);
    }
    let bug = match lib {
        "ART" => "its lower bound aliases the weight, so the binary search never narrows",
        _ => "it takes the best other logit to be 0 where all others are negative",
    };
    let ratio = median(ratios(&out, &want)).unwrap_or(f64::NAN);
    Ok(Verdict::Informational(format!("{lib}: {bug}; our median distance is {ratio:.3} of its")))
}

pub(super) fn deepfool(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let (images, mut net) = (folder.images::<f64>()?, folder.model::<f64>("B")?);
    let norm = config.norm()?;
    let text = match config.text("lib")? {
        "foolbox" => format!(
            "deepfool(norm={norm}, steps={}, overshoot={}, candidates={})",
            config.number("steps")?,
            config.number("overshoot")?,
            config.number("candidates")?,
        ),
        "ART" => format!(
            "deepfool(preset=art-default, norm={norm}, steps={}, overshoot={}, candidates={})",
            config.number("max_iter")?,
            config.number("epsilon")?,
            config.number("nb_grads")?,
        ),
        "torchattacks" => format!(
            "deepfool(preset=torchattacks-default, norm={norm}, steps={}, overshoot={})",
            config.number("steps")?,
            config.number("overshoot")?,
        ),
        other => return Err(format!("no known library `{other}`")),
    };
    let out = exhaust(&text, &mut net, &images.samples(), ANY)?;
    folder.compare(config, &mut net, &images, &out, (1e-5, 2e-3)).map(Verdict::Passed)
}

/// The projections on a hyperplane inside the unit box, in all three norms.
pub(super) fn projections(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let archive = folder.archive(&config.file)?;
    let (t, w, b) = (archive.get("proj_t")?, archive.get("proj_w")?, archive.values("proj_b")?);
    if t.shape != w.shape || t.shape.first() != Some(&b.len()) {
        return Err(format!("points {:?}, normals {:?} and {} offsets", t.shape, w.shape, b.len()));
    }
    let d = t.shape.iter().skip(1).product::<usize>();
    let (lo, hi) = (vec![0.0; d], vec![1.0; d]);
    let mut out = vec![0.0; d];
    let mut norms = Vec::new();
    for (name, norm) in [("proj_linf", Norm::Linf), ("proj_l2", Norm::L2), ("proj_l1", Norm::L1)] {
        let Some(want) = archive.find(name) else { continue };
        for (i, ((t, w), (b, want))) in t.rows().zip(w.rows()).zip(b.iter().zip(want.rows())).enumerate() {
            let length = to_hyperplane(norm, t, w, *b, (&lo, &hi), &mut out);
            close(&format!("length of {name} {i}"), length, norm.length(want), 1e-9)?;
            if norm != Norm::L1 {
                all_close(&format!("{name} {i}"), &out, want, 1e-9)?;
            }
            let reached: f64 = t.iter().zip(&out).zip(w).map(|((t, o), w)| (t + o) * w).sum();
            let theirs: f64 = t.iter().zip(want).zip(w).map(|((t, o), w)| (t + o) * w).sum();
            close(&format!("plane of {name} {i}"), reached, theirs, 1e-8)?;
        }
        norms.push(name);
    }
    Ok(Verdict::Passed(format!("{} of {} points", norms.join(", "), b.len())))
}
