//! Our side of `cargo xtask peers --only deploy`: integer programs of whole networks on the host engine, batch 1.
#![forbid(unsafe_code)]

use benches::peers::{Peer, Sampler, Work, rate, serve};
use deploy::{Engine, lower};
use qnn::zoo::{self, Twin};
use qnn::{InputGrid, Model};

const NETWORKS: [(&str, [usize; 3], usize); 4] = [
    ("stq_image_s", [32, 32, 3], 10),
    ("stq_audio_s", [49, 10, 1], 12),
    ("resnet8", [32, 32, 3], 10),
    ("ds_cnn", [49, 10, 1], 12),
];

fn sampler(name: &str, input: [usize; 3], classes: usize, twin: Twin) -> Sampler {
    let network =
        zoo::build(name, input, InputGrid::UNIT_IMAGE, classes, &twin.quantizers()).expect("a zoo network");
    let model = Model::new(network, 1).expect("a model");
    let engine = Engine::new(lower(&model.network, &model).expect("lowers").program).expect("an engine");
    let len: usize = input.iter().product();
    let codes: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
    let mut logits = vec![0; classes];
    rate(1.0, move || engine.logits(&codes, 1, &mut logits).expect("buffers of the right length"))
}

fn main() -> std::io::Result<()> {
    let mut works = Vec::new();
    for (name, input, classes) in NETWORKS {
        for (twin, weights) in [(Twin::Stq, "ternary"), (Twin::EightBit, "8-bit")] {
            works.push(Work::new(format!("{name}, {weights} weights"), "inferences/s", name, move || {
                sampler(name, input, classes, twin)
            }));
        }
    }
    let version = format!("{} ({})", env!("CARGO_PKG_VERSION"), kernels::dispatch::path());
    serve(&[Peer { name: "ternion", version, works, ours: &[] }])
}
