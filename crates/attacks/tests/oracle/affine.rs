//! The affine model, whose optimum is known in closed form.

use attacks::{Access, Attack, InputBox, Norm, Options, Samples, run};

use super::nets::Affine;
use super::npz::{Npz, configs, folder};

#[test]
fn fixed_eps_attacks_never_beat_the_optimum_and_match_the_libraries() {
    let Some(folder) = folder() else { return };
    let mut models = Npz::open(&folder, "models.npz");
    let mut net = Affine { w: models.f64("A_W"), b: models.f64("A_b") };
    let mut npz = Npz::open(&folder, "a_affine.npz");
    for (name, config) in configs(&folder, "a_affine.npz") {
        let (set, case) = name.split_once('.').unwrap();
        let attack = match case.split_once("_linf_").map(|(attack, _)| attack) {
            Some("fgsm") => "fgsm",
            Some("pgd") => "pgd(steps=40, restarts=1, step=rel 0.25)",
            Some("apgd_ce") => "apgd",
            _ => continue,
        };
        let eps: f32 = case.rsplit('_').next().unwrap().parse().unwrap();
        let (x, y) = (npz.f64(&format!("{set}.x")), npz.u8(&format!("{set}.y")));
        let ids: Vec<u32> = (0..y.len() as u32).collect();
        // The interior set is far from the box: there the optimum knows no bounds.
        let optimum = npz.f64(&format!("{set}.box.min_linf"));
        let attack: Attack = attack.parse().unwrap();
        assert_eq!(attack.norm(), Norm::Linf);
        let samples = Samples::new(&x, &y, &ids);
        let (access, options) = (Access::White(&mut net), &mut Options::default());
        let out = run(&attack, access, &samples, &[eps], &InputBox::unit(), 0, options).unwrap().remove(0);
        for (record, &least) in out.records.iter().zip(&optimum) {
            assert!(record.robust() || f64::from(eps) * (1.0 + 1e-6) >= least, "{name}: beats the optimum");
        }
        let (got, want) = (out.robust_accuracy().value, config["robust_acc"].as_f64().unwrap());
        println!("{name}: {got:.4}, library {want:.4}, optimum {}", config["exact"]);
        assert!((got - want).abs() <= 1.01 / y.len() as f64, "{name}: {got} {want}");
    }
}
