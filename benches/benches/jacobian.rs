//! A training step of `stq_image_s` with each Jacobian penalty beside a plain one, and what their buffers hold.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use criterion::{Criterion, criterion_group, criterion_main};
use jacreg::{Curvature, CurvaturePenalty, JacobianPenalty, MatrixNorm, Projections};
use qnn::train::{Optimizer, Penalty, Samples, Schedule, TrainConfig, Trainer};
use qnn::{InputGrid, Model, QnnError, zoo};

const BATCH: usize = 64;

/// One batch of generated images.
struct Noise;

impl Samples for Noise {
    fn len(&self) -> usize {
        BATCH
    }

    fn fill(&self, indices: &[u32], epoch: u64, x: &mut [f32], labels: &mut [u8]) -> Result<(), QnnError> {
        let mut state = epoch.wrapping_add(u64::from(indices[0])) | 1;
        for v in x {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *v = (state >> 56) as f32 / 255.0;
        }
        labels.iter_mut().zip(indices).for_each(|(l, i)| *l = (i % 10) as u8);
        Ok(())
    }
}

fn penalties() -> Vec<(&'static str, Option<Box<dyn Penalty>>)> {
    let jacobian = |of: &str, wrt: &str| JacobianPenalty::new(of, wrt, 0.01);
    let three = Projections::Random(3);
    let spectral = JacobianPenalty { norm: MatrixNorm::Spectral, ..jacobian("logits", "input") };
    let exact = CurvaturePenalty { form: Curvature::Exact, ..CurvaturePenalty::new(1.0) };
    vec![
        ("plain", None),
        ("logits by input, 1 projection", Some(Box::new(jacobian("logits", "input")))),
        (
            "logits by input, 3 projections",
            Some(Box::new(JacobianPenalty { projections: three, ..jacobian("logits", "input") })),
        ),
        ("logits by conv1", Some(Box::new(jacobian("logits", "conv1_act")))),
        ("logits by conv2", Some(Box::new(jacobian("logits", "conv2_act")))),
        ("logits by conv4", Some(Box::new(jacobian("logits", "conv4_act")))),
        ("logits by conv6", Some(Box::new(jacobian("logits", "conv6_act")))),
        ("logits by each activation", Some(Box::new(jacobian("logits", "each")))),
        ("each activation by input", Some(Box::new(jacobian("each", "input")))),
        ("each activation by the one before", Some(Box::new(jacobian("each", "previous")))),
        ("spectral, 2 iterations", Some(Box::new(spectral))),
        ("curvature by difference", Some(Box::new(CurvaturePenalty::new(1.0)))),
        ("curvature exact", Some(Box::new(exact))),
    ]
}

fn trainer(penalty: Option<Box<dyn Penalty>>) -> Trainer {
    let quantizers = zoo::Twin::Stq.quantizers();
    let network = zoo::build("stq_image_s", [32, 32, 3], InputGrid::UNIT_IMAGE, 10, &quantizers)
        .expect("a zoo network");
    let config = TrainConfig {
        batch: BATCH,
        epochs: u32::MAX,
        rate: 1e-3,
        optimizer: Optimizer::adam(),
        schedule: Schedule::Constant,
        label_smoothing: 0.0,
        clip_norm: None,
        ema: None,
        patience: None,
        recalibrate: 0,
        seed: 1,
    };
    let model = Model::new(network, 1).expect("a network of the zoo");
    Trainer::new(model, config, penalty.into_iter().collect()).expect("penalties fit")
}

fn steps(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("jacobian/step of {BATCH}"));
    group.sample_size(10);
    let plain = trainer(None).buffer_bytes();
    for (name, penalty) in penalties() {
        let mut trainer = trainer(penalty);
        let bytes = trainer.buffer_bytes();
        println!("{name}: buffers {} MiB, {:.2} of plain", bytes >> 20, bytes as f64 / plain as f64);
        group.bench_function(name, |b| {
            b.iter(|| trainer.train_epoch(&Noise, &mut |_, _| {}).expect("a step"))
        });
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
