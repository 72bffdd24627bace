//! What every attack must honour: the ball, the box, eps = 0, and indifference to batch, order and shard.

mod common;

use attacks::{Access, Attack, InputBox, Norm, Options, Outcome, Samples, run, worst_case};
use common::Net;

const SHAPE: [usize; 3] = [6, 6, 2];

/// One light setting of each attack.
fn panel() -> Vec<Attack> {
    [
        "noise(draws=10)",
        "noise(norm=l2, draws=10)",
        "noise(norm=l1, draws=10)",
        "fgsm",
        "fgsm(norm=l2)",
        "fgsm(norm=l1)",
        "bim(steps=5)",
        "pgd(steps=6, restarts=2)",
        "pgd(norm=l2, steps=6, restarts=2, loss=dlr)",
        "pgd(norm=l1, steps=6, restarts=2, loss=margin)",
        "pgd(preset=torchattacks-default)",
        "mim(steps=6)",
        "mim(norm=l2, steps=6, loss=log_odds)",
        "apgd(steps=12)",
        "apgd(norm=l2, steps=12, loss=dlr, restarts=2)",
        "apgd_t(steps=6, targets=3)",
        "apgd(norm=l1, steps=20)",
        "apgd(norm=l1, steps=12, shrink=false, loss=dlr, restarts=2)",
        "apgd(norm=l1, steps=9, start=clean)",
        "apgd_t(norm=l1, steps=12, targets=3)",
        "square(queries=40)",
        "square(norm=l2, queries=40, rescale=true)",
        "square(norm=l1, queries=40)",
        "square(preset=auto-attack, norm=l1, queries=40)",
        "cw(search_steps=3, steps=20, step=0.1, initial_weight=0.1)",
        "deepfool",
        "deepfool(norm=linf, steps=10)",
        "fab(steps=8, restarts=2)",
        "fab(norm=l2, steps=8, targets=2)",
        "fab(norm=l1, steps=8)",
        "fgsm(search=0.01)",
        "deepfool(preset=art-default, steps=10)",
        "deepfool(preset=torchattacks-default, steps=10)",
        "pgd(norm=l2, steps=6, restarts=1, start=radial)",
        "boundary(steps=20, tries=50)",
        "boundary(preset=art-default, steps=10)",
        "boundary(preset=foolbox-default, steps=200)",
        "hopskipjump(iterations=4)",
        "hopskipjump(norm=linf, iterations=4)",
        "hopskipjump(preset=art-default, iterations=3)",
        "zoo(search_steps=2, steps=10, initial_weight=1)",
        "autoattack(queries=30)",
        "autoattack(norm=l1, queries=30)",
    ]
    .iter()
    .map(|text| text.parse().unwrap())
    .collect()
}

fn attack(attack: &Attack, x: &[f32], y: &[u8], ids: &[u32], eps: &[f32], batch: usize) -> Vec<Outcome> {
    let mut net = Net::new(SHAPE, 12, 5, 3);
    let mut options = Options { batch, keep_adversarial: true, ..Options::default() };
    let samples = Samples::new(x, y, ids);
    run(attack, Access::White(&mut net), &samples, eps, &InputBox::unit(), 11, &mut options).unwrap()
}

fn radius(norm: Norm) -> f32 {
    match norm {
        Norm::Linf => 0.06,
        Norm::L2 => 0.4,
        Norm::L1 => 2.0,
    }
}

#[test]
fn ball_and_box_are_never_left_and_eps_zero_changes_nothing() {
    let (x, y, ids) = Net::new(SHAPE, 12, 5, 3).samples(23, 5);
    for a in panel() {
        let eps = radius(a.norm());
        for outcome in attack(&a, &x, &y, &ids, &[0.0, eps], 8) {
            let adv = outcome.adversarial.as_ref().unwrap();
            assert!(adv.iter().all(|v| (0.0..=1.0).contains(v)), "{a} leaves the box");
            for (i, record) in outcome.records.iter().enumerate() {
                let d = SHAPE.iter().product::<usize>();
                let (adv, x) = (&adv[i * d..(i + 1) * d], &x[i * d..(i + 1) * d]);
                assert_eq!(record.norm, a.norm().distance(adv, x));
                // In L1 thousands of roundings add up: there the ball holds to the last bit.
                let slack = if a.norm() == Norm::L1 { 0.0 } else { f64::from(outcome.eps) * 1e-5 + 1e-6 };
                assert!(record.norm <= f64::from(outcome.eps) + slack, "{a} leaves the ball");
                assert!(outcome.eps > 0.0 || adv == x, "{a} moves at eps = 0");
            }
            assert!(outcome.eps > 0.0 || outcome.robust_accuracy().value == 1.0);
        }
    }
}

#[test]
fn order_batch_and_shard_do_not_matter() {
    let (x, y, ids) = Net::new(SHAPE, 12, 5, 3).samples(19, 6);
    let d: usize = SHAPE.iter().product();
    let reversed: Vec<f32> = x.chunks_exact(d).rev().flatten().copied().collect();
    let (mut ry, mut rids) = (y.clone(), ids.clone());
    ry.reverse();
    rids.reverse();
    for a in panel() {
        let eps = [radius(a.norm())];
        let whole = attack(&a, &x, &y, &ids, &eps, 128).remove(0);
        let small = attack(&a, &x, &y, &ids, &eps, 3).remove(0);
        assert_eq!(whole, small, "{a}: batch size");
        let mut back = attack(&a, &reversed, &ry, &rids, &eps, 4).remove(0);
        back.records.reverse();
        assert_eq!(whole.records, back.records, "{a}: order");
        let shard = attack(&a, &x[..7 * d], &y[..7], &ids[..7], &eps, 128).remove(0);
        assert_eq!(whole.records[..7], shard.records, "{a}: shard");
    }
}

#[test]
fn attacks_break_more_than_noise_and_best_loss_grows_with_effort() {
    let (x, y, ids) = Net::new(SHAPE, 12, 5, 3).samples(60, 7);
    let at = |text: &str| attack(&text.parse().unwrap(), &x, &y, &ids, &[0.06], 32).remove(0);
    let noise = at("noise(draws=40)");
    let (pgd, square) = (at("pgd(steps=20, restarts=2)"), at("square(queries=300)"));
    assert!(pgd.robust_accuracy().value < square.robust_accuracy().value + 0.05);
    assert!(square.robust_accuracy().value < noise.robust_accuracy().value - 0.2);
    assert!(worst_case([&pgd, &square]).value <= pgd.robust_accuracy().value);
    // Same stream, more steps: the best loss of no sample may fall.
    let mut net = Net::new(SHAPE, 12, 5, 3);
    let mut losses = |text: &str| {
        let mut options = Options { early_exit: false, ..Options::default() };
        let (access, samples) = (Access::White(&mut net), Samples::new(&x, &y, &ids));
        let attack = text.parse().unwrap();
        let out = run(&attack, access, &samples, &[0.02], &InputBox::unit(), 11, &mut options).unwrap();
        out[0].records.iter().map(|r| r.best_loss.unwrap()).collect::<Vec<_>>()
    };
    for family in ["pgd(restarts=1, loss=margin, steps=", "bim(loss=margin, steps="] {
        let (few, many) = (losses(&format!("{family}5)")), losses(&format!("{family}20)")));
        assert!(few.iter().zip(&many).all(|(f, m)| m >= f));
    }
}

#[test]
fn queries_and_gradients_are_counted_per_sample() {
    let (x, y, ids) = Net::new(SHAPE, 12, 5, 3).samples(40, 8);
    let out = attack(&"pgd(steps=10, restarts=3)".parse().unwrap(), &x, &y, &ids, &[0.03], 16).remove(0);
    for record in &out.records {
        match (record.clean_correct, record.adversarial_correct) {
            (false, _) => assert_eq!(record.queries, 0),
            (true, true) => assert_eq!((record.queries, record.gradients), (33, 30)),
            (true, false) => assert!((1..=33).contains(&record.queries)),
        }
    }
    assert!(out.broken().count() > 0 && out.robust_accuracy().count > 0);
    assert!(out.median_queries().unwrap() < 33.0);
}

#[test]
fn decisions_alone_come_close_to_what_gradients_find() {
    let (x, y, ids) = Net::new(SHAPE, 12, 5, 3).samples(20, 10);
    let norms = |text: &str| -> Vec<f64> {
        let out = attack(&text.parse().unwrap(), &x, &y, &ids, &[1e6], 32).remove(0);
        let found: Option<Vec<f64>> = out.records.iter().map(|r| r.minimum_norm).collect();
        found.unwrap_or_else(|| panic!("{text} leaves samples standing"))
    };
    let least = norms("fab(norm=l2)");
    for (text, factor) in [
        ("boundary(steps=400)", 1.02),
        ("hopskipjump(iterations=40)", 1.03),
        ("zoo(search_steps=8, steps=200, coordinates=32, initial_weight=0.1)", 1.1),
    ] {
        // A walk along the boundary ends at a local minimum: from its one start it may miss the nearest class.
        let close = norms(text).iter().zip(&least).filter(|(found, fab)| *found < &(factor * **fab)).count();
        assert!(5 * close >= 4 * least.len(), "{text}: {close} of {} within {factor} of fab", least.len());
    }
    // The weak defaults of a library are not ours.
    let weak = attack(&"zoo(preset=art-default)".parse().unwrap(), &x, &y, &ids, &[1e6], 32).remove(0);
    let broken = weak.records.iter().filter(|r| r.minimum_norm.is_some()).count();
    assert!(2 * broken < x.len() / (6 * 6 * 2), "ART's ten iterations of ZOO break {broken}");
}

#[test]
fn targets_are_reached() {
    let (x, y, ids) = Net::new(SHAPE, 12, 5, 3).samples(30, 9);
    let targets: Vec<u8> = y.iter().map(|y| (y + 1) % 5).collect();
    let samples = Samples::new(&x, &y, &ids).with_targets(&targets);
    for text in [
        "pgd(steps=40, restarts=1)",
        "pgd(steps=40, loss=dlr)",
        "square(queries=2000, loss=ce)",
        "zoo(steps=200, search_steps=3, initial_weight=1)",
    ] {
        let mut net = Net::new(SHAPE, 12, 5, 3);
        let (attack, access) = (text.parse().unwrap(), Access::White(&mut net));
        let options = &mut Options::default();
        let out = run(&attack, access, &samples, &[0.5], &InputBox::unit(), 1, options).unwrap();
        let reached = out[0].records.iter().zip(&targets).filter(|(r, t)| r.prediction == **t).count();
        assert!(reached >= 27, "{text}: {reached} of 30");
    }
}

#[test]
fn targets_that_draws_miss_are_reached_from_points_of_the_class() {
    let mut net = Net::new(SHAPE, 12, 5, 3);
    let (x, y, ids) = net.samples(30, 9);
    let d = x.len() / 30;
    let targets: Vec<u8> = y.iter().map(|y| (y + 1) % 5).collect();
    // For each sample one that is predicted as its target.
    let of_class = |t: &u8| y.iter().position(|y| y == t).expect("all classes are predicted");
    let starts: Vec<f32> =
        targets.iter().flat_map(|t| &x[of_class(t) * d..(of_class(t) + 1) * d]).copied().collect();
    let samples = Samples::new(&x, &y, &ids).with_targets(&targets);
    for text in ["boundary(steps=60, tries=0)", "hopskipjump(iterations=6, tries=0)"] {
        let attack: Attack = text.parse().unwrap();
        let mut norms = |samples: &Samples<'_>| -> Vec<Option<f64>> {
            let access = Access::Black(&mut net);
            let options = &mut Options::default();
            let out = run(&attack, access, samples, &[1e6], &InputBox::unit(), 1, options).unwrap();
            out[0].records.iter().map(|r| r.minimum_norm).collect()
        };
        // Without draws nothing is found, but from points of the class everything, and closer than these.
        assert!(norms(&samples).iter().all(Option::is_none), "{text}");
        let found = norms(&samples.with_starts(&starts));
        for (i, norm) in found.iter().enumerate() {
            let given = Norm::L2.distance(&starts[i * d..(i + 1) * d], &x[i * d..(i + 1) * d]);
            assert!(norm.expect(text) < 0.9 * given, "{text}: sample {i}: {norm:?} of {given}");
        }
        // A start that is not adversarial gives way to draws, of which there are none.
        assert!(norms(&samples.with_starts(&x)).iter().all(Option::is_none), "{text}");
    }
    let short = samples.with_starts(&starts[d..]);
    let (attack, options) = ("boundary".parse().unwrap(), &mut Options::default());
    let error =
        run(&attack, Access::Black(&mut net), &short, &[1.0], &InputBox::unit(), 1, options).unwrap_err();
    assert!(error.to_string().contains("starting points"), "{error}");
}

#[test]
fn text_forms_round_trip_and_errors_teach() {
    for a in panel() {
        assert_eq!(a.to_string().parse::<Attack>().unwrap(), a);
        let json = serde_json::to_string(&a).unwrap();
        assert_eq!(serde_json::from_str::<Attack>(&json).unwrap(), a);
    }
    let a: Attack = "pgd(norm=linf, steps=50, restarts=5, step=rel 0.25, loss=ce)".parse().unwrap();
    assert_eq!(
        a.to_string(),
        "pgd(norm=linf, steps=50, restarts=5, step=rel 0.25, start=random, keep=best, loss=ce)"
    );
    for (text, hint) in [
        ("pdg", "known: noise, fgsm"),
        ("pgd(step=3)", "rel NUMBER"),
        ("pgd(stepz=3)", "known: norm, steps"),
        ("pgd(steps=0)", "at least 1"),
        ("pgd(steps=1, steps=2)", "twice"),
        ("pgd(norm=l3)", "linf, l2, l1"),
        ("deepfool(norm=l1)", "not defined for the l1"),
        ("fgsm(", "missing"),
    ] {
        let error = text.parse::<Attack>().unwrap_err().to_string();
        assert!(error.contains(hint), "{text}: {error}");
    }
}

#[test]
fn wrong_questions_are_errors() {
    let mut net = Net::new(SHAPE, 12, 5, 3);
    let (x, y, ids) = net.samples(4, 1);
    let pgd: Attack = "pgd".parse().unwrap();
    let unit = InputBox::unit();
    let ask = |access: Access<'_>, samples: Samples<'_>, eps: f32, bounds: &InputBox| {
        run(&pgd, access, &samples, &[eps], bounds, 0, &mut Options::default()).unwrap_err().to_string()
    };
    let good = Samples::new(&x, &y, &ids);
    assert!(ask(Access::Black(&mut net), good, 0.1, &unit).contains("needs gradients"));
    assert!(ask(Access::White(&mut net), good, f32::NAN, &unit).contains("not a usable radius"));
    assert!(ask(Access::White(&mut net), Samples::new(&x[1..], &y, &ids), 0.1, &unit).contains("input: 287"));
    assert!(ask(Access::White(&mut net), Samples::new(&x, &[9; 4], &ids), 0.1, &unit).contains("label 9"));
    let narrow = InputBox::new(0.4, 0.6).unwrap();
    assert!(ask(Access::White(&mut net), good, 0.1, &narrow).contains("outside the input box"));
    let odd = InputBox::per_feature(vec![0.0; 3], vec![1.0; 3]).unwrap();
    assert!(ask(Access::White(&mut net), good, 0.1, &odd).contains("bounds of the input box"));
}
