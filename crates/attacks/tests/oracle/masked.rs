//! The oracle's panel of deliberately masked models: the audit catches all of them and passes the honest ones.

use attacks::{Access, AuditOptions, InputBox, Verdict, audit};

use super::Images;
use super::nets::{ConvNet, Surrogate};
use super::npz::{Npz, folder};

type Defect = fn(&mut ConvNet);

#[test]
fn audit_panel() {
    let Some(folder) = folder() else { return };
    let images = Images::load(&folder);
    let mut models = Npz::open(&folder, "models.npz");
    let cases: [(&str, &str, Verdict, Defect); 8] = [
        ("plain", "B", Verdict::Sound, |_| {}),
        ("logits_x1000", "B", Verdict::Masked, |n| n.scale = 1000.0),
        ("softmax_output", "B", Verdict::Masked, |n| n.softmax = true),
        ("input_quant7_truegrad", "B", Verdict::Masked, |n| {
            (n.input_levels, n.surrogate) = (Some(7.0), Surrogate::Zero);
        }),
        ("input_quant7_bpda", "B", Verdict::Sound, |n| n.input_levels = Some(7.0)),
        ("ternary_truegrad", "T", Verdict::Masked, |n| n.surrogate = Surrogate::Zero),
        ("ternary_ste", "T", Verdict::Sound, |_| {}),
        ("noisy_sigma0.05", "B", Verdict::Masked, |n| {
            let d: usize = n.shape.iter().product();
            n.noises = (0..7)
                .map(|k| (0..d).map(|i| 0.05 * (((i * 37 + k * 101) % 19) as f64 / 9.0 - 1.0)).collect())
                .collect();
        }),
    ];
    for (name, model, verdict, defect) in cases {
        let mut net = ConvNet::load(&mut models, model, images.shape);
        defect(&mut net);
        let options = AuditOptions { eps: 12.0 / 255.0, queries: 400, draws: 20, ..AuditOptions::default() };
        let (access, unit) = (Access::White(&mut net), InputBox::unit());
        let report = audit(access, None, &images.samples(), &unit, &[], &options).unwrap();
        let failed: Vec<String> = report.failures().map(|f| format!("{} {:.3}", f.check, f.number)).collect();
        println!("{name}: {:?}, robust {:.3}, failed: {failed:?}", report.verdict, report.robust.value);
        assert_eq!(report.verdict, verdict, "{name}: {failed:?}");
    }
}
