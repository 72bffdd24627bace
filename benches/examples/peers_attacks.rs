//! Our side of `cargo xtask peers --only attacks`: PGD and Square on MLPerf Tiny's ResNet, float, STQ and integer, and where
//! `TERNION_MODELS` and `TERNION_DATA` say where the trained one and CIFAR-10 are, AutoAttack.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use attacks::{Access, Attack, Classifier, InputBox, Network, Options, Passing, Samples, run};
use benches::peers::{Peer, Sampler, Work, milliseconds, milliseconds_of_one, rate, serve};
use datasets::{DataSearch, Task};
use experiments::pipeline::IntegerProgram;
use qnn::interop::Weights;
use qnn::zoo::{Quantizers, Twin, resnet8};
use qnn::{InputGrid, Model};

const BATCH: usize = 128;
/// Square's queries per image and sample of time.
const QUERIES: usize = 20;
/// Images of a sample of AutoAttack; every sample takes the next ones of the test set, as its peer does.
const SLICE: usize = 64;

fn model(quantizers: &Quantizers) -> Model {
    let network = resnet8([32, 32, 3], InputGrid::UNIT_IMAGE, 10, quantizers);
    Model::new(network, 1).expect("a network of the zoo")
}

fn stq(activations: Option<&str>) -> Model {
    let mut quantizers = Twin::Stq.quantizers();
    if let Some(text) = activations {
        quantizers.activations = Some(text.parse().expect("a quantizer"));
    }
    model(&quantizers)
}

/// Images in [0, 1] on the 8-bit grid, with the model's own predictions as labels: all are under attack to the end.
struct Images {
    x: Vec<f32>,
    labels: Vec<u8>,
    ids: Vec<u32>,
}

impl Images {
    fn of(model: &mut dyn Classifier) -> Self {
        let d = model.input_len();
        let x: Vec<f32> =
            (0..BATCH * d).map(|i| ((i * 7919 + i / d * 104_729) % 256) as f32 / 255.0).collect();
        let mut z = vec![0.0; BATCH * model.classes()];
        model.logits(&x, &mut z).expect("logits");
        let labels = z.chunks(model.classes()).map(|z| qnn::argmax(z) as u8).collect();
        Self { x, labels, ids: (0..BATCH as u32).collect() }
    }
}

fn attack(text: &str, access: Access<'_>, images: &Images, eps: f32) {
    let attack: Attack = text.parse().expect("an attack");
    let samples = Samples::new(&images.x, &images.labels, &images.ids);
    // Broken images go on, as in the libraries.
    let mut options = Options { batch: BATCH, early_exit: false, ..Options::default() };
    run(&attack, access, &samples, &[eps], &InputBox::unit(), 0, &mut options).expect("an attack");
}

fn pgd(model: &Model) -> Sampler {
    let mut network = Network::new(model, Passing::Clipped).expect("a model");
    let images = Images::of(&mut network);
    let text = format!("pgd(preset=torchattacks-default, steps=10, step=abs {})", 2.0 / 255.0);
    milliseconds(move || attack(&text, Access::White(&mut network), &images, 8.0 / 255.0))
}

fn square(mut program: impl Classifier + 'static) -> Sampler {
    let images = Images::of(&mut program);
    let text = format!("square(preset=auto-attack, queries={QUERIES})");
    rate((BATCH * QUERIES) as f64, move || attack(&text, Access::Black(&mut program), &images, 1e-6))
}

fn integer(model: &Model) -> IntegerProgram {
    let lowered = deploy::lower(&model.network, model).expect("an integer program");
    IntegerProgram::new(deploy::Engine::new(lowered.program).expect("a program"))
}

/// AutoAttack's standard version on the trained network; says how many images stand.
fn autoattack(models: &std::path::Path, eps: u8) -> Sampler {
    let network = resnet8([32, 32, 3], InputGrid::RAW_IMAGE, 10, &Quantizers::default());
    let mut model = Model::new(network, 0).expect("a network of the zoo");
    let weights =
        Weights::load(&models.join("mlperf_tiny_resnet8.safetensors")).expect("the trained network");
    model.assign(&weights).expect("weights of this network");
    let mut network = Network::new(&model, Passing::Clipped).expect("a model");
    let data = datasets::load(&Task::Cifar10, &DataSearch::default()).expect("CIFAR-10");
    let (attack, bounds): (Attack, _) = ("autoattack".parse().expect("an attack"), InputBox::new(0.0, 255.0));
    let (d, bounds) = (data.sample_len(), bounds.expect("a box"));
    let (mut images, mut clean, mut robust) = (0, 0, 0);
    milliseconds_of_one(move || {
        let begin = images % (data.test.len() - SLICE + 1);
        let x: Vec<f32> = data.test.codes[begin * d..][..SLICE * d].iter().map(|&c| f32::from(c)).collect();
        let (labels, ids) = (&data.test.labels[begin..][..SLICE], &data.test.ids[begin..][..SLICE]);
        let (samples, mut options) =
            (Samples::new(&x, labels, ids), Options { batch: BATCH, ..Options::default() });
        let access = Access::White(&mut network);
        let outcome = run(&attack, access, &samples, &[f32::from(eps)], &bounds, 0, &mut options)
            .expect("an attack")
            .remove(0);
        images += SLICE;
        clean += outcome.clean_accuracy().count;
        robust += outcome.robust_accuracy().count;
        let share = |count| 100.0 * count as f64 / images as f64;
        eprintln!(
            "ternion, eps {eps}/255: of {images} images {clean} clean, {robust} robust ({:.2} %, {:.2} %)",
            share(clean),
            share(robust)
        );
    })
}

fn main() -> std::io::Result<()> {
    let (pgd10, queries) = ("PGD-10, batch 128", "Square, queries");
    let mut works = vec![
        Work::new(format!("{pgd10}, float"), "ms", pgd10, || pgd(&model(&Quantizers::default()))),
        Work::new(format!("{pgd10}, STQ"), "ms", pgd10, || pgd(&stq(None))),
        Work::new(format!("{queries}, STQ integer"), "1/s", queries, || square(integer(&stq(None)))),
        Work::new(format!("{queries}, STQ integer, 2-bit activations"), "1/s", queries, || {
            square(integer(&stq(Some("quantized_relu(bits=2)"))))
        }),
        Work::new(format!("{queries}, float"), "1/s", queries, || {
            square(Network::new(&model(&Quantizers::default()), Passing::Clipped).expect("a model"))
        }),
    ];
    match (std::env::var_os("TERNION_MODELS").map(PathBuf::from), std::env::var_os("TERNION_DATA")) {
        (Some(models), Some(_)) => works.extend([1, 4].map(|eps| {
            let (name, models) = (format!("AutoAttack, {SLICE} images, eps {eps}/255"), models.clone());
            Work::new(name.clone(), "ms", name, move || autoattack(&models, eps))
        })),
        _ => eprintln!("AutoAttack is left out: TERNION_MODELS and TERNION_DATA must be set"),
    }
    serve(&[Peer { name: "ternion", version: env!("CARGO_PKG_VERSION").into(), works, ours: &[] }])
}
