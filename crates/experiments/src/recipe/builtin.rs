//! The study's recipes, compiled into the program so that it needs no files beside it.

macro_rules! recipes {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../recipes/", $name, ".toml")))),*]
    };
}

/// What other recipes extend; not runnable alone.
const BASES: &[(&str, &str)] = recipes!["base/ablation", "base/cifar10", "base/speech"];

/// Runnable recipes, by name.
const RECIPES: &[(&str, &str)] = recipes![
    "stq_image_s",
    "stq_image_s_jr",
    "stq_image_s_float",
    "stq_image_s_float_jr",
    "stq_image_s_binary",
    "stq_image_s_int8",
    "stq_image_s_deterministic",
    "stq_image_l",
    "stq_image_l_jr",
    "resnet8_float",
    "resnet8_int8",
    "resnet8_stq",
    "stq_image_s_jr_layers",
    "stq_image_s_jr_local",
    "quanos_more_bits",
    "quanos_fewer_bits",
    "stq_audio_s",
    "stq_audio_s_jr",
    "stq_audio_s_float",
    "stq_audio_s_binary",
    "stq_audio_s_int8",
    "stq_audio_s_deterministic",
    "stq_audio_l",
    "stq_audio_l_jr",
    "ds_cnn_float",
    "ds_cnn_int8",
    "ds_cnn_stq",
    "stq_image_s_fgsm_rs",
    "stq_image_s_pgd",
    "stq_image_s_trades",
    "ablation_none",
    "ablation_input",
    "ablation_logits",
    "ablation_activations",
    "ablation_local",
    "ablation_curvature",
];

/// Text of a built-in recipe or base, by name with or without `.toml`.
pub fn builtin_text(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix(".toml").unwrap_or(name);
    BASES.iter().chain(RECIPES).find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// Names of the runnable built-in recipes.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    RECIPES.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_file_is_built_in() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(path.is_dir() || RECIPES.iter().any(|(known, _)| *known == name), "{name}");
        }
    }
}
