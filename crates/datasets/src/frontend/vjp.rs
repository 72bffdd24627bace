//! The MFCC's derivative with respect to the waveform, for attacks on the air rather than on features.
use realfft::num_complex::Complex;

use super::Parameters;
use super::mfcc::{Mfcc, MfccWork, Real, check_len, magnitude_of, real};
use crate::DataError;

impl<T: Real> Mfcc<T> {
    /// Vector-Jacobian product: writes the MFCC of `wave` to `out` and d(Σ out · cotangent)/d(wave) to `grad`. `wave` is
    /// the normalised, padded waveform (the factor max(x) of [`normalise`](super::normalise) is held constant).
    /// At a spectral bin of exactly zero magnitude, where the magnitude has no derivative, zero is used.
    ///
    /// Lengths: `wave` and `grad` `samples`, `out` and `cotangent` `[frames, coefficients]`.
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
        check_len("waveform", wave.len(), self.parameters().samples)?;
        check_len("mfcc cotangent", cotangent.len(), self.features())?;
        self.compute(wave, work, out)?;
        let coefficients = self.parameters().coefficients;
        self.pull_back(wave, work, grad, |t, m| {
            let mut log_grad = T::zero();
            for (n, &c) in cotangent[t * coefficients..][..coefficients].iter().enumerate() {
                log_grad += c * self.dct[[m, n]];
            }
            log_grad
        })
    }

    /// As [`vjp`](Self::vjp) for [`log_mel`](Self::log_mel): `cotangent` `[frames, mel_bins]`; the log-mel energies stay in
    /// `work`.
    ///
    /// # Errors
    /// As [`vjp`](Self::vjp).
    pub fn vjp_log_mel(
        &self,
        wave: &[T],
        cotangent: &[T],
        work: &mut MfccWork<T>,
        grad: &mut [T],
    ) -> Result<(), DataError> {
        let Parameters { mel_bins, .. } = *self.parameters();
        check_len("log-mel cotangent", cotangent.len(), self.parameters().frames() * mel_bins)?;
        self.log_mel(wave, work)?;
        self.pull_back(wave, work, grad, |t, m| cotangent[t * mel_bins + m])
    }

    /// Gradient of the waveform from that of the log-mel energies, `log_grad(frame, bin)`.
    fn pull_back(
        &self,
        wave: &[T],
        work: &mut MfccWork<T>,
        grad: &mut [T],
        log_grad: impl Fn(usize, usize) -> T,
    ) -> Result<(), DataError> {
        let Parameters { samples, frame, step, fft, .. } = *self.parameters();
        check_len("mfcc gradient", grad.len(), samples)?;
        grad.fill(T::zero());
        let offset: T = real(self.parameters().log_offset);
        let half: T = real(0.5);
        let zero = Complex::new(T::zero(), T::zero());
        for t in 0..self.parameters().frames() {
            self.spectrum(&wave[t * step..][..frame], &mut work.frame)?;
            for (magnitude, &z) in work.magnitude.iter_mut().zip(&work.frame.spectrum) {
                *magnitude = magnitude_of(z);
            }
            // Turn the magnitudes' buffer into their gradient only after all triangles have read it.
            for (m, (g, triangle)) in work.mel_grad.iter_mut().zip(&self.triangles).enumerate() {
                *g = log_grad(t, m) / (triangle.apply(&work.magnitude) + offset);
            }
            // d magnitude / d spectrum is the phase; divide first, then gather the triangles' weights.
            for (z, &magnitude) in work.frame.spectrum.iter_mut().zip(&work.magnitude) {
                *z = if magnitude > T::zero() { *z / magnitude } else { zero };
            }
            work.frame.spectrum[self.bins.end..].fill(zero);
            work.magnitude.fill(T::zero());
            for (&g, triangle) in work.mel_grad.iter().zip(&self.triangles) {
                for (slot, &w) in work.magnitude.iter_mut().skip(triangle.start).zip(&triangle.weights) {
                    *slot += g * w;
                }
            }
            // The inverse transform counts each inner bin twice (its mirror image too), the sum over bins once.
            for (z, &g) in work.frame.spectrum.iter_mut().zip(&work.magnitude) {
                *z *= g * half;
            }
            for edge in [0, fft / 2] {
                work.frame.spectrum[edge] = Complex::new(work.frame.spectrum[edge].re * real(2.0), T::zero());
            }
            self.inverse
                .process_with_scratch(
                    &mut work.frame.spectrum,
                    &mut work.frame.samples,
                    &mut work.frame.scratch,
                )
                .map_err(|e| DataError::request("mfcc transform", e.to_string()))?;
            for ((slot, &x), &w) in
                grad[t * step..][..frame].iter_mut().zip(&work.frame.samples).zip(&self.window)
            {
                *slot += x * w;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::{COEFFICIENTS, FRAMES};

    /// Two tones, one of them gliding, and a little of everything else.
    fn wave(samples: usize) -> Vec<f64> {
        (0..samples)
            .map(|n| {
                let t = n as f64;
                0.5 * (0.03 * t).sin()
                    + 0.3 * (0.11 * t + 1e-5 * t * t).sin()
                    + 0.01 * ((n * 7919) % 101) as f64 / 101.0
            })
            .collect()
    }

    fn cotangent(n: usize) -> Vec<f64> {
        (0..n).map(|i| ((i * 31) % 17) as f64 / 17.0 - 0.4).collect()
    }

    fn compare(wave: &[f64], grad: &[f64], at: &[usize], mut value: impl FnMut(&[f64]) -> f64) {
        for &n in at {
            let h = 1e-7;
            let (mut up, mut down) = (wave.to_vec(), wave.to_vec());
            up[n] += h;
            down[n] -= h;
            let numeric = (value(&up) - value(&down)) / (2.0 * h);
            let error = (numeric - grad[n]).abs();
            assert!(error <= 1e-4 * numeric.abs().max(0.01), "sample {n}: {numeric} {}", grad[n]);
        }
    }

    #[test]
    fn mfcc_agrees_with_finite_differences() {
        let mfcc = Mfcc::<f64>::new();
        let Parameters { samples, frame, step, .. } = *mfcc.parameters();
        let (mut work, wave, cotangent) = (mfcc.work(), wave(samples), cotangent(FRAMES * COEFFICIENTS));
        let mut out = vec![0.0; FRAMES * COEFFICIENTS];
        let mut grad = vec![0.0; samples];
        mfcc.vjp(&wave, &cotangent, &mut work, &mut out, &mut grad).unwrap();
        compare(&wave, &grad, &[1, 200, 321, 479, 5000, 15_700, 15_839], |wave| {
            mfcc.compute(wave, &mut work, &mut out).unwrap();
            out.iter().zip(&cotangent).map(|(a, b)| a * b).sum::<f64>()
        });
        // Samples after the last frame have no influence.
        assert!(grad[(FRAMES - 1) * step + frame..].iter().all(|&g| g == 0.0));
    }

    #[test]
    fn other_front_ends_and_log_mel_agree_with_finite_differences() {
        let parameters = Parameters {
            sample_rate: 8_000,
            samples: 3_000,
            frame: 199,
            step: 77,
            fft: 300,
            mel_bins: 13,
            lower_hz: 0.0,
            upper_hz: 4_000.0,
            coefficients: 13,
            log_offset: 1e-3,
        };
        let front = Mfcc::<f64>::with(parameters).unwrap();
        let (mut work, wave) = (front.work(), wave(3_000));
        let at = [0, 3, 150, 198, 1_500, 2_900];
        let weights = cotangent(front.features());
        let (mut out, mut grad) = (vec![0.0; front.features()], vec![0.0; 3_000]);
        front.vjp(&wave, &weights, &mut work, &mut out, &mut grad).unwrap();
        compare(&wave, &grad, &at, |wave| {
            front.compute(wave, &mut work, &mut out).unwrap();
            out.iter().zip(&weights).map(|(a, b)| a * b).sum::<f64>()
        });
        let weights = cotangent(parameters.frames() * 13);
        front.vjp_log_mel(&wave, &weights, &mut work, &mut grad).unwrap();
        compare(&wave, &grad, &at, |wave| {
            let energies = front.log_mel(wave, &mut work).unwrap();
            energies.iter().zip(&weights).map(|(a, b)| a * b).sum::<f64>()
        });
        assert!(front.vjp_log_mel(&wave, &weights[1..], &mut work, &mut grad).is_err());
    }
}
