//! Checks of values that types cannot express; each failure names its key.
use datasets::Task;
use qnn::zoo::NAMES;

use super::Recipe;

/// A key's dotted path and what is wrong with its value.
pub(super) type Fault = (String, String);

pub(super) fn validate(recipe: &Recipe) -> Result<(), Fault> {
    for (key, text) in [("name", &recipe.name), ("study", &recipe.study)] {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        require(key, !text.is_empty() && text.chars().all(plain), || {
            format!("`{text}` may hold only lower-case letters, digits and underscores")
        })?;
    }
    require("seeds", !recipe.seeds.is_empty(), || "at least one seed is needed".into())?;
    distinct("seeds", &recipe.seeds)?;
    distinct("dataset.folds", &recipe.dataset.folds)?;
    positive("dataset.train_samples", recipe.dataset.train_samples)?;
    positive("evaluate.samples", recipe.evaluate.samples)?;
    positive("evaluate.attack_samples", recipe.evaluate.attack_samples)?;
    positive("evaluate.audit_samples", recipe.evaluate.audit_samples)?;
    positive("evaluate.audit_steps", recipe.evaluate.audit_steps)?;
    positive("evaluate.audit_queries", recipe.evaluate.audit_queries)?;
    positive("dataset.validation_samples", recipe.dataset.validation_samples)?;
    data(recipe)?;
    network(recipe)?;
    schedule(recipe)?;
    jacobian(recipe)?;
    adversarial(recipe)?;
    attacks(recipe)
}

fn data(recipe: &Recipe) -> Result<(), Fault> {
    let folded = matches!(recipe.dataset.task, Task::SpeechCommands5Fold { .. });
    let folds = &recipe.dataset.folds;
    require("dataset.folds", folded || folds.is_empty(), || format!("{} has no folds", recipe.dataset.task))?;
    require("dataset.folds", folds.iter().all(|fold| *fold < 5), || "there are folds 0 to 4".into())
}

fn network(recipe: &Recipe) -> Result<(), Fault> {
    let name = recipe.network.name.as_str();
    require("network.name", NAMES.contains(&name), || {
        format!("no network `{name}`; there are {}", NAMES.join(", "))
    })?;
    if let Some(part) = &recipe.network.sensitivity {
        let key = |name: &str| format!("network.sensitivity.{name}");
        require("network.name", name.starts_with("stq_image"), || {
            "sensitivity is for stq_image_s and stq_image_l".into()
        })?;
        require(&key("epochs"), part.epochs > 0, || "must be at least 1".into())?;
        require(&key("samples"), part.samples >= 64, || "must be at least 64".into())?;
        require(
            &key("max_bits"),
            2 <= part.min_bits && part.min_bits <= part.max_bits && part.max_bits <= 8,
            || "bits must satisfy 2 <= min_bits <= max_bits <= 8".into(),
        )?;
    }
    recipe.network.layer_quantizers()?;
    require(
        "network.layers",
        recipe.network.layers.is_empty() || recipe.network.sensitivity.is_none(),
        || "not together with network.sensitivity, which chooses every layer's bits".into(),
    )?;
    for (key, given) in [
        ("network.biases", recipe.network.biases.is_some()),
        ("network.batch_norms", recipe.network.batch_norms.is_some()),
        ("network.dilations", !recipe.network.dilations.is_empty()),
        ("network.multipliers", !recipe.network.multipliers.is_empty()),
    ] {
        require(key, !given || recipe.network.sensitivity.is_none(), || {
            "not together with network.sensitivity, which builds a network of its own".into()
        })?;
    }
    recipe.network.quantizers().map(drop).map_err(|(key, message)| (key.to_owned(), message))
}

fn schedule(recipe: &Recipe) -> Result<(), Fault> {
    let schedule = &recipe.schedule;
    require("schedule.epochs", schedule.epochs > 0, || "must be at least 1".into())?;
    require("schedule.batch", schedule.batch > 0, || "must be at least 1".into())?;
    require("schedule.lr", schedule.lr > 0.0 && schedule.lr.is_finite(), || "must be above 0".into())?;
    let smoothing = schedule.label_smoothing;
    require("schedule.label_smoothing", (0.0..1.0).contains(&smoothing), || "must be in [0, 1)".into())?;
    let ema = schedule.ema.unwrap_or(0.0);
    require("schedule.ema", (0.0..1.0).contains(&ema), || "must be in [0, 1)".into())?;
    let clip = schedule.clip_norm.unwrap_or(1.0);
    require("schedule.clip_norm", clip > 0.0 && clip.is_finite(), || "must be above 0".into())
}

fn jacobian(recipe: &Recipe) -> Result<(), Fault> {
    let every = recipe.penalty_every().next();
    for (i, term) in recipe.jacobian.iter().enumerate() {
        let key = |name: &str| format!("jacobian[{i}].{name}");
        let sound = term.lambda.values().into_iter().all(|l| l >= 0.0 && l.is_finite());
        require(&key("lambda"), sound, || "must be at least 0".into())?;
        require(&key("every"), term.every > 0 && Some(term.every) == every, || {
            "must be at least 1 and the same for all penalties".into()
        })?;
        require(&key("of"), !term.of.is_empty(), || "must be `logits`, `each` or a layer's name".into())?;
        require(&key("wrt"), !term.wrt.is_empty(), || {
            "must be `input`, `each`, `previous` or a layer's name".into()
        })?;
    }
    for (i, term) in recipe.curvature.iter().enumerate() {
        let key = |name: &str| format!("curvature[{i}].{name}");
        let lambda = term.lambda;
        require(&key("lambda"), lambda >= 0.0 && lambda.is_finite(), || "must be at least 0".into())?;
        require(&key("step"), term.step > 0.0 && term.step.is_finite(), || "must be above 0".into())?;
        require(&key("every"), term.every > 0 && Some(term.every) == every, || {
            "must be at least 1 and the same for all penalties".into()
        })?;
    }
    Ok(())
}

fn adversarial(recipe: &Recipe) -> Result<(), Fault> {
    let Some(part) = &recipe.adversarial else { return Ok(()) };
    part.settings().adversary().map(drop).map_err(|e| ("adversarial".to_owned(), e.to_string()))
}

fn attacks(recipe: &Recipe) -> Result<(), Fault> {
    for (i, part) in recipe.attacks.iter().enumerate() {
        let key = |name: &str| format!("attacks[{i}].{name}");
        require(&key("eps"), !part.eps.is_empty(), || "at least one perturbation size is needed".into())?;
        if let Some(headline) = &part.headline {
            require(&key("headline"), part.eps.contains(headline), || {
                format!("`{headline}` is not among the attack's eps")
            })?;
        }
        positive(&key("samples"), part.samples)?;
        let twin = recipe.attacks[..i].iter().any(|other| other.attack == part.attack);
        require(&key("attack"), !twin, || format!("`{}` is listed twice; join their eps", part.attack))?;
    }
    Ok(())
}

fn require(key: &str, holds: bool, message: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err((key.to_owned(), message())) }
}

fn positive(key: &str, count: Option<usize>) -> Result<(), Fault> {
    require(key, count != Some(0), || "must be at least 1; leave it out for everything".into())
}

fn distinct<T: PartialEq>(key: &str, values: &[T]) -> Result<(), Fault> {
    let repeated = values.iter().enumerate().any(|(i, value)| values[..i].contains(value));
    require(key, !repeated, || "must not repeat a value".into())
}
