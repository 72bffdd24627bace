//! Our side of `cargo xtask peers --only kernels`: single products and convolutions, and the Rust peers.
#![forbid(unsafe_code)]

use benches::peers::{Peer, Sampler, Work, rate, serve};
use benches::{CONVOLUTIONS, GEMMS, codes, conv_name, floats, gemm_name, trits};
use kernels::dispatch::Kernel;
use kernels::epilogue::{Accumulators, Requantize};
use kernels::gemm::MatRef;
use kernels::ternary::{self, Panel8};
use kernels::{Conv2d, Padding, conv2d};
use ndarray::Array2;
use ndarray::linalg::general_mat_mul;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;

type Gemm = (usize, usize, usize);
type Conv = (usize, usize, usize, usize);

fn gmacs((m, k, n): Gemm) -> f64 {
    (m * k * n) as f64 / 1e9
}

fn ternary_gemm(shape: Gemm) -> Sampler {
    let (m, k, n) = shape;
    let (a, w) = (codes(m * k), Panel8::gemm(k, n, &trits(k * n)).expect("trits"));
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

fn geometry((batch, side, ci, co): Conv) -> Conv2d {
    Conv2d::new([batch, side, side, ci], [3, 3, ci, co], [1, 1], Padding::Same).expect("geometry")
}

fn ternary_conv(shape: Conv) -> Sampler {
    let (g, n) = (geometry(shape), shape.3);
    let (x, w) = (codes(g.input_len()), Panel8::conv2d(&g, &trits(g.kernel_len())).expect("trits"));
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

fn ours() -> Vec<Work> {
    let mut works = Vec::new();
    let mut gemm = |mode: &str, shape: Gemm, prepare: fn(Gemm) -> Sampler| {
        let name = gemm_name(shape);
        works.push(Work::new(format!("{name}, {mode}"), "GMAC/s", name, move || prepare(shape)));
    };
    for shape in GEMMS {
        gemm("u8 x ternary", shape, ternary_gemm);
        gemm("f32 x f32", shape, float_gemm);
    }
    let mut conv = |mode: &str, shape: Conv, prepare: fn(Conv) -> Sampler| {
        let name = conv_name(shape);
        works.push(Work::new(format!("{name}, {mode}"), "GMAC/s", name, move || prepare(shape)));
    };
    for shape in CONVOLUTIONS {
        conv("u8 x ternary", shape, ternary_conv);
        conv("f32 x f32", shape, float_conv);
    }
    works
}

/// A peer that has matrix products only.
fn gemm_peer(
    name: &'static str,
    version: String,
    ours: &'static [&'static str],
    prepare: fn(Gemm) -> Sampler,
) -> Peer {
    let works =
        GEMMS.map(|shape| Work::new(gemm_name(shape), "GMAC/s", gemm_name(shape), move || prepare(shape)));
    Peer { name, version, works: works.into(), ours }
}

fn gemm_crate(shape: Gemm) -> Sampler {
    let (m, k, n) = shape;
    let (a, b, mut c) = (floats(m * k), floats(k * n), vec![0.0; m * n]);
    let threads = rayon_threads();
    rate(gmacs(shape), move || kernels::peers::gemm_f32(shape, &a, &b, &mut c, threads))
}

fn matrixmultiply(shape: Gemm) -> Sampler {
    let (m, k, n) = shape;
    let a = Array2::from_shape_vec((m, k), floats(m * k)).expect("shape");
    let b = Array2::from_shape_vec((k, n), floats(k * n)).expect("shape");
    let mut c = Array2::zeros((m, n));
    rate(gmacs(shape), move || general_mat_mul(1.0, &a, &b, 0.0, &mut c))
}

fn rten(shape: Gemm) -> Sampler {
    let (m, k, n) = shape;
    let executor = GemmExecutor::<u8, i8, i32>::new();
    let (a, b, mut c) = (codes(m * k), trits(k * n), vec![0; m * n]);
    let b = executor.prepack_b(NdTensorView::from_data([k, n], &b[..]));
    rate(gmacs(shape), move || {
        let a = NdTensorView::from_data([m, k], &a[..]);
        executor
            .gemm(&mut c, GemmInputA::Unpacked(a), GemmInputB::Packed(&b), GemmOptions::default())
            .expect("shapes");
    })
}

fn rayon_threads() -> usize {
    kernels::parallel::threads()
}

fn main() -> std::io::Result<()> {
    let rten_version = format!("0.27.0 ({})", GemmExecutor::<u8, i8, i32>::new().kernel_name());
    let path = kernels::dispatch::path();
    serve(&[
        Peer {
            name: "ternion",
            version: format!("{} ({path})", env!("CARGO_PKG_VERSION")),
            works: ours(),
            ours: &[],
        },
        gemm_peer(
            "rten-gemm u8 x i8",
            rten_version,
            &["u8 x ternary", "2-bit x ternary", "1-bit x ternary"],
            rten,
        ),
        gemm_peer("gemm f32", "0.19.0 (at most AVX2)".into(), &[], gemm_crate),
        gemm_peer(
            "matrixmultiply f32",
            "0.3 (through ndarray)".into(),
            &["f32 x f32", "f32 x ternary"],
            matrixmultiply,
        ),
    ])
}
