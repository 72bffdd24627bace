//! Conformance with the real libraries: every comparison reads its parameters from the oracle's manifest.
#![allow(unreachable_pub, missing_docs, reason = "modules of one test crate")]

mod affine;
mod masked;
mod minimum;
mod nets;
mod npz;
mod random;
mod white;

use attacks::{Access, Attack, Differentiable, InputBox, Options, Outcome, Samples, run};

/// The images of the convolutional models.
pub struct Images {
    pub x: Vec<f64>,
    pub y: Vec<u8>,
    pub ids: Vec<u32>,
    pub shape: [usize; 3],
    pub next: Vec<u8>,
    pub least_likely: Vec<u8>,
}

impl Images {
    pub fn load(folder: &std::path::Path) -> Self {
        let mut q = npz::Npz::open(folder, "b_model_quantities.npz");
        let (x, shape) = q.images("x");
        let y = q.u8("y");
        let ids = (0..y.len() as u32).collect();
        Self { x, y, ids, shape, next: q.u8("target_next"), least_likely: q.u8("target_least_likely") }
    }

    pub fn samples(&self) -> Samples<'_, f64> {
        Samples::new(&self.x, &self.y, &self.ids)
    }
}

/// Attacks every sample to the end and keeps the examples, as the libraries do.
pub fn exhaust(
    attack: &str,
    model: &mut dyn Differentiable<f64>,
    samples: &Samples<'_, f64>,
    eps: f64,
) -> Outcome<f64> {
    let attack: Attack = attack.parse().unwrap();
    let mut options = Options {
        early_exit: false,
        attack_misclassified: true,
        keep_adversarial: true,
        ..Options::default()
    };
    let bounds = InputBox::unit();
    run(&attack, Access::White(model), samples, &[eps as f32], &bounds, 0, &mut options).unwrap().remove(0)
}

/// Accuracy on the returned examples, whatever the clean prediction was (the libraries' robust accuracy).
pub fn accuracy(outcome: &Outcome<f64>) -> f64 {
    let correct = outcome.records.iter().filter(|r| r.adversarial_correct).count();
    correct as f64 / outcome.records.len() as f64
}

/// Share of values farther apart than `tolerance`.
pub fn share_apart(a: &[f64], b: &[f64], tolerance: f64) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).filter(|(a, b)| (*a - *b).abs() > tolerance).count() as f64 / a.len() as f64
}
