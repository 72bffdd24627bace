//! What an attack maximises: losses of the logits and their cotangents, safe at any scale of the logits.

use kernels::Real;

use crate::error::AttackError;
use crate::text::words;

/// What the adversary wants of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Any class but the label.
    Untargeted {
        /// The true class.
        label: u8,
    },
    /// The target class.
    Targeted {
        /// The true class.
        label: u8,
        /// The class to reach.
        target: u8,
    },
}

impl Goal {
    /// Whether a prediction is what the adversary wanted.
    pub fn reached(self, prediction: u8) -> bool {
        match self {
            Goal::Untargeted { label } => prediction != label,
            Goal::Targeted { target, .. } => prediction == target,
        }
    }

    /// The class to reach, if there is one.
    pub fn target(self) -> Option<u8> {
        match self {
            Goal::Untargeted { .. } => None,
            Goal::Targeted { target, .. } => Some(target),
        }
    }

    /// The true class.
    pub fn label(self) -> u8 {
        match self {
            Goal::Untargeted { label } | Goal::Targeted { label, .. } => label,
        }
    }
}

words! {
    /// A loss to be maximised. `z` are logits, `y` the label, `t` the target.
    Loss {
        /// Cross-entropy: `-ln softmax(z)_y`, or `ln softmax(z)_t`. Its gradient vanishes when the softmax saturates.
        CrossEntropy = "ce",
        /// Log odds against the label, `ln sum_{i!=y} exp z_i - z_y` (targeted: the opposite for `t`): a monotone function
        /// of cross-entropy, so gradient direction and order of iterates are the same, but it never saturates.
        LogOdds = "log_odds",
        /// Margin `max_{i!=y} z_i - z_y`, or `z_t - max_{i!=t} z_i` (Carlini and Wagner 2017).
        Margin = "margin",
        /// Difference of logits ratio `-(z_y - max_{i!=y} z_i) / (z_(1) - z_(3))`, targeted
        /// `-(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2)` (Croce and Hein 2020); both denominators plus 1e-12.
        Dlr = "dlr",
    }
}

/// Keeps auto-attack's ratio finite when the leading logits tie.
const DLR_GUARD: f64 = 1e-12;

impl Loss {
    /// Fails when the loss is undefined for so few classes.
    pub(crate) fn check(self, classes: usize, targeted: bool) -> Result<(), AttackError> {
        let needed = match (self, targeted) {
            (Loss::Dlr, false) => 3,
            (Loss::Dlr, true) => 4,
            _ => 2,
        };
        if classes >= needed {
            Ok(())
        } else {
            Err(AttackError::Classes { loss: self.to_string(), needed, classes })
        }
    }

    /// The loss of one row of logits.
    pub fn value<T: Real>(self, z: &[T], goal: Goal) -> f64 {
        self.eval(z, goal, None)
    }

    /// The loss of one row of logits, and its gradient with respect to them in `cot`.
    pub fn cotangent<T: Real>(self, z: &[T], goal: Goal, cot: &mut [T]) -> f64 {
        self.eval(z, goal, Some(cot))
    }

    /// All scalar work is in f64 whatever the logits' type, so that f32 logits saturate as late as possible.
    fn eval<T: Real>(self, z: &[T], goal: Goal, cot: Option<&mut [T]>) -> f64 {
        let (class, flip) = match goal {
            Goal::Untargeted { label } => (label as usize, 1.0),
            Goal::Targeted { target, .. } => (target as usize, -1.0),
        };
        match self {
            Loss::CrossEntropy => flip * cross_entropy(z, class, flip, cot),
            Loss::LogOdds => flip * log_odds(z, class, flip, cot),
            Loss::Margin => {
                let other = best_other(z, class);
                if let Some(cot) = cot {
                    cot.fill(T::ZERO);
                    cot[other] = T::from_f64(flip);
                    cot[class] = T::from_f64(-flip);
                }
                flip * (z[other].to_f64() - z[class].to_f64())
            }
            Loss::Dlr => dlr(z, goal, cot),
        }
    }
}

/// `-ln softmax(z)_y`; the cotangent is `flip * (softmax(z) - onehot(y))`, with `p_y - 1` summed from the others.
fn cross_entropy<T: Real>(z: &[T], y: usize, flip: f64, cot: Option<&mut [T]>) -> f64 {
    let max = z.iter().fold(f64::NEG_INFINITY, |m, v| m.max(v.to_f64()));
    let others: f64 = others(z, y).map(|(_, v)| (v - max).exp()).sum();
    let own = (z[y].to_f64() - max).exp();
    let total = others + own;
    if let Some(cot) = cot {
        for (i, (c, v)) in cot.iter_mut().zip(z).enumerate() {
            let p = (v.to_f64() - max).exp() / total;
            *c = T::from_f64(flip * if i == y { -others / total } else { p });
        }
    }
    // own = 1 exactly when y leads: then ln(1 + others) keeps the digits that ln(total) would lose.
    if own == 1.0 { others.ln_1p() } else { total.ln() - (z[y].to_f64() - max) }
}

/// `ln sum_{i!=y} exp z_i - z_y`; the cotangent is `flip * (softmax over the others - onehot(y))`.
fn log_odds<T: Real>(z: &[T], y: usize, flip: f64, cot: Option<&mut [T]>) -> f64 {
    let max = others(z, y).fold(f64::NEG_INFINITY, |m, (_, v)| m.max(v));
    let total: f64 = others(z, y).map(|(_, v)| (v - max).exp()).sum();
    if let Some(cot) = cot {
        for (i, (c, v)) in cot.iter_mut().zip(z).enumerate() {
            *c = T::from_f64(flip * if i == y { -1.0 } else { (v.to_f64() - max).exp() / total });
        }
    }
    max + total.ln() - z[y].to_f64()
}

fn dlr<T: Real>(z: &[T], goal: Goal, cot: Option<&mut [T]>) -> f64 {
    let y = goal.label() as usize;
    let [first, _, third, fourth] = top4(z);
    let at = |i: usize| z[i].to_f64();
    // loss = -numerator / denominator; the denominator is at(first) minus a mean of `low`.
    let (rival, low): (usize, &[usize]) = match goal {
        Goal::Untargeted { .. } => (best_other(z, y), &[third]),
        Goal::Targeted { target, .. } => (target as usize, &[third, fourth]),
    };
    let share = 1.0 / low.len() as f64;
    let numerator = at(y) - at(rival);
    let denominator = at(first) - low.iter().map(|&i| share * at(i)).sum::<f64>() + DLR_GUARD;
    let loss = -numerator / denominator;
    if let Some(cot) = cot {
        cot.fill(T::ZERO);
        let mut add = |i: usize, v: f64| cot[i] += T::from_f64(v);
        add(y, -1.0 / denominator);
        add(rival, 1.0 / denominator);
        // d(-n/D)/dD = n/D^2 = -loss/D.
        add(first, -loss / denominator);
        for &i in low {
            add(i, share * loss / denominator);
        }
    }
    loss
}

fn others<T: Real>(z: &[T], y: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
    z.iter().enumerate().filter(move |(i, _)| *i != y).map(|(i, v)| (i, v.to_f64()))
}

/// Index of the largest logit; the first on ties, as `argmax` everywhere.
pub(crate) fn argmax<T: Real>(z: &[T]) -> u8 {
    let mut best = 0;
    for (i, v) in z.iter().enumerate() {
        // A leading NaN must not win by never being exceeded.
        if *v > z[best] || z[best].to_f64().is_nan() {
            best = i;
        }
    }
    best as u8
}

/// The largest logit but `y`'s.
pub(crate) fn best_other<T: Real>(z: &[T], y: usize) -> usize {
    let mut best = usize::from(y == 0);
    for (i, v) in z.iter().enumerate() {
        if i != y && *v > z[best] {
            best = i;
        }
    }
    best.min(z.len() - 1)
}

/// Indices of the four largest logits in falling order, earlier index first on ties; missing ones repeat the last.
fn top4<T: Real>(z: &[T]) -> [usize; 4] {
    let mut top = [usize::MAX; 4];
    let mut filled = 0;
    for (i, v) in z.iter().enumerate() {
        let place = top[..filled].iter().position(|&j| *v > z[j]).unwrap_or(filled);
        if place < 4 {
            top.copy_within(place..3, place + 1);
            top[place] = i;
            filled = (filled + 1).min(4);
        }
    }
    for i in filled..4 {
        top[i] = top[filled - 1];
    }
    top
}

/// The class of rank `r` by falling logit (0 = predicted), earlier index first on ties.
pub(crate) fn ranked<T: Real>(z: &[T], r: usize) -> usize {
    (0..z.len())
        .find(|&i| {
            let ahead = (0..z.len()).filter(|&j| z[j] > z[i] || (z[j] == z[i] && j < i)).count();
            ahead == r
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTARGETED: Goal = Goal::Untargeted { label: 1 };
    const TARGETED: Goal = Goal::Targeted { label: 1, target: 3 };
    const ALL: [Loss; 4] = [Loss::CrossEntropy, Loss::LogOdds, Loss::Margin, Loss::Dlr];

    #[test]
    fn cotangents_match_finite_differences() {
        let z = [0.3f64, 1.9, -0.7, 0.9, -2.0];
        for loss in ALL {
            for goal in [UNTARGETED, TARGETED] {
                let mut cot = [0.0; 5];
                let value = loss.cotangent(&z, goal, &mut cot);
                assert_eq!(value, loss.value(&z, goal));
                for i in 0..5 {
                    let h = 1e-6;
                    let (mut up, mut down) = (z, z);
                    up[i] += h;
                    down[i] -= h;
                    let slope = (loss.value(&up, goal) - loss.value(&down, goal)) / (2.0 * h);
                    assert!((slope - cot[i]).abs() < 1e-8, "{loss} {goal:?} {i}: {slope} {}", cot[i]);
                }
            }
        }
    }

    #[test]
    fn log_odds_keeps_a_direction_where_cross_entropy_saturates() {
        let z = [0.0f32, 5000.0, 100.0, 3.0];
        let mut cot = [0.0f32; 4];
        assert_eq!(Loss::CrossEntropy.cotangent(&z, UNTARGETED, &mut cot), 0.0);
        assert_eq!(cot, [0.0; 4]);
        assert_eq!(Loss::LogOdds.cotangent(&z, UNTARGETED, &mut cot), -4900.0);
        assert!(cot[1] == -1.0 && cot[2] == 1.0 && cot[0] < 1e-40 && cot[3] < 1e-40, "{cot:?}");
        // Where nothing saturates the directions agree up to a positive factor.
        let z = [0.2f64, 1.0, -0.4, 0.8];
        let (mut a, mut b) = ([0.0; 4], [0.0; 4]);
        Loss::CrossEntropy.cotangent(&z, UNTARGETED, &mut a);
        Loss::LogOdds.cotangent(&z, UNTARGETED, &mut b);
        for i in 0..4 {
            assert!((a[i] / a[1] - b[i] / b[1]).abs() < 1e-12);
        }
    }

    #[test]
    fn cross_entropy_keeps_its_digits() {
        let z = [0.0f64, 40.0];
        let got = Loss::CrossEntropy.value(&z, UNTARGETED);
        assert!((got / (-40.0f64).exp() - 1.0).abs() < 1e-12);
        assert!((Loss::CrossEntropy.value(&[1000.0f32, 0.0], UNTARGETED) - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn ranks_and_ties() {
        let z = [1.0f32, 3.0, 3.0, 0.0];
        assert_eq!(top4(&z), [1, 2, 0, 3]);
        assert_eq!((0..4).map(|r| ranked(&z, r)).collect::<Vec<_>>(), [1, 2, 0, 3]);
        assert_eq!(argmax(&z), 1);
        assert_eq!(best_other(&z, 1), 2);
        assert_eq!(argmax(&[f32::NAN, 1.0]), 1);
        assert_eq!(best_other(&[-3.0f32, -5.0], 0), 1);
    }

    #[test]
    fn too_few_classes_is_an_error() {
        assert!(Loss::Dlr.check(2, false).is_err());
        assert!(Loss::Dlr.check(3, true).is_err());
        assert!(Loss::Dlr.check(3, false).is_ok());
    }
}
