//! Boundary attack: a random walk along the decision boundary towards the sample (Brendel et al. 2018).
//!
//! ART's form by default, many candidates per step and step sizes from their success, but started on the boundary rather
//! than at noise. foolbox's form proposes one candidate per step and adapts to running means.

use kernels::Real;

use super::decision::Sample;
use crate::chunk::Chunk;
use crate::error::AttackError;
use crate::geometry::Norm;
use crate::random::{Draw, gaussian};
use crate::spec::{Boundary, Walk};

pub(crate) fn attack<T: Real>(a: &Boundary, c: &mut Chunk<'_, '_, T>) -> Result<(), AttackError> {
    c.activate_all();
    for slot in 0..c.len() {
        let standing = c.len() - slot;
        if !c.goal_reached_clean(slot) {
            let mut sample = Sample::new(c, slot);
            if let Some(mut point) = sample.first_point(Draw::Boundary, a.tries)? {
                match a.walk {
                    Walk::Single => {
                        blend(&mut sample, &mut point)?;
                        single(a, &mut sample, point)?;
                    }
                    Walk::Many => {
                        if a.bisect {
                            sample.bisect(Norm::L2, &mut point, 1e-3)?;
                        }
                        many(a, &mut sample, point)?;
                    }
                }
            }
        }
        c.tick_sample(slot + 1, standing - 1);
    }
    Ok(())
}

/// foolbox's start: the first adversarial of 50 blends from the sample to the draw.
fn blend<T: Real>(sample: &mut Sample<'_, '_, '_, T>, point: &mut [f64]) -> Result<(), AttackError> {
    const STEPS: usize = 50;
    for step in 0..=STEPS {
        let share = step as f64 / STEPS as f64;
        let mixed: Vec<f64> = sample.x.iter().zip(point.iter()).map(|(x, p)| x + share * (p - x)).collect();
        if sample.ask(&mixed)? {
            point.copy_from_slice(&mixed);
            break;
        }
    }
    Ok(())
}

/// A Gaussian direction of length `delta` times the distance, made orthogonal to the way to the sample. With `after`, the
/// length is set after that, else before.
fn orthogonal<T: Real>(
    sample: &Sample<'_, '_, '_, T>,
    rng: &mut qtensor::stream::ChaCha8Rng,
    point: &[f64],
    delta: f64,
    after: bool,
) -> Vec<f64> {
    let way: Vec<f64> = sample.x.iter().zip(point).map(|(x, p)| x - p).collect();
    let distance = Norm::L2.length(&way).max(f64::MIN_POSITIVE);
    let mut v: Vec<f64> = way.iter().map(|_| gaussian(rng)).collect();
    let length = |v: &[f64]| Norm::L2.length(v).max(f64::MIN_POSITIVE);
    if !after {
        let scale = delta * distance / length(&v);
        v.iter_mut().for_each(|v| *v *= scale);
    }
    let along: f64 = v.iter().zip(&way).map(|(v, w)| v * w / distance).sum();
    v.iter_mut().zip(&way).for_each(|(v, w)| *v -= along * w / distance);
    if after {
        let scale = delta * distance / length(&v);
        v.iter_mut().for_each(|v| *v *= scale);
    }
    v
}

/// Shrinks or grows a step from the share of candidates that stayed adversarial.
fn adapt(step: &mut f64, share: f64, factor: f64) {
    if share < 0.2 {
        *step *= factor;
    } else if share > 0.5 {
        *step /= factor;
    }
}

fn many<T: Real>(
    a: &Boundary,
    sample: &mut Sample<'_, '_, '_, T>,
    mut point: Vec<f64>,
) -> Result<(), AttackError> {
    let d = sample.d();
    let (mut delta, mut epsilon) = (a.delta, a.epsilon);
    for step in 0..a.steps {
        sample.keep(&point);
        let mut rng = sample.stream(Draw::Boundary, step as u64);
        let mut standing = Vec::new();
        for _ in 0..a.trials {
            let mut candidates = Vec::with_capacity(a.candidates * d);
            let shrink = (1.0 + delta * delta).sqrt();
            for _ in 0..a.candidates {
                let turn = orthogonal(sample, &mut rng, &point, delta, false);
                let from = candidates.len();
                candidates.extend(
                    sample.x.iter().zip(&point).zip(&turn).map(|((x, p), t)| x + ((p - x) + t) / shrink),
                );
                sample.clip(&mut candidates[from..]);
            }
            let answers = sample.ask_all(&candidates)?;
            let share = answers.iter().filter(|a| **a).count() as f64 / a.candidates as f64;
            adapt(&mut delta, share, a.adapt);
            if share > 0.0 {
                let rows = candidates.chunks_exact(d).zip(&answers).filter(|(_, a)| **a);
                standing = rows.flat_map(|(row, _)| row).copied().collect();
                break;
            }
        }
        if standing.is_empty() {
            return Ok(());
        }
        let mut closer = None;
        for _ in 0..a.trials {
            let mut candidates = standing.clone();
            for row in candidates.chunks_exact_mut(d) {
                for (p, x) in row.iter_mut().zip(&sample.x) {
                    *p += epsilon * (x - *p);
                }
                sample.clip(row);
            }
            let answers = sample.ask_all(&candidates)?;
            let share = answers.iter().filter(|a| **a).count() as f64 / answers.len() as f64;
            adapt(&mut epsilon, share, a.adapt);
            closer = closest(
                sample,
                candidates.chunks_exact(d).zip(&answers).filter(|(_, a)| **a).map(|(r, _)| r),
            );
            if closer.is_some() {
                break;
            }
        }
        match closer {
            Some(next) => point = next,
            None => {
                if let Some(next) = closest(sample, standing.chunks_exact(d)) {
                    sample.keep_last(&next, a.last);
                }
                return Ok(());
            }
        }
    }
    sample.keep_last(&point, a.last);
    Ok(())
}

fn closest<'r, T: Real>(
    sample: &Sample<'_, '_, '_, T>,
    rows: impl Iterator<Item = &'r [f64]>,
) -> Option<Vec<f64>> {
    rows.min_by(|a, b| sample.distance(Norm::L2, a).total_cmp(&sample.distance(Norm::L2, b)))
        .map(<[f64]>::to_vec)
}

/// The last `room` answers.
struct Recent {
    answers: std::collections::VecDeque<bool>,
    room: usize,
}

impl Recent {
    fn new(room: usize) -> Self {
        Self { answers: std::collections::VecDeque::with_capacity(room), room }
    }

    fn push(&mut self, answer: bool) {
        if self.answers.len() == self.room {
            self.answers.pop_front();
        }
        self.answers.push_back(answer);
    }

    /// Share of yes once there are enough answers.
    fn share(&self) -> Option<f64> {
        let full = self.answers.len() == self.room;
        full.then(|| self.answers.iter().filter(|a| **a).count() as f64 / self.room as f64)
    }
}

fn single<T: Real>(
    a: &Boundary,
    sample: &mut Sample<'_, '_, '_, T>,
    mut point: Vec<f64>,
) -> Result<(), AttackError> {
    let (mut delta, mut epsilon, grow) = (a.delta, a.epsilon, 1.0 / a.adapt);
    let (mut turns, mut moves) = (Recent::new(100), Recent::new(30));
    for step in 1..=a.steps {
        if epsilon < 1e-7 {
            break;
        }
        let mut rng = sample.stream(Draw::Boundary, step as u64);
        let distance = sample.distance(Norm::L2, &point);
        let turn = orthogonal(sample, &mut rng, &point, delta, true);
        let shrink = (1.0 + delta * delta).sqrt();
        let mut turned: Vec<f64> =
            sample.x.iter().zip(&point).zip(&turn).map(|((x, p), t)| x + ((p - x) + t) / shrink).collect();
        sample.clip(&mut turned);
        // Towards the sample, by what leaving the sphere through the box has cost as well.
        let left = sample.distance(Norm::L2, &turned).max(f64::MIN_POSITIVE);
        let length = (epsilon * distance + left - distance).max(0.0) / left;
        let mut candidate: Vec<f64> =
            turned.iter().zip(&sample.x).map(|(t, x)| t + length * (x - t)).collect();
        sample.clip(&mut candidate);
        let success = sample.ask(&candidate)?;
        if step % 10 == 0 {
            turns.push(sample.ask(&turned)?);
            moves.push(success);
        }
        if success && sample.distance(Norm::L2, &candidate) < distance {
            point = candidate;
        }
        if step % 10 == 0 {
            if let Some(share) = turns.share() {
                let factor = if share > 0.5 {
                    grow
                } else if share < 0.2 {
                    a.adapt
                } else {
                    1.0
                };
                if factor != 1.0 {
                    (delta, epsilon) = (delta * factor, epsilon * factor);
                    turns.answers.clear();
                }
            }
            if let Some(share) = moves.share() {
                let factor = if share > 0.25 {
                    grow
                } else if share < 0.1 {
                    a.adapt
                } else {
                    1.0
                };
                if factor != 1.0 {
                    epsilon *= factor;
                    moves.answers.clear();
                }
            }
        }
    }
    sample.keep(&point);
    Ok(())
}
