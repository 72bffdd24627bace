//! Attacks in L1 against exact optima of an affine model, and against plain projected gradient on a network.

mod common;

use attacks::{
    Access, Attack, AuditOptions, Differentiable, FnDifferentiable, InputBox, Norm, Options, Outcome,
    Samples, Verdict, audit, run,
};
use common::{Net, noise};

const D: usize = 48;

/// Two logits `(s, -s)` of `s = w . x + b`.
fn affine(w: &[f32], b: f32) -> impl Differentiable + '_ {
    FnDifferentiable::new(
        [4, 4, 3],
        2,
        move |x: &[f32], out: &mut [f32]| {
            for (x, z) in x.chunks_exact(D).zip(out.chunks_exact_mut(2)) {
                let s = b + x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>();
                z.copy_from_slice(&[s, -s]);
            }
        },
        move |_: &[f32], cot: &[f32], grad: &mut [f32]| {
            for (c, g) in cot.chunks_exact(2).zip(grad.chunks_exact_mut(D)) {
                g.iter_mut().zip(w).for_each(|(g, w)| *g = (c[0] - c[1]) * w);
            }
        },
    )
}

/// The least `s` within L1 distance `eps`, and the distance at which it reaches 0: the features of largest weight first,
/// each as far as the box lets it.
fn optimum(w: &[f32], s: f64, x: &[f32], eps: f64) -> (f64, f64) {
    let mut order: Vec<usize> = (0..D).collect();
    order.sort_by(|a, b| w[*b].abs().total_cmp(&w[*a].abs()));
    let (mut least, mut left, mut distance, mut height) = (s, eps, 0.0, s);
    for i in order {
        let room = f64::from(if w[i] > 0.0 { x[i] } else { 1.0 - x[i] });
        let slope = f64::from(w[i].abs());
        least -= slope * room.min(left);
        left -= room.min(left);
        let needed = room.min(height / slope);
        distance += needed;
        height -= needed * slope;
    }
    (least, if height > 1e-9 { f64::INFINITY } else { distance })
}

fn attack(
    text: &str,
    model: &mut dyn Differentiable,
    samples: &Samples<'_>,
    eps: f32,
    exit: bool,
) -> Outcome {
    let attack: Attack = text.parse().unwrap();
    let mut options = Options { early_exit: exit, keep_adversarial: true, ..Options::default() };
    run(&attack, Access::White(model), samples, &[eps], &InputBox::unit(), 3, &mut options).unwrap().remove(0)
}

#[test]
fn an_affine_model_is_attacked_to_its_optimum() {
    let w = noise(D, 5);
    // Features at the faces of the box too, where a ball alone would promise what the box does not allow.
    let x: Vec<f32> = noise(40 * D, 6).iter().map(|v| (0.5 + 0.8 * v).clamp(0.0, 1.0)).collect();
    let b = 4.0;
    let score = |x: &[f32]| f64::from(b) + x.iter().zip(&w).map(|(x, w)| f64::from(x * w)).sum::<f64>();
    let labels: Vec<u8> = x.chunks(D).map(|x| u8::from(score(x) < 0.0)).collect();
    assert!(labels.iter().all(|y| *y == 0), "all of one class: the optimum is of the first logit");
    let ids: Vec<u32> = (0..40).collect();
    let samples = Samples::new(&x, &labels, &ids);
    let mut model = affine(&w, b);
    let gap = |text: &str, model: &mut dyn Differentiable| {
        let out = attack(text, model, &samples, 2.0, false);
        let of = |(r, x): (&attacks::Record, &[f32])| {
            let (least, start) = (optimum(&w, score(x), x, 2.0).0, score(x));
            // The margin loss is -2 s: which share of the possible fall was missed.
            (-0.5 * r.best_loss.unwrap() - least) / (start - least)
        };
        out.records.iter().zip(x.chunks(D)).map(of).sum::<f64>() / 40.0
    };
    let apgd = gap("apgd(norm=l1, loss=margin)", &mut model);
    let pgd = gap("pgd(norm=l1, loss=margin, steps=100, restarts=1)", &mut model);
    let square = gap("square(norm=l1)", &mut model);
    println!("apgd misses {apgd}, pgd {pgd}, square {square}");
    assert!((-1e-6..0.02).contains(&apgd), "apgd misses {apgd}");
    assert!(pgd > 2.0 * apgd, "pgd misses {pgd}, apgd {apgd}");
    assert!((-1e-6..0.25).contains(&square), "square misses {square}");
    let fab = attack("fab(norm=l1)", &mut model, &samples, 1e6, true);
    let mut reached = 0;
    for (r, x) in fab.records.iter().zip(x.chunks(D)) {
        let distance = optimum(&w, score(x), x, 1.0).1;
        match r.minimum_norm {
            Some(norm) => {
                assert!((0.999..1.02).contains(&(norm / distance)), "{norm} for {distance}");
                reached += 1;
            }
            None => assert!(distance.is_infinite(), "{distance}"),
        }
    }
    assert!(reached > 30, "{reached}");
}

#[test]
fn adaptive_sparsity_beats_plain_projected_gradient_at_equal_budget() {
    let mut net = Net::new([24, 24, 3], 24, 6, 5);
    let (x, y, ids) = net.samples(60, 7);
    let samples = Samples::new(&x, &y, &ids);
    let mut at = |text: &str, exit| attack(text, &mut net, &samples, 2.0, exit);
    let robust = |out: &Outcome| out.robust_accuracy().count;
    let [apgd, pgd, square, noise] = [
        "apgd(norm=l1)",
        "pgd(norm=l1, steps=100, restarts=1)",
        "square(norm=l1, queries=1000)",
        "noise(norm=l1)",
    ]
    .map(|text| robust(&at(text, true)));
    println!("robust: apgd {apgd}, pgd {pgd}, square {square}, noise {noise}");
    assert!(apgd < pgd && pgd < square && square < noise - 10);
    // Where all are searched to the end, on one loss.
    let [apgd, pgd] = ["apgd(norm=l1, loss=margin)", "pgd(norm=l1, loss=margin, steps=100, restarts=1)"]
        .map(|text| at(text, false).records.iter().map(|r| r.best_loss.unwrap()).collect::<Vec<_>>());
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / 60.0;
    let wins = apgd.iter().zip(&pgd).filter(|(a, p)| a > p).count();
    println!("mean best loss: apgd {}, pgd {}, apgd ahead at {wins} of 60", mean(&apgd), mean(&pgd));
    assert!(wins >= 48 && mean(&apgd) > mean(&pgd) + 0.05);
}

#[test]
fn the_audit_works_in_l1() {
    let mut net = Net::new([6, 6, 2], 12, 5, 3);
    let (x, y, ids) = net.samples(60, 4);
    let samples = Samples::new(&x, &y, &ids);
    let options = AuditOptions {
        norm: Norm::L1,
        eps: 0.6,
        samples: 60,
        queries: 400,
        draws: 40,
        batch: 32,
        ..AuditOptions::default()
    };
    let verdict = |net: &mut Net| {
        let report = audit(Access::White(net), None, &samples, &InputBox::unit(), &[], &options).unwrap();
        let failed: Vec<_> = report.failures().map(|f| f.check).collect();
        (report.verdict, report.robust.value, failed)
    };
    let (honest, robust, failed) = verdict(&mut net);
    assert_eq!(honest, Verdict::Sound, "{robust} {failed:?}");
    assert!(robust > 0.1 && robust < 0.9, "{robust}");
    net.mask = true;
    assert_eq!(verdict(&mut net).0, Verdict::Masked);
}
