//! Checks of values that types cannot express; each failure names its key.
use super::{JacobianTerm, Recipe, ScheduleShape};

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
    schedule(recipe)?;
    recipe.jacobian.iter().enumerate().try_for_each(|(i, term)| jacobian(i, term))?;
    attacks(recipe)
}

fn schedule(recipe: &Recipe) -> Result<(), Fault> {
    let schedule = &recipe.schedule;
    let name = recipe.optimizer.name.as_str();
    require("optimizer.name", ["adam", "adamw", "sgd"].contains(&name), || {
        format!("`{name}` is not one of adam, adamw, sgd")
    })?;
    require("optimizer.momentum", name == "sgd" || recipe.optimizer.momentum.is_none(), || {
        "only sgd has a momentum of its own".into()
    })?;
    let decay = recipe.optimizer.weight_decay.unwrap_or(0.0);
    require("optimizer.weight_decay", decay >= 0.0 && decay.is_finite(), || "must be at least 0".into())?;
    require("schedule.epochs", schedule.epochs > 0, || "must be at least 1".into())?;
    require("schedule.batch", schedule.batch > 0, || "must be at least 1".into())?;
    require("schedule.lr", schedule.lr > 0.0 && schedule.lr.is_finite(), || "must be above 0".into())?;
    let (cosine, exponential) =
        (schedule.shape == ScheduleShape::Cosine, schedule.shape == ScheduleShape::Exponential);
    require("schedule.final_lr", cosine || schedule.final_lr.is_none(), || {
        "is used only with shape = \"cosine\"".into()
    })?;
    require("schedule.decay", exponential == schedule.decay.is_some(), || {
        "belongs to shape = \"exponential\", and only to it".into()
    })
}

fn jacobian(i: usize, term: &JacobianTerm) -> Result<(), Fault> {
    let key = |name: &str| format!("jacobian[{i}].{name}");
    require(&key("lambda"), term.lambda >= 0.0 && term.lambda.is_finite(), || "must be at least 0".into())?;
    require(&key("every"), term.every > 0, || "must be at least 1".into())?;
    require(&key("of"), !term.of.is_empty(), || "must be `logits` or a layer's name".into())?;
    require(&key("wrt"), !term.wrt.is_empty(), || "must be `input` or a layer's name".into())
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
