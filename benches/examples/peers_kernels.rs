//! Our side of `cargo xtask peers --only kernels`: single products and convolutions, and the Rust peers.
#![forbid(unsafe_code)]

use benches::peers::{Peer, Sampler, Work, rate, serve};
use benches::{CONVOLUTIONS, GEMMS, TRAINED, codes, conv_name, floats, gemm_name, rust_peers, trits};
use kernels::dispatch::Kernel;
use kernels::epilogue::{Accumulators, Requantize};
use kernels::gemm::MatRef;
use kernels::limits::{Limit, clock};
use kernels::ternary::float;
use kernels::ternary::{self, Form, Packed};
use kernels::{Conv2d, Padding, conv2d};

type Gemm = (usize, usize, usize);
type Conv = (usize, usize, usize, usize);

fn gmacs((m, k, n): Gemm) -> f64 {
    (m * k * n) as f64 / 1e9
}

/// Codes of the bits that a mode's name begins with.
fn narrow(mode: &str, len: usize) -> Vec<u8> {
    codes(len).into_iter().map(|code| code & largest(mode)).collect()
}

fn largest(mode: &str) -> u8 {
    match mode {
        "2-bit x ternary" => 3,
        "1-bit x ternary" => 1,
        _ => 255,
    }
}

fn ternary_gemm(mode: &'static str, shape: Gemm) -> Sampler {
    let (m, k, n) = shape;
    let form = Form::choose(8 - largest(mode).leading_zeros(), m, n, k);
    let (a, w) = (narrow(mode, m * k), Packed::gemm(form, k, n, &trits(k * n)).expect("trits"));
    let mut c = vec![0; m * n];
    rate(gmacs(shape), move || {
        ternary::gemm(Kernel::default(), &a, &w, &Accumulators, &mut c).expect("shapes");
    })
}

fn float_gemm(shape: Gemm) -> Sampler {
    let (m, k, n) = shape;
    let (a, b, mut c) = (floats(m * k), floats(k * n), vec![0.0; m * n]);
    rate(gmacs(shape), move || {
        let (a, b) = (MatRef::rows(&a, k), MatRef::rows(&b, n));
        kernels::gemm::gemm((m, n, k), a, b, 0.0, &mut c).expect("shapes");
    })
}

fn float_ternary_gemm(shape: Gemm) -> Sampler {
    let (m, k, n) = shape;
    let form = float::Form::for_gemm(m, k, n);
    let w = float::Packed::gemm(form, k, n, &trits(k * n), &vec![0.5; n]).expect("trits");
    let (a, mut c) = (floats(m * k), vec![0.0; m * n]);
    rate(gmacs(shape), move || float::gemm(&a, &w, &mut c).expect("shapes"))
}

fn float_ternary_conv(shape: Conv) -> Sampler {
    let g = geometry(shape);
    let form = float::Form::for_conv2d(&g);
    let w = float::Packed::conv2d(form, &g, &trits(g.kernel_len()), &vec![0.5; shape.3]).expect("trits");
    let (x, mut y) = (floats(g.input_len()), vec![0.0; g.output_len()]);
    rate(g.macs() as f64 / 1e9, move || float::conv2d(&g, &x, &w, &mut y).expect("shapes"))
}

fn geometry((batch, side, ci, co): Conv) -> Conv2d {
    Conv2d::new([batch, side, side, ci], [3, 3, ci, co], [1, 1], Padding::Same).expect("geometry")
}

fn ternary_conv(mode: &'static str, shape: Conv) -> Sampler {
    let (g, n) = (geometry(shape), shape.3);
    let w = Packed::chosen(largest(mode), &g, &trits(g.kernel_len())).expect("trits");
    let x = narrow(mode, g.input_len());
    let (multiplier, shift) = Requantize::factor(0.01).expect("below one");
    let epilogue = Requantize::new(&vec![0; n], &vec![multiplier; n], &vec![shift; n], 128, (0, 255))
        .expect("parameters");
    let mut y = vec![0; g.output_len()];
    rate(g.macs() as f64 / 1e9, move || {
        ternary::conv2d(Kernel::default(), &g, (&x, 0), &w, &epilogue, &mut y).expect("shapes");
    })
}

fn float_conv(shape: Conv) -> Sampler {
    let g = geometry(shape);
    let (x, w, mut y) = (floats(g.input_len()), floats(g.kernel_len()), vec![0.0; g.output_len()]);
    rate(g.macs() as f64 / 1e9, move || conv2d::forward(&g, &x, &w, &mut y).expect("shapes"))
}

fn input_grad(shape: Conv) -> Sampler {
    let g = geometry(shape);
    let (dy, w, mut dx) = (floats(g.output_len()), floats(g.kernel_len()), vec![0.0; g.input_len()]);
    rate(g.macs() as f64 / 1e9, move || conv2d::input_grad(&g, &dy, &w, &mut dx).expect("shapes"))
}

fn weight_grad(shape: Conv) -> Sampler {
    let g = geometry(shape);
    let (x, dy, mut dw) = (floats(g.input_len()), floats(g.output_len()), vec![0.0; g.kernel_len()]);
    rate(g.macs() as f64 / 1e9, move || conv2d::weight_grad(&g, &x, &dy, &mut dw).expect("shapes"))
}

/// What gradients of a convolution are called, after its name.
const GRADIENTS: [Gradient; 2] = [("input gradient", input_grad), ("weight gradient", weight_grad)];

type Gradient = (&'static str, fn(Conv) -> Sampler);

fn gradients() -> impl Iterator<Item = (Conv, Gradient)> {
    let shapes = CONVOLUTIONS.into_iter().chain(TRAINED);
    shapes.flat_map(|shape| GRADIENTS.map(|gradient| (shape, gradient)))
}

fn ours() -> Vec<Work> {
    let mut works = Vec::new();
    let mut add = |name: String, mode: &str, prepare: Box<dyn Fn() -> Sampler>| {
        works.push(Work::new(format!("{name}, {mode}"), "GMAC/s", name, prepare));
    };
    for shape in GEMMS {
        for mode in INTEGER {
            add(gemm_name(shape), mode, Box::new(move || ternary_gemm(mode, shape)));
        }
        add(gemm_name(shape), "f32 x ternary", Box::new(move || float_ternary_gemm(shape)));
        add(gemm_name(shape), "f32 x f32", Box::new(move || float_gemm(shape)));
    }
    for shape in CONVOLUTIONS {
        for mode in INTEGER {
            add(conv_name(shape), mode, Box::new(move || ternary_conv(mode, shape)));
        }
        add(conv_name(shape), "f32 x ternary", Box::new(move || float_ternary_conv(shape)));
        add(conv_name(shape), "f32 x f32", Box::new(move || float_conv(shape)));
    }
    for (shape, (what, run)) in gradients() {
        let name = conv_name(shape);
        works.push(Work::new(format!("{name}, f32 {what}"), "GMAC/s", format!("{name} {what}"), move || {
            run(shape)
        }));
    }
    works
}

/// Endings of the names of our works that integer and float peers are compared with.
const INTEGER: &[&str] = &["u8 x ternary", "2-bit x ternary", "1-bit x ternary"];
const FLOAT: &[&str] = &["f32 x f32", "f32 x ternary", "f32 input gradient", "f32 weight gradient"];

/// What the machine can do at most, as one more peer: its ratio is the fraction of the limit.
fn limit(limit: Limit) -> Option<Peer> {
    let (name, ours): (_, &[&str]) = match limit {
        Limit::Panel8 => ("limit: maddubs + paddw tile", &["u8 x ternary"]),
        Limit::Vnni => ("limit: dpbusd tile", &["u8 x ternary"]),
        Limit::Count2 => ("limit: ternlog + popcnt + paddd, 2 planes", &["2-bit x ternary"]),
        Limit::Count1 => ("limit: ternlog + popcnt + paddd", &["1-bit x ternary"]),
        Limit::Lut2 => ("limit: pshufb + paddb, 2 codes", &["2-bit x ternary"]),
        Limit::Lut1 => ("limit: pshufb + paddb, 4 codes", &["1-bit x ternary"]),
        Limit::Fma => ("limit: fma, 8 wide", FLOAT),
        Limit::Fma16 => ("limit: fma, 16 wide", FLOAT),
        Limit::Sums3 => ("limit: addps from L1, 3 codes", &["f32 x ternary"]),
    };
    // Of the integer loops, those of the path in force; of the others, those it has the instructions of.
    let any = matches!(limit, Limit::Fma | Limit::Sums3);
    if !any && limit.path() != kernels::dispatch::path() {
        return None;
    }
    limit.measure()?;
    let work = |name: String| {
        let sample = move || limit.measure().unwrap_or(f64::NAN) / 1e9;
        Work::new(name.clone(), "GMAC/s", name, move || Box::new(sample))
    };
    let gradients = gradients().map(|(shape, (what, _))| format!("{} {what}", conv_name(shape)));
    let names = GEMMS.map(gemm_name).into_iter().chain(CONVOLUTIONS.map(conv_name)).chain(gradients);
    let works = names.map(work).collect();
    Some(Peer { name, version: format!("at {:.2} GHz", clock() / 1e9), works, ours })
}

fn main() -> std::io::Result<()> {
    let path = kernels::dispatch::path();
    let version = format!("{} ({path})", env!("CARGO_PKG_VERSION"));
    let mut peers = vec![Peer { name: "ternion", version, works: ours(), ours: &[] }];
    peers.extend(rust_peers().map(|peer| {
        let work = |shape: Gemm| {
            let prepare = move || rate(gmacs(shape), (peer.call)(shape));
            Work::new(gemm_name(shape), "GMAC/s", gemm_name(shape), prepare)
        };
        // Float products face every work: a ternary layer is what replaces one.
        let ours = if peer.integer { INTEGER } else { &[] };
        Peer { name: peer.name, version: peer.version, works: GEMMS.map(work).into(), ours }
    }));
    peers.extend(Limit::ALL.into_iter().filter_map(limit));
    serve(&peers)
}
