//! What can be wrong with a recipe, always naming the file and the key.
use std::path::PathBuf;

use super::Profile;

/// Why a recipe could not be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// Neither a readable file nor the name of a built-in recipe.
    #[error("{name}: not a readable recipe file ({source}) and not a built-in recipe (those are: {builtin})")]
    NotFound {
        /// What was asked for.
        name: String,
        /// Why the file could not be read.
        source: std::io::Error,
        /// Names of the built-in recipes.
        builtin: String,
    },
    /// The text is not TOML.
    #[error("{file}: {message}")]
    Syntax {
        /// The recipe file.
        file: String,
        /// The parser's message, with line and column.
        message: String,
    },
    /// A key is unknown, missing or of the wrong type.
    #[error("{file}{}: {message}", in_profile(.profile))]
    Key {
        /// The recipe file.
        file: String,
        /// The profile whose overrides were in force, if the fault shows only there.
        profile: Option<Profile>,
        /// The deserializer's message, which names the key and its table.
        message: String,
    },
    /// A key's value is well-formed but cannot be used.
    #[error("{file}{}: {key}: {message}", in_profile(.profile))]
    Value {
        /// The recipe file.
        file: String,
        /// The profile whose overrides were in force.
        profile: Option<Profile>,
        /// Dotted path of the key.
        key: String,
        /// What is wrong with the value.
        message: String,
    },
    /// `extends` leads back to the same recipe, or too far.
    #[error("{file}: extends: the chain {chain} does not end")]
    Cycle {
        /// The recipe the chain started from.
        file: String,
        /// The recipes visited, joined by arrows.
        chain: String,
    },
    /// Two recipes given together have the same name, so that their results could not be told apart.
    #[error("{second}: name: `{name}` is already the name of {first}")]
    Duplicate {
        /// The name both carry.
        name: String,
        /// The file that came first.
        first: String,
        /// The file that came second.
        second: String,
    },
    /// A recipe folder could not be listed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The path at fault.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

fn in_profile(profile: &Option<Profile>) -> String {
    profile.map(|p| format!(" (profile {p})")).unwrap_or_default()
}
