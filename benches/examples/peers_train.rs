//! Our side of `cargo xtask peers --only train`: training steps on batches of 128 and inference of a CNN of six 3x3
//! convolutions (32, 32, pool, 64, 64, pool, 128, 128, pool, dense) with batch normalisation.
#![forbid(unsafe_code)]

use benches::peers::{Peer, Sampler, Work, milliseconds, serve};
use qnn::graph::{Graph, Random};
use qnn::train::{Optimizer, Penalty, PenaltyInputs, Samples, Schedule, Term, TrainConfig, Trainer};
use qnn::zoo::{Quantizers, Twin, build};
use qnn::{InputGrid, Model, QnnError};

const IMAGE: [usize; 3] = [32, 32, 3];
const BATCH: usize = 128;
const CLASSES: usize = 10;

/// One batch of noise.
struct Noise(Vec<f32>);

impl Samples for Noise {
    fn len(&self) -> usize {
        BATCH
    }
    fn fill(&self, indices: &[u32], _: u64, x: &mut [f32], labels: &mut [u8]) -> Result<(), QnnError> {
        x.copy_from_slice(&self.0);
        labels.iter_mut().zip(indices).for_each(|(l, i)| *l = (i % CLASSES as u32) as u8);
        Ok(())
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
        let (x, logits) = (inputs.forward.input, inputs.forward.logits);
        let v = graph.random(Random::UnitRows, &[BATCH, CLASSES]);
        let gradient = graph.vjp(logits, v, &[x])[0].expect("logits depend on the input");
        let square = graph.dot_all(gradient, gradient);
        let value = graph.scale(0.5 * CLASSES as f64 / BATCH as f64, square);
        Ok(vec![Term { name: self.name(), weight: 1.0, value }])
    }
}

fn model(quantizers: &Quantizers) -> Model {
    let net = build("stq_image_s", IMAGE, InputGrid::UNIT_IMAGE, CLASSES, quantizers).expect("a zoo network");
    Model::new(net, 1).expect("a model")
}

/// A step of stochastic gradient descent with momentum and weight decay.
fn training(twin: Twin, penalised: bool) -> impl FnMut() {
    let config = TrainConfig {
        batch: BATCH,
        epochs: u32::MAX,
        rate: 0.01,
        optimizer: Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 5e-4 },
        schedule: Schedule::Constant,
        label_smoothing: 0.0,
        clip_norm: None,
        ema: None,
        patience: None,
        recalibrate: 0,
        seed: 1,
    };
    let penalties: Vec<Box<dyn Penalty>> = if penalised { vec![Box::new(InputJacobian)] } else { Vec::new() };
    let mut trainer = Trainer::new(model(&twin.quantizers()), config, penalties).expect("a trainer");
    let noise = Noise(benches::floats(BATCH * IMAGE.iter().product::<usize>()));
    move || trainer.train_epoch(&noise, &mut |_, _| {}).map(drop).expect("finite losses")
}

/// Milliseconds of such a step.
fn step(twin: Twin, penalised: bool) -> Sampler {
    milliseconds(training(twin, penalised))
}

/// A line of this process' status in KiB, where the system tells.
fn status(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
}

/// By how many MiB training makes a process of its own grow at most.
fn memory(penalised: bool) -> Sampler {
    let mut grown = None;
    Box::new(move || {
        *grown.get_or_insert_with(|| {
            let program = std::env::current_exe().expect("this program");
            let output = std::process::Command::new(program)
                .args(["--grow", if penalised { "penalised" } else { "plain" }])
                .output()
                .expect("this program starts again");
            String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(f64::NAN)
        })
    })
}

/// What [`memory`] starts.
fn grow(penalised: bool) {
    let before = status("VmRSS:");
    let mut step = training(Twin::Float, penalised);
    (0..3).for_each(|_| step());
    println!("{}", (status("VmHWM:") - before) / 1024.0);
}

/// Milliseconds of the integer program on `n` images of codes.
fn inference(n: usize, activations: &str) -> Sampler {
    let parse = |text: &str| Some(text.parse().expect("a quantizer"));
    let quantizers = Quantizers {
        weights: parse("stochastic_ternary(alpha=auto)"),
        activations: parse(activations),
        biases: None,
        batch_norms: None,
    };
    let model = model(&quantizers);
    let lowered = deploy::lower(&model.network, &model).expect("zoo networks lower");
    let engine = deploy::Engine::new(lowered.program).expect("an engine");
    let (codes, mut logits) = (benches::codes(n * IMAGE.iter().product::<usize>()), vec![0.0; n * CLASSES]);
    milliseconds(move || engine.logits_f32(&codes, n, &mut logits).expect("lengths"))
}

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--grow").skip(1);
    if let Some(what) = arguments.next() {
        grow(what == "penalised");
        return Ok(());
    }
    let mut works = vec![
        Work::new("training step, float", "ms", "training step", || step(Twin::Float, false)),
        Work::new("training step, STQ and 8-bit activations", "ms", "training step", || {
            step(Twin::Stq, false)
        }),
        Work::new("training step with input JR, float", "ms", "training step with input JR", || {
            step(Twin::Float, true)
        }),
        Work::new("memory of a training step, float", "MiB", "memory of a training step", || memory(false)),
        Work::new(
            "memory of a training step with input JR, float",
            "MiB",
            "memory of a training step with input JR",
            || memory(true),
        ),
    ];
    for n in [1, 64] {
        for (bits, activations) in [(8, "quantized_relu(8, 2)"), (2, "quantized_relu(2, 2)")] {
            let name = format!("inference of {n}, STQ and {bits}-bit activations");
            works.push(Work::new(name, "ms", format!("inference of {n}"), move || inference(n, activations)));
        }
    }
    let version = format!("{}, {}", env!("CARGO_PKG_VERSION"), kernels::dispatch::path());
    serve(&[Peer { name: "Ternion", version, works, ours: &[] }])
}
