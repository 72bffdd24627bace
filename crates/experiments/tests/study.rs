//! The stages with an engine that computes nothing: caching, resuming, damage, shards, failures and reports.
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

use datasets::Task;
use experiments::StudyError;
use experiments::pipeline::{
    AuditReport, DataCard, Deployment, Engine, Evaluation, Evidence, Example, Finding, HISTORY_FILE, Job,
    Keep, MODEL_FILE, NetworkCard, Outcome, SampleRecord, Tick,
};
use experiments::progress::{Event, Progress, Silent};
use experiments::recipe::{AttackPart, Profile, RecipeSet};
use experiments::results::{Measure, Results};
use experiments::stage::{Options, Shard, Stage, Study};

const RECIPE: &str = r#"
name = "tiny"
title = "Tiny <network>"
study = "cifar10"
seeds = [0]
[dataset]
task = "cifar10"
[network]
name = "stq_image_s"
twin = "stq"
[optimizer]
kind = "adam"
[schedule]
epochs = 2
batch = 8
lr = 0.01
[[attacks]]
attack = "pgd(norm=linf)"
eps = ["1/255", "2/255"]
role = "strong"
[[attacks]]
attack = "square(norm=linf)"
eps = ["2/255"]
role = "strong"
samples = 250
[evaluate]
attack_samples = 300
"#;

/// Answers from sample numbers alone, and remembers what it was asked.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<String>>,
    /// Training stops after its first epoch, as if killed.
    killed: bool,
    /// This attack fails.
    broken: Option<&'static str>,
}

impl Fake {
    fn note(&self, what: impl Into<String>) {
        self.asked.lock().unwrap().push(what.into());
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Engine for Fake {
    fn data(&self, task: &Task) -> Result<DataCard, StudyError> {
        Ok(DataCard {
            name: task.embedded_twin().to_string(),
            checksum: "c0ffee".repeat(10),
            origin: "embedded".into(),
            embedded: true,
            note: "Made by a test.".into(),
            shape: [2, 2, 3],
            scale: 1.0 / 255.0,
            zero_point: 0,
            classes: (0..10).map(|c| format!("class{c}")).collect(),
            counts: [100, 10, 400],
            test_ids: (1000..1400).collect(),
        })
    }

    fn network(&self, job: &Job<'_>) -> Result<NetworkCard, StudyError> {
        let description = serde_json::json!({"name": job.recipe.network.name});
        Ok(NetworkCard { description, macs: 1_000_000, parameters: 1234 })
    }

    fn train(&self, job: &Job<'_>, work: &Path, tick: Tick<'_>) -> Result<(), StudyError> {
        let checkpoint = work.join("checkpoint");
        let done: u32 = std::fs::read_to_string(&checkpoint).map_or(0, |t| t.parse().unwrap());
        let mut history = String::new();
        for epoch in 1..=job.recipe.schedule.epochs {
            if epoch > done {
                self.note(format!("epoch {epoch}"));
                std::fs::write(&checkpoint, epoch.to_string()).unwrap();
                if self.killed {
                    return Err(StudyError::Work { context: "training".into(), message: "killed".into() });
                }
            }
            tick(epoch.into(), 2, "loss 1");
            let record = serde_json::json!({
                "epoch": epoch - 1, "train": {"loss": 2.0 / f64::from(epoch), "accuracy": 0.3, "penalties": [], "steps": 9},
                "validation": null, "rate": 0.01,
            });
            history += &format!("{record}\n");
        }
        std::fs::remove_file(checkpoint).unwrap();
        std::fs::write(work.join(MODEL_FILE), b"weights").unwrap();
        std::fs::write(work.join(HISTORY_FILE), history).unwrap();
        Ok(())
    }

    fn evaluate(
        &self,
        _: &Job<'_>,
        model: &Path,
        ids: &[u32],
        _: Tick<'_>,
    ) -> Result<Evaluation, StudyError> {
        assert_eq!(std::fs::read(model).unwrap(), b"weights");
        self.note("evaluate");
        Ok(Evaluation { samples: ids.len(), correct: ids.len() * 3 / 4, per_class: vec![] })
    }

    fn attack(
        &self,
        _: &Job<'_>,
        _: &Path,
        attack: &AttackPart,
        ids: &[u32],
        keep: Keep<'_>,
    ) -> Result<Vec<SampleRecord>, StudyError> {
        if self.broken.is_some_and(|broken| attack.attack.name() == broken) {
            return Err(StudyError::Work { context: attack.attack.to_string(), message: "broken".into() });
        }
        self.note(format!("{} on {}", attack.attack.name(), ids.len()));
        let record = |id: &u32| SampleRecord {
            id: *id,
            label: (*id % 10) as u8,
            predicted: (*id % 10) as u8,
            outcomes: attack
                .eps
                .iter()
                .map(|eps| Outcome {
                    eps: eps.value(),
                    predicted: if f64::from(*id % 7) > 400.0 * eps.value() { (*id % 10) as u8 } else { 11 },
                    queries: u64::from(*id % 3),
                    gradients: 0,
                    distance: eps.value(),
                })
                .collect(),
            example: keep.shown.contains(id).then(|| Example {
                id: *id,
                eps: "2/255".into(),
                label: (*id % 10) as u8,
                predicted: (*id % 10) as u8,
                adversarial: (*id % 3) as u8,
                clean_codes: vec![(*id % 200) as u8; 12],
                adversarial_codes: vec![(*id % 200) as f32 + 2.0; 12],
            }),
            kept: None,
        };
        Ok(ids.iter().map(record).collect())
    }

    fn audit(
        &self,
        _: &Job<'_>,
        _: &Path,
        _: &[u32],
        evidence: &[Evidence<'_>],
        _: Tick<'_>,
    ) -> Result<AuditReport, StudyError> {
        self.note("audit");
        assert_eq!(evidence.iter().map(|e| e.records.len()).collect::<Vec<_>>(), [300, 250]);
        let finding = Finding {
            check: "zero gradients".into(),
            suspicious: false,
            value: 0.0,
            sentence: "No sample has a zero gradient.".into(),
        };
        Ok(AuditReport { verdict: "sound".into(), findings: vec![finding] })
    }

    fn deploy(
        &self,
        _: &Job<'_>,
        _: &Path,
        work: &Path,
        ids: &[u32],
        _: Tick<'_>,
    ) -> Result<Deployment, StudyError> {
        self.note("deploy");
        std::fs::write(work.join("program.bin"), b"program").unwrap();
        let (samples, correct) = (ids.len(), ids.len() / 2);
        Ok(Deployment {
            integer: true,
            note: "exact".into(),
            flash: 90_000,
            ram: 40_000,
            samples,
            correct,
            agree: samples,
        })
    }
}

fn options(out: &Path) -> Options {
    let file = out.join("tiny.toml");
    std::fs::create_dir_all(out).unwrap();
    std::fs::write(&file, RECIPE).unwrap();
    let recipes = vec![RecipeSet::open(file.to_str().unwrap()).unwrap()];
    Options { profile: Profile::Quick, recipes, out: out.to_owned(), seed: None, only: None, shard: None }
}

const EVERYTHING: [&str; 10] = [
    "epoch 1",
    "epoch 2",
    "evaluate",
    "pgd on 128",
    "pgd on 128",
    "pgd on 44",
    "square on 128",
    "square on 122",
    "audit",
    "deploy",
];

#[test]
fn everything_runs_once_and_then_never_again() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), Fake::default());
    let study = Study::new(&engine, &Silent, options(dir.path()));
    let plan = study.plan();
    assert!(plan.units[0].steps.iter().all(|step| !step.cached));
    let summary = study.run(&plan).unwrap();
    assert_eq!((summary.computed, summary.cached, summary.failed.len()), (7, 0, 0), "{:?}", summary.failed);
    assert_eq!(engine.asked(), EVERYTHING);
    let report = std::fs::read(summary.report.unwrap()).unwrap();

    let plan = study.plan();
    assert!(plan.units[0].steps.iter().all(|step| step.cached && step.estimate == 0.0));
    let summary = study.run(&plan).unwrap();
    assert_eq!((summary.computed, summary.cached), (0, 7));
    assert_eq!(engine.asked(), Vec::<String>::new());
    assert_eq!(std::fs::read(summary.report.unwrap()).unwrap(), report, "remade byte for byte");
}

#[test]
fn a_change_repeats_only_what_depends_on_it() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), Fake::default());
    let study = Study::new(&engine, &Silent, options(dir.path()));
    study.run(&study.plan()).unwrap();
    engine.asked();
    let mut changed = options(dir.path());
    let text = RECIPE.replace("square(norm=linf)", "square(norm=l2)");
    std::fs::write(dir.path().join("tiny.toml"), text).unwrap();
    changed.recipes = vec![RecipeSet::open(dir.path().join("tiny.toml").to_str().unwrap()).unwrap()];
    let study = Study::new(&engine, &Silent, changed);
    study.run(&study.plan()).unwrap();
    assert_eq!(engine.asked(), ["square on 128", "square on 122", "audit"]);
    let rows = Results::read(dir.path()).unwrap().rows;
    assert!(rows.iter().all(|row| !row.attack.starts_with("square(norm=linf")), "old rows are gone");
    assert_eq!(rows.iter().filter(|row| row.measure == Measure::Attack).count(), 3);
}

#[test]
fn a_damaged_result_is_made_again() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), Fake::default());
    let study = Study::new(&engine, &Silent, options(dir.path()));
    study.run(&study.plan()).unwrap();
    engine.asked();
    let cache = dir.path().join("cache");
    let program = std::fs::read_dir(&cache)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.file_name().unwrap().to_str().unwrap().starts_with("deploy-"))
        .unwrap();
    std::fs::write(program.join("program.bin"), b"progrom").unwrap();
    let notices = Notices::default();
    let study = Study::new(&engine, &notices, options(dir.path()));
    study.run(&study.plan()).unwrap();
    assert_eq!(engine.asked(), ["deploy"]);
    assert!(notices.0.lock().unwrap().iter().any(|n| n.contains("wrong checksum")));
}

#[derive(Default)]
struct Notices(Mutex<Vec<String>>);

impl Progress for Notices {
    fn report(&self, event: &Event) {
        if let Event::Notice { message, .. } = event {
            self.0.lock().unwrap().push(message.clone());
        }
    }
}

#[test]
fn interrupted_training_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let killed = Fake { killed: true, ..Fake::default() };
    let study = Study::new(&killed, &Silent, options(dir.path()));
    let summary = study.run(&study.plan()).unwrap();
    assert_eq!(summary.failed.len(), 1, "what needs the model is not tried");
    assert_eq!(killed.asked(), ["epoch 1"]);
    let engine = Fake::default();
    let study = Study::new(&engine, &Silent, options(dir.path()));
    assert!(study.run(&study.plan()).unwrap().failed.is_empty());
    assert_eq!(engine.asked()[..2], ["epoch 2", "evaluate"]);
}

#[test]
fn shards_give_the_same_results_as_one_process() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = Fake::default();
    let study = Study::new(&engine, &Silent, options(whole.path()));
    study.run(&study.plan()).unwrap();
    engine.asked();
    // Out of order, one of them twice.
    for (round, text) in ["2/3", "0/3", "2/3", "1/3"].into_iter().enumerate() {
        let shard: Shard = text.parse().unwrap();
        let study = Study::new(&engine, &Silent, Options { shard: Some(shard), ..options(parts.path()) });
        let summary = study.run(&study.plan()).unwrap();
        assert!(summary.failed.is_empty(), "{:?}", summary.failed);
        let audits = engine.asked().iter().filter(|a| *a == "audit").count();
        assert_eq!(audits, usize::from(round == 3), "the audit waits for all parts");
        let report = std::fs::read_to_string(parts.path().join("report.md")).unwrap();
        assert_eq!(report.contains("Parts are missing"), round < 3);
    }
    let read = |dir: &Path| std::fs::read_to_string(Results::path(dir)).unwrap();
    assert_eq!(read(whole.path()), read(parts.path()));
    // An unsharded run afterwards finds everything.
    let study = Study::new(&engine, &Silent, options(parts.path()));
    study.run(&study.plan()).unwrap();
    assert_eq!(engine.asked(), Vec::<String>::new());
}

#[test]
fn an_attack_interrupted_between_chunks_keeps_what_it_has() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), Fake::default());
    let study = Study::new(&engine, &Silent, options(dir.path()));
    study.run(&study.plan()).unwrap();
    engine.asked();
    // Undo the attack to what a kill in the middle of its last line leaves.
    let cache = dir.path().join("cache");
    let done = std::fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path()).find(|p| {
        p.is_dir() && std::fs::read_to_string(p.join("part.jsonl")).is_ok_and(|t| t.lines().count() == 300)
    });
    let done = done.unwrap();
    let text = std::fs::read_to_string(done.join("part.jsonl")).unwrap();
    let mut work = done.clone().into_os_string();
    work.push(".work");
    std::fs::create_dir(&work).unwrap();
    let cut: String = text.lines().take(256).map(|l| format!("{l}\n")).collect::<String>() + "{\"id\":1";
    std::fs::write(Path::new(&work).join("partial.jsonl"), cut).unwrap();
    std::fs::remove_dir_all(&done).unwrap();
    study.run(&study.plan()).unwrap();
    assert_eq!(engine.asked(), ["pgd on 44"]);
    assert_eq!(std::fs::read_to_string(done.join("part.jsonl")).unwrap(), text);
}

#[test]
fn a_failed_attack_stops_only_the_audit() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Fake { broken: Some("pgd"), ..Fake::default() };
    let study = Study::new(&engine, &Silent, options(dir.path()));
    let summary = study.run(&study.plan()).unwrap();
    assert_eq!(summary.failed.len(), 1);
    assert_eq!(summary.failed[0].1, Some(Stage::Attack));
    let asked: BTreeSet<String> = engine.asked().into_iter().collect();
    assert!(asked.contains("deploy") && !asked.contains("audit"));
    let report = std::fs::read_to_string(dir.path().join("report.md")).unwrap();
    assert!(report.contains("pgd(norm=linf") && report.contains("0 of 300 samples"), "{report}");
}

#[test]
fn only_refuses_to_make_what_it_was_not_asked_for() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), Fake::default());
    let only = Some(vec![Stage::Evaluate]);
    let study = Study::new(&engine, &Silent, Options { only, ..options(dir.path()) });
    let summary = study.run(&study.plan()).unwrap();
    assert!(summary.failed[0].2.contains("stage train"), "{:?}", summary.failed);
    assert!(summary.report.is_none());
}

#[test]
fn two_processes_make_each_result_once() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), Fake::default());
    // Made before any starts: `options` writes the recipe's file, which the others would read half written.
    let processes = [(); 3].map(|()| options(dir.path()));
    let engine = &engine;
    std::thread::scope(|scope| {
        for options in processes {
            scope.spawn(move || {
                let study = Study::new(engine, &Silent, options);
                assert!(study.run(&study.plan()).unwrap().failed.is_empty());
            });
        }
    });
    assert_eq!(engine.asked().len(), EVERYTHING.len());
}

#[test]
fn the_report_says_what_was_measured_and_what_not() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), Fake::default());
    let study = Study::new(&engine, &Silent, options(dir.path()));
    study.run(&study.plan()).unwrap();
    let markdown = std::fs::read_to_string(dir.path().join("report.md")).unwrap();
    let html = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    for golden in [
        "> **Generated data: synthetic_shapes instead of cifar10.",
        "| network | clean | integer program | pgd eps 2/255, strong | square eps 2/255, strong | audit | flash | RAM | MACs | the paper reports | not comparable because |",
        "| Tiny <network> | 75.0 [70.5, 79.0] | 50.0 [45.1, 54.9] |",
        "| sound | 88 KB | 39 KB | 1.0 M |",
        "| 6.5 % more accurate under black-box attacks on SVHN | arXiv:2304.12829, abstract | not run | SVHN is not part of this study |",
    ] {
        assert!(markdown.contains(golden), "{golden}\nnot in\n{markdown}");
    }
    for golden in [
        "Tiny &lt;network&gt;",
        "class=\"banner\"",
        "data:image/png;base64,",
        "<svg",
        "c0ffeec0ffee",
        "not run",
    ] {
        assert!(html.contains(golden), "{golden}");
    }
    assert!(!html.contains("<network>") && !html.contains("http"), "escaped and self-contained");
    // The report comes from results and artefacts alone.
    std::fs::remove_dir_all(dir.path().join("cache")).unwrap();
    experiments::report::write(dir.path(), None).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("report.html")).unwrap(), html);
}

#[test]
fn a_report_without_results_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let error = experiments::report::write(dir.path(), None).unwrap_err();
    assert!(matches!(error, StudyError::NoResults(_)));
    std::fs::write(Results::path(dir.path()), "{\"study\": 1}\n").unwrap();
    let message = experiments::report::write(dir.path(), None).unwrap_err().to_string();
    assert!(message.contains("results.jsonl:1"), "{message}");
}
