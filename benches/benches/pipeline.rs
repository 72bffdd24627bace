//! The input pipeline: batches of each kind alone, and its share of a training step, measured inside the step.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::cell::RefCell;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datasets::embedded::{Sizes, keywords, shapes};
use datasets::{Augmentation, Dataset, Part};
use qnn::train::{Optimizer, Samples, Schedule, TrainConfig, Trainer};
use qnn::{InputGrid, Model, QnnError, zoo};

const BATCH: usize = 100;
const STEPS: usize = 12;

/// A training split that keeps account of the time spent making batches.
struct Timed<'a> {
    data: &'a Dataset,
    augmentation: Augmentation,
    spent: Mutex<Duration>,
}

impl Samples for Timed<'_> {
    fn len(&self) -> usize {
        self.data.train.len()
    }

    fn fill(&self, indices: &[u32], epoch: u64, x: &mut [f32], labels: &mut [u8]) -> Result<(), QnnError> {
        let start = Instant::now();
        let done = self.data.fill_batch(Part::Train, indices, epoch, 1, &self.augmentation, x, labels);
        *self.spent.lock().expect("no panic while timing") += start.elapsed();
        done.map_err(|e| QnnError::Config(e.to_string()))
    }
}

/// Trains some steps and prints what part of their time went into batches.
fn share(name: &str, network: &str, data: &Dataset, augmentation: Augmentation) {
    let grid = InputGrid { scale: data.grid.scale, zero_point: data.grid.zero_point };
    let network = zoo::build(network, data.shape, grid, data.classes.len(), &zoo::Twin::Stq.quantizers())
        .expect("known");
    let config = TrainConfig {
        batch: BATCH,
        epochs: 3,
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
    let model = Model::new(network, 1).expect("a sound network");
    let mut trainer = Trainer::new(model, config, Vec::new()).expect("a sound configuration");
    let samples = Timed { data, augmentation, spent: Mutex::default() };
    // The first epoch warms threads and buffers.
    for epoch in 0..2 {
        *samples.spent.lock().expect("no panic while timing") = Duration::ZERO;
        let start = Instant::now();
        trainer.train_epoch(&samples, &mut |_, _| {}).expect("training");
        if epoch == 1 {
            let (all, spent) = (start.elapsed(), *samples.spent.lock().expect("no panic while timing"));
            println!(
                "share of input in a step, {name}: {:.2} % ({:.2} of {:.2} ms a step of {BATCH}, {} threads)",
                100.0 * spent.as_secs_f64() / all.as_secs_f64(),
                1e3 * spent.as_secs_f64() / STEPS as f64,
                1e3 * all.as_secs_f64() / STEPS as f64,
                rayon::current_num_threads(),
            );
        }
    }
}

fn pipeline(c: &mut Criterion) {
    let sizes = Sizes { train: BATCH * STEPS, validation: 0, test: 0 };
    let (images, words) = (shapes(sizes, 0), keywords(sizes, 0).expect("made by code"));
    let masks = Augmentation {
        time_masks: 2,
        time_mask_frames: 8,
        coefficient_masks: 1,
        coefficient_mask_width: 2,
        ..Augmentation::SPEECH
    };
    let kinds = [
        ("images, clean", "stq_image_s", &images, Augmentation::NONE),
        ("images, crop and flip", "stq_image_s", &images, Augmentation::CIFAR),
        ("images, rotation and shift", "stq_image_s", &images, Augmentation::MLPERF_IMAGE),
        ("words, clean", "stq_audio_s", &words, Augmentation::NONE),
        ("words, shift, noise and MFCC anew", "stq_audio_s", &words, Augmentation::SPEECH),
        ("words, the same and masks", "stq_audio_s", &words, masks),
    ];
    let indices: Vec<u32> = (0..BATCH as u32).collect();
    let labels = RefCell::new(vec![0; BATCH]);
    let mut group = c.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(BATCH as u64)).sample_size(20);
    for (name, network, data, augmentation) in kinds {
        // A test run, which has no `--bench`, only proves that batches can be made.
        if std::env::args().any(|argument| argument == "--bench") {
            share(name, network, data, augmentation);
        }
        let mut x = vec![0.0; BATCH * data.sample_len()];
        let mut epoch = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                epoch += 1;
                let mut labels = labels.borrow_mut();
                data.fill_batch(Part::Train, &indices, epoch, 1, &augmentation, &mut x, &mut labels)
                    .expect("a batch");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
