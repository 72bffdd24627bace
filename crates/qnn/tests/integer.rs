//! Quantized layers on the integer kernels against the simulation in double precision.
#![forbid(unsafe_code)]

use qnn::graph::{Executor, Graph, Leaves, RunKey};
use qnn::network::depthwise;
use qnn::zoo::Twin;
use qnn::{Forward, InputGrid, Model, Network, Phase, Predictor, Statistics};
use qtensor::stream::{Purpose, normal_pair, stream};

struct Doubles<'a> {
    params: Vec<Vec<f64>>,
    x: &'a [f64],
}

impl Leaves<f64> for Doubles<'_> {
    fn input(&self, _: usize) -> &[f64] {
        self.x
    }
    fn param(&self, index: usize) -> &[f64] {
        &self.params[index]
    }
}

/// Three quantized convolutions; the last two read codes (and so does the first, when the input is declared to be codes).
fn model(twin: Twin, grid: InputGrid) -> Model {
    let q = twin.quantizers();
    let net = Network::new("two", [9, 7, 3], grid, 5)
        .conv("c1", 20, 3, 1, &q.weights)
        .bn_act("c1", &q.activations)
        .max_pool("p1", 2)
        .then("d", depthwise([3, 3], [1, 1], true, &q.weights))
        .bn_act("d", &q.activations)
        .conv("c2", 17, 3, 2, &q.weights)
        .bn_act("c2", &q.activations)
        .classifier(&q.weights);
    let mut model = Model::new(net, 4).unwrap();
    let mut rng = stream(8, Purpose::Test, &[]);
    for p in model.params.iter_mut().filter(|p| !p.name.ends_with("kernel")) {
        for v in &mut p.values {
            *v += 0.3 * normal_pair(&mut rng)[0].abs() as f32;
        }
    }
    model
}

#[test]
fn integer_layers_give_the_simulations_logits() {
    for twin in [Twin::Stq, Twin::StochasticBinary, Twin::EightBit] {
        for grid in [InputGrid::UNIT_IMAGE, InputGrid::STANDARDISED] {
            let model = model(twin, grid);
            let mut rng = stream(2, Purpose::Test, &[]);
            let codes: Vec<u8> =
                (0..6 * 9 * 7 * 3).map(|_| qtensor::stream::below(&mut rng, 256) as u8).collect();
            let x: Vec<f32> = codes.iter().map(|c| grid.value(*c)).collect();
            let doubles: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();

            let mut graph = Graph::default();
            let input = graph.input(&[6, 9, 7, 3]);
            let forward =
                Forward::build(&mut graph, &model, input, Phase::Inference, Statistics::Moving).unwrap();
            let logits = forward.logits;
            let mut exec: Executor<f64> = Executor::new(graph, &[&[logits]], Phase::Inference, false);
            let params =
                model.params.iter().map(|p| p.values.iter().map(|v| f64::from(*v)).collect()).collect();
            exec.run(0, &Doubles { params, x: &doubles }, RunKey::default()).unwrap();
            let simulated = exec.output(logits);

            for predictor in [Predictor::new(&model), Predictor::for_codes(&model)] {
                let mut got = vec![0.0; 6 * 5];
                predictor.unwrap().logits(&x, &mut got).unwrap();
                // Rounding may move an activation that sits on a tie by one code of 1/64, so not every bit agrees.
                let scale = simulated.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                for (a, b) in got.iter().zip(simulated) {
                    assert!((f64::from(*a) - b).abs() < 2e-3 * scale, "{twin:?} {grid:?}: {a} against {b}");
                }
            }
        }
    }
}
