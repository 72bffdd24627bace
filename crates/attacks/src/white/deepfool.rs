//! DeepFool: steps to the nearest linearised boundary (Moosavi-Dezfooli et al. 2016), with foolbox's conventions:
//! the perturbation accumulates unclipped, is overshot as a whole, and competes with the top clean classes.

use kernels::Real;

use crate::chunk::Chunk;
use crate::error::AttackError;
use crate::geometry::{Norm, clip, sign};
use crate::loss::{Loss, ranked};
use crate::spec::DeepFool;

/// foolbox's additions to a distance (so that the boundary is crossed) and to a gradient's length.
const CROSS: f64 = 1e-4;
const GUARD: f64 = 1e-8;

pub(crate) fn attack<T: Real>(a: &DeepFool, c: &mut Chunk<'_, '_, T>) -> Result<(), AttackError> {
    c.activate_all();
    let (d, k) = (c.d, c.k);
    let mut points = c.x.clone();
    let mut total = vec![T::ZERO; points.len()];
    let mut jacobian = vec![T::ZERO; points.len() * k];
    let overshoot = T::from_f64(1.0 + a.overshoot);
    for step in 0..a.steps {
        c.gather(&points);
        c.jacobian(&mut jacobian)?;
        let n = c.active.len();
        for j in 0..n {
            let s = c.active[j];
            if c.success(j) {
                c.keep_smallest(j);
                continue;
            }
            let clean = &c.clean_logits[s * k..(s + 1) * k];
            let gradient = |class: usize| &jacobian[(class * n + j) * d..(class * n + j + 1) * d];
            let z = &c.logits[j * k..(j + 1) * k];
            let own = c.goals[s].label() as usize;
            let mut nearest: Option<(f64, usize, f64)> = None;
            for class in (0..a.candidates.min(k)).map(|r| ranked(clean, r)).filter(|&class| class != own) {
                let gap = (z[class].to_f64() - z[own].to_f64()).abs();
                let length = difference_length(a.norm, gradient(class), gradient(own)) + GUARD;
                let distance = gap / length;
                if nearest.is_none_or(|(least, ..)| distance < least) {
                    nearest = Some((distance, class, length));
                }
            }
            let Some((distance, class, length)) = nearest else { continue };
            let at = c.at(s);
            let (w1, w0) = (gradient(class), gradient(own));
            for (i, total) in total[at.clone()].iter_mut().enumerate() {
                let w = w1[i] - w0[i];
                let direction = match a.norm {
                    Norm::Linf => sign(w).to_f64(),
                    _ => w.to_f64() / length,
                };
                *total += T::from_f64((distance + CROSS) * direction);
            }
            let point = &mut points[at.clone()];
            for ((p, &x), &t) in point.iter_mut().zip(&c.x[at.clone()]).zip(&total[at]) {
                *p = x + overshoot * t;
            }
            clip(point, c.lo, c.hi);
        }
        let distance = &c.distance;
        c.active.retain(|&s| distance[s].is_infinite());
        c.tick(step + 1, a.steps);
        if c.active.is_empty() {
            return Ok(());
        }
    }
    c.gather(&points);
    c.query(Loss::Margin)?;
    for j in 0..c.active.len() {
        if c.success(j) {
            c.keep_smallest(j);
        }
    }
    Ok(())
}

/// Dual length of `a - b`: what a unit step gains on the boundary between two classes.
fn difference_length<T: Real>(norm: Norm, a: &[T], b: &[T]) -> f64 {
    match norm {
        Norm::Linf => Norm::L1.distance(a, b),
        _ => Norm::L2.distance(a, b),
    }
}
