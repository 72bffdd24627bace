//! 3x3 convolutions: trits and bytes with requantisation, f32 and its two gradients, depthwise.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use benches::{CONVOLUTIONS, Report, codes, conv_name, floats, trits};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kernels::dispatch::Kernel;
use kernels::epilogue::{Requantize, Scale};
use kernels::int8;
use kernels::ternary::{self, Form, Packed, float as real};
use kernels::{Conv2d, Padding, conv2d, depthwise};

/// A requantisation of `n` channels that keeps codes in range.
fn requantization(n: usize) -> Requantize {
    let (multiplier, shift) = Requantize::factor(0.01).expect("below one");
    Requantize::new(&vec![0; n], &vec![multiplier; n], &vec![shift; n], 128, (0, 255)).expect("parameters")
}

fn convolutions(c: &mut Criterion) {
    let kernel = Kernel::default();
    let mut report = Report::new();
    for (batch, side, ci, co) in CONVOLUTIONS {
        let g =
            Conv2d::new([batch, side, side, ci], [3, 3, ci, co], [1, 1], Padding::Same).expect("geometry");
        let mut group = c.benchmark_group(conv_name((batch, side, ci, co)));
        group.throughput(Throughput::Elements(g.macs())).sample_size(20);
        let (x, w) = (codes(g.input_len()), trits(g.kernel_len()));
        let (requantize, factors) = (requantization(co), vec![1.0; co]);
        let (mut y, mut scaled) = (vec![0; g.output_len()], vec![0.0; g.output_len()]);
        let mut sums = scaled.clone();

        for form in Form::ALL.into_iter().filter(|&form| !form.is_of_rows()) {
            let packed = Packed::conv2d(form, &g, &w).expect("trits");
            let x: Vec<u8> = x.iter().map(|code| code & (u8::MAX >> (8 - form.bits()))).collect();
            let mut run =
                || ternary::conv2d(kernel, &g, (&x, 0), &packed, &requantize, &mut y).expect("shapes");
            let name = format!("{} {form}", conv_name((batch, side, ci, co)));
            report.add(&name, Report::limit(form), g.macs() as usize, &mut run);
            group.bench_function(format!("ternary {form} to codes"), |b| b.iter(&mut run));
            let scale = Scale { scale: &factors, bias: &factors };
            group.bench_function(format!("ternary {form} to f32"), |b| {
                b.iter(|| {
                    ternary::conv2d(kernel, &g, (&x, 0), &packed, &scale, &mut scaled).expect("shapes")
                });
            });
        }
        let packed = int8::Packed::conv2d(&g, &w).expect("bytes");
        group.bench_function("int8 to codes", |b| {
            b.iter(|| int8::conv2d(kernel, &g, (&x, 0), &packed, &requantize, &mut y).expect("shapes"));
        });

        let (x, w, dy) = (floats(g.input_len()), floats(g.kernel_len()), floats(g.output_len()));
        let (mut dx, mut dw) = (x.clone(), w.clone());
        let mut float = |name: &str, run: &mut dyn FnMut()| {
            for limit in Report::float_limits() {
                let name = format!("{} {name}", conv_name((batch, side, ci, co)));
                report.add(&name, limit, g.macs() as usize, &mut *run);
            }
            group.bench_function(name, |b| b.iter(&mut *run));
        };
        float("f32", &mut || conv2d::forward(&g, &x, &w, &mut scaled).expect("shapes"));
        float("f32 input gradient", &mut || conv2d::input_grad(&g, &dy, &w, &mut dx).expect("shapes"));
        float("f32 weight gradient", &mut || conv2d::weight_grad(&g, &x, &dy, &mut dw).expect("shapes"));
        let (trits, factors) = (trits(g.kernel_len()), vec![0.5; co]);
        for form in real::Form::ALL.into_iter().filter(|form| form.takes(&g)) {
            let packed = real::Packed::conv2d(form, &g, &trits, &factors).expect("trits");
            let name = format!("f32 x ternary {form:?}");
            float(&name, &mut || real::conv2d(&g, &x, &packed, &mut sums).expect("shapes"));
        }
        group.finish();
    }
    report.print();
}

fn depthwise_convolutions(c: &mut Criterion) {
    let kernel = Kernel::default();
    for (side, channels) in [(25, 64), (32, 16)] {
        let g = Conv2d::depthwise([16, side, side, channels], [3, 3, channels, 1], [1, 1], Padding::Same)
            .expect("geometry");
        let mut group = c.benchmark_group(format!("depthwise/16x{side}x{side} {channels}"));
        group.throughput(Throughput::Elements(g.macs())).sample_size(20);
        let (x, w, requantize) = (codes(g.input_len()), trits(g.kernel_len()), requantization(channels));
        let mut y = vec![0; g.output_len()];
        group.bench_function("codes", |b| {
            b.iter(|| int8::depthwise(kernel, &g, (&x, 0), &w, &requantize, &mut y).expect("shapes"));
        });
        let (x, w, dy) = (floats(g.input_len()), floats(g.kernel_len()), floats(g.output_len()));
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
        group.bench_function("f32", |b| b.iter(|| depthwise::forward(&g, &x, &w, &mut y).expect("shapes")));
        group.bench_function("f32 input gradient", |b| {
            b.iter(|| depthwise::input_grad(&g, &dy, &w, &mut dx).expect("shapes"));
        });
        group.bench_function("f32 weight gradient", |b| {
            b.iter(|| depthwise::weight_grad(&g, &x, &dy, &mut dw).expect("shapes"));
        });
        group.finish();
    }
}

criterion_group!(benches, convolutions, depthwise_convolutions);
criterion_main!(benches);
