//! A whole training run: epochs, validation, history, checkpoints, early stopping, resuming.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{EpochStats, Samples, Trainer, tensorboard};
use crate::QnnError;
use crate::checkpoint::{Checkpoint, write_atomic};
use crate::infer::{Evaluation, evaluate};
use crate::model::Model;

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Epoch, from 0.
    pub epoch: u32,
    /// Training statistics.
    pub train: EpochStats,
    /// Validation in the inference phase, if there is a validation set.
    pub validation: Option<Evaluation>,
    /// Learning rate at the start of the epoch.
    pub rate: f64,
    /// What the trainer's probes found in the model after the epoch, by name.
    #[serde(default)]
    pub probes: Vec<(String, f64)>,
}

/// What a run reports while it goes on.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The run continues after this many finished epochs.
    Resumed(u32),
    /// A step is done.
    Step {
        /// Epoch, from 0.
        epoch: u32,
        /// Steps done in this epoch.
        done: u64,
        /// Steps in an epoch.
        of: u64,
    },
    /// An epoch is done and saved.
    Epoch {
        /// Its record.
        record: &'a EpochRecord,
        /// Wall seconds it took, validation included.
        seconds: f64,
    },
    /// No better validation accuracy for the configured patience.
    Stopped(u32),
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct FitOutcome {
    /// The model after the last epoch (its moving average, where one is kept).
    pub last: Model,
    /// The model with the best validation accuracy (the last one without validation).
    pub best: Model,
    /// All epochs.
    pub history: Vec<EpochRecord>,
}

/// Trains to the end, keeping `last.checkpoint`, `best.model`, `history.jsonl` and events for TensorBoard in `dir` after every epoch. If `dir`
/// holds a checkpoint of the same run, continues after its last finished epoch, with the same final bits as an
/// uninterrupted run.
pub fn fit(
    trainer: &mut Trainer,
    train: &dyn Samples,
    validation: Option<&dyn Samples>,
    dir: &Path,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<FitOutcome, QnnError> {
    let (last_path, best_path) = (dir.join("last.checkpoint"), dir.join("best.model"));
    let run = digest(trainer, train.len());
    let mut history = Vec::new();
    let mut best = trainer.result();
    if last_path.exists() {
        let saved = Checkpoint::load(&last_path)?;
        if saved.run != run {
            let reason = "it belongs to another run (hyper-parameters, data size or penalties differ); use another \
                          directory or delete it";
            return Err(QnnError::File { path: last_path.display().to_string(), reason: reason.into() });
        }
        let epochs = saved.history.len() as u32;
        trainer.restore(saved.model, saved.state, epochs)?;
        history = saved.history;
        best = if best_path.exists() { Model::load(&best_path)? } else { trainer.result() };
        on_event(Event::Resumed(epochs));
    }
    while trainer.epoch() < trainer.config().epochs {
        if let Some(stale) = stale_epochs(&history)
            && trainer.config().patience.is_some_and(|p| stale >= p)
        {
            on_event(Event::Stopped(trainer.epoch()));
            break;
        }
        let started = Instant::now();
        let epoch = trainer.epoch();
        let config = trainer.config();
        let rate = config.schedule.rate(config.rate, f64::from(epoch), config.epochs);
        let stats = trainer.train_epoch(train, &mut |done, of| on_event(Event::Step { epoch, done, of }))?;
        let result = trainer.result();
        let validation = validation.map(|v| evaluate(&result, v)).transpose()?;
        let accuracy = |r: &EpochRecord| r.validation.as_ref().map_or(0.0, Evaluation::accuracy);
        let probes = trainer.probe()?;
        let record = EpochRecord { epoch, train: stats, validation, rate, probes };
        if history.iter().all(|r| accuracy(r) < accuracy(&record)) || record.validation.is_none() {
            best = result;
            best.save(&best_path)?;
        }
        history.push(record);
        write_atomic(&dir.join("history.jsonl"), &lines(&history)?)?;
        write_atomic(&dir.join(tensorboard::FILE), &tensorboard::events(&history, &trainer.penalty_names()))?;
        let checkpoint = Checkpoint {
            run: run.clone(),
            model: trainer.model().clone(),
            state: trainer.state().clone(),
            history: history.clone(),
        };
        checkpoint.save(&last_path)?;
        let record = history.last().expect("just pushed");
        on_event(Event::Epoch { record, seconds: started.elapsed().as_secs_f64() });
    }
    Ok(FitOutcome { last: trainer.result(), best, history })
}

/// Epochs since the best validation accuracy; `None` before the first epoch or without validation.
fn stale_epochs(history: &[EpochRecord]) -> Option<u32> {
    let accuracies: Option<Vec<f64>> =
        history.iter().map(|r| r.validation.as_ref().map(Evaluation::accuracy)).collect();
    let accuracies = accuracies.filter(|a| !a.is_empty())?;
    let best = accuracies.iter().copied().fold(f64::MIN, f64::max);
    let at = accuracies.iter().position(|a| *a == best)?;
    Some((accuracies.len() - 1 - at) as u32)
}

fn digest(trainer: &Trainer, samples: usize) -> String {
    let mut text =
        format!("{:?} {:?} {:?} {samples}", trainer.config, trainer.penalties, trainer.model.network);
    if let Some(adversary) = &trainer.adversary {
        text += &adversary.settings();
    }
    Sha256::digest(text).iter().fold(String::new(), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

fn lines(history: &[EpochRecord]) -> Result<Vec<u8>, QnnError> {
    let mut text = Vec::new();
    for record in history {
        serde_json::to_writer(&mut text, record).map_err(|e| QnnError::Config(e.to_string()))?;
        text.push(b'\n');
    }
    Ok(text)
}
