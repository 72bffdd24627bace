//! `ternion analyze`: footprint and proof of a trained model's integer program.
use anyhow::{Context, Result};
use deploy::{DeployError, Footprint, lower};
use qnn::Model;

use crate::End;
use crate::cli::AnalyzeArgs;

pub(crate) fn run(args: &AnalyzeArgs) -> Result<End> {
    let model = Model::load(&args.model)?;
    let network = &model.network;
    let (footprint, proof) = match lower(network, &model) {
        Ok(lowered) => {
            let footprint = Footprint::of_program(network, &lowered.program).context("footprint")?;
            (footprint, lowered.report.to_string())
        }
        Err(reason @ DeployError::Unsupported { .. }) => {
            (Footprint::of_network(network).context("footprint")?, format!("no integer program: {reason}"))
        }
        Err(error) => return Err(error).with_context(|| format!("lowering {}", args.model.display())),
    };
    if args.json {
        println!("{}", footprint.to_json());
    } else {
        println!("{footprint}\n{proof}");
    }
    Ok(End::Done)
}
