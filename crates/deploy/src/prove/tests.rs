//! The proof against enumeration.

use proptest::prelude::*;

use super::*;

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
    fn reachable_is_reached(weights in prop::collection::vec(-127_i8..=127, 0..40), zero in 0_i32..256) {
        let (lo, hi) = reachable(weights.iter().copied(), (-zero, 255 - zero));
        let at = |up: bool| -> i64 {
            weights.iter().map(|&w| i64::from(w) * i64::from(if (w > 0) == up { 255 - zero } else { -zero })).sum()
        };
        prop_assert_eq!((lo, hi), (at(false), at(true)));
    }
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
