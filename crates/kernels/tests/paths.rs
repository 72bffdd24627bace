//! Float results do not depend on how wide the vectors are: AVX2 and AVX-512 give the same bits.
//!
//! The path is chosen once per process, so this test runs itself again with each path forced and compares digests.

mod common;

use common::{bits, conv2d, depthwise, pool2d, tied, trits, values};
use kernels::dispatch::{KERNEL_VARIABLE, Path};
use kernels::gemm::{MatRef, gemm};
use kernels::{Conv2d, Padding, Pool2d, Real, channel, elementwise};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// FNV-1a over bit patterns.
struct Digest(u64);

impl Digest {
    fn add<T: Real>(&mut self, values: &[T]) {
        for v in values {
            self.0 = (self.0 ^ v.to_f64().to_bits()).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn digest(f: impl FnOnce(&mut Digest)) -> u64 {
    let mut digest = Digest(0xcbf2_9ce4_8422_2325);
    f(&mut digest);
    digest.0
}

/// The same random cases in every process.
fn cases<S: Strategy>(strategy: S, count: usize) -> Vec<S::Value> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("a case").current()).collect()
}

type Run<T> = fn(&Conv2d, &[T], &[T], &mut [T]) -> Result<(), kernels::KernelError>;

fn convolutions<T: Real>(geometries: &[Conv2d], [forward, input, weight]: [Run<T>; 3]) -> u64 {
    digest(|d| {
        for g in geometries {
            let (x, w) = (values::<T>(1, g.input_len()), values(2, g.kernel_len()));
            let dy = values(3, g.output_len());
            let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
            forward(g, &x, &w, &mut y).expect("shapes");
            input(g, &dy, &w, &mut dx).expect("shapes");
            weight(g, &x, &dy, &mut dw).expect("shapes");
            [y, dx, dw].iter().for_each(|v| d.add(v));
        }
    })
}

fn products<T: Real>() -> u64 {
    digest(|d| {
        let sizes: Vec<usize> = bits(5).take(96).map(|b| (b % 70) as usize).collect();
        for mnk in sizes.chunks_exact(3) {
            let (m, n, k) = (mnk[0], mnk[1], mnk[2]);
            let (a, b) = (values::<T>(1, m * k), values::<T>(2, k * n));
            for beta in [T::ZERO, T::ONE] {
                let mut c = values(3, m * n);
                gemm((m, n, k), MatRef::rows(&a, k), MatRef::rows(&b, n), beta, &mut c).expect("shapes");
                d.add(&c);
            }
        }
    })
}

fn pools<T: Real>(geometries: &[Pool2d]) -> u64 {
    use kernels::pool::{avg_adjoint, avg_forward, max_forward, max_gather, max_scatter};
    digest(|d| {
        for g in geometries {
            let (x, gy) = (tied::<T>(1, g.input_len()), values::<T>(2, g.output_len()));
            let (mut y, mut gx) = (gy.clone(), x.clone());
            max_forward(g, &x, &mut y).expect("shapes");
            d.add(&y);
            max_gather(g, &x, &values(3, x.len()), &mut y).expect("shapes");
            d.add(&y);
            avg_forward(g, &values(4, x.len()), &mut y).expect("shapes");
            d.add(&y);
            max_scatter(g, &x, &gy, &mut gx).expect("shapes");
            d.add(&gx);
            avg_adjoint(g, &gy, &mut gx).expect("shapes");
            d.add(&gx);
        }
    })
}

fn elements<T: Real>() -> u64 {
    digest(|d| {
        for c in [1, 3, 8, 16, 24, 32, 33, 64, 100] {
            let n = 37 * c;
            let (x, z) = (values::<T>(1, n), values::<T>(2, n));
            let (a, b, bias) = (values::<T>(3, c), values::<T>(4, c), values::<T>(5, c));
            let (mut y, mut sums) = (x.clone(), a.clone());
            for terms in [&[(&x[..], &a[..])][..], &[(&x, &a), (&z, &b)], &[(&x, &a), (&z, &b), (&x, &b)]] {
                for bias in [None, Some(&bias[..])] {
                    channel::affine(terms, bias, &mut y).expect("shapes");
                    d.add(&y);
                }
            }
            channel::dot(&x, &z, &mut sums).expect("shapes");
            d.add(&sums);
            channel::sum(&x, &mut sums).expect("shapes");
            d.add(&sums);
            elementwise::relu_grad(&x, &z, &mut y);
            d.add(&y);
            elementwise::combine(a[0], &x, b[0], &z, &mut y);
            d.add(&y);
            elementwise::add_scaled(a[0], &x, &mut y);
            d.add(&y);
        }
    })
}

fn all<T: Real>(name: &str) -> Vec<String> {
    use kernels::{conv2d, depthwise};
    let fixed = [[5, 16, 16, 32], [2, 9, 13, 48], [3, 8, 8, 130], [2, 12, 8, 17]]
        .map(|x| Conv2d::new(x, [3, 3, x[3], x[3] + 16], [1, 1], Padding::Same).expect("geometry"));
    let planes = cases(self::depthwise(), 40);
    let dense: Run<T> = conv2d::forward;
    vec![
        format!(
            "{name} winograd {:x}",
            convolutions(&fixed, [dense, conv2d::input_grad, conv2d::weight_grad])
        ),
        format!(
            "{name} convolution {:x}",
            convolutions(&cases(conv2d(), 60), [dense, conv2d::input_grad, conv2d::weight_grad])
        ),
        format!(
            "{name} depthwise {:x}",
            convolutions(
                &planes,
                [depthwise::forward as Run<T>, depthwise::input_grad, depthwise::weight_grad]
            )
        ),
        format!("{name} product {:x}", products::<T>()),
        format!("{name} pool {:x}", pools::<T>(&cases(pool2d(), 40))),
        format!("{name} elementwise {:x}", elements::<T>()),
    ]
}

/// f32 values times trits, in every form.
fn floats_times_trits() -> u64 {
    use kernels::ternary::float::{self, Form, Packed};
    digest(|d| {
        let fixed = [[2, 16, 16, 32], [1, 9, 13, 48], [2, 12, 8, 17]]
            .map(|x| Conv2d::new(x, [3, 3, x[3], x[3] + 16], [1, 1], Padding::Same).expect("geometry"));
        for g in fixed.into_iter().chain(cases(conv2d(), 40)) {
            let x = values::<f32>(1, g.input_len());
            for form in Form::ALL.into_iter().filter(|form| form.takes(&g)) {
                let scale = values::<f32>(3, g.out_c);
                let w = Packed::conv2d(form, &g, &trits(2, g.kernel_len()), &scale).expect("trits");
                let mut y = vec![0.0; g.output_len()];
                float::conv2d(&g, &x, &w, &mut y).expect("shapes");
                d.add(&y);
            }
        }
    })
}

const MARK: &str = "digest: ";

#[test]
fn digests() {
    for line in all::<f32>("f32").into_iter().chain(all::<f64>("f64")) {
        println!("\n{MARK}{line}");
    }
    println!("\n{MARK}f32 trits {:x}", floats_times_trits());
}

#[test]
#[cfg_attr(miri, ignore = "starts processes")]
fn wider_vectors_give_the_same_bits() {
    let run = |path: Path| {
        let output = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "digests", "--nocapture"])
            .env(KERNEL_VARIABLE, path.to_string())
            .output()
            .expect("this test starts again");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().filter_map(|l| l.strip_prefix(MARK)).map(str::to_owned).collect::<Vec<_>>()
    };
    if !Path::Avx512.available() {
        return println!("passed over: this CPU has no AVX-512");
    }
    let narrow = run(Path::Avx2);
    assert_eq!(narrow.len(), 13);
    assert_eq!(narrow, run(Path::Avx512));
    // The digests see a different order of rounding: without fused products they are others.
    let plain = run(Path::Scalar);
    assert!(narrow.iter().zip(&plain).filter(|(n, _)| n.contains("winograd")).all(|(n, p)| n != p));
}
