//! Everything random in an attack: a pure function of (seed, what for, sample id, index).

use kernels::Real;
use qtensor::stream::{ChaCha8Rng, Purpose};
use rand::Rng;
use rand_distr::StandardNormal;

use crate::geometry::Norm;

/// What in an attack a stream is drawn for. Part of every result: add, never renumber.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(crate) enum Draw {
    Start = 1,
    Square = 2,
    Noise = 3,
    Apgd = 4,
    Fab = 5,
    Boundary = 6,
    HopSkipJump = 7,
    Zoo = 8,
    Training = 9,
}

/// The stream of one sample, keyed so that neither batch composition nor order can change it.
pub(crate) fn stream(seed: u64, draw: Draw, id: u32, index: u64) -> ChaCha8Rng {
    qtensor::stream::stream(seed, Purpose::Attack, &[draw as u64, u64::from(id), index])
}

/// Uniform in [0, 1) with 53 bits.
pub(crate) fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.random::<u64>() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// 1 or -1.
pub(crate) fn random_sign<T: Real>(rng: &mut ChaCha8Rng) -> T {
    if rng.random::<bool>() { T::ONE } else { -T::ONE }
}

/// Uniform integer in `0..=max`.
pub(crate) fn offset(rng: &mut ChaCha8Rng, max: usize) -> usize {
    rng.random_range(0..=max as u64) as usize
}

/// Standard normal.
pub(crate) fn gaussian(rng: &mut ChaCha8Rng) -> f64 {
    rng.sample(StandardNormal)
}

/// Fills `delta` uniformly in the ball of radius `eps` (ART's `random_sphere` and foolbox's starts).
pub(crate) fn in_ball<T: Real>(rng: &mut ChaCha8Rng, norm: Norm, eps: f64, delta: &mut [T]) {
    match norm {
        Norm::Linf => {
            for v in delta.iter_mut() {
                *v = T::from_f64(eps * (2.0 * uniform(rng) - 1.0));
            }
            return;
        }
        Norm::L2 => {
            for v in delta.iter_mut() {
                *v = T::from_f64(gaussian(rng));
            }
        }
        Norm::L1 => {
            // A Laplace vector scaled to unit L1 length is uniform on the sphere of that norm.
            for v in delta.iter_mut() {
                let magnitude = -(1.0 - uniform(rng)).ln();
                *v = T::from_f64(magnitude) * random_sign(rng);
            }
        }
    }
    let length = norm.length(delta).max(f64::MIN_POSITIVE);
    let radius = eps * uniform(rng).powf(1.0 / delta.len().max(1) as f64);
    scale(delta, radius / length);
}

/// Fills `delta` with a direction of length `eps`: auto-attack's starts (the largest coordinate at eps, or the L2 sphere).
pub(crate) fn on_sphere<T: Real>(rng: &mut ChaCha8Rng, norm: Norm, eps: f64, delta: &mut [T]) {
    for v in delta.iter_mut() {
        *v = T::from_f64(match norm {
            Norm::Linf => 2.0 * uniform(rng) - 1.0,
            Norm::L2 | Norm::L1 => gaussian(rng),
        });
    }
    let length = norm.length(delta).max(f64::MIN_POSITIVE);
    scale(delta, eps / length);
}

fn scale<T: Real>(v: &mut [T], by: f64) {
    for v in v {
        *v = T::from_f64(v.to_f64() * by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_in_every_key() {
        let first = |seed, draw, id, index| stream(seed, draw, id, index).random::<u64>();
        let base = first(1, Draw::Start, 2, 3);
        assert_eq!(base, first(1, Draw::Start, 2, 3));
        for other in [
            first(2, Draw::Start, 2, 3),
            first(1, Draw::Noise, 2, 3),
            first(1, Draw::Start, 3, 3),
            first(1, Draw::Start, 2, 4),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn starts_stay_in_the_ball_and_fill_it() {
        for norm in [Norm::Linf, Norm::L2, Norm::L1] {
            let mut inner = 0;
            for id in 0..400 {
                let mut delta = [0.0f64; 3];
                in_ball(&mut stream(7, Draw::Start, id, 0), norm, 2.0, &mut delta);
                let length = norm.length(&delta);
                assert!(length <= 2.0 * (1.0 + 1e-12));
                inner += usize::from(length < 1.0);
                on_sphere(&mut stream(7, Draw::Start, id, 0), norm, 2.0, &mut delta);
                assert!((norm.length(&delta) - 2.0).abs() < 1e-9);
            }
            // A ball of half the radius holds an eighth of the volume in three dimensions.
            assert!((25..=75).contains(&inner), "{norm}: {inner} of 400");
        }
    }
}
