//! Checks of the model itself, before any attack: outputs, randomness and gradients at the clean samples.

use kernels::Real;

use super::significance::Evidence;
use super::{AuditOptions, Check, Finding};
use crate::error::AttackError;
use crate::geometry::Norm;
use crate::loss::{Goal, Loss, argmax};
use crate::model::Access;
use crate::outcome::all_logits;
use crate::run::Samples;

/// Passes compared by the randomness check (auto-attack's number).
const PASSES: usize = 5;
/// Distance of unit-length logits that counts as random (auto-attack's number).
const RANDOM: f64 = 1e-4;
/// Logits farther apart than this leave nothing of the smaller one's probability in f32.
const SATURATED: f64 = 88.0;
/// Share of samples without gradient that is still an accident.
const FEW: f64 = 0.02;

/// What the probe saw.
pub(super) struct Probe {
    pub(super) correct: usize,
    total: usize,
    probabilities: usize,
    spread: f64,
    non_finite: usize,
    gap: f64,
    /// Correct samples without margin gradient, and those with one whose loss has none; `None` without gradients.
    dead: Option<(usize, usize)>,
}

impl Probe {
    pub(super) fn of<T: Real>(
        model: &mut Access<'_, T>,
        samples: &Samples<'_, T>,
        options: &AuditOptions,
    ) -> Result<Self, AttackError> {
        let k = model.classifier().classes();
        let logits = all_logits(model, samples.x, options.batch)?;
        let rows = || logits.chunks_exact(k);
        let correct: Vec<usize> =
            rows().enumerate().filter(|(i, z)| argmax(z) == samples.labels[*i]).map(|(i, _)| i).collect();
        let mut spread = 0.0f64;
        for _ in 1..PASSES {
            let again = all_logits(model, samples.x, options.batch)?;
            for (a, b) in rows().zip(again.chunks_exact(k)) {
                spread = spread.max(direction_distance(a, b));
            }
        }
        let mut finite: Vec<bool> = rows().map(|z| z.iter().all(|v| v.to_f64().is_finite())).collect();
        let mut dead = None;
        if model.differentiable().is_some() {
            let margin = gradient_rows(model, samples, &correct, Loss::Margin, options)?;
            let loss = gradient_rows(model, samples, &correct, options.loss, options)?;
            let mut counts = (0, 0);
            for (&i, (m, l)) in correct.iter().zip(margin.iter().zip(&loss)) {
                finite[i] &= m.is_finite() && l.is_finite();
                counts.0 += usize::from(*m == 0.0);
                counts.1 += usize::from(*m != 0.0 && *l == 0.0);
            }
            dead = Some(counts);
        }
        Ok(Self {
            correct: correct.len(),
            total: samples.len(),
            probabilities: rows().filter(|z| is_distribution(z)).count(),
            spread,
            non_finite: finite.iter().filter(|f| !**f).count(),
            gap: crate::stats::median(correct.iter().map(|&i| {
                let goal = Goal::Untargeted { label: samples.labels[i] };
                -Loss::Margin.value(&logits[i * k..(i + 1) * k], goal)
            }))
            .unwrap_or(0.0),
            dead,
        })
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
        let mut out = vec![
            Check::Probabilities.finding(share(self.probabilities, self.total), 0.5),
            Check::Randomness.finding(self.spread, RANDOM),
            Check::NonFinite.finding(share(self.non_finite, self.total), 0.0),
            Check::LogitScale.finding(self.gap, SATURATED),
            Check::GradientAccess.finding(if self.dead.is_some() { 0.0 } else { 1.0 }, 0.0),
        ];
        if let Some((zero, saturated)) = self.dead {
            out.push(Check::ZeroGradient.judged(Evidence::share(zero, self.correct, FEW)));
            out.push(Check::Saturation.judged(Evidence::share(saturated, self.correct, FEW)));
        }
        out.push(Check::samples(self.correct));
        out
    }
}

/// Largest gradient magnitude of `loss` at each of the samples `which`; NaN where a gradient is not finite.
fn gradient_rows<T: Real>(
    model: &mut Access<'_, T>,
    samples: &Samples<'_, T>,
    which: &[usize],
    loss: Loss,
    options: &AuditOptions,
) -> Result<Vec<f64>, AttackError> {
    let (d, k) = (model.classifier().input_len(), model.classifier().classes());
    let Some(model) = model.differentiable() else { return Ok(Vec::new()) };
    let mut out = Vec::with_capacity(which.len());
    for part in which.chunks(options.batch.max(1)) {
        let x: Vec<T> = part.iter().flat_map(|&i| &samples.x[i * d..(i + 1) * d]).copied().collect();
        let (mut logits, mut grad) = (vec![T::ZERO; part.len() * k], vec![T::ZERO; x.len()]);
        let mut cotangent = |z: &[T], cot: &mut [T]| {
            for ((z, cot), &i) in z.chunks_exact(k).zip(cot.chunks_exact_mut(k)).zip(part) {
                loss.cotangent(z, Goal::Untargeted { label: samples.labels[i] }, cot);
            }
        };
        model.logits_vjp(&x, &mut cotangent, &mut logits, &mut grad)?;
        out.extend(
            grad.chunks_exact(d).map(|g| {
                if g.iter().all(|v| v.to_f64().is_finite()) { Norm::Linf.length(g) } else { f64::NAN }
            }),
        );
    }
    Ok(out)
}

/// Distance of two rows of logits scaled to unit length.
fn direction_distance<T: Real>(a: &[T], b: &[T]) -> f64 {
    let (la, lb) = (Norm::L2.length(a).max(1e-12), Norm::L2.length(b).max(1e-12));
    a.iter().zip(b).map(|(a, b)| (a.to_f64() / la - b.to_f64() / lb).powi(2)).sum::<f64>().sqrt()
}

/// All in [0, 1] and summing to 1 within 1e-5 (auto-attack's flag).
fn is_distribution<T: Real>(z: &[T]) -> bool {
    let sum: f64 = z.iter().map(|v| v.to_f64()).sum();
    z.iter().all(|v| (0.0..=1.0).contains(&v.to_f64())) && (sum - 1.0).abs() < 1e-5
}
