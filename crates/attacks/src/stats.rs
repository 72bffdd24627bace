//! Intervals and order statistics for what attacks count.

/// Two-sided 95 % quantile of the standard normal distribution.
const Z95: f64 = 1.959_963_984_540_054;

/// A share of samples with its Wilson 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Rate {
    /// Samples that have the property.
    pub count: usize,
    /// Samples looked at.
    pub total: usize,
    /// `count / total` (0 when there are none).
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Rate {
    /// `count` out of `total`, with the score interval of Wilson (1927), which stays inside [0, 1] and is honest near 0 and 1.
    pub fn new(count: usize, total: usize) -> Self {
        if total == 0 {
            return Self { count, total, value: 0.0, low: 0.0, high: 1.0 };
        }
        let n = total as f64;
        let p = count as f64 / n;
        let z2 = Z95 * Z95;
        let center = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        // At the ends the interval touches 0 and 1 exactly; rounding must not say otherwise.
        let low = if count == 0 { 0.0 } else { (center - half).max(0.0) };
        let high = if count == total { 1.0 } else { (center + half).min(1.0) };
        Self { count, total, value: p, low, high }
    }

    /// How many of `items` are true.
    pub fn of(items: impl IntoIterator<Item = bool>) -> Self {
        let (mut count, mut total) = (0, 0);
        for item in items {
            total += 1;
            count += usize::from(item);
        }
        Self::new(count, total)
    }
}

/// Probability of `count` or more successes in `total` trials of probability `share`, summed exactly.
pub fn binomial_tail(count: usize, total: usize, share: f64) -> f64 {
    if count == 0 {
        return 1.0;
    }
    if count > total || share <= 0.0 {
        return 0.0;
    }
    if share >= 1.0 {
        return 1.0;
    }
    // Logarithms, because the first term may be far below the smallest f64 while later ones are not.
    let (odds, n) = (share.ln() - (-share).ln_1p(), total as f64);
    let mut term = n * (-share).ln_1p();
    let mut sum = 0.0;
    for k in 0..=total {
        if k >= count {
            sum += term.exp();
        }
        term += ((n - k as f64) / (k as f64 + 1.0)).ln() + odds;
    }
    sum.min(1.0)
}

/// Median of `values` (mean of the two middle ones), `None` when empty. NaN sorts last.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut v: Vec<f64> = values.into_iter().collect();
    v.sort_by(f64::total_cmp);
    match v.len() {
        0 => None,
        n if n % 2 == 1 => Some(v[n / 2]),
        n => Some(0.5 * (v[n / 2 - 1] + v[n / 2])),
    }
}

/// Mean of `values`, `None` when empty.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.into_iter().fold((0.0, 0usize), |(s, n), v| (s + v, n + 1));
    (n > 0).then(|| sum / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_matches_published_values() {
        // Newcombe (1998), table I: 81/263 -> 0.2553 to 0.3662; 15/148 -> 0.0624 to 0.1605; 0/20 -> 0 to 0.1611; 1/29 -> 0.0061 to 0.1718.
        for (count, total, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let r = Rate::new(count, total);
            assert!((r.low - low).abs() < 5e-5 && (r.high - high).abs() < 5e-5, "{r:?}");
        }
        assert_eq!(Rate::new(7, 7).high, 1.0);
        assert_eq!(Rate::of([true, false]).value, 0.5);
        assert_eq!(Rate::new(0, 0).high, 1.0);
    }

    #[test]
    fn binomial_tails_are_exact() {
        // Fair coins: counts of subsets.
        for (count, total, ways) in [(7, 7, 1), (4, 4, 1), (6, 7, 8), (8, 10, 56), (16, 20, 6196)] {
            let want = f64::from(ways) / 2f64.powi(total as i32);
            assert!((binomial_tail(count, total, 0.5) - want).abs() < 1e-13, "{count} of {total}");
        }
        // Both tails of any coin are everything.
        for (count, total, share) in [(4, 64, 0.05), (20, 64, 0.05), (300, 1000, 0.31), (3, 9, 0.9)] {
            let both =
                binomial_tail(count, total, share) + binomial_tail(total - count + 1, total, 1.0 - share);
            assert!((both - 1.0).abs() < 1e-10, "{count} of {total}: {both}");
        }
        // Newcombe (1998), table I, Clopper-Pearson: each end of the 95 % interval leaves 2.5 % beyond.
        for (count, total, low, high) in
            [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (1, 29, 0.0009, 0.1776)]
        {
            assert!((binomial_tail(count, total, low) - 0.025).abs() < 1.5e-3, "{count} of {total}");
            assert!(
                (1.0 - binomial_tail(count + 1, total, high) - 0.025).abs() < 1.5e-3,
                "{count} of {total}"
            );
        }
        assert_eq!((binomial_tail(0, 5, 0.1), binomial_tail(6, 5, 0.1)), (1.0, 0.0));
        assert_eq!((binomial_tail(1, 5, 0.0), binomial_tail(5, 5, 1.0)), (0.0, 1.0));
        assert!(binomial_tail(10_000, 20_000, 0.02) < 1e-300);
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0]), Some(2.5));
        assert_eq!(median([]), None);
        assert_eq!(mean([1.0, 2.0]), Some(1.5));
    }
}
