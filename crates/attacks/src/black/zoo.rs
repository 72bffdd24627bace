//! ZOO: Carlini and Wagner's objective by coordinate-wise finite differences and Adam (Chen et al. 2017).
//!
//! The margin of log-probabilities is the margin of logits. Each coordinate has its own step count in Adam's bias
//! correction; the point stays in the box. The squared distance is differentiated exactly (its symmetric difference is).

use kernels::Real;

use super::decision::Sample;
use crate::chunk::Chunk;
use crate::error::AttackError;
use crate::geometry::Norm;
use crate::random::{Draw, offset};
use crate::spec::Zoo;

/// Adam's decays and guard.
const BETA: [f64; 2] = [0.9, 0.999];
const GUARD: f64 = 1e-8;

pub(crate) fn attack<T: Real>(a: &Zoo, c: &mut Chunk<'_, '_, T>) -> Result<(), AttackError> {
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

/// Adam's memory of each coordinate.
struct Adam {
    mean: Vec<f64>,
    square: Vec<f64>,
    count: Vec<i32>,
}

fn one<T: Real>(a: &Zoo, sample: &mut Sample<'_, '_, '_, T>) -> Result<(), AttackError> {
    let d = sample.d();
    let (mut weight, mut low, mut high) = (a.initial_weight, 0.0, f64::INFINITY);
    for round in 0..a.search_steps {
        let mut adam = Adam { mean: vec![0.0; d], square: vec![0.0; d], count: vec![0; d] };
        let mut point = sample.x.clone();
        let mut succeeded = false;
        let mut last = f64::INFINITY;
        for step in 0..a.steps {
            let index = (round * a.steps + step) as u64;
            let coordinates = choose(sample, d, a.coordinates.min(d), index);
            let (margin, gradient) = differences(a, sample, &point, &coordinates, weight)?;
            if margin > 0.0 {
                succeeded = true;
                sample.keep(&point);
            }
            let distance = sample.distance(Norm::L2, &point);
            let objective = distance * distance + weight * (-margin + a.confidence).max(0.0);
            for (&i, g) in coordinates.iter().zip(&gradient) {
                adam.count[i] += 1;
                adam.mean[i] = BETA[0] * adam.mean[i] + (1.0 - BETA[0]) * g;
                adam.square[i] = BETA[1] * adam.square[i] + (1.0 - BETA[1]) * g * g;
                let (m, v) = (
                    adam.mean[i] / (1.0 - BETA[0].powi(adam.count[i])),
                    adam.square[i] / (1.0 - BETA[1].powi(adam.count[i])),
                );
                point[i] = (point[i] - a.step * m / (v.sqrt() + GUARD)).clamp(sample.lo[i], sample.hi[i]);
            }
            if a.abort_early && step % a.steps.div_ceil(10) == 0 {
                if objective > 0.9999 * last {
                    break;
                }
                last = objective;
            }
        }
        if succeeded {
            high = weight;
        } else {
            low = weight;
        }
        weight = if high.is_finite() { 0.5 * (low + high) } else { 10.0 * weight };
    }
    Ok(())
}

/// `count` different coordinates of `d`, by a partial shuffle.
fn choose<T: Real>(sample: &Sample<'_, '_, '_, T>, d: usize, count: usize, index: u64) -> Vec<usize> {
    let mut rng = sample.stream(Draw::Zoo, index);
    let mut all: Vec<usize> = (0..d).collect();
    for i in 0..count {
        let j = i + offset(&mut rng, d - 1 - i);
        all.swap(i, j);
    }
    all.truncate(count);
    all
}

/// The margin at `point` and the objective's derivative along the coordinates: one query and two for each.
fn differences<T: Real>(
    a: &Zoo,
    sample: &mut Sample<'_, '_, '_, T>,
    point: &[f64],
    coordinates: &[usize],
    weight: f64,
) -> Result<(f64, Vec<f64>), AttackError> {
    let d = point.len();
    let mut rows = point.repeat(2 * coordinates.len() + 1);
    for (n, &i) in coordinates.iter().enumerate() {
        rows[(2 * n + 1) * d + i] += a.h;
        rows[(2 * n + 2) * d + i] -= a.h;
    }
    let margins = sample.margins(&rows)?;
    let hinge = |margin: f64| weight * (a.confidence - margin).max(0.0);
    let derivative = |(n, &i): (usize, &usize)| {
        let slope = (hinge(margins[2 * n + 1]) - hinge(margins[2 * n + 2])) / (2.0 * a.h);
        slope + 2.0 * (point[i] - sample.x[i])
    };
    Ok((margins[0], coordinates.iter().enumerate().map(derivative).collect()))
}
