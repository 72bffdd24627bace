//! Deterministic white-box cases, pixel by pixel in f64.

use attacks::{Classifier, Differentiable, Eot, Goal, Loss, Samples};
use serde_json::Value;

use super::nets::{ConvNet, Surrogate};
use super::npz::{Npz, configs, folder};
use super::{Images, accuracy, exhaust, share_apart};

fn number(config: &Value, key: &str) -> f64 {
    config[key].as_f64().unwrap_or_else(|| panic!("{key} in {config}"))
}

/// The samples with the targets a configuration names.
fn aimed<'a>(images: &'a Images, name: &str) -> Samples<'a, f64> {
    match name {
        n if n.contains("targeted_next") => images.samples().with_targets(&images.next),
        n if n.contains("targeted_ll") => images.samples().with_targets(&images.least_likely),
        _ => images.samples(),
    }
}

#[test]
fn losses_and_gradients() {
    let Some(folder) = folder() else { return };
    let images = Images::load(&folder);
    let mut net = ConvNet::load(&mut Npz::open(&folder, "models.npz"), "B", images.shape);
    let mut q = Npz::open(&folder, "b_model_quantities.npz");
    let (d, k, n) = (net.input_len(), net.classes(), images.y.len());
    let goal = |i: usize, targeted: bool| match targeted {
        false => Goal::Untargeted { label: images.y[i] },
        true => Goal::Targeted { label: images.y[i], target: images.next[i] },
    };
    for (loss, targeted, value, gradient, tolerance) in [
        (Loss::CrossEntropy, false, "ce64", "ce_grad64", 1e-12),
        (Loss::Dlr, false, "dlr64", "dlr_grad", 1e-5),
        (Loss::Dlr, true, "dlr_targeted64", "dlr_targeted_grad", 1e-5),
    ] {
        let (mut logits, mut grad, mut values) = (vec![0.0; n * k], vec![0.0; n * d], vec![0.0; n]);
        let mut cotangent = |z: &[f64], cot: &mut [f64]| {
            for (i, (z, cot)) in z.chunks_exact(k).zip(cot.chunks_exact_mut(k)).enumerate() {
                values[i] = loss.cotangent(z, goal(i, targeted), cot);
            }
        };
        net.logits_vjp(&images.x, &mut cotangent, &mut logits, &mut grad).unwrap();
        assert_eq!(share_apart(&logits, &q.f64("logits64"), 1e-10), 0.0);
        assert_eq!(share_apart(&values, &q.f64(value), 1e-10), 0.0, "{value}");
        let (want, _) = q.images(gradient);
        let scale = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        assert_eq!(share_apart(&grad, &want, tolerance * scale), 0.0, "{gradient}");
    }
}

#[test]
fn fgsm() {
    let Some(folder) = folder() else { return };
    let images = Images::load(&folder);
    let mut net = ConvNet::load(&mut Npz::open(&folder, "models.npz"), "B", images.shape);
    let mut npz = Npz::open(&folder, "b_fgsm.npz");
    let mut compared = 0;
    for (name, config) in configs(&folder, "b_fgsm.npz") {
        let norm = match name.split('_').nth(1) {
            Some(norm @ ("linf" | "l2" | "l1")) => norm.to_owned(),
            // ART's search for the smallest eps is another attack.
            _ => continue,
        };
        let out =
            exhaust(&format!("fgsm(norm={norm})"), &mut net, &aimed(&images, &name), number(&config, "eps"));
        let (want, _) = npz.images(&format!("{name}.adv"));
        let apart = share_apart(out.adversarial.as_ref().unwrap(), &want, 1e-6);
        assert_eq!(apart, 0.0, "{name}");
        assert!((accuracy(&out) - number(&config, "robust_acc")).abs() < 1e-9, "{name}");
        compared += 1;
    }
    println!("fgsm: {compared} configurations");
    assert!(compared > 0);
}

#[test]
fn pgd_and_mim() {
    let Some(folder) = folder() else { return };
    let images = Images::load(&folder);
    let mut net = ConvNet::load(&mut Npz::open(&folder, "models.npz"), "B", images.shape);
    let mut npz = Npz::open(&folder, "b_pgd_mim.npz");
    for (name, config) in configs(&folder, "b_pgd_mim.npz") {
        let (alpha, steps) = (number(&config, "alpha"), number(&config, "steps"));
        let norm = name.split('_').nth(1).unwrap();
        let attack = match config["decay"].as_f64() {
            Some(decay) => {
                format!("mim(norm={norm}, steps={steps}, step=abs {alpha}, decay={decay}, keep=last)")
            }
            None => format!(
                "pgd(norm={norm}, steps={steps}, step=abs {alpha}, start=clean, restarts=1, keep=last)"
            ),
        };
        let out = exhaust(&attack, &mut net, &aimed(&images, &name), number(&config, "eps"));
        let (want, _) = npz.images(&format!("{name}.adv"));
        let apart = share_apart(out.adversarial.as_ref().unwrap(), &want, 1e-5);
        println!("{name}: {apart:.5} of the coordinates apart");
        // A coordinate of exactly zero gradient (ReLU kinks, ties) may go either way.
        assert!(apart < 2e-3, "{name}: {apart}");
        assert!((accuracy(&out) - number(&config, "robust_acc")).abs() < 1e-9, "{name}");
    }
}

#[test]
fn apgd() {
    let Some(folder) = folder() else { return };
    let images = Images::load(&folder);
    let mut net = ConvNet::load(&mut Npz::open(&folder, "models.npz"), "B", images.shape);
    let mut npz = Npz::open(&folder, "b_apgd.npz");
    for (name, config) in configs(&folder, "b_apgd.npz") {
        let (steps, norm) = (number(&config, "n_iter"), config["norm"].as_str().unwrap().to_lowercase());
        let loss = config["loss"].as_str().unwrap();
        let attack = format!(
            "apgd(preset=auto-attack, start=clean, norm={norm}, steps={steps}, loss={})",
            loss.trim_end_matches("-targeted")
        );
        let samples = if loss.ends_with("-targeted") {
            images.samples().with_targets(&images.next)
        } else {
            images.samples()
        };
        let out = exhaust(&attack, &mut net, &samples, number(&config, "eps"));
        let (losses, acc) = (npz.f64(&format!("{name}.loss_best64")), npz.f64(&format!("{name}.acc")));
        let (best, _) = npz.images(&format!("{name}.x_best"));
        let d = net.input_len();
        // An untargeted run keeps the best adversarial iterate, the library the best of all: they agree where the best
        // of all is adversarial, and wherever nothing was.
        let mut same = 0;
        for (i, record) in out.records.iter().enumerate() {
            assert!(record.best_loss.unwrap() <= losses[i] + 1e-6, "{name} {i}");
            let adv = &out.adversarial.as_ref().unwrap()[i * d..(i + 1) * d];
            let close = share_apart(adv, &best[i * d..(i + 1) * d], 1e-5) < 2e-3;
            same += usize::from(close && (record.best_loss.unwrap() - losses[i]).abs() < 1e-6);
        }
        println!("{name}: {same} of {} best points agree", acc.len());
        assert!(same * 10 >= acc.len() * 9, "{name}: {same}");
        if samples.targets.is_none() {
            let broken: Vec<f64> =
                out.records.iter().map(|r| f64::from(u8::from(r.adversarial_correct))).collect();
            assert_eq!(broken, acc, "{name}");
        }
    }
}

#[test]
fn quantized_models_with_true_and_straight_through_gradients() {
    let Some(folder) = folder() else { return };
    let images = Images::load(&folder);
    let mut models = Npz::open(&folder, "models.npz");
    let mut npz = Npz::open(&folder, "b_bpda_ternary_eot.npz");
    for (name, config) in configs(&folder, "b_bpda_ternary_eot.npz") {
        let ternary = name.starts_with("ternary");
        let mut net = ConvNet::load(&mut models, if ternary { "T" } else { "B" }, images.shape);
        net.input_levels = (!ternary).then_some(7.0);
        if name.ends_with("_zero") {
            net.surrogate = Surrogate::Zero;
        }
        let attack = format!(
            "pgd(steps={}, step=abs {}, start=clean, restarts=1, keep=last)",
            number(&config, "steps"),
            number(&config, "alpha")
        );
        let out = exhaust(&attack, &mut net, &images.samples(), number(&config, "eps"));
        let unchanged =
            out.records.iter().filter(|r| r.norm == 0.0).count() as f64 / out.records.len() as f64;
        assert_eq!(unchanged, number(&config, "unchanged_images"), "{name}");
        assert!((accuracy(&out) - number(&config, "robust_acc")).abs() < 1e-9, "{name}");
        if name.ends_with("_ste") {
            let (want, _) = npz.images(&format!("{name}.adv"));
            let apart = share_apart(out.adversarial.as_ref().unwrap(), &want, 1e-5);
            println!("{name}: {apart:.5} of the coordinates apart");
            assert!(apart < 5e-3, "{name}: {apart}");
        }
    }
}

#[test]
fn expectation_over_transformations() {
    let Some(folder) = folder() else { return };
    let images = Images::load(&folder);
    let mut npz = Npz::open(&folder, "b_bpda_ternary_eot.npz");
    let (noise, _) = npz.images("eot_noise");
    let mut net = ConvNet::load(&mut Npz::open(&folder, "models.npz"), "B", images.shape);
    net.noises = noise.chunks_exact(net.input_len()).map(<[f64]>::to_vec).collect();
    let mut eot = Eot::new(net.clone(), net.noises.len());
    let (step, eps) = (2.0 / 255.0, 8.0 / 255.0);
    let attack = format!("pgd(steps=10, step=abs {step}, start=clean, restarts=1, keep=last)");
    let out = exhaust(&attack, &mut eot, &images.samples(), eps);
    let (want, _) = npz.images("eot_pgd_linf_8_2_10.adv");
    let apart = share_apart(out.adversarial.as_ref().unwrap(), &want, 1e-5);
    assert!(apart < 2e-3, "{apart}");
}
