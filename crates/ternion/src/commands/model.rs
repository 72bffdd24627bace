//! What MODEL means on the command line: a file, or a network of the zoo with weights at random.
use std::path::Path;

use anyhow::{Context, Result};
use deploy::{Lowered, lower};
use qnn::zoo::{self, Twin};
use qnn::{InputGrid, Model};

use crate::Usage;

/// Loads or makes the model.
pub(crate) fn load(text: &str) -> Result<Model> {
    let path = Path::new(text);
    if path.exists() {
        return Ok(Model::load(path)?);
    }
    let (name, twin) = text.split_once(':').unwrap_or((text, "stq"));
    if !zoo::NAMES.contains(&name) {
        let message =
            format!("{text}: no such file, and no network of that name ({})", zoo::NAMES.join(", "));
        return Err(Usage(message).into());
    }
    let Ok(twin) = serde_json::from_value::<Twin>(twin.into()) else {
        return Err(Usage(format!(
            "no twin `{twin}`: stq, stq_deterministic, stochastic_binary, eight_bit, float"
        ))
        .into());
    };
    let audio = name.starts_with("stq_audio") || name == "ds_cnn";
    let (input, grid, classes) = if audio {
        ([49, 10, 1], InputGrid::STANDARDISED, 12)
    } else {
        ([32, 32, 3], InputGrid::UNIT_IMAGE, 10)
    };
    let mut model = Model::new(zoo::build(name, input, grid, classes, &twin.quantizers())?, 1)?;
    disturb(&mut model);
    Ok(model)
}

/// Normalisation as training might leave it: as initialised, channels would hardly differ.
fn disturb(model: &mut Model) {
    let mut state = 0x2545_f491_u32;
    let mut unit = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 24) as f32
    };
    for param in &mut model.params {
        let range = match param.name.rsplit('/').next() {
            Some("gamma" | "moving_variance") => (0.5, 1.5),
            Some("beta") => (-0.2, 0.6),
            Some("moving_mean" | "bias") => (-0.3, 0.3),
            _ => continue,
        };
        param.values.iter_mut().for_each(|v| *v = range.0 + (range.1 - range.0) * unit());
    }
}

/// Lowers the model named by `text`.
pub(crate) fn lowered(text: &str) -> Result<Lowered> {
    let model = load(text)?;
    lower(&model.network, &model).with_context(|| format!("lowering {text}"))
}
