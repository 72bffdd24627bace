//! The proof against enumeration.

use proptest::prelude::*;

use super::*;
use crate::epilogue::{Affine, Norm, residual_f32};
use crate::program::{Element, Linear, Window};

fn channel() -> impl Strategy<Value = ChannelAffine> {
    (
        (1e-6_f32..0.05, any::<bool>()),
        prop::option::of(-3.0_f32..3.0),
        prop::option::of((-4.0_f32..4.0, -3.0_f32..3.0)),
    )
        .prop_map(|((scale, negative), bias, norm)| ChannelAffine {
            scale: if negative { -scale } else { scale },
            bias,
            norm,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn proved_forms_are_equal_everywhere(
        channel in channel(), bits in 1_u32..9, shift in -2_i8..9, low in -6000..6000_i32, span in 0..9000_i32,
    ) {
        let grid = CodeGrid { shift, max: ((1_u32 << bits) - 1) as u8 };
        let (form, report) = prove_channel(&channel, grid, (low, low + span), ("test", 0)).unwrap();
        prop_assert_eq!(report.values, span as u64 + 1);
        let thresholds = Steps::find(|acc| epilogue_f32(acc, &channel, grid), low, low + span, grid.max);
        let list = IntegerEpilogue::Thresholds { falling: thresholds.falling, at: thresholds.at };
        for acc in low..=low + span {
            let code = epilogue_f32(acc, &channel, grid);
            prop_assert_eq!(form.code(acc, grid.max), code, "{:?} at {}", form, acc);
            prop_assert_eq!(list.code(acc, grid.max), code, "thresholds at {}", acc);
        }
    }

    #[test]
    fn short_lines_are_equal_everywhere(channel in channel(), shift in 2_i8..9, low in -9000..9000_i32, span in 0..9000_i32, zero in -9000..9000_i32) {
        let grid = CodeGrid { shift, max: 255 };
        let (form, _) = prove_channel(&channel, grid, (low, low + span), ("test", 0)).unwrap();
        for shift in Short::SHIFTS {
            let Some(short) = Short::find(&form, (255, shift), zero, (low, low + span)) else { continue };
            for acc in low..=low + span {
                prop_assert_eq!(short.code(acc + zero, 255), form.code(acc, 255), "{:?} {:?} at {}", short, form, acc);
            }
        }
    }

    #[test]
    fn decided_sums_are_the_f32_s(first in channel(), second in channel(), shift in -1_i8..8, at in (-200..200_i32, -200..200_i32), zeros in (0_u8..40, 0_u8..40)) {
        let grid = CodeGrid { shift, max: 255 };
        let (branches, tensors) = sum_of([first, second], [zeros.0, zeros.1]);
        let fixed = FixedSum::of(&branches, &tensors, grid, 0).unwrap();
        if fixed != FixedSum::NEVER {
            let (mut undecided, low) = (0, |zero: u8| -i32::from(zero));
            for x in low(zeros.0)..=255 - i32::from(zeros.0) {
                for z in (at.1..at.1 + 40).filter(|z| (low(zeros.1)..=255 - i32::from(zeros.1)).contains(z)) {
                    let wanted = residual_f32([x, z], &[first, second], grid);
                    match fixed.code([x, z], 255) {
                        Some(code) => prop_assert_eq!(code, wanted, "{:?} {} {}", fixed, x, z),
                        None => undecided += 1,
                    }
                }
            }
            prop_assert!(undecided <= 2 * 256 || fixed.margin > 1 << 20, "{} undecided, {:?}", undecided, fixed);
        }
    }

    #[test]
    fn reachable_is_reached(weights in prop::collection::vec(-127_i8..=127, 0..40), zero in 0_i32..256) {
        let (lo, hi) = reachable(weights.iter().copied(), (-zero, 255 - zero));
        let at = |up: bool| -> i64 {
            weights.iter().map(|&w| i64::from(w) * i64::from(if (w > 0) == up { 255 - zero } else { -zero })).sum()
        };
        prop_assert_eq!((lo, hi), (at(false), at(true)));
    }
}

/// Two shortcuts of one channel on tensors of 8-bit codes.
fn sum_of(channels: [ChannelAffine; 2], zeros: [u8; 2]) -> (Vec<Branch>, Vec<Tensor>) {
    let branch = |(input, c): (usize, ChannelAffine)| Branch {
        name: "branch".into(),
        input,
        linear: Linear::Codes { window: Window::identity([1, 1, 1]) },
        affine: Affine {
            scale: vec![c.scale],
            bias: c.bias.map(|b| vec![b]),
            norm: c.norm.map(|(a, b)| Norm { a: vec![a], b: vec![b] }),
        },
    };
    let tensor = |zero_point| Tensor {
        name: "tensor".into(),
        len: 1,
        element: Element::U8,
        scale: 1.0,
        zero_point,
        max: 255,
    };
    (channels.into_iter().enumerate().map(branch).collect(), zeros.map(tensor).into())
}

#[test]
fn shortcuts_decide_nearly_everything() {
    // Constants as training leaves them: few sums are so near a step that f32 has to be asked.
    let channels = [
        ChannelAffine { scale: 0.0021, bias: None, norm: Some((1.37, 0.21)) },
        ChannelAffine { scale: 0.015_625, bias: None, norm: None },
    ];
    let (branches, tensors) = sum_of(channels, [0, 0]);
    let grid = CodeGrid { shift: 6, max: 255 };
    let fixed = FixedSum::of(&branches, &tensors, grid, 0).unwrap();
    let pairs = || (0..256).flat_map(|x| (0..256).map(move |z| [x, z]));
    assert!(pairs().all(|acc| fixed.code(acc, 255).is_none_or(|c| c == residual_f32(acc, &channels, grid))));
    assert!(pairs().filter(|acc| fixed.code(*acc, 255).is_none()).count() <= 256);
    // Half a code: a tie, which f32 rounds to even.
    let tie = ChannelAffine { scale: 0.5, bias: None, norm: None };
    assert_eq!(FixedSum::NEVER.code([7, 9], 255), None);
    let (branches, tensors) = sum_of([tie, tie], [0, 0]);
    let grid = CodeGrid { shift: 0, max: 255 };
    assert_eq!(FixedSum::of(&branches, &tensors, grid, 0).unwrap().code([3, 4], 255), None);
}

#[test]
fn a_wrong_form_is_refused() {
    let channel = ChannelAffine { scale: 0.01, bias: None, norm: Some((1.5, -0.2)) };
    let grid = CodeGrid { shift: 6, max: 255 };
    let range = (-4000, 4000);
    let steps = Steps::find(|acc| epilogue_f32(acc, &channel, grid), range.0, range.1, grid.max);
    let (form, _) = prove_channel(&channel, grid, range, ("conv1", 3)).unwrap();
    let IntegerEpilogue::Multiplier { multiplier, offset, shift } = form else { panic!("a line fits") };
    let wrong = IntegerEpilogue::Multiplier { multiplier, offset: offset + (1 << (shift - 1)), shift };
    let error = verify(&wrong, &channel, grid, &steps, ("conv1", 3)).unwrap_err().to_string();
    assert!(error.contains("`conv1`, channel 3"), "{error}");
}

#[test]
fn overflow_to_infinity_is_refused() {
    let channel = ChannelAffine { scale: 1e36, bias: None, norm: None };
    let error = prove_channel(&channel, CodeGrid { shift: 0, max: 255 }, (-10, 1000), ("l", 1)).unwrap_err();
    assert!(matches!(error, DeployError::NotFinite { accumulator: 1000, channel: 1, .. }), "{error}");
}

#[test]
fn steps_no_line_has_become_thresholds_or_floats() {
    // A bias so large that f32 rounds whole runs of accumulators together.
    let channel = ChannelAffine { scale: 1.0, bias: Some(5e8), norm: Some((1.0, -5e8)) };
    for (shift, max) in [(-5, 15), (0, 255)] {
        let grid = CodeGrid { shift, max };
        let (form, report) = prove_channel(&channel, grid, (-1000, 1000), ("l", 0)).unwrap();
        let few = max == 15;
        assert_eq!(matches!(form, IntegerEpilogue::Thresholds { .. }), few, "{form:?}");
        assert_eq!((report.thresholds, report.float_in_integers), (u64::from(few), u64::from(!few)));
        assert_eq!(report.multipliers, 0);
        for acc in -1000..=1000 {
            assert_eq!(form.code(acc, max), epilogue_f32(acc, &channel, grid));
        }
    }
}
