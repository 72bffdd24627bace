//! `ternion reproduce`: the study, from arguments to exit code.
use anyhow::{Context, Result, anyhow};
use datasets::{DataSearch, Task};
use experiments::pipeline::Pipeline;
use experiments::progress::Event;
use experiments::recipe::{Profile, RecipeSet};
use experiments::stage::{Options, Plan, Stage, Study};

use crate::cli::ReproduceArgs;
use crate::progress::{clock, listener};
use crate::{End, Usage};

pub(crate) fn run(args: &ReproduceArgs) -> Result<End> {
    if let Some(threads) = args.threads {
        if threads == 0 {
            return Err(anyhow!(Usage("--threads: at least 1".into())));
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .context("cannot start threads")?;
    }
    let engine = Pipeline::new(DataSearch { explicit: args.data.clone() });
    let profile = match args.profile {
        Some(profile) => profile.into(),
        None => default_profile(&engine)?,
    };
    let recipes = recipes(args, profile)?;
    let options = Options {
        profile,
        recipes,
        out: args.out.clone(),
        seed: args.seed,
        only: (!args.only.is_empty()).then(|| args.only.clone()),
        shard: args.shard,
    };
    let listener = listener(args.json);
    let study = Study::new(&engine, listener.as_ref(), options);
    let plan = study.plan();
    if let Some(message) = banner(&plan) {
        listener.report(&Event::Notice { loud: true, message });
    }
    if args.dry_run {
        return show(&plan, args, profile);
    }
    let summary = study.run(&plan)?;
    if args.json {
        println!("{}", serde_json::json!({"event": "summary", "summary": summary}));
    } else {
        eprintln!(
            "profile {profile}: {} stages computed, {} cached, {} failed",
            summary.computed,
            summary.cached,
            summary.failed.len()
        );
        for (unit, stage, error) in &summary.failed {
            let stage = stage.map_or("plan", Stage::name);
            eprintln!("  {unit}, {stage}: {error}");
        }
        if let Some(path) = &summary.report {
            println!("{}", path.display());
        }
    }
    Ok(if summary.failed.is_empty() { End::Done } else { End::Failed })
}

/// Quick if any real data are there, else smoke.
fn default_profile(engine: &Pipeline) -> Result<Profile> {
    for task in [Task::Cifar10, Task::SpeechCommands5Fold { fold: 0 }] {
        if engine.dataset(&task)?.name == task.to_string() {
            return Ok(Profile::Quick);
        }
    }
    Ok(Profile::Smoke)
}

fn recipes(args: &ReproduceArgs, profile: Profile) -> Result<Vec<RecipeSet>> {
    let usage = |e: experiments::recipe::RecipeError| anyhow!(Usage(e.to_string()));
    let sets = if args.recipe.is_empty() {
        RecipeSet::builtin(profile).map_err(usage)?
    } else {
        args.recipe.iter().map(|name| RecipeSet::open(name)).collect::<Result<_, _>>().map_err(usage)?
    };
    RecipeSet::check_distinct(&sets).map_err(usage)?;
    Ok(sets)
}

fn banner(plan: &Plan) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    for unit in plan.units.iter().filter(|unit| unit.data.embedded) {
        let name = format!("{} instead of {}", unit.data.name, unit.task);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    (!names.is_empty()).then(|| {
        format!(
            "Using generated data: {}.\nThese numbers are NOT results on CIFAR-10 or Google Speech Commands.",
            names.join(", ")
        )
    })
}

fn show(plan: &Plan, args: &ReproduceArgs, profile: Profile) -> Result<End> {
    if args.json {
        println!(
            "{}",
            serde_json::to_string(&serde_json::json!({"event": "plan", "profile": profile, "plan": plan}))?
        );
        return Ok(if plan.refused.is_empty() { End::Done } else { End::Failed });
    }
    let wanted = |stage: Stage| args.only.is_empty() || args.only.contains(&stage);
    let mut total = 0.0;
    for unit in &plan.units {
        println!("{} ({}, {:.1} M MACs)", unit.name, unit.data.name, unit.network.macs as f64 / 1e6);
        for step in unit.steps.iter().filter(|step| wanted(step.stage)) {
            let state =
                if step.cached { "cached".to_owned() } else { format!("about {}", clock(step.estimate)) };
            let attack = step.attack.as_deref().unwrap_or_default();
            println!("  {:8} {}  {state:>18}  {attack}", step.stage.name(), step.key.short());
            total += if step.cached { 0.0 } else { step.estimate };
        }
    }
    for (unit, error) in &plan.refused {
        println!("{unit}: cannot run: {error}");
    }
    println!("profile {profile}: {} runs, at most about {} of work", plan.units.len(), clock(total));
    Ok(if plan.refused.is_empty() { End::Done } else { End::Failed })
}
