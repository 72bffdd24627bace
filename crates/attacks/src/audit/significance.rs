//! When a count of samples proves something: exact tests at a level that all checks of an audit share.
//!
//! A check that counts (samples broken by one attack and not by another, samples without gradient, ...) tolerates a share. It fails
//! on an exact one-sided binomial test of "the true share is at most the tolerated one", which is the same as the lower end of
//! Clopper and Pearson's interval (1934) lying above it: four of 64 samples are no proof of more than five per cent, twenty are.
//! A count above the tolerated share that luck may explain leaves the question open, and says how many samples would settle it.
//!
//! This is deliberately not McNemar's test of one direction of discordant pairs against the other. What only the first attack
//! breaks is not made good by what only the second one breaks: a model that hides the gradient of every fourth sample is masked,
//! however many others its gradients break. Where a net difference is meant (robust accuracy that rises with eps), it is
//! McNemar's exact test (1947): discordant samples should fall on either side alike.
//!
//! Level: five per cent for a whole audit of an honest model, shared by its checks in equal parts (Bonferroni; Dunn 1961), since a
//! single failure decides the verdict.

use crate::stats::binomial_tail;

/// Chance of any false failure in an audit of a model whose true shares are the tolerated ones.
const FAMILY: f64 = 0.05;
/// Checks that count samples.
const COMPARISONS: usize = 14;
/// Largest probability at which one check fails.
pub(super) const LEVEL: f64 = FAMILY / COMPARISONS as f64;
/// The largest share that any check tolerates.
pub(super) const LARGEST_TOLERANCE: f64 = 0.05;
/// More samples than this are not asked for.
const MANY: usize = 20_000;

/// A count with what it means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Evidence {
    /// Samples counted.
    pub(super) count: usize,
    /// Samples that could have been.
    pub(super) total: usize,
    /// The share that is tolerated.
    pub(super) tolerance: f64,
    /// Probability of such a count, or a larger one, if nothing were wrong.
    pub(super) p_value: f64,
}

impl Evidence {
    /// `count` of `total` samples where a share of `tolerance` is an accident.
    pub(super) fn share(count: usize, total: usize, tolerance: f64) -> Self {
        Self { count, total, tolerance, p_value: binomial_tail(count, total, tolerance) }
    }

    /// A net change of `up - down` of `total` paired samples.
    pub(super) fn change(up: usize, down: usize, total: usize, tolerance: f64) -> Self {
        Self { count: up.saturating_sub(down), total, tolerance, p_value: binomial_tail(up, up + down, 0.5) }
    }

    pub(super) fn number(&self) -> f64 {
        self.count as f64 / self.total.max(1) as f64
    }

    /// Nothing to see. One sample is always allowed: a single lucky search must not decide.
    pub(super) fn is_tolerated(&self) -> bool {
        self.count <= 1 || self.number() <= self.tolerance
    }

    /// More than luck explains.
    pub(super) fn is_proof(&self) -> bool {
        !self.is_tolerated() && self.p_value <= LEVEL
    }

    /// The fewest samples of which the same share would be a proof; `None` beyond [`MANY`].
    pub(super) fn samples_to_settle(&self) -> Option<usize> {
        let proves = |total: usize| {
            let count = (self.number() * total as f64).floor() as usize;
            binomial_tail(count, total, self.tolerance) <= LEVEL
        };
        // The tail falls with the number of samples but for steps of one: a tenth more is never fewer than needed.
        let mut total = self.total.max(1);
        while !proves(total) {
            total += total.div_ceil(10);
            if total > MANY {
                return None;
            }
        }
        Some(total)
    }
}

/// The fewest correct samples that can show anything: from here on half of them are a proof, whichever share is tolerated.
pub(super) fn fewest_samples() -> usize {
    let half_proves = |n: usize| binomial_tail(n / 2, n, LARGEST_TOLERANCE) <= LEVEL;
    (1..100).rev().take_while(|&n| half_proves(n)).last().unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_of_sixty_four_are_luck_and_twenty_are_not() {
        let few = Evidence::share(4, 64, 0.05);
        assert!(few.number() > few.tolerance && !few.is_tolerated() && !few.is_proof(), "{few:?}");
        let many = Evidence::share(20, 64, 0.05);
        assert!(many.is_proof() && many.p_value < 1e-9, "{many:?}");
        // The same share of enough samples is a proof.
        let enough = few.samples_to_settle().unwrap();
        let scaled = Evidence::share((enough as f64 * 0.0625).floor() as usize, enough, 0.05);
        assert!(enough > 1000 && scaled.is_proof(), "{enough}: {scaled:?}");
        assert_eq!(Evidence::share(51, 1000, 0.05).samples_to_settle(), None);
        // One sample decides nothing, whatever its share.
        assert!(Evidence::share(1, 3, 0.02).is_tolerated());
    }

    /// By enumeration: the smallest counts that are a proof, and what honest models risk at the edge of the tolerance.
    #[test]
    fn the_level_is_kept() {
        for (total, tolerance) in
            [(20, 0.02), (64, 0.02), (64, 0.05), (128, 0.05), (1000, 0.02), (1000, 0.05)]
        {
            let first = (0..=total).find(|&k| Evidence::share(k, total, tolerance).is_proof()).unwrap();
            assert!(binomial_tail(first, total, tolerance) <= LEVEL);
            let share = first as f64 / total as f64;
            assert!(share > tolerance && share < tolerance + 0.19, "{first} of {total} at {tolerance}");
        }
    }

    #[test]
    fn a_net_change_weighs_both_directions() {
        assert!(Evidence::change(9, 0, 64, 0.02).is_proof());
        assert!(!Evidence::change(9, 6, 64, 0.02).is_proof());
        assert!(Evidence::change(3, 3, 64, 0.02).is_tolerated());
        assert_eq!(Evidence::change(2, 5, 64, 0.02).count, 0);
    }

    #[test]
    fn a_handful_of_samples_decides_nothing() {
        let fewest = fewest_samples();
        assert_eq!(fewest, 8);
        assert!(!Evidence::share(3, 7, LARGEST_TOLERANCE).is_proof());
        assert!((fewest..500).all(|n| Evidence::share(n / 2, n, LARGEST_TOLERANCE).is_proof()));
    }
}
