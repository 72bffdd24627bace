//! The penalty's value against closed forms, its estimator against the exact norm, and its recipe form.
#![forbid(unsafe_code)]

mod common;

use common::{Bench, deep, net};
use jacreg::{JacobianPenalty, Lambda, Projections, WeightSchedule};
use qnn::Statistics;
use qnn::graph::RunKey;
use qnn::train::Penalty;

/// The penalty's value at each of `draws` steps.
fn values(network: qnn::Network, penalty: &JacobianPenalty, draws: u64) -> Vec<f64> {
    let mut bench = Bench::new(network, penalty, Statistics::Moving).unwrap();
    let at = |step| {
        bench.key = RunKey { seed: 1, step };
        bench.value()
    };
    (0..draws).map(at).collect()
}

fn exact(of: &str, wrt: &str) -> JacobianPenalty {
    let text = format!(r#"{{"of": "{of}", "wrt": "{wrt}", "lambda": 0.1, "projections": "exact"}}"#);
    serde_json::from_str(&text).unwrap()
}

fn sampled(of: &str, wrt: &str, projections: u32) -> JacobianPenalty {
    JacobianPenalty { projections: Projections::Random(projections), ..exact(of, wrt) }
}

#[test]
fn a_linear_networks_jacobian_is_its_kernel() {
    let linear = net([2, 3, 1]).classifier(&None);
    let mut bench = Bench::new(linear, &exact("logits", "input"), Statistics::Moving).unwrap();
    let kernel = &bench.values.params[bench.model.index_of("logits/kernel").unwrap()];
    let half_square = 0.5 * kernel.iter().map(|w| w.powi(2)).sum::<f64>();
    let value = bench.value();
    assert!((value - half_square).abs() < 1e-12 * half_square, "{value} {half_square}");
}

#[test]
fn estimates_are_unbiased_and_sharpen_with_projections() {
    for (of, wrt) in [("logits", "input"), ("logits", "each"), ("a2", "input"), ("each", "previous")] {
        let truth = values(deep(), &exact(of, wrt), 1)[0];
        let mut variances = Vec::new();
        for projections in [1, 4] {
            let draws = values(deep(), &sampled(of, wrt, projections), 400);
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let variance = draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (draws.len() - 1) as f64;
            let error = (variance / draws.len() as f64).sqrt();
            assert!((mean - truth).abs() < 4.0 * error, "{of} wrt {wrt}: {mean} +- {error}, exactly {truth}");
            println!(
                "{of} wrt {wrt}: {projections} projections, relative deviation {:.3}",
                variance.sqrt() / truth
            );
            variances.push(variance);
        }
        let ratio = variances[0] / variances[1];
        assert!((2.5..6.5).contains(&ratio), "{of} wrt {wrt}: variance ratio {ratio}, expected about 4");
    }
}

#[test]
fn recipe_form_has_defaults_and_refuses_unknown_keys() {
    let parse = |text: &str| serde_json::from_str::<JacobianPenalty>(text);
    let minimal = parse(r#"{"of": "logits", "wrt": "input", "lambda": 0.01}"#).unwrap();
    assert_eq!(minimal, JacobianPenalty::input(0.01));
    assert!(parse(r#"{"of": "logits", "wrt": "input", "lamda": 1}"#).is_err());
    let whole = parse(
        r#"{"of": "logits", "wrt": "each", "lambda": {"a1": 0.5, "a*": 2}, "norm": "spectral", "iterations": 7, "every": 3,
            "schedule": {"ramp": {"hold": 1, "over": 2}}}"#,
    )
    .unwrap();
    assert_eq!(whole.schedule, WeightSchedule::Ramp { hold: 1, over: 2 });
    assert!(matches!(&whole.lambda, Lambda::PerLayer(layers) if layers.len() == 2));
    assert_eq!(parse(&serde_json::to_string(&whole).unwrap()).unwrap(), whole);
    let weights: Vec<f64> = (0..4).map(|epoch| whole.weight(epoch, 4)).collect();
    assert_eq!(weights, [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]);
}

/// Sums over layers are the sum of the layers' own penalties, however the layers are named.
#[test]
fn layers_are_chosen_by_name_and_by_rule() {
    let value = |of: &str, wrt: &str| values(deep(), &exact(of, wrt), 1)[0];
    let (first, second) = (value("logits", "a1"), value("logits", "a2"));
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12 * b, "{a} {b}");
    close(value("logits", "each"), first + second);
    close(value("logits", "a*"), first + second);
    close(value("logits", "a2, a1"), first + second);
    close(value("logits", "first 1"), first);
    close(value("logits", "last 1"), second);
    close(value("logits", "last 9"), first + second);
    let weighted = |layers: &[(&str, f64)]| {
        let lambda = Lambda::PerLayer(layers.iter().map(|(n, l)| ((*n).to_owned(), *l)).collect());
        values(deep(), &JacobianPenalty { lambda, ..exact("logits", "each") }, 1)[0]
    };
    close(weighted(&[("a1", 0.5), ("a2", 3.0)]), 0.5 * first + 3.0 * second);
    close(weighted(&[("a2", 3.0)]), 3.0 * second);
    close(weighted(&[("a*", 2.0)]), 2.0 * (first + second));
}

#[test]
fn unknown_layers_are_named() {
    let error = |penalty: &JacobianPenalty| {
        Bench::new(deep(), penalty, Statistics::Moving).err().expect("a refusal").to_string()
    };
    let unknown = error(&exact("conv99", "input"));
    assert!(unknown.contains("conv99") && unknown.contains("c1, a1"), "{unknown}");
    assert!(error(&exact("a1", "a2")).contains("names no pair"));
    let lambda = Lambda::PerLayer([("a7".to_owned(), 1.0)].into_iter().collect());
    let stray = error(&JacobianPenalty { lambda, ..exact("logits", "each") });
    assert!(stray.contains("a7") && stray.contains("a1, a2"), "{stray}");
    assert!(error(&sampled("logits", "input", 0)).contains("at least 1"));
    let wide = exact("c1", "input");
    assert!(
        Bench::new(
            net([40, 40, 1])
                .then("c1", qnn::network::conv2d(4, [3, 3], [1, 1], false, &None))
                .classifier(&None),
            &wide,
            Statistics::Moving
        )
        .err()
        .expect("a refusal")
        .to_string()
        .contains("random projections")
    );
}
