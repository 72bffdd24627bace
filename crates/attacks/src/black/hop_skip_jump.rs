//! HopSkipJump: the boundary's normal estimated from decisions, a step along it, and a bisection back (Chen et al. 2020).
//!
//! The authors' thresholds and order. ART's convention bisects first and steps last, so what it returns is off the boundary.

use kernels::Real;

use super::decision::Sample;
use crate::chunk::Chunk;
use crate::error::AttackError;
use crate::geometry::Norm;
use crate::random::{Draw, gaussian, uniform};
use crate::spec::{HopSkipJump, Order};

/// Halvings of a step before the iteration is given up (a step of 2^-40 of the distance is none).
const HALVINGS: usize = 40;

pub(crate) fn attack<T: Real>(a: &HopSkipJump, c: &mut Chunk<'_, '_, T>) -> Result<(), AttackError> {
    c.activate_all();
    for slot in 0..c.len() {
        let standing = c.len() - slot;
        if !c.goal_reached_clean(slot) {
            one(a, &mut Sample::new(c, slot))?;
        }
        c.tick_sample(slot + 1, standing - 1);
    }
    Ok(())
}

fn one<T: Real>(a: &HopSkipJump, sample: &mut Sample<'_, '_, '_, T>) -> Result<(), AttackError> {
    let Some(mut point) = sample.first_point(Draw::HopSkipJump, a.tries)? else { return Ok(()) };
    let d = sample.d() as f64;
    let theta = match (a.order, a.norm) {
        (Order::StepThenSearch, Norm::Linf) => a.gamma / (d * d),
        (Order::StepThenSearch, _) => a.gamma / (d * d.sqrt()),
        (Order::SearchThenStep, Norm::Linf) => a.gamma / d,
        (Order::SearchThenStep, _) => a.gamma / d.sqrt(),
    };
    // From noise to a first point on the segment to the sample, always in L2.
    sample.bisect(Norm::L2, &mut point, 1e-3)?;
    sample.keep(&point);
    let searched = a.order == Order::StepThenSearch;
    if searched {
        sample.bisect(a.norm, &mut point, theta)?;
        sample.keep(&point);
    }
    for t in 1..=a.iterations {
        let before = sample.distance(a.norm, &point);
        if !searched {
            sample.bisect(a.norm, &mut point, theta)?;
            sample.keep(&point);
        }
        let distance = sample.distance(a.norm, &point);
        let scale = if a.norm == Norm::Linf { d } else { d.sqrt() };
        let probe = match t {
            1 => 0.1 * sample.range(),
            _ => scale * theta * if searched { distance } else { before },
        };
        let count = (a.initial_evals as f64 * (t as f64).sqrt()).min(a.max_evals as f64) as usize;
        let Some(direction) = normal(a, sample, &point, probe, count, t)? else { continue };
        let mut length = distance / (t as f64).sqrt();
        let mut moved = point.clone();
        for _ in 0..HALVINGS {
            for ((m, p), v) in moved.iter_mut().zip(&point).zip(&direction) {
                *m = p + length * v;
            }
            sample.clip(&mut moved);
            if sample.ask(&moved)? {
                point.copy_from_slice(&moved);
                break;
            }
            length *= 0.5;
        }
        if searched {
            sample.bisect(a.norm, &mut point, theta)?;
        }
        if searched || t == a.iterations {
            sample.keep_last(&point, !searched);
        }
    }
    Ok(())
}

/// The estimated normal at `point` from `count` probes of radius `radius`: of unit length in L2, signs in L-infinity.
/// `None` when the probes cancel.
fn normal<T: Real>(
    a: &HopSkipJump,
    sample: &mut Sample<'_, '_, '_, T>,
    point: &[f64],
    radius: f64,
    count: usize,
    t: usize,
) -> Result<Option<Vec<f64>>, AttackError> {
    let d = sample.d();
    let mut rng = sample.stream(Draw::HopSkipJump, t as u64);
    let mut probes = vec![0.0; count * d];
    for row in probes.chunks_exact_mut(d.max(1)) {
        for v in row.iter_mut() {
            *v = if a.norm == Norm::Linf { 2.0 * uniform(&mut rng) - 1.0 } else { gaussian(&mut rng) };
        }
        let length = Norm::L2.length(row).max(f64::MIN_POSITIVE);
        for (v, p) in row.iter_mut().zip(point) {
            *v = p + radius * (*v / length);
        }
        sample.clip(row);
    }
    let answers = sample.ask_all(&probes)?;
    let share = answers.iter().filter(|a| **a).count() as f64 / count.max(1) as f64;
    // The mean answer is subtracted unless all agree.
    let mean = if share == 0.0 || share == 1.0 { 0.0 } else { 2.0 * share - 1.0 };
    let mut sum = vec![0.0; d];
    for (row, answer) in probes.chunks_exact(d.max(1)).zip(&answers) {
        let weight = if *answer { 1.0 } else { -1.0 } - mean;
        for ((s, v), p) in sum.iter_mut().zip(row).zip(point) {
            *s += weight * (v - p);
        }
    }
    let length = Norm::L2.length(&sum);
    if length == 0.0 {
        return Ok(None);
    }
    let direction = |v: &f64| match a.norm {
        Norm::Linf if *v == 0.0 => 0.0,
        Norm::Linf => v.signum(),
        _ => v / length,
    };
    Ok(Some(sum.iter().map(direction).collect()))
}
