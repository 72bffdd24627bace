//! The train stage: from a recipe to a trained network, continuing from whatever an interrupted run left.
use std::path::Path;

use datasets::{Augmentation, Dataset, Part};
use jacreg::JacobianProbe;
use qnn::interop::Weights;
use qnn::train::{self, FitOutcome, Penalty, TrainConfig, Trainer};
use qnn::{InputGrid, LayerOp, Model, Network, zoo};
use sha2::{Digest, Sha256};

use super::adapter::SplitSamples;
use super::engine::Selected;
use super::sensitivity;
use super::{Job, Tick};
use crate::error::StudyError;
use crate::recipe::{SensitivityPart, StartPart};

/// Batches from which batch normalisation is estimated anew when kernels are sampled in training.
const RECALIBRATION_BATCHES: usize = 32;
/// Samples on which Jacobian norms are measured after every epoch.
const PROBED: usize = 32;
/// Random directions per sample in which wide Jacobians are measured.
const PROBE_PROJECTIONS: u32 = 2;

/// Trains `network` for `epochs` in `work`, or continues there.
pub(super) fn fit(
    job: &Job<'_>,
    network: Network,
    epochs: u32,
    data: &Dataset,
    work: &Path,
    tick: Tick<'_>,
) -> Result<FitOutcome, StudyError> {
    let (recipe, schedule) = (job.recipe, &job.recipe.schedule);
    let context = || StudyError::work(format!("training {}", recipe.name));
    let mut model = Model::new(network, job.seed).map_err(context())?;
    if let Some(part) = &recipe.network.start {
        start(&mut model, part)?;
    }
    let mut kernels = model.network.layers.iter().filter_map(|layer| qnn::kernel_quantizer(&layer.op));
    let sampled = kernels.any(qtensor::Quantizer::is_stochastic);
    let config = TrainConfig {
        batch: schedule.batch,
        epochs,
        rate: schedule.lr,
        optimizer: recipe.optimizer.clone(),
        schedule: schedule.shape.clone(),
        label_smoothing: schedule.label_smoothing,
        clip_norm: schedule.clip_norm,
        ema: schedule.ema,
        patience: schedule.patience,
        recalibrate: if sampled { RECALIBRATION_BATCHES } else { 0 },
        seed: job.seed,
    };
    let jacobian = recipe.jacobian.iter().map(|p| Box::new(p.clone()) as Box<dyn Penalty>);
    let curvature = recipe.curvature.iter().map(|p| Box::new(p.clone()) as Box<dyn Penalty>);
    let mut trainer = Trainer::new(model, config, jacobian.chain(curvature).collect()).map_err(context())?;
    if let Some(part) = &recipe.adversarial {
        let adversary = part.settings().adversary().map_err(context())?;
        trainer = trainer.adversarial(adversary).map_err(context())?;
    }
    let probed = if data.validation.len() >= PROBED { Part::Validation } else { Part::Train };
    if data.split(probed).len() >= PROBED {
        let places: Vec<usize> = (0..PROBED).collect();
        let probe = JacobianProbe::new(Selected::at(data, probed, &places).x, PROBE_PROJECTIONS);
        trainer = trainer.with_probe(Box::new(probe));
    }
    let set = |part, augmentation| SplitSamples { data, part, augmentation, seed: job.seed };
    let samples = set(Part::Train, recipe.augmentation);
    let held_out = set(Part::Validation, Augmentation::NONE);
    let validation: Option<&dyn train::Samples> =
        if data.validation.is_empty() { None } else { Some(&held_out) };
    let steps = trainer.steps_per_epoch(&samples);
    let total = steps * u64::from(epochs);
    let mut latest = String::new();
    let mut on_event = |event: train::Event<'_>| match event {
        train::Event::Resumed(epochs) => tick(u64::from(epochs) * steps, total, "resumed from a checkpoint"),
        train::Event::Step { epoch, done, .. } => tick(u64::from(epoch) * steps + done, total, &latest),
        train::Event::Epoch { record, .. } => {
            latest = format!("epoch {}: loss {:.3}", record.epoch + 1, record.train.loss);
            if let Some(validation) = &record.validation {
                latest += &format!(", validation {:.1} %", 100.0 * validation.accuracy());
            }
            tick(u64::from(record.epoch + 1) * steps, total, &latest);
        }
        train::Event::Stopped(epoch) => tick(total, total, &format!("stopped after epoch {epoch}")),
    };
    train::fit(&mut trainer, &samples, validation, work, &mut on_event).map_err(context())
}

/// Puts the parameters of a file in place of the random ones.
fn start(model: &mut Model, part: &StartPart) -> Result<(), StudyError> {
    let place = part.file.display().to_string();
    let context = || StudyError::work(format!("starting from {place}"));
    let bytes = std::fs::read(&part.file).map_err(StudyError::io(&part.file))?;
    let refused = |message| StudyError::Work { context: format!("starting from {place}"), message };
    let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    if !found.eq_ignore_ascii_case(&part.sha256) {
        return Err(refused(format!("its SHA-256 is {found}, the recipe says {}", part.sha256)));
    }
    if part.file.extension().is_some_and(|e| e == "safetensors") {
        let weights = Weights::from_bytes(&bytes, &place).map_err(context())?;
        return model.assign(&weights).map(drop).map_err(context());
    }
    let other = Model::from_bytes(&bytes, &place).map_err(context())?;
    let fits = other.params.len() == model.params.len()
        && model.params.iter().zip(&other.params).all(|(a, b)| a.name == b.name && a.shape == b.shape);
    if !fits {
        return Err(refused(format!("it is a `{}` with other layers", other.network.name)));
    }
    model.params.iter_mut().zip(other.params).for_each(|(p, o)| p.values = o.values);
    Ok(())
}

/// The network whose bits per layer follow from a short training with 8 bits everywhere.
pub(super) fn by_sensitivity(
    job: &Job<'_>,
    part: &SensitivityPart,
    data: &Dataset,
    work: &Path,
    tick: Tick<'_>,
) -> Result<Network, StudyError> {
    let size = if job.recipe.network.name.ends_with("_l") { zoo::Size::L } else { zoo::Size::S };
    let grid = InputGrid { scale: data.grid.scale, zero_point: data.grid.zero_point };
    let build = |bits: &[u32]| {
        zoo::quanos(size, data.shape, grid, data.classes.len(), bits)
            .map_err(StudyError::work("bits by sensitivity"))
    };
    let bits = match sensitivity::kept_bits(work) {
        Some(bits) => bits,
        None => {
            let warm_up = work.join("warm_up");
            std::fs::create_dir_all(&warm_up).map_err(StudyError::io(&warm_up))?;
            let plain =
                zoo::stq_image(size, data.shape, grid, data.classes.len(), &zoo::Quantizers::default());
            let layers = plain
                .layers
                .iter()
                .filter(|l| matches!(l.op, LayerOp::Conv2d { .. } | LayerOp::Dense { .. }));
            let network = build(&vec![8; layers.count()])?;
            let trained = fit(job, network, part.epochs, data, &warm_up, tick)?.last;
            let places: Vec<usize> = (0..part.samples.min(data.train.len())).collect();
            let selected = Selected::at(data, Part::Train, &places);
            sensitivity::choose_bits(&trained, data, &selected, part, job.seed, work)?
        }
    };
    build(&bits)
}
