//! The host engine against the simulation, against the `no_std` engine and against itself under other batchings.

mod common;

use common::{Random, random_model, simulate, small_networks};
use deploy::rt::Image;
use deploy::{Engine, image, lower};
use qnn::InputGrid;
use qnn::zoo::{self, Twin};

#[test]
fn codes_and_logits_are_those_of_the_graph() {
    let mut seed = 100;
    for weights in ["stochastic_ternary(alpha=auto)", "quantized_bits(8, 0, alpha=auto)"] {
        for grid in [InputGrid::UNIT_IMAGE, InputGrid::STANDARDISED] {
            for network in small_networks(weights, "quantized_relu(8, 2)", grid) {
                seed += 1;
                let model = random_model(network, seed);
                let lowered = lower(&model.network, &model).unwrap();
                let engine = Engine::new(lowered.program).unwrap();
                let codes = Random(seed).codes(engine.program().input_len());
                let outputs = simulate(&model, &codes);
                let trace = engine.trace(&codes).unwrap();
                for (tensor, codes) in engine.program().tensors.iter().zip(&trace).skip(1) {
                    let layer = model.network.layers.iter().position(|l| l.name == tensor.name).unwrap();
                    if let Some((expected, ..)) = &outputs[layer].codes {
                        let expected: Vec<u16> = expected.iter().map(|&c| c.into()).collect();
                        assert_eq!(codes, &expected, "{} {}", model.network.name, tensor.name);
                    }
                }
                if lowered.report.logits_exact {
                    let mut logits = vec![0.0; engine.program().classes];
                    engine.logits_f32(&codes, 1, &mut logits).unwrap();
                    assert_eq!(logits, outputs.last().unwrap().real);
                }
            }
        }
    }
}

#[test]
fn engines_agree_bit_for_bit_in_any_batch() {
    let mut seed = 500;
    for weights in ["stochastic_ternary(alpha=auto)", "quantized_bits(6, 0, alpha=auto)"] {
        for grid in [InputGrid::UNIT_IMAGE, InputGrid { scale: 0.02, zero_point: 77 }] {
            for network in small_networks(weights, "quantized_relu(5, 2)", grid) {
                seed += 1;
                let model = random_model(network, seed);
                let program = lower(&model.network, &model).unwrap().program;
                let bytes = image::write_image(&program).unwrap();
                let image = Image::parse(&bytes).unwrap();
                let engine = Engine::new(program).unwrap();
                let (len, classes, n) = (engine.program().input_len(), engine.program().classes, 11);
                let codes = Random(seed).codes(n * len);
                let mut batch = vec![0; n * classes];
                engine.logits(&codes, n, &mut batch).unwrap();
                let (mut one, mut device) = (vec![0; classes], vec![0; classes]);
                let mut predictions = vec![0; n];
                engine.predict(&codes, n, &mut predictions).unwrap();
                for (i, codes) in codes.chunks_exact(len).enumerate() {
                    engine.logits(codes, 1, &mut one).unwrap();
                    image.run(codes, &mut vec![0; image.arena_bytes], &mut device).unwrap();
                    assert_eq!(one, batch[i * classes..][..classes]);
                    assert_eq!(one, device);
                    assert_eq!(predictions[i], image.predict(&device));
                }
            }
        }
    }
}

#[test]
fn zoo_networks_lower_and_run() {
    let (image_input, audio) = ([32, 32, 3], [49, 10, 1]);
    for (name, input, grid, classes) in [
        ("stq_image_s", image_input, InputGrid::UNIT_IMAGE, 10),
        ("resnet8", image_input, InputGrid::UNIT_IMAGE, 10),
        ("stq_audio_s", audio, InputGrid::STANDARDISED, 12),
        ("ds_cnn", audio, InputGrid::STANDARDISED, 12),
    ] {
        for twin in [Twin::Stq, Twin::EightBit] {
            let network = zoo::build(name, input, grid, classes, &twin.quantizers()).unwrap();
            let model = random_model(network, 3);
            let started = std::time::Instant::now();
            let lowered = lower(&model.network, &model).unwrap();
            println!("{name} {twin:?}: {} ({:.2} s)", lowered.report, started.elapsed().as_secs_f64());
            assert_eq!(lowered.report.mismatches, 0);
            let bytes = image::write_image(&lowered.program).unwrap();
            let device = Image::parse(&bytes).unwrap();
            let engine = Engine::new(lowered.program).unwrap();
            let n = 2;
            let codes = Random(9).codes(n * engine.program().input_len());
            let mut logits = vec![0; n * classes];
            engine.logits(&codes, n, &mut logits).unwrap();
            let mut one = vec![0; classes];
            device.run(&codes[..device.input_len()], &mut vec![0; device.arena_bytes], &mut one).unwrap();
            assert_eq!(one, logits[..classes]);
        }
    }
}

#[test]
fn wrong_buffers_are_errors() {
    let network =
        small_networks("ternary(alpha=auto)", "quantized_relu(8, 2)", InputGrid::UNIT_IMAGE).swap_remove(0);
    let model = random_model(network, 1);
    let engine = Engine::new(lower(&model.network, &model).unwrap().program).unwrap();
    let len = engine.program().input_len();
    assert!(engine.logits(&vec![0; len - 1], 1, &mut [0; 5]).is_err());
    assert!(engine.logits(&vec![0; len], 1, &mut [0; 4]).is_err());
    assert!(engine.predict(&vec![0; 2 * len], 2, &mut [0; 1]).is_err());
    assert!(engine.logits(&[], 0, &mut []).is_ok());
    let mut codes = vec![0; 3];
    engine.input_codes(&[-1.0, 0.6, 2.0], &mut codes).unwrap();
    assert_eq!(codes, [0, 153, 255]);
}

/// The nearest code, ties to even, whatever the input: halves, their neighbours, infinities, no numbers, and more of them
/// than one part of the work.
#[test]
fn input_codes_are_the_nearest() {
    for grid in [InputGrid::UNIT_IMAGE, InputGrid::STANDARDISED, InputGrid { scale: 0.02, zero_point: 77 }] {
        let weights = "ternary(alpha=auto)";
        let model = random_model(small_networks(weights, "quantized_relu(8, 2)", grid).swap_remove(0), 1);
        let engine = Engine::new(lower(&model.network, &model).unwrap().program).unwrap();
        let zero = f32::from(grid.zero_point);
        let mut x: Vec<f32> = (-1200..1200).map(|halves| halves as f32 / 2.0 * grid.scale).collect();
        let neighbours: Vec<f32> = x.iter().flat_map(|v| [v.next_down(), v.next_up()]).collect();
        x.extend(neighbours);
        x.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, -0.0, 1e-40]);
        x = x.iter().copied().cycle().take(150_000).collect();
        let mut codes = vec![9; x.len()];
        engine.input_codes(&x, &mut codes).unwrap();
        for (&x, &code) in x.iter().zip(&codes) {
            let nearest = ((x / grid.scale).round_ties_even() + zero).clamp(0.0, 255.0) as u8;
            assert_eq!(code, nearest, "{x} {grid:?}");
        }
    }
}

#[test]
fn predictions_are_those_of_the_trained_network() {
    let network =
        zoo::build("stq_audio_s", [49, 10, 1], InputGrid::STANDARDISED, 12, &Twin::Stq.quantizers()).unwrap();
    let model = random_model(network, 8);
    let engine = Engine::new(lower(&model.network, &model).unwrap().program).unwrap();
    let (n, len, classes) = (24, engine.program().input_len(), 12);
    let codes = Random(4).codes(n * len);
    let x: Vec<f32> = codes.iter().map(|&c| model.network.grid.value(c)).collect();
    let (mut ours, mut theirs) = (vec![0.0; n * classes], vec![0.0; n * classes]);
    engine.logits_f32(&codes, n, &mut ours).unwrap();
    qnn::Predictor::new(&model).unwrap().logits(&x, &mut theirs).unwrap();
    // The predictor sums the first layer, whose inputs it takes as floats, in f32: a code may move by one where that
    // rounds differently, so logits are compared as a whole and not bit for bit.
    let spread = theirs.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let exact = ours.chunks(classes).zip(theirs.chunks(classes)).filter(|(a, b)| a == b).count();
    println!("{exact} of {n} samples bit for bit");
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a - b).abs() <= 0.02 * spread, "{a} {b}");
    }
    assert!(2 * exact >= n, "{exact} of {n}");
}
