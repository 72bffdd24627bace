//! GEMM: trits in every form and bytes with u8 codes, and f32, beside Rust peers and what the machine can do.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use benches::{GEMMS, Report, codes, floats, gemm_name, trits};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kernels::dispatch::Kernel;
use kernels::epilogue::Accumulators;
use kernels::gemm::{MatRef, gemm};
use kernels::int8;
use kernels::ternary::{self, Form, Packed};

fn gemms(c: &mut Criterion) {
    let kernel = Kernel::default();
    let mut report = Report::new();
    for (m, k, n) in GEMMS {
        let mut group = c.benchmark_group(gemm_name((m, k, n)));
        group.throughput(Throughput::Elements((m * k * n) as u64)).sample_size(20);
        let (a, w) = (codes(m * k), trits(k * n));
        let mut acc = vec![0; m * n];

        let fits = |form: &Form| match form {
            Form::Winograd => false,
            Form::Panel8 => true,
            form => (m == 1) == form.is_of_rows(),
        };
        for form in Form::ALL.into_iter().filter(fits) {
            let mut packed = Packed::gemm(form, k, n, &w).expect("trits");
            let a: Vec<u8> = a.iter().map(|code| code & (u8::MAX >> (8 - form.bits()))).collect();
            let mut run = || ternary::gemm(kernel, &a, &packed, &Accumulators, &mut acc).expect("shapes");
            report.add(&format!("{} {form}", gemm_name((m, k, n))), Report::limit(form), m * k * n, &mut run);
            group.bench_function(format!("ternary {form}"), |b| b.iter(&mut run));
            group.bench_function(format!("ternary {form} repack"), |b| {
                b.iter(|| packed.repack(&w).expect("trits"))
            });
        }

        let packed = int8::Packed::gemm(k, n, &w).expect("bytes");
        group.bench_function("int8", |b| {
            b.iter(|| int8::gemm(kernel, &a, &packed, &Accumulators, &mut acc).expect("shapes"));
        });

        let (a, b) = (floats(m * k), floats(k * n));
        let mut y = vec![0.0; m * n];
        group.bench_function("f32", |bench| {
            let (a, b) = (MatRef::rows(&a, k), MatRef::rows(&b, n));
            bench.iter(|| gemm((m, n, k), a, b, 0.0, &mut y).expect("shapes"));
        });
        for peer in benches::rust_peers() {
            let mut call = (peer.call)((m, k, n));
            group.bench_function(peer.name, |bench| bench.iter(&mut call));
        }
        group.finish();
    }
    report.print();
}

criterion_group!(benches, gemms);
criterion_main!(benches);
