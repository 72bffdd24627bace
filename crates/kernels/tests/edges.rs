//! Every integer kernel on a few small shapes at the edges of tiles, blocks and vectors: few enough for an interpreter that
//! checks every memory access (`cargo +nightly miri test -p kernels --test edges`), which the random suites are not.

mod common;

use common::{codes, trits, values};
use kernels::dispatch::{Kernel, Path};
use kernels::epilogue::{Accumulators, Requantize, Scale};
use kernels::int8;
use kernels::ternary::float::{self, Form as RealForm, Packed as RealPacked};
use kernels::ternary::{self, Form, Packed};
use kernels::{Conv2d, Padding, reference};

/// `[m, n, k]`: one, just below and above tiles of 4, panels of 16, vectors of 32 and 64.
const PRODUCTS: [[usize; 3]; 5] = [[1, 1, 1], [3, 15, 5], [5, 17, 33], [33, 4, 31], [65, 16, 16]];

fn geometries() -> [Conv2d; 4] {
    let g = |input, kernel, stride, padding| Conv2d::new(input, kernel, stride, padding).expect("geometry");
    [
        g([1, 3, 3, 1], [3, 3, 1, 1], [1, 1], Padding::Same),
        g([2, 4, 5, 3], [3, 2, 3, 17], [2, 1], Padding::Same),
        g([1, 5, 9, 4], [2, 3, 4, 5], [1, 2], Padding::Valid),
        g([0, 3, 3, 2], [1, 1, 2, 3], [1, 1], Padding::Same),
    ]
}

fn kernels() -> impl Iterator<Item = Kernel> {
    Path::ALL.into_iter().filter_map(Kernel::new)
}

fn narrow(form: Form, len: usize) -> Vec<u8> {
    codes(5, len).into_iter().map(|code| code & (u8::MAX >> (8 - form.bits()))).collect()
}

#[test]
fn products_at_the_edges() {
    for [m, n, k] in PRODUCTS {
        let w = trits(6, k * n);
        let (scale, bias) = (vec![0.5; n], vec![1.0; n]);
        let requantize =
            Requantize::new(&vec![3; n], &vec![1 << 30; n], &vec![33; n], 9, (0, 200)).expect("parameters");
        for form in Form::ALL.into_iter().filter(|&form| form != Form::Winograd) {
            let a = narrow(form, m * k);
            let packed = Packed::gemm(form, k, n, &w).expect("trits");
            let mut want = vec![0; m * n];
            reference::integer::gemm((m, n, k), &a, &w, &mut want);
            for kernel in kernels() {
                let (mut acc, mut real, mut code) = (vec![1; m * n], vec![0.0; m * n], vec![0; m * n]);
                ternary::gemm(kernel, &a, &packed, &Accumulators, &mut acc).expect("shapes");
                ternary::gemm(kernel, &a, &packed, &Scale { scale: &scale, bias: &bias }, &mut real)
                    .expect("shapes");
                ternary::gemm(kernel, &a, &packed, &requantize, &mut code).expect("shapes");
                assert_eq!(acc, want);
                assert!(real.iter().zip(&want).all(|(&y, &acc)| y == acc as f32 * 0.5 + 1.0));
                let expected = |acc| reference::integer::requantize(acc, 3, 1 << 30, 33, 9, (0, 200));
                assert!(code.iter().zip(&want).all(|(&y, &acc)| y == expected(acc)));
            }
        }
    }
}

#[test]
fn convolutions_at_the_edges() {
    for g in geometries() {
        let w = trits(7, g.kernel_len());
        let mut want = vec![0; g.output_len()];
        let winograd = (g.kernel_h, g.kernel_w, g.stride_h, g.stride_w) == (3, 3, 1, 1);
        let forms = Form::ALL.into_iter().filter(|&form| match form {
            form if form.is_of_rows() => false,
            Form::Winograd => winograd,
            _ => true,
        });
        for form in forms {
            let x = narrow(form, g.input_len());
            reference::integer::conv2d(&g, (&x, 1), &w, &mut want);
            let packed = Packed::conv2d(form, &g, &w).expect("trits");
            for kernel in kernels() {
                let mut got = vec![1; g.output_len()];
                ternary::conv2d(kernel, &g, (&x, 1), &packed, &Accumulators, &mut got).expect("shapes");
                assert_eq!(got, want, "{form} {g:?}");
            }
        }
        let x = codes(8, g.input_len());
        reference::integer::conv2d(&g, (&x, 200), &w, &mut want);
        let packed = int8::Packed::conv2d(&g, &w).expect("bytes");
        for kernel in kernels() {
            let mut got = vec![1; g.output_len()];
            int8::conv2d(kernel, &g, (&x, 200), &packed, &Accumulators, &mut got).expect("shapes");
            assert_eq!(got, want, "{g:?}");
        }
    }
}

#[test]
fn floats_times_trits_at_the_edges() {
    for ([m, n, k], form) in PRODUCTS.into_iter().flat_map(|p| [(p, RealForm::Sums3), (p, RealForm::Panels)])
    {
        let (a, w): (Vec<f32>, _) = (values(9, m * k), trits(10, k * n));
        let mut got = vec![f32::NAN; m * n];
        let packed = RealPacked::gemm(form, k, n, &w, &vec![1.0; n]).expect("trits");
        float::gemm(&a, &packed, &mut got).expect("shapes");
        for (i, got) in got.iter().enumerate() {
            let want: f64 = (0..k).map(|p| f64::from(a[i / n * k + p]) * f64::from(w[p * n + i % n])).sum();
            assert!((f64::from(*got) - want).abs() <= (k + 2) as f64 * f64::from(f32::EPSILON) * k as f64);
        }
    }
}
