//! The engine behind `ternion`: datasets, training, attacks, audit and deployment put to work.
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use attacks::audit::{AuditOptions, Verdict, audit};
use attacks::{
    Access, Attack, InputBox, Network as AttackedNetwork, Norm, Options, Outcome as AttackOutcome, Passing,
    Record, Samples,
};
use datasets::{DataError, DataSearch, Dataset, Origin, Part, Task};
use qnn::{InputGrid, Model, Network, Predictor, argmax, zoo};

use super::sensitivity::BITS_FILE;
use super::training::{by_sensitivity, fit};
use super::{
    AuditReport, DataCard, Deployment, Engine, Evaluation, Evidence, Example, Finding, HISTORY_FILE, Job,
    Keep, Kept, MODEL_FILE, NetworkCard, Outcome, SampleRecord, Tick,
};
use crate::error::StudyError;
use crate::recipe::{AttackPart, Role};

/// Samples per model call.
const BATCH: usize = 128;

/// The real engine. It keeps the datasets it has loaded and the last model it has used.
pub struct Pipeline {
    search: DataSearch,
    data: RefCell<Vec<(Task, Rc<Dataset>)>>,
    model: RefCell<Option<(PathBuf, AttackedNetwork)>>,
}

impl Pipeline {
    /// An engine that looks for data where `search` says.
    pub fn new(search: DataSearch) -> Self {
        Self { search, data: RefCell::default(), model: RefCell::default() }
    }

    /// The dataset of a task, or its embedded twin if the files are not found.
    ///
    /// # Errors
    /// If files are there but wrong.
    pub fn dataset(&self, task: &Task) -> Result<Rc<Dataset>, StudyError> {
        if let Some((_, data)) = self.data.borrow().iter().find(|(known, _)| known == task) {
            return Ok(Rc::clone(data));
        }
        let loaded = match datasets::load(task, &self.search) {
            Err(DataError::NotFound { .. }) => datasets::load(&task.embedded_twin(), &self.search),
            other => other,
        };
        let data = Rc::new(loaded.map_err(StudyError::work(format!("loading {task}")))?);
        self.data.borrow_mut().push((*task, Rc::clone(&data)));
        Ok(data)
    }

    fn describe(&self, job: &Job<'_>) -> Result<Network, StudyError> {
        let (part, data) = (&job.recipe.network, job.data);
        let quantizers = part.quantizers().map_err(|(key, message)| StudyError::Work {
            context: format!("{}: {key}", job.recipe.name),
            message,
        })?;
        let grid = InputGrid { scale: data.scale, zero_point: data.zero_point };
        let failed = || StudyError::work(format!("building {}", part.name));
        let mut network =
            zoo::build(&part.name, data.shape, grid, data.classes.len(), &quantizers).map_err(failed())?;
        let layers = part.layer_quantizers().map_err(|(key, message)| StudyError::Work {
            context: format!("{}: {key}", job.recipe.name),
            message,
        })?;
        for (layer, quantizer) in layers {
            network.set_quantizer(layer, quantizer).map_err(failed())?;
        }
        for (layer, by) in &part.dilations {
            network.set_dilation(layer, *by).map_err(failed())?;
        }
        for (layer, by) in &part.multipliers {
            network.set_multiplier(layer, *by).map_err(failed())?;
        }
        Ok(network)
    }

    /// Runs `work` with the model of that file, kept compiled between calls.
    fn with_model<T>(
        &self,
        path: &Path,
        work: impl FnOnce(&mut AttackedNetwork) -> Result<T, StudyError>,
    ) -> Result<T, StudyError> {
        let mut kept = self.model.borrow_mut();
        if kept.as_ref().is_none_or(|(known, _)| known != path) {
            let context = || StudyError::work(format!("reading {}", path.display()));
            let model = Model::load(path).map_err(context())?;
            let predictor = Predictor::new(&model).map_err(context())?;
            *kept = Some((path.to_owned(), AttackedNetwork(predictor)));
        }
        match kept.as_mut() {
            Some((_, model)) => work(model),
            None => Err(StudyError::NotCached(crate::stage::Stage::Train)),
        }
    }
}

/// Test samples by identifier: their codes as real values, labels, identifiers.
pub(super) struct Selected {
    pub(super) codes: Vec<u8>,
    pub(super) x: Vec<f32>,
    pub(super) labels: Vec<u8>,
    pub(super) ids: Vec<u32>,
}

impl Selected {
    /// Test samples by identifier.
    pub(super) fn new(data: &Dataset, ids: &[u32]) -> Result<Self, StudyError> {
        let places: HashMap<u32, usize> =
            data.test.ids.iter().enumerate().map(|(place, id)| (*id, place)).collect();
        let place = |id: &u32| {
            places.get(id).copied().ok_or_else(|| StudyError::Work {
                context: format!("test split of {}", data.name),
                message: format!("there is no sample {id}"),
            })
        };
        let places = ids.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::at(data, Part::Test, &places))
    }

    /// Samples of a split by position; every position must be below the split's length.
    pub(super) fn at(data: &Dataset, part: Part, places: &[usize]) -> Self {
        let (split, d) = (data.split(part), data.sample_len());
        let codes: Vec<u8> =
            places.iter().flat_map(|place| &split.codes[place * d..(place + 1) * d]).copied().collect();
        Self {
            x: codes.iter().map(|code| data.grid.decode(*code)).collect(),
            codes,
            labels: places.iter().map(|place| split.labels[*place]).collect(),
            ids: places.iter().map(|place| split.ids[*place]).collect(),
        }
    }

    fn samples(&self) -> Samples<'_> {
        Samples::new(&self.x, &self.labels, &self.ids)
    }
}

pub(super) fn bounds(data: &Dataset) -> Result<InputBox, StudyError> {
    InputBox::new(data.grid.decode(0), data.grid.decode(255)).map_err(StudyError::work("box of the input"))
}

/// Predicted classes of `x`, `d` values each.
fn predict(model: &mut Predictor, x: &[f32], tick: Tick<'_>) -> Result<Vec<u8>, StudyError> {
    let (d, k) = (model.input_len(), model.model().network.classes);
    let total = (x.len() / d) as u64;
    let (mut predicted, mut logits) = (Vec::new(), vec![0.0; BATCH * k]);
    for rows in x.chunks(BATCH * d) {
        let logits = &mut logits[..rows.len() / d * k];
        model.logits(rows, logits).map_err(StudyError::work("inference"))?;
        predicted.extend(logits.chunks(k).map(|z| argmax(z) as u8));
        tick(predicted.len() as u64, total, "samples");
    }
    Ok(predicted)
}

/// Predicted classes of inputs on the grid, as the deployed program sees them, with the model they come from.
fn predict_codes(path: &Path, x: &[f32], tick: Tick<'_>) -> Result<(Model, Vec<u8>), StudyError> {
    let context = || StudyError::work(format!("reading {}", path.display()));
    let model = Model::load(path).map_err(context())?;
    let mut predictor = Predictor::for_codes(&model).map_err(context())?;
    let predicted = predict(&mut predictor, x, tick)?;
    Ok((model, predicted))
}

impl Engine for Pipeline {
    fn data(&self, task: &Task) -> Result<DataCard, StudyError> {
        let data = self.dataset(task)?;
        let mut note = data.note.clone();
        data.warnings.iter().for_each(|warning| {
            note.push(' ');
            note.push_str(warning);
        });
        Ok(DataCard {
            name: data.name.clone(),
            checksum: data.checksum.clone(),
            origin: match data.origin {
                Origin::Official => "official",
                Origin::OfficialSubset => "official subset",
                Origin::Embedded => "embedded",
            }
            .to_owned(),
            embedded: data.origin == Origin::Embedded && !task.is_embedded(),
            note,
            shape: data.shape,
            scale: data.grid.scale,
            zero_point: data.grid.zero_point,
            classes: data.classes.clone(),
            counts: [data.train.len(), data.validation.len(), data.test.len()],
            test_ids: data.test.ids.clone(),
        })
    }

    fn network(&self, job: &Job<'_>) -> Result<NetworkCard, StudyError> {
        let network = self.describe(job)?;
        let context = || StudyError::work(format!("network of {}", job.recipe.name));
        let shapes = network.shapes().map_err(context())?;
        let values = shapes.iter().flat_map(|s| &s.params).map(|(_, shape)| shape.iter().product::<usize>());
        Ok(NetworkCard {
            description: serde_json::to_value(&network).map_err(StudyError::work("network"))?,
            macs: shapes.iter().map(|s| s.macs).sum(),
            parameters: values.sum::<usize>() as u64,
        })
    }

    fn train(&self, job: &Job<'_>, work: &Path, tick: Tick<'_>) -> Result<(), StudyError> {
        let recipe = job.recipe;
        let whole = self.dataset(&job.task)?;
        let most = |limit: Option<usize>| limit.unwrap_or(usize::MAX);
        let (train, validation) = (recipe.dataset.train_samples, recipe.dataset.validation_samples);
        // A subset copies the samples, which only small profiles ask for.
        let data = match (train, validation) {
            (None, None) => whole,
            _ => Rc::new(whole.subset(most(train), most(validation), usize::MAX)),
        };
        recipe.augmentation.check(&data).map_err(StudyError::work(recipe.name.as_str()))?;
        let network = match &recipe.network.sensitivity {
            None => self.describe(job)?,
            Some(part) => by_sensitivity(job, part, &data, work, tick)?,
        };
        let outcome = fit(job, network, recipe.schedule.epochs, &data, work, tick)?;
        outcome.last.save(&work.join(MODEL_FILE)).map_err(StudyError::work("saving the model"))?;
        // Only the model and its history are a result; the rest was for resuming.
        for item in std::fs::read_dir(work).map_err(StudyError::io(work))? {
            let path = item.map_err(StudyError::io(work))?.path();
            if path.is_dir() {
                std::fs::remove_dir_all(&path).map_err(StudyError::io(&path))?;
            } else if ![MODEL_FILE, HISTORY_FILE, BITS_FILE].iter().any(|keep| path.ends_with(keep)) {
                std::fs::remove_file(&path).map_err(StudyError::io(&path))?;
            }
        }
        Ok(())
    }

    fn evaluate(
        &self,
        job: &Job<'_>,
        model: &Path,
        ids: &[u32],
        tick: Tick<'_>,
    ) -> Result<Evaluation, StudyError> {
        let selected = Selected::new(&*self.dataset(&job.task)?, ids)?;
        let predicted = predict_codes(model, &selected.x, tick)?.1;
        let mut per_class = vec![[0, 0]; job.data.classes.len()];
        for (label, predicted) in selected.labels.iter().zip(&predicted) {
            if let Some([correct, total]) = per_class.get_mut(usize::from(*label)) {
                *total += 1;
                *correct += usize::from(label == predicted);
            }
        }
        let correct = per_class.iter().map(|c| c[0]).sum();
        Ok(Evaluation { samples: ids.len(), correct, per_class })
    }

    fn attack(
        &self,
        job: &Job<'_>,
        model: &Path,
        attack: &AttackPart,
        ids: &[u32],
        keep: Keep<'_>,
    ) -> Result<Vec<SampleRecord>, StudyError> {
        let data = self.dataset(&job.task)?;
        let (selected, bounds) = (Selected::new(&data, ids)?, bounds(&data)?);
        let sizes: Vec<f32> = attack.eps.iter().map(|e| e.value() as f32).collect();
        let checked: Vec<usize> = (0..ids.len()).filter(|i| keep.checked.contains(&ids[*i])).collect();
        let keep_adversarial = !checked.is_empty() || ids.iter().any(|id| keep.shown.contains(id));
        let outcomes = self.with_model(model, |network| {
            let mut options = Options { batch: BATCH, keep_adversarial, ..Options::default() };
            attacks::run(
                &attack.attack,
                Access::White(network),
                &selected.samples(),
                &sizes,
                &bounds,
                job.seed,
                &mut options,
            )
            .map_err(StudyError::work(attack.attack.to_string()))
        })?;
        // What is predicted without an attack comes from a pass of its own: a broken sample's record has lost it.
        let clean = self.with_model(model, |m| predict(&mut m.0, &selected.x, &|_, _, _| ()))?;
        let headline =
            attack.headline_eps().and_then(|h| attack.eps.iter().position(|e| e == h)).unwrap_or(0);
        let record = |(i, id): (usize, &u32)| {
            let sized = |(eps, outcome): (&crate::recipe::Eps, &AttackOutcome)| {
                let r = &outcome.records[i];
                let (predicted, queries, gradients) = (r.prediction, r.queries, r.gradients);
                Outcome { eps: eps.value(), predicted, queries, gradients, distance: r.norm }
            };
            let mut record = SampleRecord {
                id: *id,
                label: selected.labels[i],
                predicted: clean[i],
                outcomes: attack.eps.iter().zip(&outcomes).map(sized).collect(),
                example: None,
                kept: None,
            };
            if keep.shown.contains(id) {
                record.example = example(&data, &selected, &record, &outcomes[headline], attack, i);
            }
            record
        };
        let mut records: Vec<SampleRecord> = ids.iter().enumerate().map(record).collect();
        if !checked.is_empty() {
            let kept = Kept::of(&outcomes, &selected, &checked, model)?;
            checked.iter().zip(kept).for_each(|(i, kept)| records[*i].kept = Some(kept));
        }
        Ok(records)
    }

    fn audit(
        &self,
        job: &Job<'_>,
        model: &Path,
        ids: &[u32],
        evidence: &[Evidence<'_>],
        _tick: Tick<'_>,
    ) -> Result<AuditReport, StudyError> {
        let data = self.dataset(&job.task)?;
        let (selected, bounds) = (Selected::new(&data, ids)?, bounds(&data)?);
        let claimed = evidence.iter().find(|e| e.attack.role == Role::Strong).or(evidence.first());
        let (norm, eps) = claimed.map_or((Norm::Linf, 0.0), |e| {
            (e.attack.attack.norm(), e.attack.headline_eps().map_or(0.0, |eps| eps.value() as f32))
        });
        let options = AuditOptions {
            norm,
            eps,
            samples: ids.len(),
            batch: BATCH,
            seed: job.seed,
            ..job.recipe.evaluate.audit_options()
        };
        let outcomes: Vec<AttackOutcome> = evidence.iter().flat_map(|e| outcomes_of(e, job.seed)).collect();
        // Other gradients of the same network: what its own surrogates clip passes here.
        let weights = Model::load(model).map_err(StudyError::work(format!("reading {}", model.display())))?;
        let mut other =
            AttackedNetwork::new(&weights, Passing::Identity).map_err(StudyError::work("surrogate"))?;
        let report = self.with_model(model, |network| {
            audit(
                Access::White(network),
                Some(Access::White(&mut other)),
                &selected.samples(),
                &bounds,
                &outcomes,
                &options,
            )
            .map_err(StudyError::work(format!("audit of {}", job.recipe.name)))
        })?;
        let finding = |f: &attacks::audit::Finding| Finding {
            check: f.check.to_string(),
            suspicious: !f.passed,
            value: f.number,
            sentence: if f.passed { f.sentence.clone() } else { format!("{} Next: {}.", f.sentence, f.next) },
        };
        Ok(AuditReport {
            verdict: match report.verdict {
                Verdict::Sound => "sound",
                Verdict::Masked => "masked",
                Verdict::Inconclusive => "inconclusive",
            }
            .to_owned(),
            findings: report.findings.iter().map(finding).collect(),
        })
    }

    fn deploy(
        &self,
        job: &Job<'_>,
        model: &Path,
        work: &Path,
        ids: &[u32],
        tick: Tick<'_>,
    ) -> Result<Deployment, StudyError> {
        let selected = Selected::new(&*self.dataset(&job.task)?, ids)?;
        let (model, expected) = predict_codes(model, &selected.x, &|_, _, _| ())?;
        super::deployment::deploy(&model, &selected, &expected, work, tick)
    }
}

fn example(
    data: &Dataset,
    selected: &Selected,
    record: &SampleRecord,
    outcome: &AttackOutcome,
    attack: &AttackPart,
    i: usize,
) -> Option<Example> {
    let d = data.sample_len();
    let adversarial = &outcome.adversarial.as_ref()?[i * d..(i + 1) * d];
    // A tenth of a code is finer than the strip can show.
    let code = |x: &f32| ((x / data.grid.scale + f32::from(data.grid.zero_point)) * 10.0).round() / 10.0;
    Some(Example {
        id: record.id,
        eps: attack.headline_eps()?.text().to_owned(),
        label: record.label,
        predicted: record.predicted,
        adversarial: outcome.records[i].prediction,
        clean_codes: selected.codes[i * d..(i + 1) * d].to_vec(),
        adversarial_codes: adversarial.iter().map(code).collect(),
    })
}

/// Our records in the form the audit joins its own attacks to.
fn outcomes_of(evidence: &Evidence<'_>, seed: u64) -> Vec<AttackOutcome> {
    let attack: &Attack = &evidence.attack.attack;
    let outcome = |(size, eps): (usize, &crate::recipe::Eps)| {
        let record = |r: &SampleRecord| {
            let o = r.outcomes.get(size)?;
            Some(Record {
                id: r.id,
                label: r.label,
                clean_correct: r.predicted == r.label,
                adversarial_correct: o.predicted == r.label,
                prediction: o.predicted,
                claimed: r.predicted == r.label && o.predicted != r.label,
                norm: o.distance,
                minimum_norm: None,
                queries: o.queries,
                gradients: o.gradients,
                best_loss: None,
            })
        };
        AttackOutcome {
            attack: attack.clone(),
            norm: attack.norm(),
            eps: eps.value() as f32,
            seed,
            targeted: false,
            records: evidence.records.iter().filter_map(record).collect(),
            adversarial: None,
        }
    };
    evidence.attack.eps.iter().enumerate().map(outcome).collect()
}
