//! The audit's panel: models masked on purpose are caught, honest ones pass.

mod common;

use attacks::audit::Check;
use attacks::{
    Access, AuditOptions, AuditReport, Classifier, Eot, InputBox, Options, Outcome, Rescaled, Samples,
    Verdict, audit, run,
};
use common::Net;

const EPS: f32 = 0.03;

fn net() -> Net {
    Net::new([6, 6, 2], 12, 5, 3)
}

fn options() -> AuditOptions {
    AuditOptions { eps: EPS, samples: 60, queries: 400, draws: 40, batch: 32, ..AuditOptions::default() }
}

fn verdict(net: &mut Net, outcomes: &[Outcome]) -> AuditReport {
    let (x, y, ids) = net.samples(60, 4);
    let samples = Samples::new(&x, &y, &ids);
    audit(Access::White(net), None, &samples, &InputBox::unit(), outcomes, &options()).unwrap()
}

fn failed(report: &AuditReport) -> Vec<Check> {
    report.failures().map(|f| f.check).collect()
}

#[test]
fn an_honest_model_is_sound() {
    let report = verdict(&mut net(), &[]);
    assert_eq!(report.verdict, Verdict::Sound, "{:#?}", failed(&report));
    assert!(report.robust.value > 0.1 && report.robust.value < 0.9, "{:?}", report.robust);
    let json = serde_json::to_string(&report).unwrap();
    let back: AuditReport = serde_json::from_str(&json).unwrap();
    assert_eq!((back.verdict, back.findings.len()), (report.verdict, report.findings.len()));
}

/// A defect's name, how to plant it, and the checks that must see it.
type Case = (&'static str, fn(&mut Net), &'static [Check]);

#[test]
fn masked_models_are_caught_by_the_right_check() {
    let cases: [Case; 4] = [
        ("logits x 3000", |n| n.scale = 3000.0, &[Check::Saturation, Check::LossChoice]),
        ("zero gradients", |n| n.mask = true, &[Check::ZeroGradient, Check::FrozenIterates, Check::BlackBox]),
        ("noisy", |n| n.sigma = 0.05, &[Check::Randomness]),
        ("softmax", |n| n.softmax = true, &[Check::Probabilities]),
    ];
    for (name, defect, expected) in cases {
        let mut net = net();
        defect(&mut net);
        let report = verdict(&mut net, &[]);
        assert_eq!(report.verdict, Verdict::Masked, "{name}");
        for check in expected {
            assert!(failed(&report).contains(check), "{name}: {check} passed, failed {:?}", failed(&report));
        }
        assert!(report.failures().all(|f| !f.sentence.is_empty() && !f.next.is_empty()));
    }
}

#[test]
fn logits_alone_leave_the_question_open() {
    let mut net = net();
    let (x, y, ids) = net.samples(60, 4);
    let samples = Samples::new(&x, &y, &ids);
    let report = audit(Access::Black(&mut net), None, &samples, &InputBox::unit(), &[], &options()).unwrap();
    assert_eq!(report.verdict, Verdict::Inconclusive);
    assert_eq!(failed(&report), [Check::GradientAccess]);
}

#[test]
fn overstated_claims_and_better_surrogates_are_caught() {
    let mut net = net();
    let (x, y, ids) = net.samples(60, 4);
    let (samples, unit) = (Samples::new(&x, &y, &ids), InputBox::unit());
    // One tiny step called an attack.
    let weak = "pgd(steps=1, restarts=1, step=rel 0.01, start=clean)".parse().unwrap();
    let options_run = &mut Options::default();
    let claim = run(&weak, Access::White(&mut net), &samples, &[EPS], &unit, 0, options_run).unwrap();
    // The number is not to be believed, but nothing hides the gradients.
    let report = verdict(&mut net, &claim);
    assert_eq!((report.verdict, failed(&report)), (Verdict::Inconclusive, vec![Check::Claim]));
    net.mask = true;
    assert_eq!(verdict(&mut net, &claim).verdict, Verdict::Masked);
    net.mask = false;
    // The same network without its gradient mask, as a surrogate.
    let mut twin = common::Net::new([6, 6, 2], 12, 5, 3);
    net.mask = true;
    let surrogate = Some(Access::White(&mut twin));
    let report = audit(Access::White(&mut net), surrogate, &samples, &unit, &[], &options()).unwrap();
    assert!(failed(&report).contains(&Check::Transfer));
}

#[test]
fn rescaling_heals_saturation_and_averaging_heals_randomness() {
    let unit = InputBox::unit();
    let mut honest = net();
    let (x, y, ids) = honest.samples(60, 4);
    let samples = Samples::new(&x, &y, &ids);
    let mut loud = net();
    loud.scale = 3000.0;
    let mut healed = Rescaled::calibrated(&mut loud, &x, 1.0).unwrap();
    let report = audit(Access::White(&mut healed), None, &samples, &unit, &[], &options()).unwrap();
    assert_eq!(report.verdict, Verdict::Sound, "{:?}", failed(&report));
    assert!(Rescaled::<_, f32>::temperature(&mut loud, 0.0).is_err());

    let attack = "pgd(steps=10, restarts=1)".parse().unwrap();
    let robust = |sigma: f32, draws: usize| {
        let mut noisy = net();
        noisy.sigma = sigma;
        let mut model = Eot::new(&mut noisy, draws);
        let options = &mut Options::default();
        run(&attack, Access::White(&mut model), &samples, &[EPS], &unit, 0, options).unwrap()[0]
            .robust_accuracy()
            .value
    };
    assert!((robust(0.2, 30) - robust(0.0, 1)).abs() < 0.08);
}

/// Some samples' logits saturate the cross-entropy, so that only other losses break them: `loud` of 64.
fn partly_masked(loud: usize) -> AuditReport {
    let mut net = net();
    let (d, n) = (72, 64);
    let (mut x, _, ids) = net.samples(n, 4);
    x.chunks_exact_mut(d).for_each(|x| x[0] = 0.8);
    let y = net.predictions(&x);
    let dlr = "apgd(loss=dlr, steps=40)".parse().unwrap();
    let (unit, eps) = (InputBox::unit(), [EPS]);
    let samples = Samples::new(&x, &y, &ids);
    let honest = run(&dlr, Access::White(&mut net), &samples, &eps, &unit, 0, &mut Options::default());
    let mut broken: Vec<u32> = honest.unwrap()[0].broken().map(|r| r.id - ids[0]).collect();
    // Those farthest from the boundary first: of the nearest the cross-entropy still has a gradient.
    let mut z = vec![0.0; n * 5];
    net.logits(&x, &mut z).unwrap();
    let gap = |i: &u32| {
        let mut z = z[*i as usize * 5..][..5].to_vec();
        z.sort_by(f32::total_cmp);
        z[3] - z[4]
    };
    broken.sort_by(|a, b| gap(a).total_cmp(&gap(b)));
    assert!(broken.len() >= 24, "{} samples can be broken", broken.len());
    for (i, x) in x.chunks_exact_mut(d).enumerate() {
        if !broken[..loud].contains(&(i as u32)) {
            x[0] = 0.7;
        }
    }
    net.loud_at = if loud > 0 { 0.8 } else { f32::INFINITY };
    let y = net.predictions(&x);
    let options = AuditOptions { samples: n, ..options() };
    let samples = Samples::new(&x, &y, &ids);
    audit(Access::White(&mut net), None, &samples, &unit, &[], &options).unwrap()
}

#[test]
fn few_discordant_samples_leave_the_question_open_and_many_answer_it() {
    let finding = |report: &AuditReport, check: Check| {
        report.findings.iter().find(|f| f.check == check).cloned().unwrap()
    };
    let none = partly_masked(0);
    assert_eq!(none.verdict, Verdict::Sound, "{:?}", failed(&none));
    let few = partly_masked(4);
    let loss = finding(&few, Check::LossChoice);
    assert!(!loss.passed && loss.number > loss.threshold && loss.p_value.unwrap() > 0.1, "{loss:?}");
    assert_eq!(
        (few.verdict, loss.weight),
        (Verdict::Inconclusive, attacks::audit::Weight::Doubt),
        "{:#?}",
        few.findings
    );
    assert!(loss.next.contains("correct samples") && loss.sentence.contains("(4 of 64"), "{loss:?}");
    let many = partly_masked(20);
    let loss = finding(&many, Check::LossChoice);
    assert!(!loss.passed && loss.p_value.unwrap() < 1e-6, "{loss:?}");
    assert!(loss.sentence.contains("(20 of 64"), "{loss:?}");
    assert_eq!((many.verdict, loss.weight), (Verdict::Masked, attacks::audit::Weight::Masking));
}

#[test]
fn a_handful_of_samples_is_inconclusive_and_says_how_many_are_needed() {
    let mut net = net();
    let (x, y, ids) = net.samples(6, 4);
    let samples = Samples::new(&x, &y, &ids);
    let report = audit(Access::White(&mut net), None, &samples, &InputBox::unit(), &[], &options()).unwrap();
    assert_eq!((report.verdict, failed(&report)), (Verdict::Inconclusive, vec![Check::Samples]));
    let finding = report.failures().next().unwrap();
    assert!(finding.next.contains("at least 8"), "{finding:?}");
}
