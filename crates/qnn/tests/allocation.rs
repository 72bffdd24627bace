//! After its first steps training allocates nothing per step, and inference nothing per call.
#![forbid(unsafe_code)]

use qnn::train::{Optimizer, Samples, Schedule, TrainConfig, Trainer};
use qnn::zoo::{Twin, build};
use qnn::{InputGrid, Model, Predictor, QnnError};

/// The same image over and over, so that filling a batch allocates nothing either.
struct Constant;

impl Samples for Constant {
    fn len(&self) -> usize {
        64
    }

    fn fill(&self, indices: &[u32], _: u64, x: &mut [f32], labels: &mut [u8]) -> Result<(), QnnError> {
        for (i, v) in x.iter_mut().enumerate() {
            *v = ((i * 7 + indices.len()) % 256) as f32 / 255.0;
        }
        labels.iter_mut().zip(indices).for_each(|(l, i)| *l = (i % 10) as u8);
        Ok(())
    }
}

fn model(twin: Twin) -> Model {
    let quantizers = twin.quantizers();
    let network = build("stq_image_s", [16, 16, 3], InputGrid::UNIT_IMAGE, 10, &quantizers).unwrap();
    Model::new(network, 1).unwrap()
}

/// Runs on one thread that counts its own allocations.
fn on_one_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(f)
}

#[test]
fn training_steps_allocate_nothing_once_warm() {
    for (twin, optimizer) in [
        (Twin::Stq, Optimizer::adam()),
        (Twin::EightBit, Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-4 }),
        (Twin::Float, Optimizer::adam()),
    ] {
        let config = TrainConfig {
            batch: 8,
            epochs: 3,
            rate: 1e-3,
            optimizer,
            schedule: Schedule::Cosine { warmup: 0.0, floor: 0.0 },
            label_smoothing: 0.1,
            clip_norm: Some(1.0),
            ema: Some(0.99),
            patience: None,
            recalibrate: 0,
            seed: 1,
        };
        let mut trainer = Trainer::new(model(twin), config, Vec::new()).unwrap();
        let per_step = on_one_thread(|| {
            trainer.train_epoch(&Constant, &mut |_, _| {}).unwrap();
            // Each step's count is taken from one call to the next of the callback.
            let mut total = 0;
            let counted = allocation_counter::measure(|| {
                trainer.train_epoch(&Constant, &mut |_, _| total += 1).unwrap();
            });
            assert_eq!(total, 8);
            counted.count_total
        });
        // The statistics of an epoch hold one list of penalties; eight steps hold nothing.
        assert!(per_step <= 1, "{twin:?}: {per_step} allocations in an epoch of 8 steps");
    }
}

#[test]
fn inference_allocates_nothing_once_warm() {
    for twin in [Twin::Stq, Twin::EightBit, Twin::Float] {
        let mut predictor = Predictor::for_codes(&model(twin)).unwrap();
        let x = vec![0.5f32; 8 * 16 * 16 * 3];
        let mut logits = vec![0.0; 8 * 10];
        let count = on_one_thread(|| {
            predictor.logits(&x, &mut logits).unwrap();
            predictor.logits(&x, &mut logits).unwrap();
            allocation_counter::measure(|| predictor.logits(&x, &mut logits).unwrap()).count_total
        });
        assert_eq!(count, 0, "{twin:?}");
    }
}
