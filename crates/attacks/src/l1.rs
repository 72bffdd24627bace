//! The L1 ball inside the input box: nearest points, and steps that move few features (Croce and Hein 2021, "Mind the box!").
//!
//! Projecting on the ball and clipping to the box afterwards gives budget away wherever the box cuts it off; the nearest
//! point of their intersection spends it elsewhere.

use kernels::Real;

use crate::geometry::{Norm, abs, clip, sign};

/// Corrections of rounding after a projection, each twice as large as the one before.
const CORRECTIONS: usize = 40;

/// Moves `point` to the nearest point (Euclidean) that lies in the box and within L1 distance `eps` of `center`, which must
/// itself lie in the box. The distance, summed in f64, exceeds `eps` by not even a rounding error.
///
/// The KKT conditions give feature `i`, at distance `a` from the center with `room` up to the box, the distance
/// `min(max(a - t, 0), room)` for one `t >= 0` common to all.
pub(crate) fn project<T: Real>(point: &mut [T], center: &[T], eps: f64, lo: &[T], hi: &[T]) {
    let t = threshold(point, center, eps, lo, hi);
    if t > 0.0 {
        for (i, p) in point.iter_mut().enumerate() {
            let delta = p.to_f64() - center[i].to_f64();
            let left = (delta.abs() - t).max(0.0);
            *p = T::from_f64(center[i].to_f64() + if delta < 0.0 { -left } else { left });
        }
    }
    clip(point, lo, hi);
    // Rounding may have left the sum a little too long: the feature moved most gives it back.
    let mut back = 2.0;
    for _ in 0..CORRECTIONS {
        let excess = Norm::L1.distance(point, center) - eps;
        if excess <= 0.0 {
            return;
        }
        let far = |i: usize| (point[i].to_f64() - center[i].to_f64()).abs();
        let most = (0..point.len()).fold(0, |m, i| if far(i) > far(m) { i } else { m });
        let (c, left) = (center[most], (far(most) - back * excess).max(0.0));
        point[most] = T::from_f64(c.to_f64() + sign(point[most] - c).to_f64() * left);
        back *= 2.0;
    }
    point.copy_from_slice(center);
}

/// The `t` of [`project`]; 0 where the box alone shortens enough.
///
/// The length is a falling, piecewise linear function of `t`: Newton's method inside a bracket, and a halving of the
/// bracket where Newton leaves it or gains little. On the piece of the root a step of Newton is exact.
fn threshold<T: Real>(point: &[T], center: &[T], eps: f64, lo: &[T], hi: &[T]) -> f64 {
    // Length beyond eps at `t`, and how many features would shorten with it.
    let excess = |t: f64| {
        let (mut length, mut moving) = (-eps, 0u32);
        for (((p, c), lo), hi) in point.iter().zip(center).zip(lo).zip(hi) {
            let delta = p.to_f64() - c.to_f64();
            let room = if delta < 0.0 { c.to_f64() - lo.to_f64() } else { hi.to_f64() - c.to_f64() };
            let left = delta.abs() - t;
            length += left.max(0.0).min(room);
            moving += u32::from(left > 0.0 && left < room);
        }
        (length, f64::from(moving))
    };
    let (mut low, mut high) = (0.0, Norm::Linf.distance(point, center));
    let (mut length, mut moving) = excess(0.0);
    if length <= 0.0 {
        return 0.0;
    }
    let mut t = 0.0;
    for _ in 0..200 {
        let (width, newton) = (high - low, t + length / moving);
        t = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
        for _ in 0..2 {
            if t <= low || t >= high {
                return high;
            }
            (length, moving) = excess(t);
            if length.abs() <= 1e-12 * eps {
                return t;
            }
            if length > 0.0 {
                low = t
            } else {
                high = t
            }
            if high - low <= 0.5 * width {
                break;
            }
            t = 0.5 * (low + high);
        }
    }
    high
}

/// Adds to `point` a step of L1 length `step`: the `count` features of largest gradient move by the same amount, each in
/// the direction of its gradient's sign (features of equal gradient move together, ones without gradient not at all).
/// With `bounds`, features that stand at the bound they would cross are passed over.
pub(crate) fn ascend<T: Real>(
    point: &mut [T],
    grad: &[T],
    step: f64,
    count: usize,
    bounds: Option<(&[T], &[T])>,
    scratch: &mut Vec<T>,
) {
    if grad.is_empty() {
        return;
    }
    scratch.clear();
    scratch.extend(grad.iter().map(|&g| abs(g)));
    if let Some((lo, hi)) = bounds {
        for (i, size) in scratch.iter_mut().enumerate() {
            if if grad[i] > T::ZERO { point[i] >= hi[i] } else { point[i] <= lo[i] } {
                *size = T::ZERO;
            }
        }
    }
    let (d, count) = (grad.len(), count.clamp(1, grad.len()));
    // Both the sizes and their order are needed: the order in the second half.
    scratch.extend_from_within(..);
    let (sizes, order) = scratch.split_at_mut(d);
    let by_size = |a: &T, b: &T| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal);
    let (_, &mut least, _) = order.select_nth_unstable_by(d - count, by_size);
    let chosen = |size: T| size > T::ZERO && size >= least;
    let moved = sizes.iter().filter(|size| chosen(**size)).count();
    let by = T::from_f64(step / moved.max(1) as f64);
    for ((p, &g), &size) in point.iter_mut().zip(grad).zip(&*sizes) {
        if chosen(size) {
            *p += by * sign(g);
        }
    }
}

/// Features in which two points differ.
pub(crate) fn differences<T: Real>(a: &[T], b: &[T]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a != b).count()
}

/// Moves a coordinate of a Gaussian draw by the width of its bounds.
pub(crate) fn gaussian_start<T: Real>(
    point: &mut [T],
    center: &[T],
    lo: &[T],
    hi: &[T],
    mut draw: impl FnMut() -> f64,
) {
    for (i, p) in point.iter_mut().enumerate() {
        *p = center[i] + (hi[i] - lo[i]) * T::from_f64(draw());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::clamp;
    use crate::random::{Draw, gaussian, stream, uniform};
    use proptest::prelude::*;

    /// The definition, slowly: 2,000 halvings of the multiplier in f64, every feature from the KKT conditions of its own
    /// one-dimensional problem.
    fn reference(point: &[f64], center: &[f64], eps: f64, lo: &[f64], hi: &[f64]) -> Vec<f64> {
        let at = |t: f64| -> Vec<f64> {
            (0..point.len())
                .map(|i| {
                    let delta = point[i] - center[i];
                    clamp(center[i] + delta.signum() * (delta.abs() - t).max(0.0), lo[i], hi[i])
                })
                .collect()
        };
        let length = |q: &[f64]| q.iter().zip(center).map(|(q, c)| (q - c).abs()).sum::<f64>();
        if length(&at(0.0)) <= eps {
            return at(0.0);
        }
        let (mut low, mut high) = (0.0f64, 1e6);
        for _ in 0..2000 {
            let t = 0.5 * (low + high);
            if length(&at(t)) > eps { low = t } else { high = t }
        }
        at(high)
    }

    fn distance(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>()
    }

    /// A feature: bounds, a center inside them and a point anywhere, often on the bounds or at the center.
    fn feature() -> impl Strategy<Value = (f64, f64, f64, f64)> {
        let share = prop_oneof![Just(0.0), Just(1.0), 0.0..1.0f64];
        let far = prop_oneof![Just(0.0), -3.0..3.0f64, Just(1.0), Just(-1.0)];
        (-2.0..2.0f64, 0.0..2.0f64, share, far).prop_map(|(lo, width, share, far)| {
            let hi = lo + width;
            let center = clamp(lo + share * width, lo, hi);
            (lo, hi, center, center + far)
        })
    }

    proptest! {
        #[test]
        fn projections_are_the_nearest_points_of_ball_and_box(
            features in prop::collection::vec(feature(), 1..40),
            eps in prop_oneof![Just(0.0), 0.001..20.0f64],
            seed in 0u64..1000,
        ) {
            let column = |f: fn(&(f64, f64, f64, f64)) -> f64| features.iter().map(f).collect::<Vec<f64>>();
            let (lo, hi, center, start) = (column(|f| f.0), column(|f| f.1), column(|f| f.2), column(|f| f.3));
            let want = reference(&start, &center, eps, &lo, &hi);
            let mut got = start.clone();
            project(&mut got, &center, eps, &lo, &hi);
            for (g, w) in got.iter().zip(&want) {
                prop_assert!((g - w).abs() < 1e-9, "{got:?} {want:?}");
            }
            prop_assert!(Norm::L1.distance(&got, &center) <= eps);
            prop_assert!((0..got.len()).all(|i| lo[i] <= got[i] && got[i] <= hi[i]));
            // By the definition: no feasible point is nearer.
            let mut rng = stream(seed, Draw::Noise, 0, 0);
            for _ in 0..20 {
                let mut other: Vec<f64> = (0..lo.len())
                    .map(|i| clamp(got[i] + 0.1 * gaussian(&mut rng), lo[i], hi[i]))
                    .collect();
                let length = Norm::L1.distance(&other, &center);
                if length > eps {
                    let by = uniform(&mut rng) * eps / length;
                    other.iter_mut().zip(&center).for_each(|(o, c)| *o = c + (*o - c) * by);
                }
                prop_assert!(distance(&other, &start) >= distance(&got, &start) - 1e-9);
            }
            // In f32 the ball is not left by a rounding error either.
            let single = |v: &[f64]| v.iter().map(|v| *v as f32).collect::<Vec<f32>>();
            let (slo, shi) = (single(&lo), single(&hi));
            let scenter: Vec<f32> =
                single(&center).iter().zip(slo.iter().zip(&shi)).map(|(c, (l, h))| c.clamp(*l, *h)).collect();
            let mut point = single(&start);
            let eps = f64::from(eps as f32);
            project(&mut point, &scenter, eps, &slo, &shi);
            prop_assert!(Norm::L1.distance(&point, &scenter) <= eps);
            for (p, w) in point.iter().zip(&want) {
                prop_assert!((f64::from(*p) - w).abs() < 2e-5, "{point:?} {want:?}");
            }
            prop_assert!((0..point.len()).all(|i| slo[i] <= point[i] && point[i] <= shi[i]));
        }
    }

    #[test]
    fn the_box_leaves_its_share_of_the_budget_to_others() {
        // The first feature has room 0.1; ball first and clip after would leave 0.25 of the budget unused.
        let (mut point, center) = ([1.9f64, 0.9, 0.5], [0.9, 0.5, 0.5]);
        project(&mut point, &center, 0.4, &[0.0; 3], &[1.0; 3]);
        for (got, want) in point.iter().zip([1.0, 0.8, 0.5]) {
            assert!((got - want).abs() < 1e-12, "{point:?}");
        }
    }

    #[test]
    fn steps_are_sparse_and_of_their_length() {
        let grad = [0.3f64, -2.0, 0.0, 1.0, -1.0];
        let mut scratch = Vec::new();
        for (count, moved) in [(1, vec![1]), (2, vec![1, 3, 4]), (3, vec![1, 3, 4]), (4, vec![0, 1, 3, 4])] {
            let mut point = [0.0; 5];
            ascend(&mut point, &grad, 0.6, count, None, &mut scratch);
            for (i, p) in point.iter().enumerate() {
                let by = if moved.contains(&i) { grad[i].signum() * 0.6 / moved.len() as f64 } else { 0.0 };
                assert_eq!(*p, by);
            }
        }
        // More features than have a gradient, or none at all.
        let mut point = [0.0; 5];
        ascend(&mut point, &grad, 0.6, 50, None, &mut scratch);
        assert_eq!((point[2], differences(&point, &[0.0; 5])), (0.0, 4));
        ascend(&mut point, &[0.0; 5], 0.6, 2, None, &mut scratch);
        assert_eq!(Norm::L1.length(&point), 0.6);
        // At the bounds there is no room: the next ones move.
        let (lo, hi) = ([-1.0, 0.0, -1.0, -1.0, -1.0], [1.0, 1.0, 1.0, 0.0, 1.0]);
        let mut point = [0.0; 5];
        ascend(&mut point, &grad, 0.6, 1, Some((&lo, &hi)), &mut scratch);
        assert_eq!(point, [0.0, 0.0, 0.0, 0.0, -0.6]);
    }
}
