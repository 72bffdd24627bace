//! `ternion summary`: what a network consists of, what it costs on a device, and what quantization does to a model.
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use deploy::{Footprint, lower};
use qnn::summary::Summary;
use qnn::zoo::{self, Twin};
use qnn::{InputGrid, Model, Network};
use serde_json::json;

use crate::cli::{SummaryArgs, TwinArg};
use crate::{End, Usage};

pub(crate) fn run(args: &SummaryArgs) -> Result<End> {
    let path = Path::new(&args.model);
    let (summary, footprint) = if zoo::NAMES.contains(&args.model.as_str()) && !path.exists() {
        let network = named(&args.model, args.twin)?;
        (Summary::of_network(&network)?, Footprint::of_network(&network))
    } else if path.exists() {
        if args.twin.is_some() {
            return Err(anyhow!(Usage("--twin: a model file has its own quantizers".into())));
        }
        let model = super::eval::load(path)?;
        (Summary::of_model(&model)?, measured(&model))
    } else {
        let names = zoo::NAMES.join(", ");
        return Err(anyhow!(Usage(format!(
            "{}: no such file, and no network; there are {names}",
            args.model
        ))));
    };
    let footprint = footprint.context("footprint")?;
    if args.json {
        let footprint: serde_json::Value = serde_json::from_str(&footprint.to_json())?;
        println!("{}", json!({ "summary": summary, "footprint": footprint }));
    } else {
        println!("{summary}\n{footprint}");
    }
    Ok(End::Done)
}

/// The program's own figures where the model can be lowered, else an estimate.
fn measured(model: &Model) -> Result<Footprint, deploy::DeployError> {
    match lower(&model.network, model) {
        Ok(lowered) => Footprint::of_program(&model.network, &lowered.program),
        Err(_) => Footprint::of_network(&model.network),
    }
}

/// A network of the zoo for its usual input, by default in the precision it is known for.
pub(super) fn named(name: &str, twin: Option<TwinArg>) -> Result<Network> {
    let twin = match twin {
        Some(TwinArg::Stq) => Twin::Stq,
        Some(TwinArg::StqDeterministic) => Twin::StqDeterministic,
        Some(TwinArg::StochasticBinary) => Twin::StochasticBinary,
        Some(TwinArg::EightBit) => Twin::EightBit,
        Some(TwinArg::Float) => Twin::Float,
        None if name.starts_with("stq_") => Twin::Stq,
        None => Twin::Float,
    };
    let audio = name.contains("audio") || name == "ds_cnn";
    let (shape, grid, classes) = if audio {
        ([49, 10, 1], InputGrid::STANDARDISED, 12)
    } else {
        ([32, 32, 3], InputGrid::UNIT_IMAGE, 10)
    };
    zoo::build(name, shape, grid, classes, &twin.quantizers()).map_err(|e| anyhow!(Usage(e.to_string())))
}
