//! DeepFool: steps to the nearest linearised boundary (Moosavi-Dezfooli et al. 2016).
//!
//! foolbox's conventions by default: the perturbation accumulates unclipped, is overshot as a whole, and competes with the
//! top clean classes. ART's and torchattacks' are there to reproduce their numbers.

use kernels::Real;

use crate::chunk::Chunk;
use crate::error::AttackError;
use crate::geometry::{Norm, clip, sign};
use crate::loss::{Loss, argmax, ranked};
use crate::spec::{Convention, DeepFool};

/// A library's additions: to a distance (so that the boundary is crossed), to a gradient's length in distances, and to
/// its square in steps.
struct Guards {
    cross: f64,
    length: f64,
    square: f64,
}

impl Convention {
    fn guards(self) -> Guards {
        match self {
            Convention::Foolbox => Guards { cross: 1e-4, length: 1e-8, square: 0.0 },
            Convention::Art => Guards { cross: 0.0, length: 1e-7, square: 1e-7 },
            Convention::Torchattacks => Guards { cross: 0.0, length: 0.0, square: 0.0 },
        }
    }
}

pub(crate) fn attack<T: Real>(a: &DeepFool, c: &mut Chunk<'_, '_, T>) -> Result<(), AttackError> {
    c.activate_all();
    let (d, k) = (c.d, c.k);
    let mut points = c.x.clone();
    let mut total = vec![T::ZERO; points.len()];
    let mut jacobian = vec![T::ZERO; points.len() * k];
    for step in 0..a.steps {
        c.gather(&points);
        c.jacobian(&mut jacobian)?;
        let n = c.active.len();
        for j in 0..n {
            let s = c.active[j];
            if done(a, c, j) {
                continue;
            }
            let at = c.at(s);
            let gradient = |class: usize| &jacobian[(class * n + j) * d..(class * n + j + 1) * d];
            let Some((own, class, distance, length)) = nearest(a, c, j, gradient) else { continue };
            let (w1, w0) = (gradient(class), gradient(own));
            for (i, total) in total[at.clone()].iter_mut().enumerate() {
                let w = w1[i] - w0[i];
                let direction = match a.norm {
                    Norm::Linf => sign(w).to_f64(),
                    _ => w.to_f64() / length,
                };
                let step = T::from_f64(distance * direction);
                // Only foolbox's perturbation accumulates; the others' points do.
                *total = if a.convention == Convention::Foolbox { *total + step } else { step };
            }
            step_to(a, c, s, &mut points, &total);
        }
        let distance = &c.distance;
        c.active.retain(|&s| distance[s].is_infinite());
        c.tick(step + 1, a.steps);
        if c.active.is_empty() {
            break;
        }
    }
    if !c.active.is_empty() {
        c.gather(&points);
        c.query(Loss::Margin)?;
        for j in 0..c.active.len() {
            settle(a, c, j, c.success(j));
        }
    }
    if a.convention == Convention::Art {
        return overshoot_once(a, c, &mut points);
    }
    Ok(())
}

/// Whether row `j` needs no step because it is adversarial; it is kept then.
fn done<T: Real>(a: &DeepFool, c: &mut Chunk<'_, '_, T>, j: usize) -> bool {
    let s = c.active[j];
    // ART looks for another class than the predicted one, whatever the label.
    let changed = match a.convention {
        Convention::Art => c.prediction(j) != argmax(&c.clean_logits[s * c.k..(s + 1) * c.k]),
        _ => c.success(j),
    };
    if changed {
        settle(a, c, j, true);
    }
    changed
}

fn settle<T: Real>(a: &DeepFool, c: &mut Chunk<'_, '_, T>, j: usize, success: bool) {
    if a.convention != Convention::Foolbox {
        // Points are returned whether they succeed or not; what they are is decided by a last look.
        let s = c.active[j];
        c.distance[s] = c.norm.distance(&c.probe[c.at(j)], &c.x[c.at(s)]);
        c.settle(j, success);
    } else if success {
        c.keep_smallest(j);
    }
}

/// The class left behind, the class whose boundary is nearest to row `j`, how far to go and the gradient's length.
fn nearest<'g, T: Real + 'g>(
    a: &DeepFool,
    c: &Chunk<'_, '_, T>,
    j: usize,
    gradient: impl Fn(usize) -> &'g [T],
) -> Option<(usize, usize, f64, f64)> {
    let (s, k) = (c.active[j], c.k);
    let clean = &c.clean_logits[s * k..(s + 1) * k];
    let z = &c.logits[j * k..(j + 1) * k];
    let own = match a.convention {
        Convention::Torchattacks => c.goals[s].label() as usize,
        Convention::Foolbox | Convention::Art => ranked(clean, 0),
    };
    let candidates = if a.convention == Convention::Torchattacks { k } else { a.candidates.min(k) };
    let guards = a.convention.guards();
    let mut best: Option<(f64, usize, f64, f64)> = None;
    for class in (0..candidates).map(|r| ranked(clean, r)).filter(|&class| class != own) {
        let gap = (z[class].to_f64() - z[own].to_f64()).abs();
        let bare = difference_length(a.norm, gradient(class), gradient(own));
        let distance = gap / (bare + guards.length);
        if best.is_none_or(|(least, ..)| distance < least) {
            best = Some((distance, class, gap, bare));
        }
    }
    let (distance, class, gap, bare) = best?;
    if a.convention == Convention::Foolbox {
        return Some((own, class, distance + guards.cross, bare + guards.length));
    }
    // `gap / (|w|^2 + guard) * w`, as a distance along `w / |w|`.
    let square = bare * bare + guards.square;
    (bare > 0.0).then(|| (own, class, gap * bare / square, bare))
}

/// Moves the point of slot `s` by what `total` holds.
fn step_to<T: Real>(a: &DeepFool, c: &Chunk<'_, '_, T>, s: usize, points: &mut [T], total: &[T]) {
    let at = c.at(s);
    let overshoot = T::from_f64(1.0 + a.overshoot);
    let point = &mut points[at.clone()];
    for ((p, &x), &t) in point.iter_mut().zip(&c.x[at.clone()]).zip(&total[at]) {
        *p = match a.convention {
            Convention::Foolbox => x + overshoot * t,
            Convention::Art => *p + t,
            Convention::Torchattacks => *p + overshoot * t,
        };
    }
    clip(point, c.lo, c.hi);
}

/// ART's overshoot of the whole perturbation, and a last look at the result.
fn overshoot_once<T: Real>(
    a: &DeepFool,
    c: &mut Chunk<'_, '_, T>,
    points: &mut [T],
) -> Result<(), AttackError> {
    let overshoot = T::from_f64(1.0 + a.overshoot);
    for s in 0..c.len() {
        let at = c.at(s);
        for (p, &x) in points[at.clone()].iter_mut().zip(&c.x[at.clone()]) {
            *p = x + overshoot * (*p - x);
        }
        clip(&mut points[at], c.lo, c.hi);
    }
    c.activate_all();
    c.gather(points);
    c.query(Loss::Margin)?;
    for j in 0..c.active.len() {
        c.settle(j, c.success(j));
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
