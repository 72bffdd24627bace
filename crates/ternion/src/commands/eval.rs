//! `ternion eval`: accuracy of a model file on a task's data, with its interval.
use anyhow::{Context, Result, anyhow, bail};
use datasets::{Augmentation, DataError, DataSearch, Dataset, Part, Task};
use qnn::train::Samples;
use qnn::{InputGrid, Model, QnnError};
use serde_json::json;

use crate::cli::{EvalArgs, PartArg};
use crate::{End, Usage};

struct Whole<'a> {
    data: &'a Dataset,
    part: Part,
    /// The network's. Its codes are the data's, their real values may not be.
    grid: InputGrid,
}

impl Samples for Whole<'_> {
    fn len(&self) -> usize {
        self.data.split(self.part).len()
    }

    fn fill(&self, indices: &[u32], epoch: u64, x: &mut [f32], labels: &mut [u8]) -> Result<(), QnnError> {
        self.data
            .fill_batch(self.part, indices, epoch, 0, &Augmentation::NONE, x, labels)
            .map_err(|e| QnnError::Config(e.to_string()))?;
        let step = self.data.grid.scale;
        if self.grid.scale != step {
            x.iter_mut().for_each(|x| *x = (*x / step).round() * self.grid.scale);
        }
        Ok(())
    }
}

pub(crate) fn run(args: &EvalArgs) -> Result<End> {
    let task: Task = args.task.parse().map_err(|e: DataError| anyhow!(Usage(e.to_string())))?;
    let model = load(&args.model)?;
    let data = datasets::load(&task, &DataSearch { explicit: args.data.clone() })?;
    let network = &model.network;
    if network.input != data.shape || network.classes != data.classes.len() {
        bail!(
            "{}: takes {:?} and tells {} classes, {} has {:?} and {}",
            args.model.display(),
            network.input,
            network.classes,
            data.name,
            data.shape,
            data.classes.len()
        );
    }
    if network.grid.zero_point != data.grid.zero_point {
        let (ours, theirs) = (network.grid.zero_point, data.grid.zero_point);
        bail!(
            "{}: its inputs are 0 at code {ours}, those of {} at {theirs}",
            args.model.display(),
            data.name
        );
    }
    let part = match args.part {
        PartArg::Train => Part::Train,
        PartArg::Validation => Part::Validation,
        PartArg::Test => Part::Test,
    };
    let result =
        qnn::evaluate(&model, &Whole { data: &data, part, grid: network.grid }).context("evaluation")?;
    let (low, high) = experiments::interval::wilson(result.correct as f64, result.samples as f64)
        .ok_or_else(|| anyhow!("{}: this part has no samples", data.name))?;
    if args.json {
        let row = json!({
            "task": data.name, "checksum": data.checksum, "samples": result.samples, "correct": result.correct,
            "accuracy": result.accuracy(), "interval": [low, high], "cross_entropy": result.loss,
        });
        println!("{row}");
    } else {
        println!(
            "{}: {} of {} correct, {:.2} % (95 % interval {:.2} to {:.2}), cross-entropy {:.4}",
            data.name,
            result.correct,
            result.samples,
            100.0 * result.accuracy(),
            100.0 * low,
            100.0 * high,
            result.loss
        );
    }
    for warning in &data.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(End::Done)
}

/// A model from our own file or from a safetensors export of ours.
pub(super) fn load(path: &std::path::Path) -> Result<Model> {
    if path.extension().is_some_and(|e| e == "safetensors") {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        return Ok(Model::from_safetensors(&bytes, &path.display().to_string())?);
    }
    Ok(Model::load(path)?)
}
