//! Spectral norms and curvature against their definitions, worked out in plain loops.
#![forbid(unsafe_code)]

mod common;

use common::{BATCH, Bench, CLASSES, deep, net, softmax};
use jacreg::{Curvature, CurvaturePenalty, JacobianPenalty, MatrixNorm, steepness};
use qnn::{Model, Predictor, Statistics};

#[test]
fn power_iteration_rises_to_the_largest_singular_value() {
    let spectral = |iterations| JacobianPenalty {
        norm: MatrixNorm::Spectral,
        iterations,
        ..JacobianPenalty::input(1.0)
    };
    // Single precision parameters, so that the same network can be taken apart by its predictor.
    let model = Model::new(deep(), 9).unwrap();
    let x: Vec<f32> = common::noise(BATCH * 72, 6).iter().map(|v| *v as f32).collect();
    let mut predictor = Predictor::new(&model).unwrap();
    let exact = steepness(&mut predictor, &x, &[0; BATCH]).unwrap();
    let truth = exact.iter().map(|s| s.spectral * s.spectral).sum::<f64>() / (2.0 * BATCH as f64);
    let frobenius = exact.iter().map(|s| s.frobenius * s.frobenius).sum::<f64>() / (2.0 * BATCH as f64);
    let mut before = 0.0;
    for iterations in [0, 1, 2, 5, 20, 200] {
        let mut bench = Bench::new(deep(), &spectral(iterations), Statistics::Moving).unwrap();
        for (values, param) in bench.values.params.iter_mut().zip(&model.params) {
            *values = param.values.iter().map(|v| f64::from(*v)).collect();
        }
        bench.values.inputs[0] = x.iter().map(|v| f64::from(*v)).collect();
        let value = bench.value();
        println!("{iterations} iterations: {:.4} of {truth:.4}", value / truth);
        assert!(value <= truth * (1.0 + 1e-5) && value >= before, "{iterations}: {before} {value} {truth}");
        before = value;
    }
    assert!((before - truth).abs() < 1e-5 * truth, "{before} {truth}");
    assert!(truth < frobenius, "{truth} {frobenius}");
}

/// For `z = W x + b` the loss gradient is `W^T (softmax(z) - y)`.
#[test]
fn curvature_of_a_linear_network_is_that_of_the_softmax() {
    const STEP: f64 = 0.7;
    let penalty = |form| CurvaturePenalty { step: STEP, form, ..CurvaturePenalty::new(1.0) };
    let mut differences =
        Bench::new(net([2, 2, 1]).classifier(&None), &penalty(Curvature::Difference), Statistics::Moving)
            .unwrap();
    let mut exact =
        Bench::new(net([2, 2, 1]).classifier(&None), &penalty(Curvature::Exact), Statistics::Moving).unwrap();
    let index = |name: &str| differences.model.index_of(name).unwrap();
    let kernel = differences.values.params[index("logits/kernel")].clone();
    let bias = differences.values.params[index("logits/bias")].clone();
    let logits = |x: &[f64]| -> Vec<f64> {
        (0..CLASSES).map(|k| bias[k] + (0..4).map(|i| x[i] * kernel[i * CLASSES + k]).sum::<f64>()).collect()
    };
    let back = |v: &[f64]| -> Vec<f64> {
        (0..4).map(|i| (0..CLASSES).map(|k| kernel[i * CLASSES + k] * v[k]).sum()).collect()
    };
    let (mut by_difference, mut by_hessian) = (0.0, 0.0);
    for b in 0..BATCH {
        let x = &differences.values.inputs[0][b * 4..][..4];
        let y = &differences.values.inputs[1][b * CLASSES..][..CLASSES];
        let gradient = |x: &[f64]| -> Vec<f64> {
            let p = softmax(&logits(x));
            back(&p.iter().zip(y).map(|(p, y)| p - y).collect::<Vec<_>>())
        };
        let here = gradient(x);
        let z: Vec<f64> = here.iter().map(|g| g.signum() / 2.0).collect();
        let moved: Vec<f64> = x.iter().zip(&z).map(|(x, z)| x + STEP * z).collect();
        by_difference += gradient(&moved).iter().zip(&here).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let p = softmax(&logits(x));
        let wz: Vec<f64> =
            (0..CLASSES).map(|k| (0..4).map(|i| kernel[i * CLASSES + k] * z[i]).sum()).collect();
        let mean: f64 = p.iter().zip(&wz).map(|(p, w)| p * w).sum();
        let hz = back(&p.iter().zip(&wz).map(|(p, w)| p * (w - mean)).collect::<Vec<_>>());
        by_hessian += hz.iter().map(|v| (STEP * v).powi(2)).sum::<f64>();
    }
    let close = |got: f64, sum: f64| (got - sum / BATCH as f64).abs() < 1e-12 * sum;
    assert!(close(differences.value(), by_difference), "{} {by_difference}", differences.value());
    assert!(close(exact.value(), by_hessian), "{} {by_hessian}", exact.value());
}

#[test]
fn a_step_that_is_no_length_is_refused() {
    for step in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let penalty = CurvaturePenalty { step, ..CurvaturePenalty::new(1.0) };
        let error = Bench::new(deep(), &penalty, Statistics::Moving).err().unwrap().to_string();
        assert!(error.contains("step"), "{error}");
    }
}
