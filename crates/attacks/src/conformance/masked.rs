//! The panel of deliberately masked models: the audit catches all of them and passes the honest ones, and plain attacks
//! measure what the libraries measured.

use qtensor::conformance::Verdict;
use serde_json::Value;

use super::folder::{Config, Folder, Images, once};
use super::net::{ConvNet, Surrogate};
use crate::audit::{self, AuditOptions, Check, audit};
use crate::geometry::InputBox;
use crate::model::Access;
use crate::run::Options;
use crate::spec::Attack;

/// The models of a panel.
pub(super) fn models(config: &Config<'_>) -> Vec<String> {
    config.fields.and_then(Value::as_object).map(|f| f.keys().cloned().collect()).unwrap_or_default()
}

/// A model of the panel by its name, and whether its gradients, losses or outputs mislead.
fn build(folder: &Folder, images: &Images<f32>, name: &str) -> Result<(ConvNet<f32>, bool), String> {
    let number = |text: &str| text.parse::<f64>().map_err(|_| format!("`{name}` holds no number"));
    let mut net = folder.model::<f32>(if name.starts_with("ternary") { "T" } else { "B" })?;
    let mut masked = true;
    match name {
        "plain" | "ternary_ste" => masked = false,
        "ternary_truegrad" => net.surrogate = Surrogate::Zero,
        "softmax_output" => net.softmax = true,
        _ => {
            if let Some(scale) = name.strip_prefix("logits_x") {
                net.scale = number(scale)?;
            } else if let Some((levels, gradient)) =
                name.strip_prefix("input_quant").and_then(|rest| rest.split_once('_'))
            {
                net.input_levels = Some(number(levels)?);
                masked = gradient == "truegrad";
                net.surrogate = if masked { Surrogate::Zero } else { Surrogate::StraightThrough };
            } else if let Some(sigma) = name.strip_prefix("noisy_sigma") {
                let (sigma, d) = (number(sigma)?, images.shape.iter().product::<usize>());
                // A sum of uniforms near enough to a normal draw, another for each of many passes.
                let draw = |pass: usize, i: usize| {
                    use rand::Rng;
                    let key = [pass as u64, i as u64];
                    let mut rng = qtensor::stream::stream(0, qtensor::stream::Purpose::Attack, &key);
                    (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0
                };
                net.noises =
                    (0..16).map(|p| (0..d).map(|i| sigma * f64::from(draw(p, i))).collect()).collect();
            } else {
                return Err(format!("no known model `{name}`"));
            }
        }
    }
    Ok((net, masked))
}

pub(super) fn judge(folder: &Folder, config: &Config<'_>) -> Result<Verdict, String> {
    let (panel, name) = config.name.split_once('.').ok_or("no model named")?;
    let entry = config.field(name).ok_or_else(|| format!("no entry `{name}`"))?;
    let eps255: f64 = panel
        .rsplit_once("eps")
        .and_then(|(_, n)| n.parse().ok())
        .ok_or("the panel's name does not tell its eps in 255ths")?;
    let images = folder.images::<f32>()?;
    let (mut net, masked) = build(folder, &images, name)?;
    measure(&mut net, &images, entry, eps255, name)?;
    let options =
        AuditOptions { eps: (eps255 / 255.0) as f32, queries: 400, draws: 20, ..AuditOptions::default() };
    let (access, unit) = (Access::White(&mut net), InputBox::unit());
    let report = audit(access, None, &images.samples(), &unit, &[], &options).map_err(|e| e.to_string())?;
    let failed: Vec<String> = report.failures().map(|f| format!("{} {:.3}", f.check, f.number)).collect();
    let account = format!("{:?}, robust {:.3}, findings {failed:?}", report.verdict, report.robust.value);
    let flagged = |check: Check| report.failures().any(|f| f.check == check);
    for (flag, check) in
        [("flag_randomized", Check::Randomness), ("flag_softmax_output", Check::Probabilities)]
    {
        if entry.get(flag).and_then(Value::as_bool).is_some_and(|flag| flag != flagged(check)) {
            return Err(format!("{check} disagrees with {flag}; {account}"));
        }
    }
    let dead = entry.get("frac_images_zero_ce_grad").and_then(Value::as_f64).unwrap_or(0.0);
    if (dead > 0.5) != (flagged(Check::ZeroGradient) || flagged(Check::Saturation)) {
        return Err(format!("images without gradient: {dead}; {account}"));
    }
    let want = if masked { audit::Verdict::Masked } else { audit::Verdict::Sound };
    if report.verdict == want { Ok(Verdict::Passed(account)) } else { Err(account) }
}

/// Seeds of our random attacks: the libraries' single run must lie among ours.
const SEEDS: u64 = 4;

/// Accuracies under single attacks as in the panel. Attacks on the clean loss are left to the gradients' own cases; here
/// those count that need no exact pixel: one step, losses that do not saturate, random search and noise.
fn measure(
    net: &mut ConvNet<f32>,
    images: &Images<f32>,
    entry: &Value,
    eps255: f64,
    name: &str,
) -> Result<(), String> {
    // One sample beyond our seeds for rounding, a tenth for a random search or a random model.
    let n = images.y.len() as f64;
    let loose = (n / 10.0).ceil();
    let slack = |usual: f64| if name.starts_with("noisy") { loose } else { usual };
    let cases = [
        ("fgsm_", "fgsm", slack(1.0)),
        ("apgd_dlr_", "apgd(preset=auto-attack, steps=50, loss=dlr)", slack(1.0)),
        ("square_", "square(preset=auto-attack, queries=1000)", loose),
        ("random_noise_", "noise(draws=200)", slack(1.0)),
    ];
    for (key, text, slack) in cases {
        let fields = entry.as_object().into_iter().flatten();
        let Some(want) = fields.filter(|(k, _)| k.starts_with(key)).find_map(|(_, v)| v.as_f64()) else {
            continue;
        };
        let attack: Attack = text.parse().map_err(|e: crate::ParseError| e.to_string())?;
        let (mut low, mut high) = (1.0f64, 0.0f64);
        for seed in 0..if text == "fgsm" { 1 } else { SEEDS } {
            let options = &mut Options::default();
            let out = once(&attack, Access::White(net), &images.samples(), eps255 / 255.0, seed, options)?;
            let got = out.robust_accuracy().value;
            (low, high) = (low.min(got), high.max(got));
        }
        let slack = slack / n + 1e-6;
        if want < low - slack || want > high + slack {
            return Err(format!("{text}: robust accuracy {low:.4} to {high:.4}, expected {want:.4}"));
        }
    }
    Ok(())
}
