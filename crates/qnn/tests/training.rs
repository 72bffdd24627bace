//! Training as a whole: it learns, and gives the same bits on any thread count and after an interruption.
#![forbid(unsafe_code)]

use qnn::network::{BatchNormQuantizers, conv2d, depthwise};
use qnn::train::{Event, FitOutcome, Optimizer, Samples, Schedule, TrainConfig, Trainer, fit};
use qnn::zoo::{Quantizers, Twin};
use qnn::{InputGrid, LayerOp, Model, Network, Predictor, QnnError, evaluate};

/// Bright bars at one of four places, with noise that is a function of epoch and sample.
struct Bars {
    len: usize,
    augment: bool,
}

impl Samples for Bars {
    fn len(&self) -> usize {
        self.len
    }

    fn fill(&self, indices: &[u32], epoch: u64, x: &mut [f32], labels: &mut [u8]) -> Result<(), QnnError> {
        for ((image, label), &index) in x.chunks_mut(8 * 8).zip(labels).zip(indices) {
            let epoch = if self.augment { epoch } else { 0 };
            let key = [epoch, u64::from(index)];
            let mut rng = qtensor::stream::stream(9, qtensor::stream::Purpose::Test, &key);
            *label = (index % 4) as u8;
            for (i, v) in image.iter_mut().enumerate() {
                let bar = if *label < 2 { i / 8 } else { i % 8 } / 4 == usize::from(*label % 2);
                *v = 0.7 * qtensor::stream::uniform_f32(&mut rng) + if bar { 0.3 } else { 0.0 };
            }
        }
        Ok(())
    }
}

fn model(twin: Twin) -> Model {
    let Quantizers { weights, activations, .. } = twin.quantizers();
    let net = Network::new("bars", [8, 8, 1], InputGrid::UNIT_IMAGE, 4)
        .conv("c1", 8, 3, 1, &weights)
        .bn_act("c1", &activations)
        .max_pool("p1", 2)
        .conv("c2", 8, 3, 1, &weights)
        .bn_act("c2", &activations)
        .classifier(&weights);
    Model::new(net, 1).unwrap()
}

fn config(optimizer: Optimizer, rate: f64) -> TrainConfig {
    TrainConfig {
        batch: 32,
        epochs: 4,
        rate,
        optimizer,
        schedule: Schedule::Cosine { warmup: 0.5, floor: 0.05 },
        label_smoothing: 0.02,
        clip_norm: Some(5.0),
        ema: None,
        patience: None,
        recalibrate: 8,
        seed: 11,
    }
}

fn run(twin: Twin, dir: &std::path::Path, stop_after: Option<u32>) -> Result<FitOutcome, QnnError> {
    let config = config(Optimizer::adam(), 5e-3);
    let mut trainer = Trainer::new(model(twin), config.clone(), Vec::new())?;
    let (train, validation) = (Bars { len: 1024, augment: true }, Bars { len: 64, augment: false });
    if let Some(epochs) = stop_after {
        // A crash: the process dies in the middle of the next epoch, after `epochs` finished ones.
        let crash = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            fit(&mut trainer, &train, Some(&validation), dir, &mut |event| {
                if let Event::Step { epoch, done: 3, .. } = event {
                    assert!(epoch < epochs, "crash");
                }
            })
        }));
        assert!(crash.is_err());
        trainer = Trainer::new(model(twin), config, Vec::new())?;
    }
    fit(&mut trainer, &train, Some(&validation), dir, &mut |_| {})
}

fn on_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

#[test]
fn every_twin_learns() {
    for twin in [Twin::Float, Twin::Stq, Twin::StqDeterministic, Twin::StochasticBinary, Twin::EightBit] {
        let dir = tempfile::tempdir().unwrap();
        let outcome = run(twin, dir.path(), None).unwrap();
        let result = evaluate(&outcome.best, &Bars { len: 400, augment: false }).unwrap();
        assert!(result.accuracy() > 0.9, "{twin:?}: {result:?}");
    }
}

/// QKeras' quantized batch normalisation, dilations and a depth multiplier.
fn dilated() -> Model {
    let Quantizers { weights, activations, .. } = Twin::Stq.quantizers();
    let mut net = Network::new("bars", [8, 8, 1], InputGrid::UNIT_IMAGE, 4)
        .then("c1", conv2d(8, [3, 3], [1, 1], false, &weights).dilated([2, 2]))
        .bn_act("c1", &activations)
        .max_pool("p1", 2)
        .then("d", depthwise([3, 3], [1, 1], false, &weights).multiplied(2))
        .bn_act("d", &activations)
        .conv("c2", 8, 1, 1, &weights)
        .bn_act("c2", &activations)
        .classifier(&weights);
    net.quantize_batch_norms(&Some(BatchNormQuantizers::qkeras()));
    Model::new(net, 1).unwrap()
}

#[test]
fn quantized_normalisations_and_dilated_layers_learn_alike_on_any_number_of_threads() {
    let train = |threads| {
        on_threads(threads, || {
            let config = config(Optimizer::adam(), 5e-3);
            let mut trainer = Trainer::new(dilated(), config, Vec::new()).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let (bars, held) = (Bars { len: 1024, augment: true }, Bars { len: 64, augment: false });
            fit(&mut trainer, &bars, Some(&held), dir.path(), &mut |_| {}).unwrap()
        })
    };
    let (one, three) = (train(1), train(3));
    assert_eq!(one.last.to_bytes().unwrap(), three.last.to_bytes().unwrap());
    let result = evaluate(&one.best, &Bars { len: 400, augment: false }).unwrap();
    assert!(result.accuracy() > 0.9, "{result:?}");
}

/// What the moving statistics take in is the batch's mean and biased variance, not quantized: QKeras' layer.
#[test]
fn moving_statistics_of_quantized_normalisations_are_float_and_biased() {
    let mut network = Network::new("bars", [8, 8, 1], InputGrid::UNIT_IMAGE, 4)
        .conv("c1", 3, 3, 1, &None)
        .then("c1_bn", LayerOp::BatchNorm { eps: 1e-3, momentum: 0.0, quantizers: None })
        .classifier(&None);
    network.quantize_batch_norms(&Some(BatchNormQuantizers::qkeras()));
    let start = Model::new(network, 5).unwrap();
    let samples = Bars { len: 32, augment: false };
    let config = TrainConfig { rate: 1e-9, ..config(Optimizer::adam(), 0.0) };
    let mut trainer = Trainer::new(start.clone(), config, Vec::new()).unwrap();
    trainer.train_epoch(&samples, &mut |_, _| {}).unwrap();
    // The convolution in double precision.
    let (mut x, mut labels) = (vec![0.0; 32 * 64], vec![0; 32]);
    samples.fill(&(0..32).collect::<Vec<_>>(), 0, &mut x, &mut labels).unwrap();
    let kernel = &start.param("c1/kernel").unwrap().values;
    for c in 0..3 {
        let mut values = Vec::new();
        for (n, row, column) in (0..32 * 64).map(|i| (i / 64, i / 8 % 8, i % 8)) {
            let tap = |k: usize| {
                let (y, x_) = (row + k / 3, column + k % 3);
                let inside = (1..9).contains(&y) && (1..9).contains(&x_);
                if inside {
                    f64::from(x[n * 64 + (y - 1) * 8 + x_ - 1]) * f64::from(kernel[k * 3 + c])
                } else {
                    0.0
                }
            };
            values.push((0..9).map(tap).sum::<f64>());
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        for (name, want) in [("moving_mean", mean), ("moving_variance", variance)] {
            let got = f64::from(trainer.model().param(&format!("c1_bn/{name}")).unwrap().values[c]);
            // Bessel's correction would add one part in 2,047.
            assert!((got - want).abs() < 5e-5 * want.abs().max(0.05), "{name}[{c}]: {got}, expected {want}");
        }
    }
}

#[test]
fn sgd_learns_too() {
    let optimizer = Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-4 };
    let mut trainer = Trainer::new(model(Twin::Stq), config(optimizer, 0.05), Vec::new()).unwrap();
    let first = trainer.train_epoch(&Bars { len: 256, augment: true }, &mut |_, _| {}).unwrap();
    let second = trainer.train_epoch(&Bars { len: 256, augment: true }, &mut |_, _| {}).unwrap();
    assert!(second.loss < first.loss);
}

#[test]
fn bits_do_not_depend_on_threads() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let one = on_threads(1, || run(Twin::Stq, dirs[0].path(), None)).unwrap();
    let three = on_threads(3, || run(Twin::Stq, dirs[1].path(), None)).unwrap();
    assert_eq!(one.last.to_bytes().unwrap(), three.last.to_bytes().unwrap());
    assert_eq!(one.history, three.history);
}

#[test]
fn a_resumed_run_ends_with_the_same_bits() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let whole = run(Twin::Stq, dirs[0].path(), None).unwrap();
    let resumed = run(Twin::Stq, dirs[1].path(), Some(2)).unwrap();
    assert_eq!(whole.last.to_bytes().unwrap(), resumed.last.to_bytes().unwrap());
    assert_eq!(whole.history, resumed.history);
}

#[test]
fn another_runs_checkpoint_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    run(Twin::Stq, dir.path(), None).unwrap();
    let error = run(Twin::Float, dir.path(), None).unwrap_err();
    assert!(error.to_string().contains("another run"), "{error}");
}

#[test]
fn a_diverging_run_stops_with_the_layers_name() {
    let mut broken = model(Twin::Float);
    let at = broken.index_of("c2_bn/gamma").unwrap();
    broken.params[at].values[0] = 3e38;
    let mut trainer = Trainer::new(broken, config(Optimizer::adam(), 1e-3), Vec::new()).unwrap();
    let error = trainer.train_epoch(&Bars { len: 64, augment: true }, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, QnnError::NonFinite { .. }), "{error}");
    assert!(error.to_string().contains("c2_bn"), "{error}");
}

#[test]
fn a_run_stops_when_validation_has_not_improved_for_its_patience() {
    let dir = tempfile::tempdir().unwrap();
    // With a rate this small nothing changes, so the first epoch stays the best.
    let config = TrainConfig { patience: Some(2), epochs: 9, ..config(Optimizer::adam(), 1e-12) };
    let mut trainer = Trainer::new(model(Twin::StqDeterministic), config, Vec::new()).unwrap();
    let (train, validation) = (Bars { len: 64, augment: true }, Bars { len: 64, augment: false });
    let mut stopped = None;
    let outcome = fit(&mut trainer, &train, Some(&validation), dir.path(), &mut |event| {
        if let Event::Stopped(epoch) = event {
            stopped = Some(epoch);
        }
    })
    .unwrap();
    let best = outcome.history.iter().map(|r| r.validation.as_ref().unwrap().correct);
    let best_at = best.clone().position(|c| c == best.clone().max().unwrap()).unwrap();
    assert_eq!(outcome.history.len(), best_at + 3);
    assert_eq!(stopped, Some(outcome.history.len() as u32));
}

#[test]
fn the_moving_average_is_kept_and_resumes_with_the_same_bits() {
    let config = TrainConfig { ema: Some(0.95), ..config(Optimizer::adam(), 5e-3) };
    let (train, validation) = (Bars { len: 512, augment: true }, Bars { len: 64, augment: false });
    let run = |dir: &std::path::Path, epochs: u32| {
        let mut trainer = Trainer::new(model(Twin::Stq), config.clone(), Vec::new()).unwrap();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            fit(&mut trainer, &train, Some(&validation), dir, &mut |event| {
                if let Event::Step { epoch, done: 2, .. } = event {
                    assert!(epoch < epochs, "crash");
                }
            })
            .unwrap()
        }));
        (result.ok(), trainer.model().clone(), trainer.result())
    };
    let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (outcome, raw, averaged) = run(whole.path(), 99);
    let outcome = outcome.unwrap();
    assert_eq!(outcome.last, averaged);
    assert_ne!(raw, averaged);
    assert!(outcome.history.last().unwrap().validation.as_ref().unwrap().accuracy() > 0.8);
    assert!(run(cut.path(), 2).0.is_none());
    assert_eq!(run(cut.path(), 99).0.unwrap().last, averaged);
    for file in ["last.checkpoint", "best.model", "history.jsonl", "events.out.tfevents.0.ternion"] {
        let [a, b] = [&whole, &cut].map(|dir| std::fs::read(dir.path().join(file)).unwrap());
        assert_eq!(a, b, "{file}");
    }
}

#[test]
fn predictions_do_not_depend_on_the_batch() {
    let model = model(Twin::Stq);
    let mut predictor = Predictor::new(&model).unwrap();
    let (mut x, mut labels) = (vec![0.0; 150 * 64], vec![0; 150]);
    let indices: Vec<u32> = (0..150).collect();
    Bars { len: 150, augment: false }.fill(&indices, 0, &mut x, &mut labels).unwrap();
    let mut whole = vec![0.0; 150 * 4];
    predictor.logits(&x, &mut whole).unwrap();
    for (i, row) in whole.chunks(4).enumerate() {
        let mut one = [0.0; 4];
        predictor.logits(&x[i * 64..(i + 1) * 64], &mut one).unwrap();
        assert_eq!(row, one, "sample {i}");
    }
}
