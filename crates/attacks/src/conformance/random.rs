//! Random attacks, judged against the spread the libraries showed over their seeds.

use qtensor::conformance::Verdict;

use super::folder::{Config, Folder, once};
use crate::loss::{Goal, Loss};
use crate::model::{Access, Classifier};
use crate::run::Options;
use crate::spec::Attack;
use crate::stats::median;

/// Our seeds against theirs.
const SEEDS: u64 = 6;
/// Standard errors that two means of the same quantity may be apart (three in a thousand would be by chance).
const DEVIATIONS: f64 = 3.0;

/// Mean of ours against the mean of theirs, whose spread over `seeds` runs is `std`.
fn same_mean(
    what: &str,
    ours: &[f64],
    mean: f64,
    std: f64,
    seeds: f64,
    floor: f64,
) -> Result<String, String> {
    let got = ours.iter().sum::<f64>() / ours.len() as f64;
    let error = (std * std * (1.0 / ours.len() as f64 + 1.0 / seeds)).sqrt();
    let account = format!("{what} {got:.3} over {} seeds, library {mean:.3} +- {std:.3}", ours.len());
    if (got - mean).abs() <= DEVIATIONS * error + floor { Ok(account) } else { Err(account) }
}

/// torchattacks' PGD with random starts; steps and radius are in the name, in 255ths for L-infinity.
pub(super) fn starts(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let (images, mut net) = (folder.images::<f64>()?, folder.model::<f64>("B")?);
    let numbers: Vec<f64> = config.name.split('_').filter_map(|word| word.parse().ok()).collect();
    let [eps, alpha, steps] = numbers[..] else {
        return Err("the name does not tell eps, step and steps".into());
    };
    let l2 = config.name.contains("pgdl2");
    let (unit, start, norm) = if l2 { (1.0, "radial", "l2") } else { (255.0, "random", "linf") };
    let text = format!(
        "pgd(norm={norm}, steps={steps}, step=abs {}, start={start}, restarts=1, keep=last)",
        alpha / unit
    );
    let attack: Attack = text.parse().map_err(|e: crate::ParseError| e.to_string())?;
    let seeds = config.number("seeds")?;
    let (n, k) = (images.y.len(), net.classes());
    let archive = folder.archive(&config.file)?;
    let (mean, std) = (
        archive.values(&format!("{}.ce_mean", config.name))?,
        archive.values(&format!("{}.ce_std", config.name))?,
    );
    let (mut accuracies, mut losses) = (Vec::new(), vec![Vec::new(); n]);
    for seed in 0..seeds as u64 {
        let mut options = Options {
            batch: n,
            early_exit: false,
            attack_misclassified: true,
            keep_adversarial: true,
            ..Options::default()
        };
        let out = once(&attack, Access::White(&mut net), &images.samples(), eps / unit, seed, &mut options)?;
        let mut logits = vec![0.0; n * k];
        net.logits(out.adversarial.as_deref().unwrap_or_default(), &mut logits).map_err(|e| e.to_string())?;
        for (i, z) in logits.chunks_exact(k).enumerate() {
            losses[i].push(Loss::CrossEntropy.value(z, Goal::Untargeted { label: images.y[i] }));
        }
        let correct = out.records.iter().filter(|r| r.adversarial_correct).count();
        accuracies.push(correct as f64 / n as f64);
    }
    // The mean over the images of each image's standardised difference: standard normal divided by the root of n.
    let mut total = 0.0;
    for (i, ours) in losses.iter().enumerate() {
        let got = ours.iter().sum::<f64>() / ours.len() as f64;
        let error = std[i] * (2.0 / seeds).sqrt() + 1e-4 * (1.0 + mean[i]);
        let z = (got - mean[i]) / error;
        if z.abs() > 6.0 {
            return Err(format!("loss of image {i} is {got:.4}, library {:.4} +- {:.4}", mean[i], std[i]));
        }
        total += z;
    }
    let drift = total / (n as f64).sqrt();
    if drift.abs() > 4.0 {
        return Err(format!("losses drift by {drift:.1} standard errors"));
    }
    let (mean, std) = (config.number("robust_acc_mean")?, config.number("robust_acc_std")?);
    let account = same_mean("robust accuracy", &accuracies, mean, std, seeds, 1.0 / n as f64 / seeds + 1e-9)?;
    Ok(Verdict::Passed(format!("{account}; losses within {drift:.1} standard errors")))
}

/// Least and greatest median queries of successful attacks over the library's seeds.
fn median_band(folder: &Folder, config: &Config<'_>) -> Result<(f64, f64), String> {
    let archive = folder.archive(&config.file)?;
    let (queries, success) = (
        archive.get(&format!("{}.queries", config.name))?,
        archive.get(&format!("{}.success", config.name))?,
    );
    let of_run = |(queries, success): (&[f64], &[f64])| {
        median(queries.iter().zip(success).filter(|(_, s)| **s > 0.0).map(|(q, _)| *q))
    };
    let medians = queries.rows().zip(success.rows()).filter_map(of_run);
    Ok(medians.fold((f64::INFINITY, 0.0), |(low, high), m| (low.min(m), high.max(m))))
}

pub(super) fn square(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let (images, mut net) = (folder.images::<f32>()?, folder.model::<f32>("B")?);
    let (norm, p_init) = (config.norm()?, config.number("p_init")?);
    let art = config.name.starts_with("art_");
    let text = if art {
        format!(
            "square(preset=art-default, norm={norm}, queries={}, p_init={p_init})",
            config.number("max_iter")?
        )
    } else {
        let (queries, rescale) = (config.number("n_queries")?, config.flag("resc_schedule")?);
        format!(
            "square(preset=auto-attack, norm={norm}, queries={queries}, p_init={p_init}, rescale={rescale})"
        )
    };
    let attack: Attack = text.parse().map_err(|e: crate::ParseError| e.to_string())?;
    let (mut accuracies, mut queries) = (Vec::new(), Vec::new());
    for seed in 0..SEEDS {
        let out = once(
            &attack,
            Access::Black(&mut net),
            &images.samples(),
            config.number("eps")?,
            seed,
            &mut Options::default(),
        )?;
        accuracies.push(out.robust_accuracy().value);
        queries.extend(out.broken().map(|r| r.queries as f64));
    }
    let n = images.y.len() as f64;
    let (mean, std) = (config.number("robust_acc_mean")?, config.number("robust_acc_std_over_seeds")?);
    // A library's windows are shared by its batch, so that its seeds spread no less than ours.
    let std = std.max((mean * (1.0 - mean) / n).sqrt() / 3.0);
    let agreement = same_mean("robust accuracy", &accuracies, mean, std, config.number("seeds")?, 0.0);
    if art && norm == "l2" {
        let bug = "ART: its L2 window is divided by the budget instead of multiplied, and so weaker";
        let (Ok(account) | Err(account)) = agreement;
        return Ok(Verdict::Informational(format!("{bug}; {account}")));
    }
    let account = agreement?;
    if art {
        return Ok(Verdict::Passed(account));
    }
    let (low, high) = median_band(folder, config)?;
    let middle = median(queries).unwrap_or(f64::NAN);
    let account = format!("{account}; median queries {middle}, library's seeds {low} to {high}");
    if (low..=high).contains(&middle) { Ok(Verdict::Passed(account)) } else { Err(account) }
}

/// The standard sequence: who is left standing, image by image. One image may differ, where a random start or square
/// decides.
pub(super) fn autoattack(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let (images, mut net) = (folder.images::<f32>()?, folder.model::<f32>("B")?);
    let attack: Attack = format!("autoattack(norm={})", config.norm()?)
        .parse()
        .map_err(|e: crate::ParseError| e.to_string())?;
    let out = once(
        &attack,
        Access::White(&mut net),
        &images.samples(),
        config.number("eps")?,
        0,
        &mut Options::default(),
    )?;
    let flags = folder.archive(&config.file)?.values(&format!("{}.robust_flag", config.name))?;
    let pairs = out.records.iter().zip(flags);
    let other: Vec<u32> = pairs.filter(|(r, flag)| r.robust() != (**flag > 0.0)).map(|(r, _)| r.id).collect();
    let (got, want) = (out.robust_accuracy().value, config.number("robust_acc")?);
    let account = format!("robust accuracy {got:.4}, library {want:.4}; images that differ: {other:?}");
    if flags.len() == images.y.len() && other.len() <= 1 {
        Ok(Verdict::Passed(account))
    } else {
        Err(account)
    }
}
