//! The embedded sets reward convolutions: a small float CNN passes 85 % on each, where a linear classifier stays below 60 %
//! (`datasets/tests/difficulty.rs`).
use datasets::{Augmentation, DataSearch, Dataset, Part, Task, load};
use qnn::train::{Optimizer, Samples, Schedule, TrainConfig, Trainer};
use qnn::{InputGrid, Model, Network, QnnError, zoo};

struct Split<'a>(&'a Dataset, Part);

impl Samples for Split<'_> {
    fn len(&self) -> usize {
        self.0.split(self.1).len()
    }

    fn fill(&self, indices: &[u32], epoch: u64, x: &mut [f32], labels: &mut [u8]) -> Result<(), QnnError> {
        self.0
            .fill_batch(self.1, indices, epoch, 0, &Augmentation::NONE, x, labels)
            .map_err(|e| QnnError::Config(e.to_string()))
    }
}

/// Test accuracy of three 3x3 convolutions (16, 32, 64 filters) and a dense layer after six epochs of Adam.
fn small_cnn(task: &Task) -> f64 {
    let data = load(task, &DataSearch::default()).unwrap();
    let float = zoo::Twin::Float.quantizers();
    let grid = InputGrid { scale: data.grid.scale, zero_point: data.grid.zero_point };
    let mut network = Network::new("small_cnn", data.shape, grid, data.classes.len());
    for (stage, width) in [(1, 16), (2, 32), (3, 64)] {
        let name = format!("conv{stage}");
        network = network
            .conv(&name, width, 3, 1, &float.weights)
            .bn_act(&name, &float.activations)
            .max_pool(&format!("pool{stage}"), 2);
    }
    let config = TrainConfig {
        batch: 50,
        epochs: 6,
        rate: 2e-3,
        optimizer: Optimizer::adam(),
        schedule: Schedule::Constant,
        label_smoothing: 0.0,
        clip_norm: None,
        ema: None,
        patience: None,
        recalibrate: 0,
        seed: 0,
    };
    let mut trainer =
        Trainer::new(Model::new(network.classifier(&float.weights), 0).unwrap(), config, vec![]).unwrap();
    for _ in 0..6 {
        trainer.train_epoch(&Split(&data, Part::Train), &mut |_, _| {}).unwrap();
    }
    qnn::evaluate(trainer.model(), &Split(&data, Part::Test)).unwrap().accuracy()
}

#[test]
fn a_small_cnn_passes_85_percent() {
    for task in [Task::SyntheticShapes, Task::SyntheticKeywords] {
        let accuracy = small_cnn(&task);
        println!("{task}: small CNN {:.1} %", 100.0 * accuracy);
        assert!(accuracy > 0.85, "{task}: {accuracy}");
    }
}
