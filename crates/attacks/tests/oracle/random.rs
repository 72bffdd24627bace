//! Random attacks, within the bands the real libraries showed over their seeds.

use attacks::stats::median;
use attacks::{Access, Attack, InputBox, Options, run};

use super::Images;
use super::nets::ConvNet;
use super::npz::{Npz, configs, folder};

/// Least and greatest median queries of successful attacks over the library's seeds.
fn median_band(npz: &mut Npz, name: &str) -> (f64, f64) {
    let (queries, shape) = npz.array(&format!("{name}.queries"));
    let success = npz.f64(&format!("{name}.success"));
    let rows = queries.chunks_exact(shape[1]).zip(success.chunks_exact(shape[1]));
    let medians = rows.filter_map(|(queries, success)| {
        median(queries.iter().zip(success).filter(|(_, s)| **s > 0.0).map(|(q, _)| *q))
    });
    medians.fold((f64::INFINITY, 0.0), |(low, high), m| (low.min(m), high.max(m)))
}

#[test]
fn square_within_auto_attacks_band() {
    let Some(folder) = folder() else { return };
    let images = Images::load(&folder);
    let mut net = ConvNet::load(&mut Npz::open(&folder, "models.npz"), "B", images.shape);
    let mut npz = Npz::open(&folder, "b_random_stats.npz");
    for (name, config) in configs(&folder, "b_random_stats.npz") {
        if !name.starts_with("aa_square") {
            continue;
        }
        let text = format!(
            "square(preset=auto-attack, norm={}, queries={}, p_init={}, rescale={})",
            config["norm"].as_str().unwrap().to_lowercase(),
            config["n_queries"],
            config["p_init"],
            config["resc_schedule"],
        );
        let (attack, eps): (Attack, _) = (text.parse().unwrap(), config["eps"].as_f64().unwrap() as f32);
        let (mean, std) = (
            config["robust_acc_mean"].as_f64().unwrap(),
            config["robust_acc_std_over_seeds"].as_f64().unwrap(),
        );
        let (mut accuracies, mut queries) = (Vec::new(), Vec::new());
        for seed in 0..4 {
            let (access, options) = (Access::Black(&mut net), &mut Options::default());
            let out =
                run(&attack, access, &images.samples(), &[eps], &InputBox::unit(), seed, options).unwrap();
            accuracies.push(out[0].robust_accuracy().value);
            queries.extend(out[0].broken().map(|r| r.queries as f64));
        }
        let got = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
        let middle = median(queries).unwrap();
        let (low, high) = median_band(&mut npz, &name);
        println!(
            "{name}: robust {got:.3} (library {mean:.3} +- {std:.3}), median queries {middle} (library's seeds {low} to {high})"
        );
        // Mean of four runs against the library's spread over seeds.
        assert!((got - mean).abs() < 2.5 * std, "{name}: {got} {mean} {std}");
        assert!(
            (low..=high).contains(&middle),
            "{name}: median queries {middle}, library's seeds {low} to {high}"
        );
    }
}

#[test]
fn autoattack_leaves_what_the_real_one_leaves() {
    let Some(folder) = folder() else { return };
    let images = Images::load(&folder);
    let mut net = ConvNet::load(&mut Npz::open(&folder, "models.npz"), "B", images.shape);
    for (name, config) in configs(&folder, "b_random_stats.npz") {
        // Seconds where few samples survive the first part, minutes where most do.
        if !name.starts_with("autoattack") || config["robust_acc"].as_f64().unwrap() > 0.6 {
            continue;
        }
        // Square breaks nothing more on these models; a short one saves time.
        let text =
            format!("autoattack(norm={}, queries=200)", config["norm"].as_str().unwrap().to_lowercase());
        let (attack, eps): (Attack, _) = (text.parse().unwrap(), config["eps"].as_f64().unwrap() as f32);
        let (access, options) = (Access::White(&mut net), &mut Options::default());
        let out = run(&attack, access, &images.samples(), &[eps], &InputBox::unit(), 0, options).unwrap();
        let (got, want) = (out[0].robust_accuracy().value, config["robust_acc"].as_f64().unwrap());
        println!("{name}: robust {got:.4}, library {want:.4}");
        assert!((got - want).abs() < 1.01 / images.y.len() as f64, "{name}: {got} {want}");
    }
}
