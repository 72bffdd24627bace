//! Lowered programs against a plain simulation of the inference graph, on random networks and inputs.

mod common;

use common::{Random, random_model, simulate, small_networks};
use deploy::rt::Image;
use deploy::{Engine, EquivalenceReport, arena, image, lower};
use qnn::InputGrid;
use qnn::network::BatchNormQuantizers;

const WEIGHTS: [&str; 4] = [
    "stochastic_ternary(alpha=auto)",
    "quantized_bits(8, 0, alpha=auto)",
    "stochastic_binary(alpha=auto)",
    "ternary(alpha=auto_po2)",
];
/// Batch normalisations of every kind: plain, QKeras' defaults, linear grids, the inverse deviation.
fn norm_quantizers(seed: u64) -> Option<BatchNormQuantizers> {
    let q = |text: &str| Some(text.parse().unwrap());
    match seed % 4 {
        0 => None,
        1 => Some(BatchNormQuantizers::qkeras()),
        2 => Some(BatchNormQuantizers {
            gamma: q("quantized_bits(6, 2, alpha=1)"),
            beta: q("quantized_bits(7, 2)"),
            mean: None,
            variance: q("quantized_relu(6, 2)"),
            inverse: None,
        }),
        _ => Some(BatchNormQuantizers {
            inverse: q("quantized_bits(8, 3)"),
            mean: q("quantized_bits(8, 3)"),
            ..Default::default()
        }),
    }
}

const ACTIVATIONS: [&str; 3] = ["quantized_relu(8, 2)", "quantized_relu(4, 1)", "quantized_relu(2, 1)"];

fn for_all_networks(mut check: impl FnMut(qnn::Model, u64)) {
    let mut seed = 1;
    for weights in WEIGHTS {
        for activations in ACTIVATIONS {
            for grid in [InputGrid::UNIT_IMAGE, InputGrid::STANDARDISED] {
                for mut network in small_networks(weights, activations, grid) {
                    seed += 1;
                    if seed % 2 == 0 {
                        network.quantize_biases(&Some("quantized_bits(5, 1)".parse().unwrap()));
                    }
                    network.quantize_batch_norms(&norm_quantizers(seed));
                    check(random_model(network, seed), seed);
                }
            }
        }
    }
}

fn argmax(logits: &[f32]) -> usize {
    logits.iter().enumerate().fold(0, |best, (i, v)| if *v > logits[best] { i } else { best })
}

#[test]
fn images_compute_what_the_graph_computes() {
    let mut total = EquivalenceReport::default();
    for_all_networks(|model, seed| {
        let lowered = lower(&model.network, &model).unwrap();
        total.add(&lowered.report);
        let bytes = image::write_image(&lowered.program).unwrap();
        let image = Image::parse(&bytes).unwrap();
        let mut r = Random(seed);
        for _ in 0..6 {
            let codes = r.codes(lowered.program.input_len());
            let mut logits = vec![0; lowered.program.classes];
            image.run(&codes, &mut vec![0xaa; image.arena_bytes], &mut logits).unwrap();
            let reference = &simulate(&model, &codes).pop().unwrap().real;
            let ours: Vec<f32> =
                logits.iter().enumerate().map(|(k, &acc)| f32::from_bits(image.logit_bits(acc, k))).collect();
            if lowered.report.logits_exact {
                assert_eq!(&ours, reference, "{} {seed}", model.network.name);
                assert_eq!(image.predict(&logits), argmax(reference));
            } else {
                let error =
                    ours.iter().zip(reference).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
                assert!(error <= lowered.report.logit_error, "{error} > {}", lowered.report.logit_error);
                assert!(lowered.report.logit_error < 1e-3);
            }
        }
    });
    println!("{total}");
    assert!(total.multipliers > 1000 && total.mismatches == 0);
}

#[test]
fn the_planned_peak_is_what_runs() {
    for_all_networks(|model, seed| {
        let program = lower(&model.network, &model).unwrap().program;
        let plan = arena::plan(&program);
        let bytes = image::write_image(&program).unwrap();
        let image = Image::parse(&bytes).unwrap();
        assert_eq!(image.arena_bytes, plan.peak);
        let codes = Random(seed).codes(program.input_len());
        let mut logits = vec![0; program.classes];
        assert!(image.run(&codes, &mut vec![0; plan.peak - 1], &mut logits).is_err());
        // Bytes touched reach to the peak (less alignment) whatever was in the arena before, and not beyond it.
        let mut arenas = [vec![0x00; plan.peak + 64], vec![0xff; plan.peak + 64]];
        for arena in &mut arenas {
            image.run(&codes, arena, &mut logits).unwrap();
        }
        assert!(
            arenas[0][plan.peak..].iter().all(|&b| b == 0)
                && arenas[1][plan.peak..].iter().all(|&b| b == 0xff)
        );
        let touched = (0..plan.peak).rev().find(|&i| arenas[0][i] == arenas[1][i]).unwrap();
        assert!(touched + arena::ALIGN >= plan.peak, "touched {touched} of {}", plan.peak);
    });
}

#[test]
fn every_form_of_epilogue_runs_alike_on_host_and_device() {
    // Biases so large that f32 rounds whole runs of accumulators together: no line has such steps.
    for (activations, wanted) in [("quantized_relu(4, 9)", "thresholds"), ("quantized_relu(8, 13)", "float")]
    {
        let network =
            small_networks(WEIGHTS[1], activations, InputGrid { scale: 1.0, zero_point: 3 }).swap_remove(0);
        let mut model = random_model(network, 6);
        let mut set = |name: &str, value: f32| {
            let index = model.index_of(name).unwrap();
            model.params[index].values.iter_mut().step_by(2).for_each(|v| *v = value);
        };
        set("c1/bias", 3e7);
        set("c1_bn/moving_mean", 3e7);
        set("c1_bn/moving_variance", 1.0);
        let lowered = lower(&model.network, &model).unwrap();
        let first = &lowered.layers[0].1;
        let used = if wanted == "float" { first.float_in_integers } else { first.thresholds };
        assert!(used >= 2 && first.multipliers >= 1, "{activations}: {first}");
        let bytes = image::write_image(&lowered.program).unwrap();
        let device = Image::parse(&bytes).unwrap();
        let engine = Engine::new(lowered.program).unwrap();
        let codes = Random(3).codes(engine.program().input_len());
        let (mut host, mut logits) = (vec![0; 5], vec![0; 5]);
        engine.logits(&codes, 1, &mut host).unwrap();
        device.run(&codes, &mut vec![0; device.arena_bytes], &mut logits).unwrap();
        assert_eq!(host, logits);
        let outputs = simulate(&model, &codes);
        let (expected, ..) = outputs[2].codes.as_ref().unwrap();
        let trace: Vec<u8> = engine.trace(&codes).unwrap()[1].iter().map(|&c| c as u8).collect();
        assert_eq!(&trace, expected);
        assert!(trace.iter().filter(|&&c| c > 0).count() > 20, "the layer says something");
    }
}
