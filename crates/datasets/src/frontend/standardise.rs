//! From raw MFCC to codes: coefficients differ 26-fold in spread, so each is standardised with training statistics first.
use super::COEFFICIENTS;
use crate::InputGrid;

/// Mean and standard deviation of each coefficient over the training frames; maps MFCC to codes on
/// [`InputGrid::FEATURES`].
#[derive(Clone, Debug, PartialEq)]
pub struct Standardiser {
    /// Mean of each coefficient.
    pub mean: [f32; COEFFICIENTS],
    /// Standard deviation of each coefficient (population form), never below 1e-6.
    pub std: [f32; COEFFICIENTS],
}

impl Standardiser {
    /// Statistics of MFCC `features`, `[n, FRAMES, COEFFICIENTS]`; summed in f64 in clip order.
    pub fn fit(features: &[f32]) -> Self {
        let count = (features.len() / COEFFICIENTS).max(1) as f64;
        let mut mean = [0.0f64; COEFFICIENTS];
        for row in features.chunks_exact(COEFFICIENTS) {
            for (sum, &x) in mean.iter_mut().zip(row) {
                *sum += f64::from(x);
            }
        }
        mean = mean.map(|sum| sum / count);
        let mut variance = [0.0f64; COEFFICIENTS];
        for row in features.chunks_exact(COEFFICIENTS) {
            for ((sum, &x), m) in variance.iter_mut().zip(row).zip(mean) {
                *sum += (f64::from(x) - m).powi(2);
            }
        }
        Standardiser {
            mean: mean.map(|m| m as f32),
            std: variance.map(|sum| (sum / count).sqrt().max(1e-6) as f32),
        }
    }

    /// Codes of one or more clips' MFCC; returns how many values fell outside the grid and were clamped.
    pub fn encode(&self, features: &[f32], codes: &mut [u8]) -> usize {
        let grid = InputGrid::FEATURES;
        // Half a code beyond the last one still rounds onto it.
        let (low, high) = (grid.decode(0) - grid.scale / 2.0, grid.decode(255) + grid.scale / 2.0);
        let mut clipped = 0;
        for (row, out) in features.chunks_exact(COEFFICIENTS).zip(codes.chunks_exact_mut(COEFFICIENTS)) {
            for (n, (&x, code)) in row.iter().zip(out).enumerate() {
                let standard = (x - self.mean[n]) / self.std[n];
                clipped += usize::from(!(low..=high).contains(&standard));
                *code = grid.encode(standard);
            }
        }
        clipped
    }

    /// MFCC values (the middle of each code's cell) of codes laid out as MFCC rows.
    pub fn decode(&self, codes: &[u8], features: &mut [f32]) {
        for (i, (&code, x)) in codes.iter().zip(features).enumerate() {
            let n = i % COEFFICIENTS;
            *x = InputGrid::FEATURES.decode(code) * self.std[n] + self.mean[n];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::FEATURES;

    #[test]
    fn statistics_and_codes_round_trip() {
        let features: Vec<f32> =
            (0..FEATURES * 4).map(|i| ((i * 37) % 101) as f32 * (i % COEFFICIENTS + 1) as f32).collect();
        let standardiser = Standardiser::fit(&features);
        let mut codes = vec![0; features.len()];
        assert_eq!(standardiser.encode(&features, &mut codes), 0);
        let mut back = vec![0.0; features.len()];
        standardiser.decode(&codes, &mut back);
        for (i, (a, b)) in features.iter().zip(&back).enumerate() {
            let half_step = standardiser.std[i % COEFFICIENTS] / 32.0;
            assert!((a - b).abs() <= half_step * 1.001, "{a} {b}");
        }
        let constant = Standardiser::fit(&[3.0; FEATURES]);
        assert_eq!(constant.encode(&[1e9; FEATURES], &mut codes[..FEATURES]), FEATURES);
        assert!(codes[..FEATURES].iter().all(|&code| code == 255));
    }
}
