//! Laws every quantizer keeps, over random parameters and tensors.

use proptest::prelude::*;
use qtensor::stream::{Purpose, stream};
use qtensor::{
    Alpha, Binary, Codes, Phase, Quantized, QuantizedBits, QuantizedLinear, QuantizedPo2, QuantizedRelu,
    QuantizedSquash, Quantizer, ScaleAxes, Scratch, Squash, StochasticBinary, Ternary, TernarySampling,
};

fn alpha() -> impl Strategy<Value = Alpha> {
    prop_oneof![
        Just(Alpha::None),
        Just(Alpha::Auto),
        Just(Alpha::AutoPo2),
        (1u32..40).prop_map(|v| Alpha::Value(f64::from(v) / 8.0))
    ]
}

fn axes() -> impl Strategy<Value = ScaleAxes> {
    prop_oneof![
        Just(ScaleAxes::default()),
        (0usize..2).prop_map(|axis| ScaleAxes { scale_axis: vec![axis], elements_per_scale: vec![] }),
        Just(ScaleAxes { scale_axis: vec![0, 1], elements_per_scale: vec![] })
    ]
}

fn any_quantizer() -> impl Strategy<Value = Quantizer> {
    let sampling = prop_oneof![
        Just(TernarySampling::None),
        Just(TernarySampling::Rounding),
        (0u32..20, any::<bool>())
            .prop_map(|(t, real)| TernarySampling::Sigmoid { temperature: f64::from(t) / 2.0, real }),
        Just(TernarySampling::Never { temperature: 8.0 }),
        Just(TernarySampling::Unbiased),
    ];
    let ternary = (alpha(), prop::option::of(0u32..10), 1u32..7, sampling, any::<bool>()).prop_map(
        |(alpha, threshold, number_of_unrolls, sampling, depthwise)| {
            // Names exist for these combinations only.
            let depthwise = depthwise && !matches!(sampling, TernarySampling::Never { .. });
            let threshold =
                threshold.filter(|_| sampling != TernarySampling::Unbiased).map(|t| f64::from(t) / 8.0);
            Quantizer::Ternary(Ternary { alpha, threshold, number_of_unrolls, sampling, depthwise })
        },
    );
    let binary =
        (any::<bool>(), alpha(), any::<bool>(), axes()).prop_map(|(use_01, alpha, rounding, axes)| {
            Quantizer::Binary(Binary {
                use_01,
                alpha,
                use_stochastic_rounding: rounding,
                axes,
                po2_exponents: [None, Some(3)],
            })
        });
    let stochastic_binary = (alpha(), 0u32..20, any::<bool>(), any::<bool>()).prop_map(
        |(alpha, t, use_real_sigmoid, bernoulli)| {
            let temperature = f64::from(t) / 2.0;
            Quantizer::StochasticBinary(StochasticBinary { alpha, temperature, use_real_sigmoid, bernoulli })
        },
    );
    let bits = (1u32..=12, -3i32..4, any::<(bool, bool, bool)>(), alpha(), axes(), 0u32..3, any::<bool>())
        .prop_map(|(bits, integer, (symmetric, keep_negative, rounding), alpha, axes, noise, use_ste)| {
            Quantizer::Bits(QuantizedBits {
                bits,
                integer,
                symmetric: symmetric || alpha.is_auto(),
                keep_negative,
                alpha,
                use_stochastic_rounding: rounding,
                axes,
                po2_exponents: [None; 2],
                qnoise_factor: f64::from(noise) / 2.0,
                use_ste,
            })
        });
    let linear = (1u32..=12, -3i32..4, any::<(bool, bool, bool)>(), alpha(), axes()).prop_map(
        |(bits, integer, (symmetric, keep_negative, rounding), alpha, axes)| {
            Quantizer::Linear(QuantizedLinear {
                bits,
                integer,
                symmetric,
                keep_negative,
                alpha,
                use_stochastic_rounding: rounding,
                axes,
                qnoise_factor: 1.0,
            })
        },
    );
    let relu = (2u32..=12, -3i32..4, any::<(bool, bool, bool)>(), 0i32..5, prop::option::of(1u32..30))
        .prop_map(|(bits, integer, (use_sigmoid, rounding, is_quantized_clip), slope, bound)| {
            Quantizer::Relu(QuantizedRelu {
                bits,
                integer,
                use_sigmoid,
                negative_slope: if slope == 0 { 0.0 } else { 0.5f64.powi(slope) },
                use_stochastic_rounding: rounding,
                relu_upper_bound: bound.map(|b| f64::from(b) / 7.0),
                is_quantized_clip,
                ..QuantizedRelu::default()
            })
        });
    let functions = prop_oneof![
        Just(Squash::Tanh),
        Just(Squash::HardTanh),
        Just(Squash::Sigmoid),
        Just(Squash::HardSigmoid)
    ];
    let squash = (1u32..=12, functions, any::<bool>(), any::<bool>()).prop_map(
        |(bits, function, symmetric, rounding)| {
            Quantizer::Squash(QuantizedSquash {
                bits,
                function,
                symmetric,
                use_stochastic_rounding: rounding,
            })
        },
    );
    let po2 = (2u32..=7, prop::option::of(1u32..20), any::<(bool, bool, bool, bool)>(), 0i32..4).prop_map(
        |(bits, max_value, (relu, rounding, quadratic_approximation, floor), slope)| {
            Quantizer::Po2(QuantizedPo2 {
                bits,
                max_value: max_value.map(|v| f64::from(v) / 4.0),
                relu,
                negative_slope: if relu && slope > 0 { 0.5f64.powi(slope) } else { 0.0 },
                use_stochastic_rounding: rounding,
                quadratic_approximation,
                floor,
                qnoise_factor: 1.0,
                use_ste: true,
            })
        },
    );
    prop_oneof![ternary, binary, stochastic_binary, bits, linear, relu, squash, po2]
}

type Applied = (Vec<f32>, Option<Vec<i32>>, Vec<f32>);

/// Values, codes and scales, or `None` where the quantizer refuses.
fn apply(q: &Quantizer, x: &[f32], shape: &[usize], phase: Phase, seed: u64) -> Option<Applied> {
    let run = |wanted: bool| {
        let (mut values, mut codes, mut scales) = (vec![0f32; x.len()], vec![0i32; x.len()], Vec::new());
        let out = Quantized {
            values: &mut values,
            codes: if wanted { Codes::I32(&mut codes) } else { Codes::Skip },
            scales: &mut scales,
            scratch: &mut Scratch::new(),
        };
        let mut rng = stream(seed, Purpose::Test, &[]);
        let outcome = q.quantize(x, shape, phase, Some(&mut rng), out);
        outcome.ok().map(|()| (values, wanted.then_some(codes), scales))
    };
    run(true).or_else(|| run(false))
}

fn tensor() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(prop_oneof![8 => -3.0f32..3.0, 1 => Just(0.0f32), 1 => -1e-3f32..1e-3], 24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_text_form_parses_back(q in any_quantizer()) {
        let text = q.to_string();
        prop_assert_eq!(text.parse::<Quantizer>(), Ok(q.clone()), "{}", text);
        let for_kernel = q.for_kernel();
        prop_assert_eq!(for_kernel.clone().for_kernel(), for_kernel);
    }

    #[test]
    fn values_are_codes_times_scale_and_codes_stay_in_range(
        q in any_quantizer(), x in tensor(), training: bool, seed: u64,
    ) {
        let phase = if training { Phase::Training } else { Phase::Inference };
        // One bit and a max-abs scale divide by zero, in QKeras as here: NaN.
        prop_assume!(!matches!(&q, Quantizer::Bits(b) if b.bits == 1 && b.alpha == Alpha::Auto));
        let Some((values, codes, scales)) = apply(&q, &x, &[8, 3], phase, seed) else { return Ok(()) };
        prop_assert_eq!(apply(&q, &x, &[8, 3], phase, seed).unwrap().0, values.clone(), "the seed decides");
        if !q.draws(phase) {
            prop_assert_eq!(apply(&q, &x, &[8, 3], phase, !seed).unwrap().0, values.clone());
        }
        let Some(codes) = codes else { return Ok(()) };
        let bits = q.bits() as i32 + i32::from(q.draws(phase)) + 4 * i32::from(matches!(q, Quantizer::Relu(_)));
        prop_assert!(codes.iter().all(|c| c.abs() <= 1 << bits), "{} {:?}", q, codes);
        if q.trits() {
            prop_assert!(codes.iter().all(|c| (-1..=1).contains(c)));
        }
        let mixed = matches!(&q, Quantizer::Bits(b) if b.qnoise_factor != 1.0);
        let bounded = matches!(&q, Quantizer::Relu(r) if r.relu_upper_bound.is_some());
        // A single scale, or one per column; other axes are tested elsewhere.
        if !mixed && !bounded && (scales.len() == 1 || scales.len() == 3) {
            for (i, (&value, &code)) in values.iter().zip(&codes).enumerate() {
                let scale = scales[if scales.len() == 1 { 0 } else { i % 3 }];
                let product = code as f32 * scale;
                prop_assert!(value == product || product.is_nan(), "{q}: {value} is not {code} * {scale}");
            }
        }
        if let (Phase::Inference, Some(grid)) = (phase, q.grid()) {
            prop_assert!(codes.iter().all(|&c| grid.min_code <= c && c <= grid.max_code));
            if let Some(book) = q.codebook() {
                for &v in &values {
                    prop_assert!(book.iter().any(|&b| b as f32 == v), "{q}: {v} not in {book:?}");
                }
            }
        }
    }

    #[test]
    fn quantizing_twice_changes_nothing(q in any_quantizer(), x in tensor()) {
        let Some(grid) = q.grid() else { return Ok(()) };
        // Alphas other than 1 are applied after the rounding, tanh and sigmoid before it, and ternary has its own threshold.
        let rounds_only = match &q {
            Quantizer::Bits(b) => b.alpha.fixed() == Some(1.0),
            Quantizer::Relu(r) => !r.use_sigmoid && r.negative_slope == 0.0,
            Quantizer::Linear(_) => true,
            _ => false,
        };
        if rounds_only && grid.step > 0.0 {
            let once = apply(&q, &x, &[24], Phase::Inference, 0).unwrap();
            let twice = apply(&q, &once.0, &[24], Phase::Inference, 0).unwrap();
            prop_assert_eq!(once.0, twice.0, "{}", q);
        }
    }

    #[test]
    fn ternary_codes_survive_quantizing_again_and_negation(x in tensor(), po2: bool) {
        let q: Quantizer = (if po2 { "ternary(alpha=auto_po2)" } else { "ternary(alpha=auto)" }).parse().unwrap();
        let once = apply(&q, &x, &[8, 3], Phase::Inference, 0).unwrap();
        if !po2 {
            let twice = apply(&q, &once.0, &[8, 3], Phase::Inference, 0).unwrap();
            prop_assert_eq!(&once.1, &twice.1);
        }
        let negated: Vec<f32> = x.iter().map(|v| -v).collect();
        let mirrored = apply(&q, &negated, &[8, 3], Phase::Inference, 0).unwrap();
        prop_assert_eq!(&once.2, &mirrored.2);
        let back: Vec<i32> = mirrored.1.unwrap().iter().map(|c| -c).collect();
        prop_assert_eq!(once.1.unwrap(), back);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}", inside in "[a-z_=0-9,.'\\[\\]() -]{0,40}") {
        let _ = text.parse::<Quantizer>();
        for name in Quantizer::names() {
            if let Ok(q) = format!("{name}({inside})").parse::<Quantizer>() {
                prop_assert_eq!(q.to_string().parse::<Quantizer>(), Ok(q));
            }
        }
    }
}

/// Channels of a depthwise kernel `[kh, kw, c, multiplier]` find their scale, whichever axes have scales.
#[test]
fn every_element_finds_its_scale() {
    let shape = [2, 3, 4, 2];
    let n: usize = shape.iter().product();
    let x: Vec<f32> = (0..n).map(|i| ((i * 37 % 48) as f32 - 20.0) / 16.0 + 0.01 * i as f32).collect();
    for (text, scales) in [
        ("ternary(alpha=auto)", 2),
        ("depthwise_ternary(alpha=auto)", 8),
        ("stochastic_binary(alpha=auto)", 2),
        ("quantized_bits(6, 0, alpha=auto, scale_axis=2)", 4),
        ("binary(alpha=auto, scale_axis=[0, 3])", 4),
        ("quantized_linear(5, 1, alpha=auto)", 2),
        ("quantized_bits(6, 0, alpha=0.5)", 1),
    ] {
        let q: qtensor::Quantizer = text.parse().unwrap();
        let (mut values, mut codes, mut found) = (vec![0f32; n], vec![0i32; n], Vec::new());
        let out = qtensor::Quantized {
            values: &mut values,
            codes: qtensor::Codes::I32(&mut codes),
            scales: &mut found,
            scratch: &mut qtensor::Scratch::new(),
        };
        q.quantize(&x, &shape, qtensor::Phase::Inference, None, out).unwrap();
        assert_eq!(found.len(), scales, "{text}");
        for (i, (&value, &code)) in values.iter().zip(&codes).enumerate() {
            let scale = found[if scales == 1 { 0 } else { q.scale_slot(&shape, i) }];
            assert_eq!(value, code as f32 * scale, "{text}: element {i}");
        }
    }
}
