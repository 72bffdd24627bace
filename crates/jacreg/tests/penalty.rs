//! The penalty's value against closed forms, its estimator against the exact norm, and its recipe form.
#![forbid(unsafe_code)]

use jacreg::{JacobianPenalty, Projections};
use qnn::graph::{Executor, Graph, Leaves, RunKey};
use qnn::network::conv2d;
use qnn::train::Penalty;
use qnn::{Forward, InputGrid, LayerOp, Model, Network, Phase, Statistics};

const BATCH: usize = 4;

struct Values<'a> {
    model: &'a Model,
    x: Vec<f64>,
    params: Vec<Vec<f64>>,
}

impl<'a> Values<'a> {
    fn new(model: &'a Model) -> Self {
        let len = BATCH * model.network.input.iter().product::<usize>();
        let mut rng = qtensor::stream::stream(6, qtensor::stream::Purpose::Test, &[]);
        let x = (0..len).map(|_| qtensor::stream::normal_pair(&mut rng)[0]).collect();
        let params = model.params.iter().map(|p| p.values.iter().map(|v| f64::from(*v)).collect()).collect();
        Self { model, x, params }
    }
}

impl Leaves<f64> for Values<'_> {
    fn input(&self, _: usize) -> &[f64] {
        &self.x
    }
    fn param(&self, index: usize) -> &[f64] {
        assert!(index < self.model.params.len());
        &self.params[index]
    }
}

/// The penalty's value at each of `draws` steps.
fn values(model: &Model, penalty: &JacobianPenalty, draws: u64) -> Vec<f64> {
    let [h, w, c] = model.network.input;
    let mut graph = Graph::default();
    let input = graph.input(&[BATCH, h, w, c]);
    let forward = Forward::build(&mut graph, model, input, Phase::Training, Statistics::Moving).unwrap();
    let value = penalty.build(&mut graph, model, &forward).unwrap();
    let mut exec: Executor<f64> = Executor::new(graph, &[&[value]], Phase::Training, false);
    let leaves = Values::new(model);
    let at = |step| {
        exec.run(0, &leaves, RunKey { seed: 1, step }).unwrap();
        exec.output(value)[0]
    };
    (0..draws).map(at).collect()
}

fn linear() -> Model {
    Model::new(Network::new("linear", [2, 3, 1], InputGrid::UNIT_IMAGE, 5).classifier(&None), 3).unwrap()
}

fn deep() -> Model {
    let relu = || LayerOp::Activation { quantizer: None };
    let net = Network::new("deep", [6, 6, 2], InputGrid::UNIT_IMAGE, 5)
        .then("c1", conv2d(4, [3, 3], [1, 1], true, &None))
        .then("a1", relu())
        .max_pool("p1", 2)
        .then("c2", conv2d(6, [3, 3], [1, 1], true, &None))
        .then("a2", relu())
        .classifier(&None);
    Model::new(net, 9).unwrap()
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
    let model = linear();
    let kernel = &model.param("logits/kernel").unwrap().values;
    let half_square = 0.5 * kernel.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>();
    let value = values(&model, &exact("logits", "input"), 1)[0];
    assert!((value - half_square).abs() < 1e-12 * half_square, "{value} {half_square}");
}

#[test]
fn estimates_are_unbiased_and_sharpen_with_projections() {
    let model = deep();
    for (of, wrt) in [("logits", "input"), ("logits", "each"), ("a2", "input"), ("each", "previous")] {
        let truth = values(&model, &exact(of, wrt), 1)[0];
        let mut variances = Vec::new();
        for projections in [1, 4] {
            let draws = values(&model, &sampled(of, wrt, projections), 400);
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
    let minimal: JacobianPenalty =
        serde_json::from_str(r#"{"of": "logits", "wrt": "input", "lambda": 0.01}"#).unwrap();
    assert_eq!(minimal, JacobianPenalty::input(0.01));
    assert!(
        serde_json::from_str::<JacobianPenalty>(r#"{"of": "logits", "wrt": "input", "lamda": 1}"#).is_err()
    );
}

#[test]
fn unknown_layers_are_named() {
    let model = deep();
    let [h, w, c] = model.network.input;
    let mut graph = Graph::default();
    let input = graph.input(&[BATCH, h, w, c]);
    let forward = Forward::build(&mut graph, &model, input, Phase::Training, Statistics::Moving).unwrap();
    let error = exact("conv99", "input").build(&mut graph, &model, &forward).unwrap_err();
    assert!(error.to_string().contains("conv99"), "{error}");
}
