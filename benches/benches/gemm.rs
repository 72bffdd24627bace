//! GEMM: trits and bytes with u8 codes, and f32.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use benches::{GEMMS, codes, floats, trits};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kernels::dispatch::Kernel;
use kernels::epilogue::Accumulators;
use kernels::gemm::{MatRef, gemm};
use kernels::int8::{self, Panel16};
use kernels::ternary::{self, Panel8};

fn gemms(c: &mut Criterion) {
    let kernel = Kernel::default();
    for (m, k, n) in GEMMS {
        let mut group = c.benchmark_group(format!("gemm/{m}x{k}x{n}"));
        group.throughput(Throughput::Elements((m * k * n) as u64)).sample_size(20);
        let (a, w) = (codes(m * k), trits(k * n));
        let mut acc = vec![0; m * n];

        let mut packed = Panel8::gemm(k, n, &w).expect("trits");
        group.bench_function("ternary", |b| {
            b.iter(|| ternary::gemm(kernel, &a, &packed, &Accumulators, &mut acc).expect("shapes"));
        });
        group.bench_function("ternary repack", |b| b.iter(|| packed.repack(&w).expect("trits")));

        let packed = Panel16::gemm(k, n, &w).expect("bytes");
        group.bench_function("int8", |b| {
            b.iter(|| int8::gemm(kernel, &a, &packed, &Accumulators, &mut acc).expect("shapes"));
        });

        let (a, b) = (floats(m * k), floats(k * n));
        let mut y = vec![0.0; m * n];
        group.bench_function("f32", |bench| {
            let (a, b) = (MatRef::rows(&a, k), MatRef::rows(&b, n));
            bench.iter(|| gemm((m, n, k), a, b, 0.0, &mut y).expect("shapes"));
        });
        group.finish();
    }
}

criterion_group!(benches, gemms);
criterion_main!(benches);
