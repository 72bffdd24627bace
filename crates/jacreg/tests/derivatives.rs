//! Gradients of every penalty against central differences in double precision: through batch normalisation in both modes,
//! residuals, pooling and strides, and through the surrogates of quantizers.
#![forbid(unsafe_code)]

mod common;

use common::{Bench, bn, deep, net, relu, residual};
use jacreg::{Curvature, CurvaturePenalty, JacobianPenalty, Lambda, MatrixNorm, Projections};
use qnn::network::conv2d;
use qnn::train::Penalty;
use qnn::{LayerOp, Model, Network, Statistics};
use qtensor::Quantizer;

fn members() -> Vec<(String, Box<dyn Penalty>)> {
    let mut members: Vec<(String, Box<dyn Penalty>)> = Vec::new();
    let mut add = |penalty: Box<dyn Penalty>, form: &str| {
        members.push((format!("{} {form}", penalty.name()), penalty));
    };
    for (of, wrt) in [("logits", "input"), ("logits", "each"), ("each", "input"), ("each", "previous")] {
        for n in [1, 3] {
            let projections = Projections::Random(n);
            add(Box::new(JacobianPenalty { projections, ..JacobianPenalty::new(of, wrt, 1.0) }), "projected");
        }
    }
    let exact: Projections = serde_json::from_str("\"exact\"").unwrap();
    add(Box::new(JacobianPenalty { projections: exact, ..JacobianPenalty::input(1.0) }), "exact");
    let layers = [("a1".to_owned(), 0.5), ("a2".to_owned(), 2.0)];
    let lambda = Lambda::PerLayer(layers.into_iter().collect());
    add(Box::new(JacobianPenalty::new("logits", "each", lambda)), "weighted by layer");
    add(Box::new(CurvaturePenalty::new(1.0)), "");
    add(Box::new(CurvaturePenalty { form: Curvature::Exact, ..CurvaturePenalty::new(1.0) }), "");
    members
}

#[test]
fn every_member_matches_central_differences() {
    for (name, network) in [("deep", deep as fn() -> Network), ("residual", residual)] {
        for statistics in [Statistics::Moving, Statistics::Batch] {
            if name == "deep" && statistics == Statistics::Batch {
                continue;
            }
            for (member, penalty) in members() {
                let what = format!("{name} {statistics:?} {member}");
                let worst = Bench::new(network(), &*penalty, statistics).unwrap().check(&what, 2e-6);
                println!("{what}: {worst:.1e}");
            }
        }
    }
}

#[test]
fn the_spectral_norm_matches_central_differences_at_convergence() {
    for (of, wrt) in [("logits", "input"), ("a1", "input"), ("each", "previous")] {
        let penalty = JacobianPenalty {
            norm: MatrixNorm::Spectral,
            iterations: 400,
            ..JacobianPenalty::new(of, wrt, 1.0)
        };
        let small = net([3, 3, 1])
            .then("c1", conv2d(2, [3, 3], [1, 1], true, &None))
            .then("a1", relu())
            .classifier(&None);
        let worst = Bench::new(small, &penalty, Statistics::Moving).unwrap().check(&penalty.name(), 2e-5);
        println!("{}: {worst:.1e}", penalty.name());
    }
}

fn quantizer(text: &str) -> Option<Quantizer> {
    Some(text.parse().unwrap())
}

fn activation(text: &str) -> LayerOp {
    LayerOp::Activation { quantizer: quantizer(text) }
}

/// What is penalised depends on parameters through surrogate slopes only, so differences of its value are true
/// derivatives: of smooth surrogates behind one hidden layer, of piecewise linear ones at any depth.
#[test]
fn surrogates_of_activations_match_central_differences() {
    let shallow = |q: &str| {
        net([4, 4, 2])
            .then("c1", conv2d(3, [3, 3], [1, 1], false, &None))
            .then("b1", bn())
            .then("a1", activation(q))
            .classifier(&None)
    };
    let stacked = |q: &str| {
        net([4, 4, 2])
            .then("c1", conv2d(3, [3, 3], [1, 1], true, &None))
            .then("a1", activation(q))
            .then("c2", conv2d(3, [3, 3], [1, 1], true, &None))
            .join("sum", LayerOp::Add, &["c2", "a1"])
            .then("a2", activation(q))
            .classifier(&None)
    };
    let input = JacobianPenalty::input(1.0);
    for q in [
        "quantized_tanh(4, use_real_tanh=True)",
        "quantized_tanh(4)",
        "quantized_sigmoid(4)",
        "quantized_relu(3, 1)",
        "quantized_relu(8, 2)",
    ] {
        for statistics in [Statistics::Moving, Statistics::Batch] {
            let worst = Bench::new(shallow(q), &input, statistics).unwrap().check(q, 2e-6);
            println!("one hidden layer of {q}, {statistics:?}: {worst:.1e}");
        }
    }
    for q in ["quantized_relu(3, 1)", "quantized_relu(8, 2)"] {
        for (of, wrt) in [("logits", "input"), ("logits", "each"), ("each", "previous")] {
            let penalty = JacobianPenalty::new(of, wrt, 1.0);
            let worst = Bench::new(stacked(q), &penalty, Statistics::Moving).unwrap().check(q, 2e-6);
            println!("two hidden layers of {q}, {}: {worst:.1e}", penalty.name());
        }
    }
}

/// The surrogate of a ternary kernel is the identity: gradients with respect to latent weights are those of the network
/// without quantizers at the quantized weights.
#[test]
fn latent_weights_get_the_gradient_of_their_quantized_values() {
    let build = |q: &Option<Quantizer>| {
        net([6, 6, 2])
            .then("c1", conv2d(4, [3, 3], [1, 1], false, q))
            .then("b1", bn())
            .then("a1", relu())
            .then("c2", conv2d(4, [3, 3], [2, 2], false, q))
            .then("a2", relu())
            .classifier(q)
    };
    let ternary = quantizer("ternary(alpha=auto)");
    for (of, wrt) in [("logits", "input"), ("logits", "each"), ("each", "input"), ("each", "previous")] {
        for statistics in [Statistics::Moving, Statistics::Batch] {
            let penalty = JacobianPenalty::new(of, wrt, 1.0);
            let mut quantized = Bench::new(build(&ternary), &penalty, statistics).unwrap();
            let mut plain = Bench::new(build(&None), &penalty, statistics).unwrap();
            for (i, param) in quantized.model.params.iter().enumerate() {
                plain.values.params[i].clone_from(&quantized.values.params[i]);
                if param.name.ends_with("/kernel") {
                    plain.values.params[i] = kernel(&quantized.model, i, &quantized.values.params[i]);
                    assert_ne!(plain.values.params[i], quantized.values.params[i]);
                }
            }
            let what = format!("{} {statistics:?}", penalty.name());
            plain.check(&what, 2e-6);
            for ((a, b), param) in
                quantized.gradients().iter().zip(plain.gradients()).zip(&plain.model.params)
            {
                let (Some(a), Some(b)) = (a, b) else { continue };
                let largest = b.iter().fold(1.0f64, |m, v| m.max(v.abs()));
                let deviation = a.iter().zip(&b).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
                assert!(deviation < 1e-10 * largest, "{what}: {}: {deviation:e}", param.name);
            }
        }
    }
}

/// The quantized values of a latent kernel.
fn kernel(model: &Model, index: usize, latent: &[f64]) -> Vec<f64> {
    use qnn::graph::{Executor, Graph, Leaves, RunKey};
    struct One<'a>(&'a [f64]);
    impl Leaves<f64> for One<'_> {
        fn input(&self, _: usize) -> &[f64] {
            self.0
        }
        fn param(&self, _: usize) -> &[f64] {
            self.0
        }
    }
    let param = &model.params[index];
    let qnn::ParamKind::Kernel(Some(q)) = &param.kind else { panic!("{} is not quantized", param.name) };
    let mut graph = Graph::default();
    let node = graph.param(0, &param.shape);
    let quantized = graph.quantize_kernel(q, index as u64, node);
    let mut exec: Executor<f64> = Executor::new(graph, &[&[quantized]], qnn::Phase::Training, false);
    exec.run(0, &One(latent), RunKey::default()).unwrap();
    exec.output(quantized).to_vec()
}
