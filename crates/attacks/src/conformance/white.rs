//! Deterministic white-box cases: FGSM, PGD, MIM and APGD, pixel by pixel in f64.

use qtensor::conformance::Verdict;

use super::folder::{Config, Folder, close, exhaust};
use crate::error::ModelError;
use crate::loss::{Goal, Loss, argmax};
use crate::model::{Classifier, Differentiable};
use crate::run::Samples;

/// Pixels agree to rounding (references are stored in f32), but for coordinates of exactly zero gradient (ties and
/// kinks), which rounding sends either way.
const ONE_STEP: (f64, f64) = (1e-6, 2e-3);
/// The same after many steps, which amplify rounding.
const PIXELS: (f64, f64) = (1e-5, 2e-3);

pub(super) fn fgsm(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    attack(folder, config, &format!("fgsm(norm={})", config.norm()?), config.number("eps")?, ONE_STEP)
}

/// ART's search for the smallest eps along the first gradient.
pub(super) fn minimal(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let step = config.number("eps_step")?;
    attack(
        folder,
        config,
        &format!("fgsm(preset=art-minimal, search={step})"),
        config.number("eps_max")?,
        ONE_STEP,
    )
}

pub(super) fn iterated(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let (norm, alpha, steps) = (config.norm()?, config.number("alpha")?, config.number("steps")?);
    let text = match config.number("decay") {
        Ok(decay) => format!("mim(norm={norm}, steps={steps}, step=abs {alpha}, decay={decay}, keep=last)"),
        Err(_) => format!("bim(norm={norm}, steps={steps}, step=abs {alpha}, keep=last)"),
    };
    attack(folder, config, &text, config.number("eps")?, PIXELS)
}

fn attack(
    folder: &Folder,
    config: &Config<'_>,
    text: &str,
    eps: f64,
    pixels: (f64, f64),
) -> Result<Verdict, String> {
    let (images, mut net) = (folder.images()?, folder.model("B")?);
    let targets = config.text("target").ok().map(|name| folder.targets(name)).transpose()?;
    let mut samples = images.samples();
    if let Some(targets) = &targets {
        samples = samples.with_targets(targets);
    }
    let out = exhaust(text, &mut net, &samples, eps)?;
    folder.compare(config, &mut net, &images, &out, pixels).map(Verdict::Passed)
}

/// What a model was asked, and what it answered.
struct Recorder<M> {
    model: M,
    points: Vec<Vec<f64>>,
    answers: Vec<Vec<f64>>,
}

impl<M: Classifier<f64>> Classifier<f64> for Recorder<M> {
    fn input_len(&self) -> usize {
        self.model.input_len()
    }
    fn classes(&self) -> usize {
        self.model.classes()
    }
    fn input_shape(&self) -> [usize; 3] {
        self.model.input_shape()
    }
    fn logits(&mut self, x: &[f64], out: &mut [f64]) -> Result<(), ModelError> {
        self.model.logits(x, out)?;
        self.points.push(x.to_vec());
        self.answers.push(out.to_vec());
        Ok(())
    }
}

impl<M: Differentiable<f64>> Differentiable<f64> for Recorder<M> {
    fn logits_vjp(
        &mut self,
        x: &[f64],
        cotangent: &mut dyn FnMut(&[f64], &mut [f64]),
        logits: &mut [f64],
        grad: &mut [f64],
    ) -> Result<(), ModelError> {
        self.model.logits_vjp(x, cotangent, logits, grad)?;
        self.points.push(x.to_vec());
        self.answers.push(logits.to_vec());
        Ok(())
    }
}

/// auto-attack's bookkeeping is read off the points our APGD visits: the best of all iterates, the last misclassified one,
/// and whether any was.
pub(super) fn apgd(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let images = folder.images::<f64>()?;
    let loss_name = config.text("loss")?;
    let text = format!(
        "apgd(preset=auto-attack, start=clean, norm={}, steps={}, loss={})",
        config.norm()?,
        config.number("n_iter")?,
        loss_name.trim_end_matches("-targeted")
    );
    let loss = if loss_name == "ce" { Loss::CrossEntropy } else { Loss::Dlr };
    let targets = if loss_name.ends_with("-targeted") { Some(folder.targets("target_next")?) } else { None };
    let goal = |i: usize| match &targets {
        None => Goal::Untargeted { label: images.y[i] },
        Some(targets) => Goal::Targeted { label: images.y[i], target: targets[i] },
    };
    let samples: Samples<'_, f64> = match &targets {
        None => images.samples(),
        Some(targets) => images.samples().with_targets(targets),
    };
    let mut net = Recorder { model: folder.model::<f64>("B")?, points: Vec::new(), answers: Vec::new() };
    exhaust(&text, &mut net, &samples, config.number("eps")?)?;
    let archive = folder.archive(&config.file)?;
    let get = |part: &str| archive.get(&format!("{}.{part}", config.name));
    let (d, k, n) = (net.input_len(), net.classes(), images.y.len());
    let (best, adv) = (get("x_best")?.images()?, get("adv")?.images()?);
    let (losses, standing) = (&get("loss_best64")?.data, &get("acc")?.data);
    let trace = get("logits_trace_first4")?;
    // The first answer is to the clean samples, the last one to the returned examples: neither is an iterate.
    let iterates = net.points.len() - 1;
    let mut chaotic = Vec::new();
    let mut worst = 0.0f64;
    for i in 0..n {
        let (row, class) = (i * d..(i + 1) * d, i * k..(i + 1) * k);
        let (mut top, mut at, mut last) = (f64::NEG_INFINITY, 1, None);
        for t in 1..iterates {
            let z = &net.answers[t][class.clone()];
            let value = loss.value(z, goal(i));
            if value > top {
                (top, at) = (value, t);
            }
            if argmax(z) != images.y[i] {
                last = Some(t);
            }
        }
        if f64::from(u8::from(last.is_none())) != standing[i] {
            return Err(format!("image {i} is {}broken", if last.is_none() { "not " } else { "" }));
        }
        let same_best = share_apart(&net.points[at][row.clone()], &best[row.clone()]) < PIXELS.1;
        let kept = &net.points[last.unwrap_or(1)][row.clone()];
        let same_kept = share_apart(kept, &adv[row]) < PIXELS.1;
        let same_loss = close("loss", top, losses[i], 1e-6).is_ok();
        if same_loss {
            worst = worst.max((top - losses[i]).abs());
        }
        if !(same_best && same_kept && same_loss) {
            // Beyond the boundary the DLR loss divides by a difference that vanishes there: rounding decides.
            if loss == Loss::Dlr && targets.is_none() && last.is_some() {
                chaotic.push(i);
                continue;
            }
            return Err(format!("image {i}: loss {top}, expected {}, or other pixels", losses[i]));
        }
        for (t, want) in trace.rows().enumerate().filter(|_| i < trace.shape.get(1).copied().unwrap_or(0)) {
            let (Some(got), Some(want)) = (net.answers.get(t + 1), want.get(class.clone())) else { continue };
            for (got, want) in got[class.clone()].iter().zip(want) {
                close(&format!("logit of image {i} at iterate {t}"), *got, *want, 1e-4)?;
            }
        }
    }
    let correct = standing.iter().filter(|s| **s > 0.0).count() as f64 / n as f64;
    close("robust accuracy", correct, config.number("robust_acc")?, 1e-6)?;
    if chaotic.len() * 5 > n {
        return Err(format!("images {chaotic:?} end elsewhere"));
    }
    let mut account = format!(
        "{} of {n} best points agree, losses to {worst:.0e}, who breaks agrees for all",
        n - chaotic.len()
    );
    if !chaotic.is_empty() {
        account += &format!(
            "; broken images {chaotic:?} end elsewhere (DLR is ill-conditioned beyond the boundary)"
        );
    }
    Ok(Verdict::Passed(account))
}

fn share_apart(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| (*a - *b).abs() > 1e-5).count() as f64 / a.len() as f64
}
