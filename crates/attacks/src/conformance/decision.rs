//! Black-box minimum-norm attacks: distances against the libraries' over their seeds, image by image.

use qtensor::conformance::Verdict;

use super::folder::{Config, Folder, once};
use crate::model::Access;
use crate::run::{Options, Samples};
use crate::spec::Attack;
use crate::stats::median;

/// Standard errors that the mean logarithm of two distances may be apart, and what is always allowed.
const DEVIATIONS: f64 = 3.5;
const FLOOR: f64 = 0.05;

/// Logarithms of distances, `[seed][image]`.
type Logs = Vec<Vec<f64>>;

/// Runs an attack with as many seeds as the library, on the images that its distances are about.
fn ours(folder: &Folder, config: &Config<'_>, text: &str, count: usize) -> Result<(Logs, f64), String> {
    let (images, mut net) = (folder.images::<f32>()?, folder.model::<f32>("B")?);
    let places: Vec<usize> = match folder.archive(&config.file)?.find("decision_idx") {
        Some(places) => places.data.iter().map(|p| *p as usize).collect(),
        None => (0..images.y.len()).collect(),
    };
    // Shorter lists are about the first of the same images.
    let places =
        places.get(..count).ok_or_else(|| format!("distances of {count} images, {} named", places.len()))?;
    let d = images.shape.iter().product::<usize>();
    if places.iter().any(|p| *p >= images.y.len()) {
        return Err("decision_idx names an image that is not there".to_owned());
    }
    let x: Vec<f32> = places.iter().flat_map(|&i| &images.x[i * d..(i + 1) * d]).copied().collect();
    let y: Vec<u8> = places.iter().map(|&i| images.y[i]).collect();
    let ids: Vec<u32> = places.iter().map(|&i| i as u32).collect();
    let attack: Attack = text.parse().map_err(|e: crate::ParseError| e.to_string())?;
    let (mut logs, mut queries) = (Vec::new(), Vec::new());
    for seed in 0..config.number("seeds")? as u64 {
        let samples = Samples::new(&x, &y, &ids);
        let out = once(&attack, Access::Black(&mut net), &samples, 1e6, seed, &mut Options::default())?;
        let log =
            |r: &crate::Record| r.minimum_norm.map(f64::ln).ok_or_else(|| format!("image {} stands", r.id));
        logs.push(out.records.iter().map(log).collect::<Result<_, _>>()?);
        queries.extend(out.records.iter().map(|r| r.queries as f64));
    }
    Ok((logs, queries.iter().sum::<f64>() / queries.len().max(1) as f64))
}

fn theirs(folder: &Folder, config: &Config<'_>) -> Result<Logs, String> {
    let all = folder.archive(&config.file)?.get(&format!("{}.dist", config.name))?;
    Ok(all.rows().map(|row| row.iter().map(|v| v.ln()).collect()).collect())
}

/// Mean over the seeds of one image, and their variance.
fn moments(logs: &Logs, image: usize) -> (f64, f64) {
    let n = logs.len() as f64;
    let mean = logs.iter().map(|run| run[image]).sum::<f64>() / n;
    let squares: f64 = logs.iter().map(|run| (run[image] - mean).powi(2)).sum();
    (mean, squares / (n - 1.0).max(1.0))
}

/// The mean over images of the logarithm of our distance to theirs, with its standard error from the spread over seeds.
fn compare(ours: &Logs, theirs: &Logs) -> Result<(bool, String), String> {
    let images = theirs.first().map_or(0, Vec::len);
    if images == 0 || theirs.len() < 2 || ours.iter().chain(theirs).any(|run| run.len() != images) {
        return Err("fewer than two seeds, or runs of different lengths".to_owned());
    }
    let (mut difference, mut variance) = (0.0, 0.0);
    for image in 0..images {
        let ((a, va), (b, vb)) = (moments(ours, image), moments(theirs, image));
        difference += (a - b) / images as f64;
        variance += (va / ours.len() as f64 + vb / theirs.len() as f64) / (images * images) as f64;
    }
    let error = variance.sqrt();
    let all = |logs: &Logs| median(logs.iter().flatten().map(|v| v.exp())).unwrap_or(f64::NAN);
    let account = format!(
        "distances {:.3} of the library's (standard error {:.3}), medians {:.4} and {:.4}",
        difference.exp(),
        error,
        all(ours),
        all(theirs),
    );
    Ok((difference.abs() <= DEVIATIONS * error + FLOOR, account))
}

fn judge(folder: &Folder, config: &Config<'_>, text: &str, bug: Option<&str>) -> Result<Verdict, String> {
    let theirs = theirs(folder, config)?;
    let (ours, queries) = ours(folder, config, text, theirs.first().map_or(0, Vec::len))?;
    let (same, account) = compare(&ours, &theirs)?;
    let account = format!("{account}, {queries:.0} queries per image");
    match bug {
        Some(bug) => Ok(Verdict::Informational(format!("{bug}; {account}"))),
        None if same => Ok(Verdict::Passed(account)),
        None => Err(account),
    }
}

/// The number after `key` in the name (`art_hsj_l2_it10`).
fn count(config: &Config<'_>, key: &str) -> Result<usize, String> {
    let word = config.name.split('_').find_map(|word| word.strip_prefix(key)?.parse().ok());
    word.ok_or_else(|| format!("the name does not tell `{key}`"))
}

pub(super) fn hop_skip_jump(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let preset = if config.name.starts_with("art_") { "art-default" } else { "foolbox-default" };
    let (norm, iterations) = (config.norm()?, count(config, "it")?);
    let text = format!("hopskipjump(preset={preset}, norm={norm}, iterations={iterations})");
    let bug = config.name.ends_with("_batchN");
    judge(
        folder,
        config,
        &text,
        bug.then_some("foolbox: a batch shares one norm of the gradient, so its steps shrink"),
    )
}

pub(super) fn boundary(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let text = if config.name.starts_with("art_") {
        format!("boundary(preset=art-default, steps={})", count(config, "it")?)
    } else {
        format!("boundary(preset=foolbox-default, steps={})", count(config, "steps")?)
    };
    judge(folder, config, &text, None)
}

pub(super) fn zoo(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let number = |key: &str| config.number(key);
    if config.name.starts_with("art_") {
        let text = format!(
            "zoo(search_steps={}, steps={}, step={}, coordinates={}, h={}, initial_weight={}, abort_early=false)",
            number("binary_search_steps")?,
            number("max_iter")?,
            number("learning_rate")?,
            number("nb_parallel")?,
            number("variable_h")?,
            number("initial_const")?,
        );
        let bug =
            "ART: perturbations accumulate twice and can only brighten, and the box is left until the end";
        return judge(folder, config, &text, Some(bug));
    }
    let text = format!(
        "zoo(search_steps=1, steps={}, step={}, coordinates={}, h={}, initial_weight={}, abort_early=false)",
        number("iters")?,
        number("lr")?,
        number("coords_per_iter")?,
        number("h")?,
        number("c")?,
    );
    judge(folder, config, &text, None)
}
