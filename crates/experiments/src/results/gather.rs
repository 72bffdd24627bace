//! From a run's cached stages to rows, and copies of what the report shows beside the numbers.
use std::collections::BTreeMap;
use std::path::Path;

use super::{DataOrigin, Footprint, Measure, Row};
use crate::error::StudyError;
use crate::examples::ExampleSet;
use crate::interval::{mean, median, wilson};
use crate::pipeline::{AuditReport, Deployment, Evaluation, HISTORY_FILE, SampleRecord, example_set};
use crate::recipe::{Profile, Role};
use crate::report::artefact;
use crate::stage::{Entry, Lookup, Stage, Step, Store, Unit, attacked};

/// Rows for everything of `unit` that the cache holds; attacks whose parts are missing get rows that say so.
pub(crate) fn gather(
    store: &Store,
    out: &Path,
    unit: &Unit,
    profile: Profile,
) -> Result<Vec<Row>, StudyError> {
    let entry = |stage: Stage| -> Result<Option<Entry>, StudyError> {
        let Some(step) = unit.steps_of(stage).next() else { return Ok(None) };
        Ok(match store.lookup(&step.id())? {
            Lookup::Hit(entry) => Some(entry),
            _ => None,
        })
    };
    let audit: Option<AuditReport> = entry(Stage::Audit)?.map(|e| e.json("audit.json")).transpose()?;
    let deployed: Option<Deployment> =
        entry(Stage::Deploy)?.map(|e| e.json("deployment.json")).transpose()?;
    let clean: Option<Evaluation> = entry(Stage::Evaluate)?.map(|e| e.json("evaluation.json")).transpose()?;
    let template = template(unit, profile, audit, deployed.as_ref());
    if let Some(train) = entry(Stage::Train)? {
        artefact::copy_history(out, &template, &train.path(HISTORY_FILE))?;
    }
    let mut rows = Vec::new();
    let clean_expected = unit.clean_selection().len();
    let (samples, correct, per_class) =
        clean.map_or((0, 0, Vec::new()), |c| (c.samples, c.correct, c.per_class));
    let row = Row { clean_correct: correct, per_class, ..template.clone() };
    rows.push(counted(row, samples, clean_expected, correct));
    if let Some(deployed) = deployed.filter(|d| d.integer) {
        let row = Row { measure: Measure::Deployed, clean_correct: deployed.correct, ..template.clone() };
        rows.push(counted(row, deployed.samples, clean_expected, deployed.correct));
    }
    let mut strongest = Strongest::default();
    for (step, attack) in unit.steps_of(Stage::Attack).zip(&unit.recipe.attacks) {
        let selection = unit.attack_selection(attack);
        let records = attacked(store, &step.key, &selection)?;
        if attack.role == Role::Strong && records.iter().any(|r| r.example.is_some()) {
            let examples = records.iter().filter_map(|r| r.example.clone()).collect();
            artefact::save_examples(out, &template, &step_text(step), &unit.data, examples)?;
        }
        for (i, eps) in attack.eps.iter().enumerate() {
            let text = step_text(step);
            let mut row = Row {
                measure: Measure::Attack,
                norm: Some(attack.attack.norm().to_string()),
                attack: text,
                role: Some(attack.role),
                eps: eps.value(),
                eps_text: eps.text().to_owned(),
                headline: attack.headline_eps() == Some(eps),
                ..template.clone()
            };
            row.stages.insert(Stage::Attack.name().to_owned(), step.key.short().to_owned());
            let queries: Vec<f64> =
                records.iter().filter_map(|r| r.outcomes.get(i)).map(|o| o.queries as f64).collect();
            (row.queries_median, row.queries_mean) = (median(&queries), mean(&queries));
            let broken = records.iter().filter(|r| r.predicted == r.label && !r.robust(i));
            let norms: Vec<f64> = broken.filter_map(|r| r.outcomes.get(i)).map(|o| o.distance).collect();
            row.norm_median = median(&norms);
            row.per_class = by_class(&records, i, unit.data.classes.len());
            row.clean_correct = records.iter().filter(|r| r.predicted == r.label).count();
            let ball = (attack.attack.norm(), eps.value() as f32);
            if let Some(set) = example_set(&records, i, ball, &unit.data) {
                strongest.offer(eps.text(), set);
            }
            rows.push(counted(row, records.len(), selection.len(), robust(&records, i)));
        }
    }
    for (eps, set) in &strongest.0 {
        artefact::save_codes(out, &template, eps, set)?;
    }
    Ok(rows)
}

/// For each ball the examples of the attack that leaves the fewest of the kept samples standing.
#[derive(Default)]
struct Strongest(Vec<(String, ExampleSet)>);

impl Strongest {
    fn offer(&mut self, eps: &str, set: ExampleSet) {
        match self.0.iter_mut().find(|(known, held)| known == eps && held.norm == set.norm) {
            // The most samples first: an attack on fewer leaves fewer standing without being stronger.
            Some((_, held)) if (held.len(), set.counts().1) < (set.len(), held.counts().1) => *held = set,
            Some(_) => {}
            None => self.0.push((eps.to_owned(), set)),
        }
    }
}

/// Robust samples and samples of each class.
fn by_class(records: &[SampleRecord], size: usize, classes: usize) -> Vec<[usize; 2]> {
    let mut counts = vec![[0, 0]; classes];
    for record in records {
        if let Some([robust, total]) = counts.get_mut(usize::from(record.label)) {
            *total += 1;
            *robust += usize::from(record.robust(size));
        }
    }
    counts
}

fn robust(records: &[SampleRecord], size: usize) -> usize {
    records.iter().filter(|r| r.robust(size)).count()
}

fn counted(row: Row, samples: usize, expected: usize, correct: usize) -> Row {
    let value = (samples > 0).then(|| correct as f64 / samples as f64);
    let interval = wilson(correct as f64, samples as f64);
    Row { samples, expected, correct, value, lo: interval.map(|i| i.0), hi: interval.map(|i| i.1), ..row }
}

fn step_text(step: &Step) -> String {
    step.attack.clone().unwrap_or_default()
}

fn template(unit: &Unit, profile: Profile, audit: Option<AuditReport>, deployed: Option<&Deployment>) -> Row {
    let (recipe, data) = (&unit.recipe, &unit.data);
    let stages: BTreeMap<String, String> = unit
        .steps
        .iter()
        .filter(|step| step.stage != Stage::Attack)
        .map(|step| (step.stage.name().to_owned(), step.key.short().to_owned()))
        .collect();
    Row {
        study: recipe.study.clone(),
        order: recipe.order,
        recipe: recipe.name.clone(),
        title: recipe.title.clone(),
        profile,
        seed: unit.seed,
        fold: unit.fold,
        network: format!("{} ({})", recipe.network.name, recipe.network.twin_name()),
        data: DataOrigin {
            task: unit.task.to_string(),
            name: data.name.clone(),
            checksum: data.checksum.clone(),
            origin: data.origin.clone(),
            embedded: data.embedded,
            note: data.note.clone(),
        },
        measure: Measure::Clean,
        attack: "none".to_owned(),
        role: None,
        norm: None,
        eps: 0.0,
        eps_text: "0".to_owned(),
        headline: true,
        samples: 0,
        expected: 0,
        correct: 0,
        clean_correct: 0,
        value: None,
        lo: None,
        hi: None,
        queries_median: None,
        queries_mean: None,
        norm_median: None,
        per_class: Vec::new(),
        audit,
        footprint: deployed.map(|d| Footprint {
            flash: d.flash,
            ram: d.ram,
            integer: d.integer,
            agreement: (d.samples > 0).then(|| d.agree as f64 / d.samples as f64),
            note: d.note.clone(),
        }),
        macs: unit.network.macs,
        parameters: unit.network.parameters,
        stages,
        commit: option_env!("TERNION_COMMIT").map(str::to_owned),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
