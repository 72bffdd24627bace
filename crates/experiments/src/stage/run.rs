//! Running a plan: each stage once, locked, cached, resumable; a failure stops only what depends on it.
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use super::plan::{Plan, Step, Unit};
use super::store::{Entry, EntryId, Lookup, Store, json_text, write_atomic};
use super::{Shard, Stage, parts};
use crate::error::StudyError;
use crate::pipeline::{Engine, Evidence, Keep, MODEL_FILE};
use crate::progress::{Event, Progress};
use crate::recipe::{Profile, RecipeSet, Role};
use crate::report;
use crate::results::{Results, gather};

/// Samples attacked between two saves.
const CHUNK: usize = 128;
/// Adversarial examples kept to be shown.
const EXAMPLES: usize = 16;
/// Adversarial examples of a strong attack kept at each size, to be checked again.
const CHECKED: usize = 32;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much of the study.
    pub profile: Profile,
    /// Recipes, in table order.
    pub recipes: Vec<RecipeSet>,
    /// Output folder.
    pub out: PathBuf,
    /// One seed instead of the recipes' own.
    pub seed: Option<u64>,
    /// Run only these stages; all by default.
    pub only: Option<Vec<Stage>>,
    /// Attack only this part of the samples.
    pub shard: Option<Shard>,
}

/// What a run of a study did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Stages computed now.
    pub computed: usize,
    /// Stages whose results were already there.
    pub cached: usize,
    /// Unit, stage (none if the unit could not be planned) and reason of each failure.
    pub failed: Vec<(String, Option<Stage>, String)>,
    /// The report, if it was written.
    pub report: Option<PathBuf>,
}

/// A study: engine, options and whom to tell.
pub struct Study<'a> {
    engine: &'a dyn Engine,
    progress: &'a dyn Progress,
    options: Options,
    store: Store,
}

impl<'a> Study<'a> {
    /// A study that has not started; nothing is read or written yet.
    pub fn new(engine: &'a dyn Engine, progress: &'a dyn Progress, options: Options) -> Self {
        let store = Store::new(&options.out);
        Self { engine, progress, options, store }
    }

    /// What [`run`](Self::run) would do.
    pub fn plan(&self) -> Plan {
        Plan::new(self.engine, &self.store, &self.options)
    }

    /// Runs a plan. Failures of single stages are in the summary; an error means that nothing more can be done.
    ///
    /// # Errors
    /// If results or report cannot be written.
    pub fn run(&self, plan: &Plan) -> Result<Summary, StudyError> {
        let mut summary = Summary::default();
        for (unit, error) in &plan.refused {
            self.fail(&mut summary, unit, None, error);
        }
        for unit in &plan.units {
            self.unit(unit, &mut summary);
            if self.wants(Stage::Report) {
                summary.report = Some(self.report(unit)?);
            }
        }
        Ok(summary)
    }

    fn wants(&self, stage: Stage) -> bool {
        self.options.only.as_ref().is_none_or(|only| only.contains(&stage))
    }

    fn unit(&self, unit: &Unit, summary: &mut Summary) {
        let mut attack_failed = false;
        for step in unit.steps.iter().filter(|step| self.wants(step.stage)) {
            if step.stage == Stage::Audit && attack_failed {
                continue;
            }
            let label = match &step.attack {
                None => unit.name.clone(),
                Some(attack) => format!("{} {}", unit.name, attack.split('(').next().unwrap_or(attack)),
            };
            match self.step(unit, step, &label) {
                Ok(true) => summary.cached += 1,
                Ok(false) => summary.computed += 1,
                // Another shard will complete the attack and its process will run the audit.
                Err(error @ StudyError::PartsMissing { .. }) if self.options.shard.is_some() => {
                    self.notice(format!("{label}: {} waits: {error}", step.stage));
                }
                Err(error) => {
                    self.fail(summary, &label, Some(step.stage), &error);
                    attack_failed |= step.stage == Stage::Attack;
                    if step.stage == Stage::Train {
                        break;
                    }
                }
            }
        }
    }

    /// Makes one result unless it is there; returns whether it was.
    fn step(&self, unit: &Unit, step: &Step, label: &str) -> Result<bool, StudyError> {
        let id = step.id();
        if self.present(unit, step, &id, true)? {
            self.end(step.stage, label, true, 0.0);
            return Ok(true);
        }
        let waiting = |holder: &str| self.notice(format!("{label}: {} waits for {holder}", step.stage));
        let _lock = self.store.lock(&id, &waiting)?;
        if self.present(unit, step, &id, false)? {
            self.end(step.stage, label, true, 0.0);
            return Ok(true);
        }
        self.progress.report(&Event::Start { stage: step.stage, unit: label.to_owned() });
        let start = Instant::now();
        let work = self.store.work(&id, matches!(step.stage, Stage::Train | Stage::Attack))?;
        let save = |file: &str, text: String| write_atomic(&work.join(file), text.as_bytes());
        let tick = |done, total, message: &str| {
            let (unit, message) = (label.to_owned(), message.to_owned());
            self.progress.report(&Event::Advance { stage: step.stage, unit, done, total, message });
        };
        let job = unit.job();
        match step.stage {
            Stage::Data => save("data.json", json_text(&unit.data)?)?,
            Stage::Train => self.engine.train(&job, &work, &tick)?,
            Stage::Evaluate => {
                let model = self.model(unit)?;
                let measured = self.engine.evaluate(&job, &model, &unit.clean_selection(), &tick)?;
                save("evaluation.json", json_text(&measured)?)?;
            }
            Stage::Attack => self.attack(unit, step, &work, &tick)?,
            Stage::Audit => {
                let model = self.model(unit)?;
                let evidence = self.evidence(unit)?;
                let report = self.engine.audit(&job, &model, &unit.audit_selection(), &evidence, &tick)?;
                save("audit.json", json_text(&report)?)?;
            }
            Stage::Deploy => {
                let model = self.model(unit)?;
                let deployed = self.engine.deploy(&job, &model, &work, &unit.clean_selection(), &tick)?;
                save("deployment.json", json_text(&deployed)?)?;
            }
            Stage::Report => {}
        }
        let seconds = start.elapsed().as_secs_f64();
        self.store.commit(&id, &step.inputs, seconds)?;
        self.end(step.stage, label, false, seconds);
        Ok(false)
    }

    fn present(&self, unit: &Unit, step: &Step, id: &EntryId, tell: bool) -> Result<bool, StudyError> {
        let found = match self.store.lookup(id)? {
            Lookup::Hit(_) => return Ok(true),
            Lookup::Miss => false,
            Lookup::Corrupt(reason) => {
                if tell {
                    self.notice(format!("{}: {} is made again: {reason}", unit.name, step.stage));
                }
                false
            }
        };
        match self.part_ids(unit, step) {
            Some(ids) => parts::covers(&self.store, &step.key, &ids),
            None => Ok(found),
        }
    }

    /// Samples of the part a step computes; none if it is not an attack.
    fn part_ids(&self, unit: &Unit, step: &Step) -> Option<Vec<u32>> {
        let index = unit.steps_of(Stage::Attack).position(|s| s.key == step.key)?;
        let selection = unit.attack_selection(&unit.recipe.attacks[index]);
        Some(step.part.unwrap_or(Shard::WHOLE).take(&selection))
    }

    fn attack(
        &self,
        unit: &Unit,
        step: &Step,
        work: &std::path::Path,
        tick: crate::pipeline::Tick<'_>,
    ) -> Result<(), StudyError> {
        let model = self.model(unit)?;
        let attacks = &unit.recipe.attacks;
        let index = unit.steps_of(Stage::Attack).position(|s| s.key == step.key).unwrap_or(0);
        let attack = &attacks[index];
        let selection = unit.attack_selection(attack);
        let shows = attacks.iter().position(|a| a.role == Role::Strong) == Some(index);
        let first =
            |wanted: bool, most: usize| if wanted { &selection[..selection.len().min(most)] } else { &[] };
        let strong = attack.role == Role::Strong;
        let keep = Keep { shown: first(shows, EXAMPLES), checked: first(strong, CHECKED) };
        let ids = step.part.unwrap_or(Shard::WHOLE).take(&selection);
        let mut records = parts::resume(work)?;
        let todo: Vec<u32> = ids.iter().copied().filter(|id| !records.iter().any(|r| r.id == *id)).collect();
        for chunk in todo.chunks(CHUNK) {
            tick(records.len() as u64, ids.len() as u64, "samples");
            let done = self.engine.attack(&unit.job(), &model, attack, chunk, keep)?;
            parts::append(work, &done)?;
            records.extend(done);
        }
        let records = super::merge_parts(&ids, [records])?;
        parts::finish(work, &records)
    }

    /// What the audit knows of the attacks, which must be complete.
    fn evidence<'u>(&self, unit: &'u Unit) -> Result<Vec<Evidence<'u>>, StudyError> {
        let mut evidence = Vec::new();
        for (step, attack) in unit.steps_of(Stage::Attack).zip(&unit.recipe.attacks) {
            let selection = unit.attack_selection(attack);
            let records = parts::attacked(&self.store, &step.key, &selection)?;
            if records.len() < selection.len() {
                return Err(StudyError::PartsMissing { present: records.len(), expected: selection.len() });
            }
            evidence.push(Evidence { attack, records });
        }
        Ok(evidence)
    }

    fn model(&self, unit: &Unit) -> Result<PathBuf, StudyError> {
        Ok(self.stored(unit, Stage::Train)?.path(MODEL_FILE))
    }

    fn stored(&self, unit: &Unit, stage: Stage) -> Result<Entry, StudyError> {
        let step = unit.steps_of(stage).next().ok_or(StudyError::NotCached(stage))?;
        match self.store.lookup(&step.id())? {
            Lookup::Hit(entry) => Ok(entry),
            _ => Err(StudyError::NotCached(stage)),
        }
    }

    /// Puts a run's rows into `results.jsonl` and remakes the report from it.
    fn report(&self, unit: &Unit) -> Result<PathBuf, StudyError> {
        let rows = gather(&self.store, &self.options.out, unit, self.options.profile)?;
        Results::update(&self.options.out, rows)?;
        report::write(&self.options.out, Some(self.options.profile))
    }

    fn end(&self, stage: Stage, unit: &str, cached: bool, seconds: f64) {
        self.progress.report(&Event::End { stage, unit: unit.to_owned(), cached, seconds });
    }

    fn notice(&self, message: String) {
        self.progress.report(&Event::Notice { loud: false, message });
    }

    fn fail(&self, summary: &mut Summary, unit: &str, stage: Option<Stage>, error: &StudyError) {
        let message = error.to_string();
        let at = stage.unwrap_or(Stage::Data);
        self.progress.report(&Event::Failed { stage: at, unit: unit.to_owned(), error: message.clone() });
        summary.failed.push((unit.to_owned(), stage, message));
    }
}
