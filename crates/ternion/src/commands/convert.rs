//! `ternion convert`: our model files to safetensors and back, and weights of other programs into a network of the zoo.
use anyhow::Result;
use qnn::interop::Weights;
use qnn::{InputGrid, Model};

use crate::End;
use crate::cli::ConvertArgs;

pub(crate) fn run(args: &ConvertArgs) -> Result<End> {
    let model = match &args.network {
        None => super::eval::load(&args.from)?,
        Some(name) => {
            let mut network = super::summary::named(name, args.twin)?;
            if args.raw {
                network.grid = InputGrid::RAW_IMAGE;
            }
            let mut model = Model::new(network, 0)?;
            let naming = model.assign(&Weights::load(&args.from)?)?;
            eprintln!("{}: names as {naming:?}", args.from.display());
            model
        }
    };
    if args.to.extension().is_some_and(|e| e == "safetensors") {
        model.export_safetensors(&args.to)?;
    } else {
        model.save(&args.to)?;
    }
    Ok(End::Done)
}
