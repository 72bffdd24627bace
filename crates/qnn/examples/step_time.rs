//! Times training steps and inference of a zoo network on random data, and says how much memory they took:
//! `step_time [NETWORK] [TWIN] [THREADS] [jr]`; with `jr`, steps carry an input Jacobian penalty of one projection.
#![forbid(unsafe_code)]

use std::time::Instant;

use qnn::graph::{Graph, Random};
use qnn::train::{Optimizer, Penalty, PenaltyInputs, Samples, Schedule, Term, TrainConfig, Trainer};
use qnn::zoo::{Twin, build};
use qnn::{InputGrid, Model, Predictor, QnnError};

/// One batch of noise, again and again.
struct Noise(Vec<f32>);

impl Samples for Noise {
    fn len(&self) -> usize {
        128 * 8
    }
    fn fill(&self, indices: &[u32], _: u64, x: &mut [f32], labels: &mut [u8]) -> Result<(), QnnError> {
        x.copy_from_slice(&self.0[..x.len()]);
        labels.iter_mut().zip(indices).for_each(|(l, i)| *l = (i % 10) as u8);
        Ok(())
    }
}

impl Noise {
    fn new(len: usize) -> Self {
        let mut state = 1_u64;
        let next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        Self(std::iter::repeat_with(next).take(len).collect())
    }
}

/// Half the squared norm of the Jacobian of the logits by the input, from one random projection (Hoffman et al. 2019).
#[derive(Debug)]
struct InputJacobian;

impl Penalty for InputJacobian {
    fn name(&self) -> String {
        "input Jacobian".into()
    }
    fn weight(&self, _: u32, _: u32) -> f64 {
        0.01
    }
    fn build(&self, graph: &mut Graph, inputs: &PenaltyInputs<'_>) -> Result<Vec<Term>, QnnError> {
        let (model, forward) = (inputs.model, inputs.forward);
        let [n, classes] = [graph.shape(forward.logits)[0], model.network.classes];
        let v = graph.random(Random::UnitRows, &[n, classes]);
        let gradient = graph.vjp(forward.logits, v, &[forward.input])[0].expect("logits depend on the input");
        let square = graph.dot_all(gradient, gradient);
        let value = graph.scale(0.5 * classes as f64 / n as f64, square);
        Ok(vec![Term { name: String::new(), weight: 1.0, value }])
    }
}

/// Largest resident size of this process in MiB, where the system tells.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) >> 10
}

/// Median, least and most milliseconds of `n` calls.
fn times(n: usize, mut f: impl FnMut() -> Result<(), QnnError>) -> Result<String, QnnError> {
    f()?;
    let mut all = Vec::new();
    for _ in 0..n {
        let start = Instant::now();
        f()?;
        all.push(start.elapsed().as_secs_f64() * 1e3);
    }
    all.sort_by(f64::total_cmp);
    Ok(format!("{:.2} ms [{:.2} - {:.2}]", all[n / 2], all[0], all[n - 1]))
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
    let penalised = args.get(3).is_some_and(|a| a == "jr");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
    pool.install(|| {
        let (shape, grid) = match name.contains("audio") || name == "ds_cnn" {
            true => ([49, 10, 1], InputGrid::STANDARDISED),
            false => ([32, 32, 3], InputGrid::UNIT_IMAGE),
        };
        let net = build(name, shape, grid, 10, &twin.quantizers())?;
        let model = Model::new(net, 1)?;
        let config = TrainConfig {
            batch: 128,
            epochs: 3,
            rate: 1e-3,
            optimizer: Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 5e-4 },
            schedule: Schedule::Constant,
            label_smoothing: 0.0,
            ema: None,
            clip_norm: None,
            patience: None,
            recalibrate: 0,
            seed: 1,
        };
        let penalties: Vec<Box<dyn Penalty>> =
            if penalised { vec![Box::new(InputJacobian)] } else { Vec::new() };
        let noise = Noise::new(128 * shape.iter().product::<usize>());
        let before = peak();
        let mut trainer = Trainer::new(model.clone(), config, penalties)?;
        trainer.train_epoch(&noise, &mut |_, _| {})?;
        let mut steps = Vec::new();
        let mut start = Instant::now();
        trainer.train_epoch(&noise, &mut |_, _| {
            steps.push(start.elapsed().as_secs_f64() * 1e3);
            start = Instant::now();
        })?;
        steps.sort_by(f64::total_cmp);
        println!(
            "{name} {twin:?}{} {threads} threads: {:.1} ms [{:.1} - {:.1}] a step of 128; buffers {} MiB, process grew by {} MiB",
            if penalised { " with input JR" } else { "" },
            steps[steps.len() / 2],
            steps[0],
            steps[steps.len() - 1],
            trainer.buffer_bytes() >> 20,
            peak() - before,
        );
        if penalised {
            return Ok(());
        }
        drop(trainer);
        let mut predictor = Predictor::for_codes(&model)?;
        let x = vec![0.5; 128 * predictor.input_len()];
        let (mut z, mut g) = (vec![0.0; 128 * 10], vec![0.0; x.len()]);
        println!("  inference, 128: {}", times(7, || predictor.logits(&x, &mut z))?);
        let one = predictor.input_len();
        println!("  inference, 1: {}", times(50, || predictor.logits(&x[..one], &mut z[..10]))?);
        let gradient = times(5, || predictor.logits_vjp(&x, &mut |_, c| c.fill(0.1), &mut z, &mut g))?;
        println!("  input gradient, 128: {gradient}");
        Ok(())
    })
}
