//! Minimum-norm attacks: distances against the libraries', and against the affine optimum.

use attacks::stats::median;
use attacks::{Access, Attack, InputBox, Norm, Options, Outcome, Samples, run};

use super::Images;
use super::nets::{Affine, ConvNet};
use super::npz::{Npz, configs, folder};

/// One run; the eps is beyond every distance, so that every example found is kept.
fn find(attack: &str, access: Access<'_, f64>, samples: &Samples<'_, f64>) -> Outcome<f64> {
    let attack: Attack = attack.parse().unwrap();
    let mut options = Options { keep_adversarial: true, ..Options::default() };
    run(&attack, access, samples, &[1e6], &InputBox::unit(), 0, &mut options).unwrap().remove(0)
}

/// Ratios of our distances to `want`, over samples that both attacked.
fn ratios(out: &Outcome<f64>, want: &[f64]) -> Vec<f64> {
    out.records
        .iter()
        .zip(want)
        .filter(|(r, want)| r.clean_correct && **want > 0.0)
        .map(|(r, want)| r.minimum_norm.unwrap_or(f64::INFINITY) / want)
        .collect()
}

/// Distances stored with a configuration, in the attack's norm.
fn distances(npz: &mut Npz, name: &str, norm: Norm) -> Vec<f64> {
    let column = match norm {
        Norm::Linf => 0,
        Norm::L2 => 1,
        Norm::L1 => 2,
    };
    npz.f64(&format!("{name}.norms_linf_l2_l1")).chunks_exact(3).map(|row| row[column]).collect()
}

#[test]
fn fab_is_auto_attacks() {
    let Some(folder) = folder() else { return };
    let images = Images::load(&folder);
    let mut net = ConvNet::load(&mut Npz::open(&folder, "models.npz"), "B", images.shape);
    let mut npz = Npz::open(&folder, "b_fab.npz");
    for (name, config) in configs(&folder, "b_fab.npz") {
        let rank = config["target_class_rank"].as_u64();
        // A single rank other than the second is part of a longer run here.
        if !matches!(rank, None | Some(2)) {
            continue;
        }
        let attack = format!(
            "fab(norm={}, steps={}, alpha_max={}, eta={}, beta={}, targets={})",
            config["norm"].as_str().unwrap().to_lowercase(),
            config["n_iter"],
            config["alpha_max"],
            config["eta"],
            config["beta"],
            rank.map_or(0, |rank| rank - 1),
        );
        let out = find(&attack, Access::White(&mut net), &images.samples());
        let ratios = ratios(&out, &distances(&mut npz, &name, out.norm));
        let close = ratios.iter().filter(|r| (*r - 1.0).abs() < 1e-4).count();
        println!(
            "{name}: {close} of {} distances agree, median ratio {:?}",
            ratios.len(),
            median(ratios.clone())
        );
        assert!(close * 10 >= ratios.len() * 9, "{name}: {ratios:?}");
        assert!(ratios.iter().all(|r| *r < 1.02), "{name}: {ratios:?}");
    }
}

#[test]
fn deepfool_is_no_longer_than_foolboxs() {
    let Some(folder) = folder() else { return };
    let images = Images::load(&folder);
    let mut net = ConvNet::load(&mut Npz::open(&folder, "models.npz"), "B", images.shape);
    let mut npz = Npz::open(&folder, "b_deepfool.npz");
    for (name, config) in configs(&folder, "b_deepfool.npz").iter().filter(|(n, _)| n.ends_with("_foolbox")) {
        let norm = name.split('_').nth(1).unwrap();
        let attack = format!(
            "deepfool(norm={norm}, steps={}, overshoot={}, candidates={})",
            config["steps"], config["overshoot"], config["candidates"]
        );
        let out = find(&attack, Access::White(&mut net), &images.samples());
        let ratios = ratios(&out, &distances(&mut npz, name, out.norm));
        println!("{name}: ratios {:?}", median(ratios.clone()));
        // foolbox keeps moving finished samples until its whole batch is done: it may be longer, never shorter.
        assert!(ratios.iter().all(|r| *r < 1.0 + 1e-4), "{name}: {ratios:?}");
        assert!(ratios.iter().all(|r| *r > 0.8), "{name}: {ratios:?}");
    }
}

#[test]
fn carlini_wagner_is_foolboxs() {
    let Some(folder) = folder() else { return };
    let images = Images::load(&folder);
    let mut net = ConvNet::load(&mut Npz::open(&folder, "models.npz"), "B", images.shape);
    let mut npz = Npz::open(&folder, "b_cw_l2.npz");
    for (name, config) in configs(&folder, "b_cw_l2.npz").iter().filter(|(n, _)| n.contains("foolbox")) {
        let attack = format!(
            "cw(search_steps={}, steps={}, step={}, confidence={}, initial_weight={}, abort_early={})",
            config["binary_search_steps"],
            config["steps"],
            config["stepsize"],
            config["confidence"],
            config["initial_const"],
            config["abort_early"],
        );
        let samples = match config["target"].as_str() {
            Some("target_next") => images.samples().with_targets(&images.next),
            _ => images.samples(),
        };
        let out = find(&attack, Access::White(&mut net), &samples);
        let ratios = ratios(&out, &distances(&mut npz, name, Norm::L2));
        let close = ratios.iter().filter(|r| (*r - 1.0).abs() < 1e-4).count();
        println!(
            "{name}: {close} of {} distances agree, median ratio {:?}",
            ratios.len(),
            median(ratios.clone())
        );
        assert!(close * 10 >= ratios.len() * 9, "{name}: {ratios:?}");
    }
}

#[test]
fn distances_to_the_affine_optimum() {
    let Some(folder) = folder() else { return };
    let mut models = Npz::open(&folder, "models.npz");
    let mut net = Affine { w: models.f64("A_W"), b: models.f64("A_b") };
    let mut npz = Npz::open(&folder, "a_affine.npz");
    for (name, config) in configs(&folder, "a_affine.npz") {
        let (set, case) = name.split_once('.').unwrap();
        let (attack, norm, tolerance) = match case {
            "fab_Linf" => ("fab", "linf", 1e-4),
            "fab_L2" => ("fab(norm=l2)", "l2", 1e-4),
            "deepfool_foolbox" => ("deepfool", "l2", 0.02),
            "deepfool_linf_foolbox" => ("deepfool(norm=linf)", "linf", 0.02),
            "cw_foolbox" => {
                ("cw(search_steps=9, steps=200, step=0.01, initial_weight=1, abort_early=false)", "l2", 0.1)
            }
            _ => continue,
        };
        let (x, y) = (npz.f64(&format!("{set}.x")), npz.u8(&format!("{set}.y")));
        let ids: Vec<u32> = (0..y.len() as u32).collect();
        let optimum = npz.f64(&format!("{set}.box.min_{norm}"));
        let ratios = ratios(&find(attack, Access::White(&mut net), &Samples::new(&x, &y, &ids)), &optimum);
        let (got, want) =
            (median(ratios.clone()).unwrap(), config["ratio_to_exact_optimum"]["median"].as_f64().unwrap());
        println!("{name}: median ratio to the optimum {got:.5}, library {want:.5}");
        assert!(got < want + tolerance, "{name}: {got} {want}");
        assert!(ratios.iter().all(|r| *r >= 1.0 - 1e-6), "{name} beats the optimum");
    }
}
