//! Distributions of the stochastic quantizers against their exact formulas, and their refusals.

use qtensor::stream::{Purpose, fill_normal, stream};
use qtensor::{Codes, ParseError, Phase, QuantizeError, Quantized, Quantizer, Scratch, Trit};

const SHAPE: [usize; 2] = [16, 4];

fn weights(sigma: f32) -> Vec<f32> {
    let mut x = vec![0f32; 64];
    fill_normal(&mut stream(3, Purpose::Test, &[1]), &mut x);
    x.iter_mut().for_each(|v| *v *= sigma);
    x
}

/// Relative frequencies of -1, 0, 1 per element, and the scales.
fn frequencies(text: &str, x: &[f32], draws: usize) -> (Vec<[f64; 3]>, Vec<f32>) {
    let q: Quantizer = text.parse().unwrap();
    let (mut values, mut codes, mut scales) = (vec![0f32; x.len()], vec![0i8; x.len()], Vec::new());
    let mut scratch = Scratch::new();
    let mut counts = vec![[0f64; 3]; x.len()];
    for step in 0..draws {
        let out = Quantized {
            values: &mut values,
            codes: Codes::I8(&mut codes),
            scales: &mut scales,
            scratch: &mut scratch,
        };
        let mut rng = stream(9, Purpose::Quantizer, &[step as u64]);
        q.quantize(x, &SHAPE, Phase::Training, Some(&mut rng), out).unwrap();
        for (count, &code) in counts.iter_mut().zip(&codes) {
            count[(Trit::try_from(code).unwrap().get() + 1) as usize] += 1.0 / draws as f64;
        }
    }
    (counts, scales)
}

#[test]
fn stochastic_ternary_follows_the_formula() {
    let (x, draws) = (weights(0.2), 20_000);
    for (temperature, po2) in [(8.0f64, false), (2.0, false), (1.0, true)] {
        let alpha = if po2 { "auto_po2" } else { "auto" };
        let text = format!("stochastic_ternary(alpha={alpha}, temperature={temperature})");
        let (seen, scales) = frequencies(&text, &x, draws);
        for (i, &v) in x.iter().enumerate() {
            let column: Vec<f64> = x.iter().skip(i % 4).step_by(4).map(|&v| f64::from(v)).collect();
            let mean = column.iter().sum::<f64>() / 16.0;
            let deviation = (column.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / 16.0).sqrt() + 1e-7;
            let (u, t) = (f64::from(v) / deviation, f64::from(scales[i % 4]) / (2.0 * deviation));
            let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
            let (p0, p1) = (sigmoid(temperature * (u - t)), sigmoid(temperature * (u + t)));
            let exact = [(1.0 - p0) * (1.0 - p1), p0 + p1 - 2.0 * p0 * p1, p0 * p1];
            for (got, p) in seen[i].iter().zip(exact) {
                let bound = 5.0 * (p * (1.0 - p) / draws as f64).sqrt() + 3.0 / draws as f64;
                assert!((got - p).abs() < bound, "{text} at {v}: {got} is not {p}");
            }
        }
    }
}

#[test]
fn the_unbiased_variant_is_unbiased_and_qkeras_is_not() {
    let (x, draws) = (weights(0.5), 20_000);
    let slope = |text: &str| {
        let (seen, scales) = frequencies(text, &x, draws);
        let (mut xy, mut xx) = (0.0, 0.0);
        for (i, &v) in x.iter().enumerate() {
            xy += f64::from(v) * (seen[i][2] - seen[i][0]) * f64::from(scales[i % 4]);
            xx += f64::from(v * v);
        }
        xy / xx
    };
    for alpha in ["auto", "auto_po2"] {
        let unbiased = slope(&format!("unbiased_stochastic_ternary(alpha={alpha})"));
        assert!((unbiased - 1.0).abs() < 0.01, "{alpha}: {unbiased}");
    }
    let qkeras = slope("stochastic_ternary(alpha=auto)");
    assert!((0.6..0.97).contains(&qkeras), "{qkeras}");
}

#[test]
fn the_deterministic_variant_is_ternary_in_both_phases() {
    let x = weights(0.1);
    let never: Quantizer = "stochastic_ternary_deterministic(alpha=auto)".parse().unwrap();
    assert!(!never.is_stochastic());
    let run = |q: &Quantizer, phase| {
        let (mut values, mut scales) = (vec![0f32; 64], Vec::new());
        let out = Quantized {
            values: &mut values,
            codes: Codes::Skip,
            scales: &mut scales,
            scratch: &mut Scratch::new(),
        };
        q.quantize(&x, &SHAPE, phase, None, out).unwrap();
        (values, scales)
    };
    let plain = run(&"ternary(alpha=auto)".parse().unwrap(), Phase::Inference);
    assert_eq!(run(&never, Phase::Training), plain);
    assert_eq!(run(&"stochastic_ternary(alpha=auto)".parse().unwrap(), Phase::Inference), plain);
}

#[test]
fn depthwise_kernels_get_a_scale_per_channel_under_their_own_name() {
    let mut x = weights(1.0);
    // [4, 4, 4, 1]: channel c is scaled by 10^c.
    for (i, v) in x.iter_mut().enumerate() {
        *v *= 10f32.powi((i % 4) as i32);
    }
    let scales = |text: &str| {
        let mut scales = Vec::new();
        let out = Quantized {
            values: &mut [0f32; 64],
            codes: Codes::Skip,
            scales: &mut scales,
            scratch: &mut Scratch::new(),
        };
        let q: Quantizer = text.parse().unwrap();
        q.quantize(&x, &[4, 4, 4, 1], Phase::Inference, None, out).unwrap();
        scales
    };
    assert_eq!(scales("ternary(alpha=auto)").len(), 1);
    let own = scales("depthwise_ternary(alpha=auto)");
    assert_eq!(own.len(), 4);
    assert!(own.windows(2).all(|w| w[1] > 4.0 * w[0]), "{own:?}");
    assert_eq!(own, scales("depthwise_stochastic_ternary(alpha=auto)"));
}

#[test]
fn what_cannot_be_done_says_so() {
    let x = weights(1.0);
    let run = |text: &str, x: &[f32], shape: &[usize], phase| {
        let (mut values, mut codes) = ([0f32; 64], [0i8; 64]);
        let out = Quantized {
            values: &mut values[..x.len()],
            codes: Codes::I8(&mut codes[..x.len()]),
            scales: &mut Vec::new(),
            scratch: &mut Scratch::new(),
        };
        text.parse::<Quantizer>().unwrap().quantize(x, shape, phase, None, out)
    };
    let (train, infer) = (Phase::Training, Phase::Inference);
    let outcome = run("stochastic_ternary(alpha=auto)", &x, &SHAPE, train);
    assert!(matches!(outcome, Err(QuantizeError::NeedsStream { .. })));
    for (text, phase) in [
        ("ternary(alpha=auto, threshold=0.2)", infer),
        ("ternary(use_stochastic_rounding=1)", infer),
        ("quantized_bits(4, alpha=auto, max_po2_exponent=1)", infer),
    ] {
        assert!(matches!(run(text, &x, &SHAPE, phase), Err(QuantizeError::Unsupported { .. })), "{text}");
    }
    assert!(matches!(run("ternary(alpha=auto)", &x, &[16, 5], infer), Err(QuantizeError::Length { .. })));
    assert!(matches!(run("quantized_bits(12)", &x, &SHAPE, infer), Err(QuantizeError::Codes { .. })));
    assert!(matches!(run("quantized_po2(4)", &x, &SHAPE, infer), Err(QuantizeError::Codes { .. })));
    assert!(matches!(run("quantized_relu(8)", &x, &SHAPE, infer), Err(QuantizeError::Codes { .. })));
    let bad = [1.0, f32::INFINITY, 0.0, 0.0];
    let outcome = run("binary(alpha=auto)", &bad, &[2, 2], infer);
    assert!(matches!(outcome, Ok(()) | Err(QuantizeError::NotFinite { .. })));
    let outcome = run("ternary(alpha=auto)", &bad, &[2, 2], infer);
    assert!(matches!(outcome, Err(QuantizeError::NotFinite { index: 1, .. })));
}

#[test]
fn text_errors_name_what_is_wrong() {
    let error = |text: &str| text.parse::<Quantizer>().unwrap_err();
    assert!(matches!(error("tenary()"), ParseError::UnknownName { name, .. } if name == "tenary"));
    assert!(
        matches!(error("ternary(beta=1)"), ParseError::UnknownKeyword { keyword, .. } if keyword == "beta")
    );
    assert!(matches!(error("ternary(auto, alpha=auto)"), ParseError::Repeated { .. }));
    assert!(matches!(error("quantized_bits(0)"), ParseError::BadValue { keyword: "bits", .. }));
    assert!(matches!(
        error("quantized_relu(4, 1, 0.25)"),
        ParseError::BadValue { keyword: "use_sigmoid", .. }
    ));
    assert!(matches!(error("bernoulli(1, 2, 1, 4)"), ParseError::TooManyArguments { most: 3, got: 4, .. }));
    assert!(matches!(error("ternary(alpha='auto'"), ParseError::Syntax { .. }));
    // QKeras writes names without a call, too.
    for (text, printed) in [
        ("ternary", "ternary()"),
        ("stochastic_ternary(alpha='auto', temperature=8)", "stochastic_ternary(alpha=auto)"),
        ("quantized_relu(4,2)", "quantized_relu(4, 2)"),
        ("quantized_bits(8,0,alpha=\"auto_po2\")", "quantized_bits(8, 0, 1, alpha=auto_po2)"),
        (
            "binary(scale_axis=[2, 3], elements_per_scale=[2,4])",
            "binary(scale_axis=[2, 3], elements_per_scale=[2, 4])",
        ),
    ] {
        assert_eq!(text.parse::<Quantizer>().unwrap().to_string(), printed);
    }
}
