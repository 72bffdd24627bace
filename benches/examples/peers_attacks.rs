//! Our side of `cargo xtask peers --only attacks`: PGD and Square on MLPerf Tiny's ResNet, float, STQ and integer.
#![forbid(unsafe_code)]

use attacks::{Access, Attack, Classifier, InputBox, Network, Options, Passing, Samples, run};
use benches::peers::{Peer, Sampler, Work, milliseconds, rate, serve};
use experiments::pipeline::IntegerProgram;
use qnn::zoo::{Quantizers, Twin, resnet8};
use qnn::{InputGrid, Model};

const BATCH: usize = 128;
/// Square's queries per image and sample of time.
const QUERIES: usize = 20;

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

fn main() -> std::io::Result<()> {
    let (pgd10, queries) = ("PGD-10, batch 128", "Square, queries");
    let works = vec![
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
    serve(&[Peer { name: "ternion", version: env!("CARGO_PKG_VERSION").into(), works, ours: &[] }])
}
