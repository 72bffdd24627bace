//! Losses and gradients at the clean images, and attacks through surrogate and averaged gradients.

use qtensor::conformance::Verdict;

use super::folder::{Config, Folder, Images, all_close, close, exhaust};
use super::net::{ConvNet, Surrogate};
use crate::loss::{Goal, Loss};
use crate::model::{Classifier, Differentiable};
use crate::wrap::Eot;

/// References in f32 agree to their rounding, those in f64 to ours.
const SINGLE: f64 = 1e-5;
const DOUBLE: f64 = 1e-10;

/// What a model says of the clean images.
struct Quantities {
    logits: Vec<f64>,
    losses: Vec<f64>,
    grad: Vec<f64>,
}

/// Values and input gradients of a loss at the clean images; the targets make it a targeted one.
fn gradient(
    net: &mut dyn Differentiable<f64>,
    images: &Images<f64>,
    loss: Loss,
    targets: Option<&[u8]>,
) -> Result<Quantities, String> {
    let (n, k) = (images.y.len(), net.classes());
    let (mut logits, mut grad, mut values) = (vec![0.0; n * k], vec![0.0; images.x.len()], vec![0.0; n]);
    let mut cotangent = |z: &[f64], cot: &mut [f64]| {
        for (i, (z, cot)) in z.chunks_exact(k).zip(cot.chunks_exact_mut(k)).enumerate() {
            let label = images.y[i];
            let goal = targets.map_or(Goal::Untargeted { label }, |t| Goal::Targeted { label, target: t[i] });
            values[i] = loss.cotangent(z, goal, cot);
        }
    };
    net.logits_vjp(&images.x, &mut cotangent, &mut logits, &mut grad).map_err(|e| e.to_string())?;
    Ok(Quantities { logits, losses: values, grad })
}

pub(super) fn losses(folder: &Folder, _: &Config<'_>) -> Result<Verdict, String> {
    let (images, mut net, next) = (folder.images()?, folder.model("B")?, folder.targets("target_next")?);
    for (loss, targets, value, name, tolerance) in [
        (Loss::CrossEntropy, None, "ce64", "ce_grad64", DOUBLE),
        (Loss::Dlr, None, "dlr64", "dlr_grad", SINGLE),
        (Loss::Dlr, Some(&next[..]), "dlr_targeted64", "dlr_targeted_grad", SINGLE),
    ] {
        let Quantities { logits, losses, grad } = gradient(&mut net, &images, loss, targets)?;
        all_close("logits64", &logits, &folder.quantity("logits64")?.data, DOUBLE)?;
        all_close(value, &losses, &folder.quantity(value)?.data, DOUBLE)?;
        all_close(name, &grad, &folder.quantity(name)?.images()?, tolerance)?;
    }
    Ok(Verdict::Passed(format!(
        "cross-entropy, DLR and targeted DLR of {} images to {DOUBLE:.0e}",
        images.y.len()
    )))
}

pub(super) fn jacobian(folder: &Folder, _: &Config<'_>) -> Result<Verdict, String> {
    let (images, mut net) = (folder.images::<f64>()?, folder.model::<f64>("B")?);
    let want = folder.quantity("logit_jacobian_first6")?;
    let n = want.shape.first().copied().unwrap_or(0).min(images.y.len());
    let (d, k) = (net.input_len(), net.classes());
    let (mut logits, mut jac) = (vec![0.0; n * k], vec![0.0; k * n * d]);
    net.logits_jacobian(&images.x[..n * d], &mut logits, &mut jac).map_err(|e| e.to_string())?;
    // Ours is `[class, image, feature]`, the reference `[image, class, feature]`.
    let turned: Vec<f64> =
        (0..n * k).flat_map(|i| jac[(i % k * n + i / k) * d..][..d].iter().copied()).collect();
    all_close("logit_jacobian", &turned, &want.images()?, SINGLE)?;
    Ok(Verdict::Passed(format!("{k} logits of {n} images")))
}

/// The network an `inputquant7...` or `ternary...` case is about.
fn quantized_net(folder: &Folder, name: &str) -> Result<ConvNet<f64>, String> {
    if name.starts_with("ternary") {
        return folder.model("T");
    }
    let digits = name.trim_start_matches("inputquant").split(['_', '.']).next().unwrap_or_default();
    let levels = digits.parse().map_err(|_| format!("`{name}` does not name the levels of its quantizer"))?;
    let mut net = folder.model("B")?;
    net.input_levels = Some(levels);
    Ok(net)
}

/// Straight-through gradient of cross-entropy at the clean images.
pub(super) fn straight_through(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let (images, archive) = (folder.images()?, folder.archive(&config.file)?);
    let set = config.name.trim_end_matches(".ste_ce_grad");
    let Quantities { logits, grad, .. } =
        gradient(&mut quantized_net(folder, set)?, &images, Loss::CrossEntropy, None)?;
    all_close("logits64", &logits, archive.values(&format!("{set}.logits64"))?, DOUBLE)?;
    all_close("gradient", &grad, &archive.get(&config.name)?.images()?, SINGLE)?;
    Ok(Verdict::Passed(format!("logits and gradients of {} images", images.y.len())))
}

/// PGD through the quantizers with the straight-through or the true (zero) gradient.
pub(super) fn quantized(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let (images, mut net) = (folder.images()?, quantized_net(folder, &config.name)?);
    if config.name.ends_with("_zero") {
        net.surrogate = Surrogate::Zero;
    }
    let (alpha, steps) = (config.number("alpha")?, config.number("steps")?);
    let text = format!("bim(norm={}, steps={steps}, step=abs {alpha}, keep=last)", config.norm()?);
    let out = exhaust(&text, &mut net, &images.samples(), config.number("eps")?)?;
    let still = out.records.iter().filter(|r| r.norm == 0.0).count() as f64 / images.y.len() as f64;
    close("share of unchanged images", still, config.number("unchanged_images")?, 1e-6)?;
    let archive = folder.archive(&config.file)?;
    if archive.find(&format!("{}.adv", config.name)).is_some() {
        return folder.compare(config, &mut net, &images, &out, (1e-5, 5e-3)).map(Verdict::Passed);
    }
    for (i, (record, want)) in
        out.records.iter().zip(archive.values(&format!("{}.pred", config.name))?).enumerate()
    {
        if f64::from(record.prediction) != *want {
            return Err(format!("image {i} is predicted {}, expected {want}", record.prediction));
        }
    }
    let correct = out.records.iter().filter(|r| r.adversarial_correct).count() as f64 / images.y.len() as f64;
    close("robust accuracy", correct, config.number("robust_acc")?, 1e-6)?;
    Ok(Verdict::Passed(format!("no image moved, robust accuracy {correct:.4}")))
}

/// The convolutional model under the archive's fixed noises, averaged over all of them.
fn averaged(folder: &Folder, config: &Config<'_>) -> Result<Eot<ConvNet<f64>, f64>, String> {
    let mut net = folder.model::<f64>("B")?;
    let noise = folder.archive(&config.file)?.get("eot_noise")?.images()?;
    net.noises = noise.chunks_exact(net.input_len()).map(<[f64]>::to_vec).collect();
    let draws = net.noises.len();
    Ok(Eot::new(net, draws))
}

pub(super) fn expected(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let images = folder.images()?;
    let mut net = averaged(folder, config)?;
    let (n, k) = (images.y.len(), net.classes());
    let (mut logits, mut grad) = (vec![0.0; n * k], vec![0.0; images.x.len()]);
    let mut cotangent = |z: &[f64], cot: &mut [f64]| {
        for ((z, cot), label) in z.chunks_exact(k).zip(cot.chunks_exact_mut(k)).zip(&images.y) {
            Loss::CrossEntropy.cotangent(z, Goal::Untargeted { label: *label }, cot);
        }
    };
    net.logits_vjp(&images.x, &mut cotangent, &mut logits, &mut grad).map_err(|e| e.to_string())?;
    let want = folder.archive(&config.file)?.get("eot_grad_at_x")?.images()?;
    all_close("mean gradient", &grad, &want, SINGLE)?;
    Ok(Verdict::Passed(format!("mean gradient of {n} images over the fixed noises")))
}

/// `eot_pgd_linf_8_2_10`: PGD on the mean loss, eps and step in 255ths and steps in its name.
pub(super) fn expected_attack(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let images = folder.images::<f64>()?;
    let mut net = averaged(folder, config)?;
    let numbers: Vec<f64> = config.name.split('_').filter_map(|word| word.parse().ok()).collect();
    let [eps, step, steps] = numbers[..] else {
        return Err("the name does not tell eps, step and steps".into());
    };
    let text = format!("bim(norm={}, steps={steps}, step=abs {}, keep=last)", config.norm()?, step / 255.0);
    let out = exhaust(&text, &mut net, &images.samples(), eps / 255.0)?;
    let (got, want) = (
        out.adversarial.ok_or("no examples kept")?,
        folder.archive(&config.file)?.get(&format!("{}.adv", config.name))?.images()?,
    );
    let apart = got.iter().zip(&want).filter(|(a, b)| (*a - *b).abs() > 1e-5).count();
    if got.len() != want.len() || apart * 500 > got.len() {
        return Err(format!("{apart} of {} values apart", got.len()));
    }
    Ok(Verdict::Passed(format!("{apart} of {} values apart", got.len())))
}
