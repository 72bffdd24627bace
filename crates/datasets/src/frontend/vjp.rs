//! The MFCC's derivative with respect to the waveform, for attacks on the air rather than on features.
use realfft::num_complex::Complex;

use super::mfcc::{
    COEFFICIENTS, FFT, FRAME, FRAMES, LOG_OFFSET, MELS, Mfcc, MfccWork, Real, SAMPLES, STEP, check_len,
    magnitude_of, real,
};
use crate::DataError;

impl<T: Real> Mfcc<T> {
    /// Vector-Jacobian product: writes the MFCC of `wave` to `out` and d(Σ out · cotangent)/d(wave) to `grad`. `wave` is
    /// the normalised, padded waveform (the factor max(x) of [`normalise`](super::normalise) is held constant).
    /// At a spectral bin of exactly zero magnitude, where the magnitude has no derivative, zero is used.
    ///
    /// Lengths: `wave` and `grad` [`SAMPLES`], `out` and `cotangent` `[FRAMES, COEFFICIENTS]`.
    ///
    /// # Errors
    /// [`DataError::Request`] on wrong lengths or a sample that is not finite.
    pub fn vjp(
        &self,
        wave: &[T],
        cotangent: &[T],
        work: &mut MfccWork<T>,
        out: &mut [T],
        grad: &mut [T],
    ) -> Result<(), DataError> {
        check_len("mfcc cotangent", cotangent.len(), FRAMES * COEFFICIENTS)?;
        check_len("mfcc gradient", grad.len(), SAMPLES)?;
        self.compute(wave, work, out)?;
        grad.fill(T::zero());
        let half: T = real(0.5);
        let zero = Complex::new(T::zero(), T::zero());
        for (t, cot) in cotangent.chunks_exact(COEFFICIENTS).enumerate().take(FRAMES) {
            self.spectrum(wave, t, work)?;
            for (magnitude, &z) in work.magnitude.iter_mut().zip(&work.spectrum) {
                *magnitude = magnitude_of(z);
            }
            // Turn the magnitudes' buffer into their gradient only after all triangles have read it.
            let mut mel_grad = [T::zero(); MELS];
            for (m, (g, triangle)) in mel_grad.iter_mut().zip(&self.triangles).enumerate() {
                let mut log_grad = T::zero();
                for (n, &c) in cot.iter().enumerate() {
                    log_grad += c * self.dct[[m, n]];
                }
                *g = log_grad / (triangle.apply(&work.magnitude) + real(LOG_OFFSET));
            }
            // d magnitude / d spectrum is the phase; divide first, then gather the triangles' weights.
            for (z, &magnitude) in work.spectrum.iter_mut().zip(&work.magnitude) {
                *z = if magnitude > T::zero() { *z / magnitude } else { zero };
            }
            work.spectrum[self.used_bins..].fill(zero);
            work.magnitude.fill(T::zero());
            for (&g, triangle) in mel_grad.iter().zip(&self.triangles) {
                for (slot, &w) in work.magnitude[triangle.start..].iter_mut().zip(&triangle.weights) {
                    *slot += g * w;
                }
            }
            // The inverse transform counts each inner bin twice (its mirror image too), the sum over bins once.
            for (z, &g) in work.spectrum.iter_mut().zip(&work.magnitude) {
                *z *= g * half;
            }
            work.spectrum[0] = Complex::new(work.spectrum[0].re * real(2.0), T::zero());
            work.spectrum[FFT / 2] = Complex::new(work.spectrum[FFT / 2].re * real(2.0), T::zero());
            self.inverse
                .process_with_scratch(&mut work.spectrum, &mut work.frame, &mut work.scratch)
                .map_err(|e| DataError::request("mfcc transform", e.to_string()))?;
            for ((slot, &x), &w) in grad[t * STEP..][..FRAME].iter_mut().zip(&work.frame).zip(&self.window) {
                *slot += x * w;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_finite_differences() {
        let mfcc = Mfcc::<f64>::new();
        let mut work = mfcc.work();
        let wave: Vec<f64> = (0..SAMPLES)
            .map(|n| {
                let t = n as f64;
                0.5 * (0.03 * t).sin()
                    + 0.3 * (0.11 * t + 1e-5 * t * t).sin()
                    + 0.01 * ((n * 7919) % 101) as f64 / 101.0
            })
            .collect();
        let cotangent: Vec<f64> =
            (0..FRAMES * COEFFICIENTS).map(|i| ((i * 31) % 17) as f64 / 17.0 - 0.4).collect();
        let mut out = vec![0.0; FRAMES * COEFFICIENTS];
        let mut grad = vec![0.0; SAMPLES];
        mfcc.vjp(&wave, &cotangent, &mut work, &mut out, &mut grad).unwrap();
        let mut value = |wave: &[f64]| {
            mfcc.compute(wave, &mut work, &mut out).unwrap();
            out.iter().zip(&cotangent).map(|(a, b)| a * b).sum::<f64>()
        };
        for n in [1, 200, 321, 479, 5000, 15_700, 15_839] {
            let h = 1e-7;
            let (mut up, mut down) = (wave.clone(), wave.clone());
            up[n] += h;
            down[n] -= h;
            let numeric = (value(&up) - value(&down)) / (2.0 * h);
            assert!(
                (numeric - grad[n]).abs() <= 1e-4 * numeric.abs().max(0.01),
                "sample {n}: {numeric} {}",
                grad[n]
            );
        }
        // Samples after the last frame have no influence.
        assert!(grad[(FRAMES - 1) * STEP + FRAME..].iter().all(|&g| g == 0.0));
    }
}
