//! Lowered programs against a plain simulation of the inference graph, on random networks and inputs.

mod common;

use common::{Random, random_model, simulate, small_networks};
use deploy::rt::Image;
use deploy::{arena, image, lower};
use qnn::InputGrid;

const WEIGHTS: [&str; 4] = [
    "stochastic_ternary(alpha=auto)",
    "quantized_bits(8, 0, alpha=auto)",
    "stochastic_binary(alpha=auto)",
    "ternary(alpha=auto_po2)",
];
const ACTIVATIONS: [&str; 3] = ["quantized_relu(8, 2)", "quantized_relu(4, 1)", "quantized_relu(2, 1)"];

fn for_all_networks(mut check: impl FnMut(qnn::Model, u64)) {
    let mut seed = 1;
    for weights in WEIGHTS {
        for activations in ACTIVATIONS {
            for grid in [InputGrid::UNIT_IMAGE, InputGrid::STANDARDISED] {
                for network in small_networks(weights, activations, grid) {
                    seed += 1;
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
    for_all_networks(|model, seed| {
        let lowered = lower(&model.network, &model).unwrap();
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
