//! From TOML text to a recipe per profile: inheritance, overrides, and errors that name file and key.
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::builtin::{builtin_names, builtin_text};
use super::validate::validate;
use super::{Profile, Recipe, RecipeError};

/// Longest chain of `extends` followed.
const MAX_DEPTH: usize = 8;

/// One recipe file, resolved for every profile.
#[derive(Clone, Debug)]
pub struct RecipeSet {
    /// Where it came from, for messages.
    pub file: String,
    smoke: Recipe,
    quick: Recipe,
    full: Recipe,
}

impl RecipeSet {
    /// The recipe as `profile` runs it.
    pub fn get(&self, profile: Profile) -> &Recipe {
        match profile {
            Profile::Smoke => &self.smoke,
            Profile::Quick => &self.quick,
            Profile::Full => &self.full,
        }
    }

    /// Reads a recipe from a file, or from the built-in ones by name.
    ///
    /// # Errors
    /// [`RecipeError`], naming the file and the key at fault.
    pub fn open(name: &str) -> Result<Self, RecipeError> {
        match std::fs::read_to_string(name) {
            Ok(text) => Self::from_text(name, &text),
            Err(source) => match builtin_text(name) {
                Some(text) => Self::from_text(name, text),
                None => Err(RecipeError::NotFound {
                    name: name.to_owned(),
                    source,
                    builtin: builtin_names().collect::<Vec<_>>().join(", "),
                }),
            },
        }
    }

    /// The built-in recipes that `profile` runs, in table order.
    ///
    /// # Errors
    /// [`RecipeError`] if a built-in recipe is wrong, which a test excludes.
    pub fn builtin(profile: Profile) -> Result<Vec<Self>, RecipeError> {
        let mut sets = Vec::new();
        for name in builtin_names() {
            let set = Self::open(name)?;
            if set.get(profile).profiles.contains(&profile) {
                sets.push(set);
            }
        }
        sets.sort_by(|a, b| {
            let key =
                |s: &Self| (s.get(profile).study.clone(), s.get(profile).order, s.get(profile).name.clone());
            key(a).cmp(&key(b))
        });
        Ok(sets)
    }

    /// Refuses two recipes of one name.
    ///
    /// # Errors
    /// [`RecipeError::Duplicate`] naming both files.
    pub fn check_distinct(sets: &[Self]) -> Result<(), RecipeError> {
        for (i, set) in sets.iter().enumerate() {
            if let Some(first) = sets[..i].iter().find(|s| s.full.name == set.full.name) {
                return Err(RecipeError::Duplicate {
                    name: set.full.name.clone(),
                    first: first.file.clone(),
                    second: set.file.clone(),
                });
            }
        }
        Ok(())
    }

    fn from_text(file: &str, text: &str) -> Result<Self, RecipeError> {
        let (table, overrides) = assemble(file, text)?;
        let resolve = |profile: Profile| resolve(file, &table, &overrides, profile);
        Ok(Self {
            file: file.to_owned(),
            smoke: resolve(Profile::Smoke)?,
            quick: resolve(Profile::Quick)?,
            full: resolve(Profile::Full)?,
        })
    }
}

/// Parses recipe text for one profile; `file` is used in messages and to find what it extends.
///
/// # Errors
/// [`RecipeError`], naming the file and the key at fault.
pub fn parse_recipe(file: &str, text: &str, profile: Profile) -> Result<Recipe, RecipeError> {
    RecipeSet::from_text(file, text).map(|set| set.get(profile).clone())
}

/// Merges the `extends` chain; returns the recipe without, and the table of, its profile overrides.
fn assemble(file: &str, text: &str) -> Result<(Table, Table), RecipeError> {
    let mut chain = vec![file.to_owned()];
    let mut layers = vec![parse(file, text)?];
    while let Some(parent) = layers.last_mut().and_then(|t| t.remove("extends")) {
        let Value::String(parent) = parent else {
            return Err(RecipeError::Value {
                file: file.to_owned(),
                profile: None,
                key: "extends".into(),
                message: "must be the name of a built-in recipe or a path relative to this file".into(),
            });
        };
        let child = chain.last().expect("chain starts with the file itself").clone();
        let beside = Path::new(&child).parent().unwrap_or(Path::new("")).join(&parent);
        let (from, text) = match (std::fs::read_to_string(&beside), builtin_text(&parent)) {
            (Ok(text), _) => (beside.display().to_string(), text),
            (Err(_), Some(text)) => (parent, text.to_owned()),
            (Err(source), None) => {
                return Err(RecipeError::Value {
                    file: child,
                    profile: None,
                    key: "extends".into(),
                    message: format!("`{parent}` is no built-in recipe, and {}: {source}", beside.display()),
                });
            }
        };
        let looped = chain.contains(&from) || chain.len() == MAX_DEPTH;
        chain.push(from.clone());
        if looped {
            return Err(RecipeError::Cycle { file: file.to_owned(), chain: chain.join(" -> ") });
        }
        layers.push(parse(&from, &text)?);
    }
    let mut merged = Table::new();
    for layer in layers.into_iter().rev() {
        merge(&mut merged, layer);
    }
    let overrides = match merged.remove("profile") {
        None => Table::new(),
        Some(Value::Table(table)) => table,
        Some(_) => {
            return Err(RecipeError::Value {
                file: file.to_owned(),
                profile: None,
                key: "profile".into(),
                message: "must be a table such as [profile.quick]".into(),
            });
        }
    };
    if let Some(unknown) = overrides.keys().find(|k| !Profile::ALL.iter().any(|p| p.name() == k.as_str())) {
        return Err(RecipeError::Value {
            file: file.to_owned(),
            profile: None,
            key: format!("profile.{unknown}"),
            message: "unknown profile, expected `smoke`, `quick` or `full`".into(),
        });
    }
    Ok((merged, overrides))
}

fn parse(file: &str, text: &str) -> Result<Table, RecipeError> {
    text.parse::<Table>().map_err(|e| RecipeError::Syntax {
        file: file.to_owned(),
        message: e.to_string().trim_end().to_owned(),
    })
}

fn resolve(file: &str, table: &Table, overrides: &Table, profile: Profile) -> Result<Recipe, RecipeError> {
    let mut merged = table.clone();
    let mut in_force = None;
    if let Some(Value::Table(layer)) = overrides.get(profile.name()) {
        merge(&mut merged, layer.clone());
        in_force = Some(profile);
    }
    let recipe = Recipe::deserialize(Value::Table(merged)).map_err(|e| RecipeError::Key {
        file: file.to_owned(),
        profile: in_force,
        message: e.to_string().trim_end().replace('\n', " "),
    })?;
    validate(&recipe).map_err(|(key, message)| RecipeError::Value {
        file: file.to_owned(),
        profile: in_force,
        key,
        message,
    })?;
    Ok(recipe)
}

/// Tables merge key by key; anything else is replaced.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(table)) => merge(inner, table),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"
name = "tiny"
title = "Tiny"
study = "cifar10"
seeds = [0, 1]
[dataset]
task = "cifar10"
[network]
name = "stq_image_s"
twin = "stq"
[optimizer]
kind = "adam"
[schedule]
epochs = 40
batch = 128
lr = 0.002
shape = { kind = "cosine", floor = 0.01 }
[[attacks]]
attack = "fgsm(norm=linf)"
eps = ["1/255", "2/255", "4/255"]
role = "paper-style"
[profile.quick]
seeds = [0]
[profile.quick.schedule]
epochs = 3
"#;

    fn error(text: &str) -> String {
        parse_recipe("mine.toml", text, Profile::Full).unwrap_err().to_string()
    }

    #[test]
    fn a_profile_overrides_key_by_key() {
        let full = parse_recipe("mine.toml", MINIMAL, Profile::Full).unwrap();
        let quick = parse_recipe("mine.toml", MINIMAL, Profile::Quick).unwrap();
        assert_eq!((full.schedule.epochs, quick.schedule.epochs), (40, 3));
        assert_eq!((full.seeds.len(), quick.seeds.len()), (2, 1));
        assert_eq!(quick.schedule.batch, 128);
        assert_eq!(full.attacks[0].headline_eps().unwrap().text(), "2/255");
    }

    #[test]
    fn a_recipe_survives_being_written_and_read() {
        let recipe = parse_recipe("mine.toml", MINIMAL, Profile::Quick).unwrap();
        let text = toml::to_string(&recipe).unwrap();
        assert_eq!(parse_recipe("again.toml", &text, Profile::Quick).unwrap(), recipe);
    }

    #[test]
    fn errors_name_file_and_key() {
        let unknown = error(&MINIMAL.replace("twin = \"stq\"", "twinn = \"stq\""));
        assert!(unknown.starts_with("mine.toml") && unknown.contains("`twinn`"), "{unknown}");
        assert!(unknown.contains("network"), "{unknown}");
        let missing = error(&MINIMAL.replace("epochs = 40", ""));
        assert!(missing.contains("`epochs`") && missing.contains("schedule"), "{missing}");
        for (from, to) in [
            ("kind = \"adam\"", "kind = \"madam\""),
            ("fgsm(", "fgms("),
            ("task = \"cifar10\"", "task = \"cifar\""),
        ] {
            let message = error(&MINIMAL.replace(from, to));
            assert!(
                message.starts_with("mine.toml") && message.contains("known") | message.contains("none of"),
                "{message}"
            );
        }
        let wrong_type = error(&MINIMAL.replace("epochs = 40", "epochs = \"many\""));
        assert!(wrong_type.contains("schedule") && wrong_type.contains("epochs"), "{wrong_type}");
        let syntax = error("name = ");
        assert!(syntax.starts_with("mine.toml") && syntax.contains("line 1"), "{syntax}");
    }

    #[test]
    fn faults_of_an_override_name_the_profile() {
        let text = format!("{MINIMAL}[profile.smoke.schedule]\nepoch = 1\n");
        let message = error(&text);
        assert!(message.contains("profile smoke") && message.contains("`epoch`"), "{message}");
        let message = error(&format!("{MINIMAL}[profile.overnight]\nseeds = [1]\n"));
        assert!(message.contains("profile.overnight"), "{message}");
    }

    #[test]
    fn unusable_values_are_refused() {
        for (from, to, key) in [
            ("epochs = 40", "epochs = 0", "schedule.epochs"),
            ("batch = 128", "batch = 0", "schedule.batch"),
            ("name = \"tiny\"", "name = \"../tiny\"", "name"),
            ("seeds = [0, 1]", "seeds = [1, 1]", "seeds"),
            ("name = \"stq_image_s\"", "name = \"lenet\"", "network.name"),
            ("twin = \"stq\"", "twin = \"stq\"\nweights = \"ternery\"", "network.weights"),
            ("twin = \"stq\"", "twin = \"stq\"\nbiases = \"quantized_bit(8)\"", "network.biases"),
            (
                "twin = \"stq\"",
                "twin = \"stq\"\nbatch_norms = { beta = \"quantized_po3(5)\" }",
                "network.batch_norms.beta",
            ),
            ("task = \"cifar10\"", "task = \"cifar10\"\nfolds = [1]", "dataset.folds"),
            ("lr = 0.002", "lr = -1.0", "schedule.lr"),
            ("role = \"paper-style\"", "role = \"strong\"\nheadline = \"3/255\"", "attacks[0].headline"),
        ] {
            let message = error(&MINIMAL.replace(from, to));
            assert!(message.contains(&format!("{key}: ")), "{to}: {message}");
        }
    }

    #[test]
    fn batch_normalisations_start_from_qkeras_defaults_or_from_float() {
        let quantizers = |keys: &str| {
            let to = format!("twin = \"stq\"\nbatch_norms = {{ {keys} }}");
            let text = MINIMAL.replace("twin = \"stq\"", &to);
            let recipe = parse_recipe("mine.toml", &text, Profile::Full).unwrap();
            recipe.network.quantizers().unwrap().batch_norms.unwrap().to_string()
        };
        let all = quantizers("qkeras = true, mean = \"none\"");
        let text =
            qnn::network::BatchNormQuantizers { mean: None, ..qnn::network::BatchNormQuantizers::qkeras() };
        assert_eq!(all, text.to_string());
        let one = quantizers("inverse = \"quantized_bits(8, 2)\"");
        assert!(one.starts_with("inverse quantized_bits(") && !one.contains("gamma"), "{one}");
        let to = "twin = \"stq\"\nbatch_norms = { qkeras = true, inverse = \"quantized_bits(8, 2)\" }";
        let message = error(&MINIMAL.replace("twin = \"stq\"", to));
        assert!(message.contains("network.batch_norms.inverse: "), "{message}");
    }

    #[test]
    fn extends_merges_and_cannot_loop() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("base.toml"), MINIMAL).unwrap();
        let child = "extends = \"base.toml\"\nname = \"child\"\n[[jacobian]]\nof = \"logits\"\nwrt = \"input\"\nlambda = 0.01\n";
        std::fs::write(path("child.toml"), child).unwrap();
        let set = RecipeSet::open(&path("child.toml")).unwrap();
        assert_eq!(set.get(Profile::Quick).name, "child");
        assert_eq!(set.get(Profile::Quick).schedule.epochs, 3);
        assert_eq!(set.get(Profile::Full).jacobian.len(), 1);
        std::fs::write(path("loop.toml"), "extends = \"loop2.toml\"\n").unwrap();
        std::fs::write(path("loop2.toml"), "extends = \"loop.toml\"\n").unwrap();
        assert!(RecipeSet::open(&path("loop.toml")).unwrap_err().to_string().contains("does not end"));
    }

    #[test]
    fn every_builtin_recipe_is_sound_and_named_after_its_file() {
        for name in builtin_names() {
            let set = RecipeSet::open(name).unwrap();
            for profile in Profile::ALL {
                assert_eq!(set.get(profile).name, name);
            }
        }
        for profile in Profile::ALL {
            let sets = RecipeSet::builtin(profile).unwrap();
            assert!(!sets.is_empty(), "{profile}");
            RecipeSet::check_distinct(&sets).unwrap();
        }
    }

    #[test]
    fn an_unknown_recipe_lists_the_known_ones() {
        let message = RecipeSet::open("nowhere").unwrap_err().to_string();
        assert!(message.contains("nowhere") && message.contains("stq_image_s"), "{message}");
    }
}
