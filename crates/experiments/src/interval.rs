//! Confidence intervals of measured proportions.

/// Two-sided 95 % quantile of the standard normal distribution.
const Z95: f64 = 1.959_963_984_540_054;

/// Wilson's score interval at 95 % for `correct` successes out of `total` (Wilson 1927): `(low, high)` in `[0, 1]`.
///
/// It stays inside `[0, 1]` and keeps its coverage at 0 and at `total`, where robust accuracies often are.
/// `correct` may be fractional: a mean over seeds that share their test samples. Returns `None` for no samples.
pub fn wilson(correct: f64, total: f64) -> Option<(f64, f64)> {
    if total <= 0.0 || total.is_nan() || !(0.0..=total).contains(&correct) {
        return None;
    }
    let (p, z2) = (correct / total, Z95 * Z95);
    let centre = (p + z2 / (2.0 * total)) / (1.0 + z2 / total);
    let half = Z95 / (1.0 + z2 / total) * (p * (1.0 - p) / total + z2 / (4.0 * total * total)).sqrt();
    // At the ends the bound is exactly 0 or 1; rounding must not move it.
    let low = if correct == 0.0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if correct == total { 1.0 } else { (centre + half).min(1.0) };
    Some((low, high))
}

/// The median of `values`, the mean of the middle two for an even count; `None` for none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The arithmetic mean; `None` for no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: Option<(f64, f64)>, want: (f64, f64)) {
        let (low, high) = got.unwrap();
        assert!((low - want.0).abs() < 5e-5 && (high - want.1).abs() < 5e-5, "{low} {high}");
    }

    #[test]
    fn wilson_matches_published_values() {
        // Newcombe 1998, Statistics in Medicine 17:857, Table I, method 3.
        close(wilson(81.0, 263.0), (0.2553, 0.3662));
        close(wilson(15.0, 148.0), (0.0624, 0.1605));
        close(wilson(0.0, 20.0), (0.0, 0.1611));
        close(wilson(1.0, 29.0), (0.0061, 0.1718));
    }

    #[test]
    fn wilson_is_exact_at_the_ends_and_symmetric() {
        assert_eq!(wilson(0.0, 50.0).unwrap().0, 0.0);
        assert_eq!(wilson(50.0, 50.0).unwrap().1, 1.0);
        let ((a, b), (c, d)) = (wilson(20.0, 60.0).unwrap(), wilson(40.0, 60.0).unwrap());
        assert!((a - (1.0 - d)).abs() < 1e-12 && (b - (1.0 - c)).abs() < 1e-12);
        assert!(wilson(0.0, 0.0).is_none() && wilson(2.0, 1.0).is_none());
    }

    #[test]
    fn medians_and_means() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!((median(&[]), mean(&[]), mean(&[1.0, 2.0])), (None, None, Some(1.5)));
    }
}
