//! Penalties inside training: what they do to it, when they are off, and what the history says of them.
#![forbid(unsafe_code)]

use jacreg::{JacobianPenalty, JacobianProbe, WeightSchedule, layer_norms};
use qnn::train::{Optimizer, Penalty, Samples, Schedule, TrainConfig, Trainer, fit};
use qnn::{InputGrid, Model, QnnError, zoo};

const SAMPLES: usize = 64;

/// Blobs whose class can be seen.
struct Blobs;

impl Samples for Blobs {
    fn len(&self) -> usize {
        SAMPLES
    }

    fn fill(&self, indices: &[u32], _: u64, x: &mut [f32], labels: &mut [u8]) -> Result<(), QnnError> {
        let d = x.len() / indices.len();
        for ((&i, x), label) in indices.iter().zip(x.chunks_mut(d)).zip(labels) {
            *label = (i % 5) as u8;
            for (j, v) in x.iter_mut().enumerate() {
                let on = j % 5 == i as usize % 5;
                *v = (u32::from(on) * 128 + (i * 31 + j as u32 * 17) % 100) as f32 / 255.0;
            }
        }
        Ok(())
    }
}

fn inputs() -> Vec<f32> {
    let (mut x, mut labels) = (vec![0.0; 32 * 120], vec![0; 32]);
    Blobs.fill(&(0..32).collect::<Vec<_>>(), 0, &mut x, &mut labels).unwrap();
    x
}

fn trainer(epochs: u32, penalties: Vec<Box<dyn Penalty>>) -> Trainer {
    let quantizers = zoo::Twin::Stq.quantizers();
    let network = zoo::build("stq_audio_s", [12, 10, 1], InputGrid::UNIT_IMAGE, 5, &quantizers).unwrap();
    let config = TrainConfig {
        batch: 16,
        epochs,
        rate: 2e-3,
        optimizer: Optimizer::adam(),
        schedule: Schedule::Constant,
        label_smoothing: 0.0,
        clip_norm: None,
        ema: None,
        patience: None,
        recalibrate: 4,
        seed: 1,
    };
    Trainer::new(Model::new(network, 1).unwrap(), config, penalties).unwrap()
}

fn epochs(mut trainer: Trainer, count: usize) -> Model {
    (0..count).for_each(|_| drop(trainer.train_epoch(&Blobs, &mut |_, _| {}).unwrap()));
    trainer.model().clone()
}

#[test]
fn a_penalty_flattens_the_network() {
    let norm = |model: &Model| layer_norms(model, &inputs(), 1).unwrap()[0].logits;
    let plain = norm(&epochs(trainer(6, Vec::new()), 6));
    let flat = norm(&epochs(trainer(6, vec![Box::new(JacobianPenalty::input(0.1))]), 6));
    println!("norm of the input Jacobian: {plain:.3} plain, {flat:.3} penalised");
    assert!(flat < 0.5 * plain, "{flat} {plain}");
}

#[test]
fn epochs_without_weight_are_plain_epochs() {
    let held = |hold| {
        let schedule = WeightSchedule::Ramp { hold, over: 1 };
        let penalty = JacobianPenalty { schedule, ..JacobianPenalty::input(0.1) };
        trainer(4, vec![Box::new(penalty)])
    };
    let plain = epochs(trainer(4, Vec::new()), 2);
    assert_eq!(epochs(held(2), 2), plain);
    assert_ne!(epochs(held(1), 2), plain);
}

#[test]
fn the_history_has_every_term_and_every_layer() {
    let dir = std::env::temp_dir().join(format!("ternion-jacreg-history-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let penalties = || -> Vec<Box<dyn Penalty>> {
        let every = |p: JacobianPenalty| Box::new(JacobianPenalty { every: 2, ..p }) as Box<dyn Penalty>;
        vec![every(JacobianPenalty::input(0.01)), every(JacobianPenalty::new("each", "previous", 1e-4))]
    };
    let run = |epochs: u32| {
        let mut trainer = trainer(epochs, penalties()).with_probe(Box::new(JacobianProbe::new(inputs(), 2)));
        fit(&mut trainer, &Blobs, None, &dir, &mut |_| {})
    };
    let outcome = run(2).unwrap();
    let text = std::fs::read_to_string(dir.join("history.jsonl")).unwrap();
    // The checkpoint holds the probes, too: a resumed run has the same history.
    let again = run(2).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(again.history, outcome.history);
    assert_eq!(text.lines().count(), 2);
    let record = &outcome.history[1];
    let names: Vec<&str> = record.train.terms.iter().map(|t| t.0.as_str()).collect();
    assert_eq!(names[0], "jacobian(logits, input): input");
    assert_eq!(
        names[1..],
        ["conv1_act", "conv2_act", "conv3_act", "conv4_act"]
            .map(|l| format!("jacobian(each, previous): {l}"))
    );
    assert!(record.train.terms.iter().all(|t| t.1 > 0.0));
    let sum: f64 = record.train.terms[1..].iter().map(|t| t.1).sum();
    assert!((sum - record.train.penalties[1]).abs() < 1e-9 * sum);
    let norms = layer_norms(&outcome.last, &inputs(), 2).unwrap();
    for layer in &norms {
        let name = format!("jacobian logits/{}", layer.layer);
        let probed = record.probes.iter().find(|p| p.0 == name).unwrap();
        assert_eq!(probed.1, layer.logits, "{name}");
    }
    assert_eq!(record.probes.len(), 1 + 3 * 4);
}

/// Buffers are planned, not measured: their size is a property of the graph.
#[test]
fn a_projection_at_most_doubles_the_buffers() {
    let bytes = |penalty: Option<JacobianPenalty>| {
        let quantizers = zoo::Twin::Stq.quantizers();
        let network = zoo::build("stq_image_s", [32, 32, 3], InputGrid::UNIT_IMAGE, 10, &quantizers).unwrap();
        let config = TrainConfig { batch: 8, ..trainer(1, Vec::new()).config().clone() };
        let penalties = penalty.into_iter().map(|p| Box::new(p) as Box<dyn Penalty>).collect();
        Trainer::new(Model::new(network, 1).unwrap(), config, penalties).unwrap().buffer_bytes() as f64
    };
    let plain = bytes(None);
    let mut ratios = Vec::new();
    for (of, wrt) in [
        ("logits", "input"),
        ("logits", "conv2_act"),
        ("logits", "conv4_act"),
        ("logits", "conv6_act"),
        ("logits", "each"),
        ("each", "input"),
        ("each", "previous"),
    ] {
        let ratio = bytes(Some(JacobianPenalty::new(of, wrt, 1.0))) / plain;
        println!("{of} by {wrt}: buffers {ratio:.2} of plain");
        ratios.push(ratio);
    }
    assert!(ratios[0] <= 2.0, "{}", ratios[0]);
    assert!(ratios[..4].windows(2).all(|pair| pair[1] < pair[0]), "later layers cost less: {ratios:?}");
}
