//! `ternion attack`: one attack on a model file, with intervals, queries, norms and per-class values.
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use attacks::audit::{AuditOptions, audit};
use attacks::{Access, Attack, Bpda, Eot, InputBox, Network, Options, Outcome, Passing, Rate, Samples};
use datasets::{DataError, DataSearch, Task};
use experiments::examples::ExampleSet;
use experiments::pipeline::IntegerProgram;
use qnn::interop::Weights;
use qnn::{InputGrid, Model, Predictor, zoo};
use serde_json::json;

use crate::cli::AttackArgs;
use crate::{End, Usage};

/// Samples per model call.
const BATCH: usize = 128;

pub(crate) fn run(args: &AttackArgs) -> Result<End> {
    let attack: Attack =
        args.attack.parse().map_err(|e: attacks::ParseError| anyhow!(Usage(e.to_string())))?;
    let task: Task = args.task.parse().map_err(|e: DataError| anyhow!(Usage(e.to_string())))?;
    let data = datasets::load(&task, &DataSearch { explicit: args.data.clone() })?;
    let model = model(args, data.shape, data.classes.len())?;
    let network = &model.network;
    if network.input != data.shape || network.classes != data.classes.len() {
        bail!(
            "the model takes {:?} and tells {} classes, {} does not",
            network.input,
            network.classes,
            data.name
        );
    }
    let n = args.samples.min(data.test.len());
    let d = data.sample_len();
    let (codes, labels, ids) = (&data.test.codes[..n * d], &data.test.labels[..n], &data.test.ids[..n]);
    let x: Vec<f32> = codes.iter().map(|code| network.grid.value(*code)).collect();
    let (lo, hi) = network.grid.range();
    let bounds = InputBox::new(lo, hi)?;
    let samples = Samples::new(&x, labels, ids);
    let sizes: Vec<f32> = args.eps.iter().map(|e| e.value() as f32).collect();
    let passing = args.gradients.unwrap_or(Passing::Clipped);
    let mut white = match args.sampled {
        true => Network::sampling(&model, passing, args.seed)
            .map_err(|e| anyhow!(Usage(format!("--sampled: {e}"))))?,
        false => Network::new(&model, passing)?,
    };
    let mut averaged;
    let mut integer = match args.integer {
        false => None,
        true => {
            let lowered = deploy::lower(network, &model).context("lowering to the integer program")?;
            Some(IntegerProgram::new(deploy::Engine::new(lowered.program)?))
        }
    };
    // The integer program has no gradients of its own: with `--gradients` the trained network lends it its.
    let mut lent;
    let mut target = match (&mut integer, args.gradients) {
        (Some(program), None) => Access::Black(program),
        (Some(program), Some(_)) => {
            lent = Bpda::new(program, &mut white);
            Access::White(&mut lent)
        }
        (None, _) => match args.eot {
            Some(draws) => {
                averaged = Eot::new(&mut white, draws.into());
                Access::White(&mut averaged)
            }
            None => Access::White(&mut white),
        },
    };
    let source = args.from.as_ref().map(|path| super::eval::load(path)).transpose()?;
    let start = Instant::now();
    let outcomes = match &source {
        None => {
            let mut options =
                Options { batch: BATCH, keep_adversarial: args.out.is_some(), ..Options::default() };
            attacks::run(&attack, target.reborrow(), &samples, &sizes, &bounds, args.seed, &mut options)?
        }
        Some(source) => {
            if source.network.grid != network.grid {
                bail!("the model the examples are made on takes inputs of another scale");
            }
            // Searched to the end: an example that barely crosses one boundary rarely crosses another.
            let mut options = Options {
                batch: BATCH,
                keep_adversarial: true,
                early_exit: false,
                attack_misclassified: true,
                ..Options::default()
            };
            let mut made = Network::new(source, Passing::Clipped)?;
            let access = Access::White(&mut made);
            let made = attacks::run(&attack, access, &samples, &sizes, &bounds, args.seed, &mut options)?;
            let judged = made.iter().map(|one| one.transfer(target.reborrow(), &samples, BATCH));
            judged.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    for (outcome, eps) in outcomes.iter().zip(&args.eps) {
        tell(outcome, eps.text(), network.classes, args.json);
    }
    if !args.json {
        println!("{seconds:.1} s");
    }
    if let (Some(path), Some(outcome)) = (&args.out, outcomes.last()) {
        let set = ExampleSet::of(outcome, codes, &mut Predictor::for_codes(&model)?)?;
        set.save(path)?;
        let (clean, robust) = set.counts();
        eprintln!("{}: as codes, {robust} of {clean} samples withstand", path.display());
    }
    if args.audit {
        let eps = sizes.first().copied().unwrap_or(0.0);
        let options =
            AuditOptions { norm: attack.norm(), eps, batch: BATCH, seed: args.seed, ..Default::default() };
        // Examples of another model are no attack on this one's gradients; the audit crafts its own on it.
        let (mut other, given) = match &source {
            Some(source) => (Network::new(source, Passing::Clipped)?, &[][..]),
            None => (Network::new(&model, Passing::Identity)?, &outcomes[..]),
        };
        let report =
            audit(target.reborrow(), Some(Access::White(&mut other)), &samples, &bounds, given, &options)?;
        if args.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            println!("audit: {:?}, robust accuracy {}", report.verdict, rate(report.robust));
            for finding in &report.findings {
                let word = if finding.passed { "ok  " } else { "FLAG" };
                println!("  {word} {} {:.4}: {}", finding.check, finding.number, finding.sentence);
                if !finding.passed {
                    println!("       next: {}", finding.next);
                }
            }
        }
    }
    Ok(End::Done)
}

fn model(args: &AttackArgs, shape: [usize; 3], classes: usize) -> Result<Model> {
    let (Some(name), Some(weights)) = (&args.network, &args.weights) else {
        let path = args.model.as_ref().ok_or_else(|| anyhow!(Usage("a model file or --network".into())))?;
        return super::eval::load(path);
    };
    let grid = if args.raw { InputGrid::RAW_IMAGE } else { InputGrid::UNIT_IMAGE };
    let network = zoo::build(name, shape, grid, classes, &zoo::Quantizers::default())?;
    let mut model = Model::new(network, 0)?;
    model.assign(&Weights::load(weights)?)?;
    Ok(model)
}

fn rate(rate: Rate) -> String {
    format!("{:.2} % ({:.2} to {:.2})", 100.0 * rate.value, 100.0 * rate.low, 100.0 * rate.high)
}

fn tell(outcome: &Outcome, eps: &str, classes: usize, as_json: bool) {
    let (clean, robust, per_class) =
        (outcome.clean_accuracy(), outcome.robust_accuracy(), outcome.per_class(classes));
    if as_json {
        let row = json!({
            "attack": outcome.attack, "norm": outcome.norm, "eps": eps, "seed": outcome.seed, "clean": clean,
            "robust": robust, "per_class": per_class, "queries_median": outcome.median_queries(),
            "queries_mean": outcome.mean_queries(), "norm_median": outcome.median_norm(),
        });
        println!("{row}");
        return;
    }
    println!("{} at {eps}", outcome.attack);
    println!("  clean {}, robust {} of {} samples", rate(clean), rate(robust), robust.total);
    let number = |v: Option<f64>| v.map_or("none".to_owned(), |v| format!("{v:.4}"));
    println!(
        "  queries: median of successes {}, mean {}; median {} of successes {}",
        number(outcome.median_queries()),
        number(outcome.mean_queries()),
        outcome.norm,
        number(outcome.median_norm())
    );
    let classes: Vec<String> = per_class.iter().map(|r| format!("{}/{}", r.count, r.total)).collect();
    println!("  robust by class: {}", classes.join(" "));
}
