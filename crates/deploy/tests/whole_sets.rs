//! The integer program predicts what the trained network predicts: on every image of the CIFAR-10 test set and every clip of
//! the speech folds, for networks whose layers mix 8-bit and ternary weights. Needs the data, `$TERNION_DATA`.

mod common;

use datasets::{DataSearch, Dataset, Task};
use deploy::{Engine, Lowered, lower};
use qnn::network::LayerOp;
use qnn::train::{Optimizer, Samples, Schedule, TrainConfig, Trainer};
use qnn::zoo::{self, Twin};
use qnn::{InputGrid, Model, Network, Predictor, QnnError, argmax};

/// So many samples from all over a training split.
struct Spread<'a>(&'a Dataset, usize);

impl Samples for Spread<'_> {
    fn len(&self) -> usize {
        self.1.min(self.0.train.len())
    }

    fn fill(&self, indices: &[u32], _: u64, x: &mut [f32], labels: &mut [u8]) -> Result<(), QnnError> {
        let d = self.0.sample_len();
        for ((&i, x), label) in indices.iter().zip(x.chunks_exact_mut(d)).zip(labels) {
            let place = i as usize * (self.0.train.len() / self.len());
            let codes = &self.0.train.codes[place * d..][..d];
            x.iter_mut().zip(codes).for_each(|(x, &code)| *x = self.0.grid.decode(code));
            *label = self.0.train.labels[place];
        }
        Ok(())
    }
}

fn data(task: Task) -> Option<Dataset> {
    if std::env::var_os("TERNION_DATA").is_none() {
        println!("TERNION_DATA is not set: {task} not checked");
        return None;
    }
    match datasets::load(&task, &DataSearch::default()) {
        Ok(data) => Some(data),
        Err(error) => {
            println!("{task} not checked: {error}");
            None
        }
    }
}

/// The network with ternary weights but for the layers named, which get 8 bits.
fn mixed(name: &str, data: &Dataset, eight_bit: &[&str]) -> Network {
    let grid = InputGrid { scale: data.grid.scale, zero_point: data.grid.zero_point };
    let mut net = zoo::build(name, data.shape, grid, data.classes.len(), &Twin::Stq.quantizers()).unwrap();
    let mut changed = 0;
    for layer in &mut net.layers {
        if !eight_bit.contains(&layer.name.as_str()) {
            continue;
        }
        match &mut layer.op {
            LayerOp::Conv2d { quantizer, .. }
            | LayerOp::DepthwiseConv2d { quantizer, .. }
            | LayerOp::Dense { quantizer, .. } => *quantizer = common::q("quantized_bits(8, 0, alpha=auto)"),
            _ => panic!("{} has no kernel", layer.name),
        }
        changed += 1;
    }
    assert_eq!(changed, eight_bit.len());
    net
}

/// A few steps of training, so that statistics and logits are those of a network that has seen the data.
fn trained(network: Network, data: &Dataset) -> Model {
    let config = TrainConfig {
        batch: 32,
        epochs: 1,
        rate: 2e-3,
        optimizer: Optimizer::adam(),
        schedule: Schedule::Constant,
        label_smoothing: 0.0,
        clip_norm: None,
        ema: None,
        patience: None,
        recalibrate: 4,
        seed: 5,
    };
    let mut trainer = Trainer::new(Model::new(network, 5).unwrap(), config, Vec::new()).unwrap();
    trainer.train_epoch(&Spread(data, 1024), &mut |_, _| {}).unwrap();
    trainer.model().clone()
}

/// Compares predictions, and logits where the proof says that they are equal, on the whole test split.
fn compare(model: &Model, data: &Dataset) -> usize {
    let Lowered { program, report, .. } = lower(&model.network, model).unwrap();
    assert_eq!(report.mismatches, 0);
    let engine = Engine::new(program).unwrap();
    let mut predictor = Predictor::for_codes(model).unwrap();
    let (d, k) = (data.sample_len(), data.classes.len());
    let (mut counts, mut compared, mut differ) = (vec![0; k], 0, 0);
    for codes in data.test.codes.chunks(256 * d) {
        let n = codes.len() / d;
        let x: Vec<f32> = codes.iter().map(|&c| data.grid.decode(c)).collect();
        let (mut ours, mut theirs, mut classes) = (vec![0.0; n * k], vec![0.0; n * k], vec![0; n]);
        engine.logits_f32(codes, n, &mut ours).unwrap();
        engine.predict(codes, n, &mut classes).unwrap();
        predictor.logits(&x, &mut theirs).unwrap();
        for (i, theirs) in theirs.chunks_exact(k).enumerate() {
            let ours = &ours[i * k..][..k];
            if report.logits_exact {
                assert_eq!(ours, theirs, "{} sample {}", model.network.name, compared + i);
            } else {
                let error =
                    ours.iter().zip(theirs).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
                assert!(error <= report.logit_error, "{error:e} > {:e}", report.logit_error);
            }
            differ += usize::from(classes[i] != argmax(theirs));
            counts[classes[i]] += 1;
        }
        compared += n;
    }
    println!(
        "{} on {}: {compared} predictions, {differ} differ; {report}; by class {counts:?}",
        model.network.name, data.name
    );
    assert_eq!((differ, compared), (0, data.test.len()));
    // A network that always says the same would be equal too easily.
    assert!(counts.iter().filter(|&&n| n > 0).count() > 2, "{counts:?}");
    compared
}

#[test]
fn every_image_of_the_cifar_10_test_set() {
    let Some(data) = data(Task::Cifar10) else { return };
    for (name, eight_bit) in
        [("stq_image_s", &[][..]), ("resnet8", &["conv0", "s1_a", "s2_skip", "s3_b", "logits"][..])]
    {
        let model = trained(mixed(name, &data, eight_bit), &data);
        assert_eq!(compare(&model, &data), 10_000);
    }
}

#[test]
fn every_clip_of_the_speech_folds() {
    let mut compared = 0;
    for fold in 0..5 {
        let Some(data) = data(Task::SpeechCommands5Fold { fold }) else { return };
        for (name, eight_bit) in
            [("ds_cnn", &["conv0", "dw1", "dw4", "pw2", "logits"][..]), ("stq_audio_s", &["conv1"][..])]
        {
            let model = trained(mixed(name, &data, eight_bit), &data);
            compared += compare(&model, &data);
        }
    }
    assert_eq!(compared, 2 * 4_890);
}
