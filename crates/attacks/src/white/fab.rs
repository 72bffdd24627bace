//! FAB: the closest point of the linearised boundary, drawn towards the sample (Croce and Hein 2020, auto-attack's code).

use kernels::Real;

use crate::chunk::Chunk;
use crate::error::AttackError;
use crate::geometry::{Norm, abs, clamp, clip};
use crate::loss::{Goal, Loss};
use crate::random::{Draw, on_sphere, stream};
use crate::spec::Fab;

/// auto-attack's guards of a distance's denominator and of a step's length.
const TINY: f64 = 1e-12;
const SHORT: f64 = 1e-8;

pub(crate) fn attack<T: Real>(a: &Fab, c: &mut Chunk<'_, '_, T>) -> Result<(), AttackError> {
    let targets = a.targets.min(c.k.saturating_sub(a.first));
    let runs = a.restarts * targets.max(1);
    let mut state = State::new(c, targets == 0);
    for run in 0..runs {
        if c.eps.is_finite() {
            if !c.activate() {
                break;
            }
        } else {
            c.activate_all();
        }
        if targets > 0 {
            c.aim_at_rank(a.first + run % targets);
        }
        state.start(c, run / targets.max(1), run);
        for step in 0..a.steps {
            state.step(a, c, targets > 0)?;
            if c.eps.is_finite() {
                c.retain_survivors();
            }
            c.tick(run * a.steps + step + 1, runs * a.steps);
            if c.active.is_empty() {
                break;
            }
        }
    }
    c.aims.clone_from(&c.goals);
    Ok(())
}

struct State<T> {
    points: Vec<T>,
    jacobian: Vec<T>,
    /// Normal of the hyperplane, and the moves to it from the point and from the sample.
    normal: Vec<T>,
    near: Vec<T>,
    far: Vec<T>,
}

impl<T: Real> State<T> {
    fn new(c: &Chunk<'_, '_, T>, all_classes: bool) -> Self {
        let row = || vec![T::ZERO; c.d];
        Self {
            points: c.x.clone(),
            jacobian: if all_classes { vec![T::ZERO; c.x.len() * c.k] } else { Vec::new() },
            normal: row(),
            near: row(),
            far: row(),
        }
    }

    /// The first round starts at the sample, later ones at half the best distance in a random direction.
    fn start(&mut self, c: &Chunk<'_, '_, T>, round: usize, run: usize) {
        for &s in &c.active {
            let (point, x) = (&mut self.points[c.at(s)], &c.x[c.at(s)]);
            if round == 0 {
                point.copy_from_slice(x);
                continue;
            }
            let radius = c.distance[s].min(c.eps);
            let radius = if radius.is_finite() { radius } else { 1.0 };
            on_sphere(&mut stream(c.seed, Draw::Fab, c.ids[s], run as u64), c.norm, 0.5 * radius, point);
            point.iter_mut().zip(x).for_each(|(p, &x)| *p += x);
            clip(point, c.lo, c.hi);
        }
    }

    fn step(&mut self, a: &Fab, c: &mut Chunk<'_, '_, T>, targeted: bool) -> Result<(), AttackError> {
        c.gather(&self.points);
        if targeted {
            // One boundary each: one backward pass gives its normal.
            c.vjp(|z, aim, _, cot| towards(z, aim, cot))?;
        } else {
            c.jacobian(&mut self.jacobian)?;
        }
        let n = c.active.len();
        for j in 0..n {
            let at = c.at(c.active[j]);
            let offset = if targeted {
                self.normal.copy_from_slice(&c.grad[c.at(j)]);
                self.offset(c, j, c.values[j])
            } else {
                self.nearest_boundary(c, j, n)
            };
            let (point, x) = (&mut self.points[at.clone()], &c.x[at]);
            let bounds = (c.lo, c.hi);
            let a1 = to_hyperplane(c.norm, point, &self.normal, offset, bounds, &mut self.near).max(SHORT);
            let a2 = to_hyperplane(c.norm, x, &self.normal, offset, bounds, &mut self.far).max(SHORT);
            let alpha = (a1 / (a1 + a2)).clamp(0.0, a.alpha_max);
            let (keep, pull, eta) = (T::from_f64(1.0 - alpha), T::from_f64(alpha), T::from_f64(a.eta));
            for (i, p) in point.iter_mut().enumerate() {
                let moved = (*p + eta * self.near[i]) * keep + (x[i] + eta * self.far[i]) * pull;
                *p = clamp(moved, c.lo[i], c.hi[i]);
            }
        }
        c.gather(&self.points);
        c.query(Loss::Margin)?;
        let back = T::from_f64(a.beta);
        for j in 0..n {
            if c.success(j) {
                c.keep_smallest(j);
                let at = c.at(c.active[j]);
                for (p, &x) in self.points[at.clone()].iter_mut().zip(&c.x[at]) {
                    *p = x + (*p - x) * back;
                }
            }
        }
        Ok(())
    }

    /// Sets the normal of the nearest linearised boundary of row `j` and returns its offset `b` in `normal . v = b`.
    fn nearest_boundary(&mut self, c: &Chunk<'_, '_, T>, j: usize, n: usize) -> f64 {
        let (d, k, s) = (c.d, c.k, c.active[j]);
        let own = c.goals[s].label() as usize;
        let gradient = |class: usize| &self.jacobian[(class * n + j) * d..(class * n + j + 1) * d];
        let z = &c.logits[j * k..(j + 1) * k];
        let gap = |class: usize| z[class].to_f64() - z[own].to_f64();
        let mut nearest = (f64::INFINITY, usize::from(own == 0));
        for class in (0..k).filter(|&class| class != own) {
            let length = match c.norm {
                Norm::Linf => Norm::L1.distance(gradient(class), gradient(own)),
                Norm::L2 => Norm::L2.distance(gradient(class), gradient(own)),
                Norm::L1 => Norm::Linf.distance(gradient(class), gradient(own)),
            };
            let distance = gap(class).abs() / (TINY + length);
            if distance < nearest.0 {
                nearest = (distance, class);
            }
        }
        let class = nearest.1;
        for (i, normal) in self.normal.iter_mut().enumerate() {
            *normal = gradient(class)[i] - gradient(own)[i];
        }
        self.offset(c, j, gap(class))
    }

    /// Offset of the plane through row `j`'s linearisation where `gap` vanishes.
    fn offset(&self, c: &Chunk<'_, '_, T>, j: usize, gap: f64) -> f64 {
        let point = &c.probe[c.at(j)];
        self.normal.iter().zip(point).map(|(w, p)| w.to_f64() * p.to_f64()).sum::<f64>() - gap
    }
}

/// The logit of the target above the label's, and its cotangent.
fn towards<T: Real>(z: &[T], aim: Goal, cot: &mut [T]) -> f64 {
    let own = aim.label() as usize;
    let target = aim.target().map_or(own, usize::from);
    cot.fill(T::ZERO);
    cot[own] += -T::ONE;
    cot[target] += T::ONE;
    z[target].to_f64() - z[own].to_f64()
}

/// The smallest move from `t` to `{v : w . v = b}` inside the box, in `out`; returns its length. When the box does not
/// reach the hyperplane, the move to the closest corner.
///
/// Both duals are concave, increasing and piecewise linear in one multiplier, so Newton's method from the left is exact
/// after a few rounds (at most one per coordinate); auto-attack sorts instead. In L1 the
/// coordinates of the largest weights go first.
pub(crate) fn to_hyperplane<T: Real>(
    norm: Norm,
    t: &[T],
    w: &[T],
    b: f64,
    (lo, hi): (&[T], &[T]),
    out: &mut [T],
) -> f64 {
    let need = b - t.iter().zip(w).map(|(t, w)| t.to_f64() * w.to_f64()).sum::<f64>();
    let way = if need < 0.0 { -1.0 } else { 1.0 };
    let need = need.abs();
    // Room of a coordinate in the direction that helps.
    let room = |i: usize| {
        let up = way * w[i].to_f64() > 0.0;
        if up { hi[i].to_f64() - t[i].to_f64() } else { t[i].to_f64() - lo[i].to_f64() }
    };
    if norm == Norm::L1 {
        // The steepest coordinates first, each as far as it may go.
        let mut order: Vec<usize> = (0..t.len()).filter(|&i| w[i] != T::ZERO).collect();
        order.sort_by(|&i, &j| abs(w[j]).to_f64().total_cmp(&abs(w[i]).to_f64()).then(i.cmp(&j)));
        out.fill(T::ZERO);
        let mut left = need;
        for i in order {
            let step = room(i).min(left / abs(w[i]).to_f64());
            out[i] = T::from_f64(if way * w[i].to_f64() > 0.0 { step } else { -step });
            left -= step * abs(w[i]).to_f64();
            if left <= 0.0 {
                break;
            }
        }
        return norm.length(out);
    }
    // Rate at which a coordinate moves with the multiplier.
    let rate = |w: T| if norm == Norm::Linf { f64::from(u8::from(w != T::ZERO)) } else { abs(w).to_f64() };
    let mut multiplier = 0.0;
    for _ in 0..=t.len() {
        let (mut fixed, mut slope) = (0.0, 0.0);
        for (i, &w) in w.iter().enumerate() {
            let (room, rate) = (room(i), rate(w));
            if rate * multiplier >= room && rate > 0.0 && (multiplier > 0.0 || room <= 0.0) {
                fixed += abs(w).to_f64() * room;
            } else {
                slope += abs(w).to_f64() * rate;
            }
        }
        if slope <= 0.0 {
            multiplier = f64::INFINITY;
            break;
        }
        let next = (need - fixed) / slope;
        if next <= multiplier {
            break;
        }
        multiplier = next;
    }
    for (i, out) in out.iter_mut().enumerate() {
        let rate = rate(w[i]);
        let step = if rate > 0.0 { (rate * multiplier).min(room(i)) } else { 0.0 };
        *out = T::from_f64(if way * w[i].to_f64() > 0.0 { step } else { -step });
    }
    norm.length(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projections_reach_the_plane_or_the_corner() {
        let (t, w) = ([0.2f64, 0.9, 0.5, 0.5], [1.0, 2.0, -1.0, 0.0]);
        let bounds = (&[0.0; 4][..], &[1.0; 4][..]);
        let mut d = [0.0; 4];
        // w.t = 1.5; the second coordinate has room 0.1 only: 0.2 + 2 r = 0.9 in L-infinity.
        let length = to_hyperplane(Norm::Linf, &t, &w, 2.4, bounds, &mut d);
        assert!((length - 0.35).abs() < 1e-12 && (d[1] - 0.1).abs() < 1e-12 && d[3] == 0.0, "{d:?}");
        // In L2 without active bounds: need * w / ||w||^2.
        let length = to_hyperplane(Norm::L2, &t, &w, 1.62, bounds, &mut d);
        assert!((length - 0.12 / 6.0f64.sqrt()).abs() < 1e-12 && (d[1] - 0.04).abs() < 1e-12, "{d:?}");
        // Out of reach: the corner.
        to_hyperplane(Norm::L2, &t, &w, 9.0, bounds, &mut d);
        for (d, want) in d.iter().zip([0.8, 0.1, -0.5, 0.0]) {
            assert!((d - want).abs() < 1e-12);
        }
    }
}
