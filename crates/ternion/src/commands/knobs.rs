//! `ternion knobs`: everything a recipe can name, from the libraries themselves, and every override of the kernels.
use anyhow::Result;
use experiments::recipe::{Profile, RecipeSet, builtin_names};
use qnn::zoo::{NAMES, Twin};

use crate::End;

pub(crate) fn run() -> Result<End> {
    println!("recipes (profiles that run them):");
    for name in builtin_names() {
        let set = RecipeSet::open(name)?;
        let recipe = set.get(Profile::Full);
        let profiles: Vec<&str> = recipe.profiles.iter().map(|p| p.name()).collect();
        println!("  {name:22} {:28} {}", recipe.title, profiles.join(", "));
    }
    println!("\nnetworks: {}", NAMES.join(", "));
    println!("\ntwins and their quantizers:");
    let twins = [
        ("stq", Twin::Stq),
        ("stq_deterministic", Twin::StqDeterministic),
        ("stochastic_binary", Twin::StochasticBinary),
        ("eight_bit", Twin::EightBit),
        ("float", Twin::Float),
    ];
    for (name, twin) in twins {
        let q = twin.quantizers();
        let text = |q: Option<qtensor::Quantizer>| q.map_or("none".to_owned(), |q| q.to_string());
        println!("  {name:18} weights {}, activations {}", text(q.weights), text(q.activations));
    }
    println!("\nattacks: {}", attacks::Attack::NAMES.join(", "));
    println!(
        "\ntasks: cifar10, speech_commands, speech_commands_5fold(fold=0..4), synthetic_shapes, synthetic_keywords"
    );
    println!("\nstages: {}", experiments::stage::Stage::ALL.map(|s| s.name()).join(", "));
    println!("\nkernels (environment variable, meaning, value, what is in force):");
    for knob in kernels::dispatch::knobs() {
        let value = knob.value.as_deref().unwrap_or("unset");
        println!("  {:18} {}; {value}; {}", knob.variable, knob.meaning, knob.picked);
    }
    Ok(End::Done)
}
