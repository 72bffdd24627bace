//! Times training steps and inference of a zoo network on random data: `step_time [NETWORK] [TWIN] [THREADS]`.
#![forbid(unsafe_code)]

use std::time::Instant;

use qnn::train::{Optimizer, Samples, Schedule, TrainConfig, Trainer};
use qnn::zoo::{Twin, build};
use qnn::{InputGrid, Model, Predictor, QnnError};

struct Noise;

impl Samples for Noise {
    fn len(&self) -> usize {
        128 * 6
    }
    fn fill(&self, indices: &[u32], epoch: u64, x: &mut [f32], labels: &mut [u8]) -> Result<(), QnnError> {
        let mut state = epoch.wrapping_add(u64::from(indices[0])) | 1;
        for v in x {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *v = (state >> 40) as f32 / (1u64 << 24) as f32;
        }
        labels.iter_mut().zip(indices).for_each(|(l, i)| *l = (i % 10) as u8);
        Ok(())
    }
}

fn main() -> Result<(), QnnError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let name = args.first().map_or("stq_image_s", String::as_str);
    let twin = match args.get(1).map_or("stq", String::as_str) {
        "float" => Twin::Float,
        "eight_bit" => Twin::EightBit,
        _ => Twin::Stq,
    };
    let threads = args.get(2).and_then(|t| t.parse().ok()).unwrap_or(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
    pool.install(|| {
        let (shape, grid) = match name.contains("audio") || name == "ds_cnn" {
            true => ([49, 10, 1], InputGrid::STANDARDISED),
            false => ([32, 32, 3], InputGrid::UNIT_IMAGE),
        };
        let net = build(name, shape, grid, 12, &twin.quantizers())?;
        let model = Model::new(net, 1)?;
        let config = TrainConfig {
            batch: 128,
            epochs: 3,
            rate: 1e-3,
            optimizer: Optimizer::adam(),
            schedule: Schedule::Constant,
            label_smoothing: 0.0,
            ema: None,
            clip_norm: None,
            patience: None,
            recalibrate: 0,
            seed: 1,
        };
        let mut trainer = Trainer::new(model.clone(), config, Vec::new())?;
        trainer.train_epoch(&Noise, &mut |_, _| {})?;
        let start = Instant::now();
        let stats = trainer.train_epoch(&Noise, &mut |_, _| {})?;
        let step = start.elapsed().as_secs_f64() * 1e3 / stats.steps as f64;
        println!(
            "{name} {twin:?} {threads} threads: {step:.1} ms a step of 128, buffers {} MiB",
            trainer.buffer_bytes() >> 20
        );
        let mut predictor = Predictor::new(&model)?;
        let (x, mut z) = (vec![0.5; 128 * predictor.input_len()], vec![0.0; 128 * 12]);
        predictor.logits(&x, &mut z)?;
        let start = Instant::now();
        (0..5).try_for_each(|_| predictor.logits(&x, &mut z))?;
        println!("  inference {:.1} ms per 128", start.elapsed().as_secs_f64() * 1e3 / 5.0);
        let mut g = vec![0.0; x.len()];
        predictor.logits_vjp(&x, &mut |_, c| c.fill(0.1), &mut z, &mut g)?;
        let start = Instant::now();
        (0..5).try_for_each(|_| predictor.logits_vjp(&x, &mut |_, c| c.fill(0.1), &mut z, &mut g))?;
        println!("  input gradient {:.1} ms per 128", start.elapsed().as_secs_f64() * 1e3 / 5.0);
        Ok(())
    })
}
