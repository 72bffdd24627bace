//! `ternion jacobian`: how steep trained models are, side by side on the same samples.
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use datasets::{DataError, DataSearch, Dataset, Task};
use jacreg::{LayerNorms, Steepness, layer_norms, steepness};
use qnn::{Model, Predictor};
use serde_json::json;

use crate::cli::JacobianArgs;
use crate::{End, Usage};

/// Random directions in which wide Jacobians are estimated.
const PROJECTIONS: u32 = 8;

/// What is measured of one model.
struct Measured {
    name: String,
    samples: Vec<Steepness>,
    layers: Vec<LayerNorms>,
}

pub(crate) fn run(args: &JacobianArgs) -> Result<End> {
    let task: Task = args.task.parse().map_err(|e: DataError| anyhow!(Usage(e.to_string())))?;
    let data = datasets::load(&task, &DataSearch { explicit: args.data.clone() })?;
    let count = args.samples.min(data.test.len());
    let measured: Vec<Measured> =
        args.model.iter().map(|path| measure(path, &data, count)).collect::<Result<_>>()?;
    if args.json {
        for model in &measured {
            println!("{}", json!({"model": model.name, "samples": model.samples, "layers": model.layers}));
        }
        return Ok(End::Done);
    }
    println!("{count} test samples of {}\n", data.name);
    table(&measured);
    layers(&measured);
    Ok(End::Done)
}

fn measure(path: &Path, data: &Dataset, count: usize) -> Result<Measured> {
    let name = path.display().to_string();
    let model = Model::load(path)?;
    if model.network.input != data.shape || model.network.classes < data.classes.len() {
        bail!(
            "{name}: takes {:?} and knows {} classes; {} has {:?} and {}",
            model.network.input,
            model.network.classes,
            data.name,
            data.shape,
            data.classes.len()
        );
    }
    let codes = &data.test.codes[..count * data.sample_len()];
    let x: Vec<f32> = codes.iter().map(|code| data.grid.decode(*code)).collect();
    let mut predictor = Predictor::new(&model).with_context(|| name.clone())?;
    let samples = steepness(&mut predictor, &x, &data.test.labels[..count]).with_context(|| name.clone())?;
    let layers = layer_norms(&model, &x, PROJECTIONS).with_context(|| name.clone())?;
    Ok(Measured { name, samples, layers })
}

/// Quartiles over the correctly classified samples, for which radii mean something.
fn table(measured: &[Measured]) {
    println!("median [quartiles] over the samples each model classifies correctly\n");
    println!(
        "{:>9} {:>22} {:>22} {:>22} {:>24} {:>24}  model",
        "accuracy", "margin", "||J||_F", "sigma_max(J)", "radius l2", "radius linf, /255"
    );
    for model in measured {
        let right: Vec<&Steepness> = model.samples.iter().filter(|s| s.margin > 0.0).collect();
        let quartiles = |of: &dyn Fn(&Steepness) -> f64| {
            let mut values: Vec<f64> = right.iter().map(|s| of(s)).collect();
            values.sort_by(f64::total_cmp);
            let at = |q: f64| values.get((q * values.len() as f64) as usize).copied().unwrap_or(f64::NAN);
            format!("{:.3} [{:.3}, {:.3}]", at(0.5), at(0.25), at(0.75))
        };
        println!(
            "{:>8.1}% {:>22} {:>22} {:>22} {:>24} {:>24}  {}",
            100.0 * right.len() as f64 / model.samples.len().max(1) as f64,
            quartiles(&|s| s.margin),
            quartiles(&|s| s.frobenius),
            quartiles(&|s| s.spectral),
            quartiles(&|s| s.radius_l2),
            quartiles(&|s| 255.0 * s.radius_linf),
            model.name
        );
    }
}

fn layers(measured: &[Measured]) {
    println!("\nroot mean square Frobenius norms per layer, over all samples");
    for model in measured {
        println!("\n{}\n{:16} {:>14} {:>14} {:>14}", model.name, "layer", "dz/dlayer", "dlayer/dx", "local");
        for norms in &model.layers {
            let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.4}"));
            println!(
                "{:16} {:>14.4} {:>14} {:>14}",
                norms.layer,
                norms.logits,
                cell(norms.input),
                cell(norms.local)
            );
        }
    }
}
