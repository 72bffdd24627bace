//! The MFCC of MLPerf Tiny's keyword spotting reference (mlcommons/tiny `keyword_spotting/get_dataset.py`, TensorFlow's
//! `tf.signal`), generic over f32 and f64.
use std::fmt;
use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayView2, NdFloat};
use realfft::num_complex::Complex;
use realfft::{ComplexToReal, FftNum, RealFftPlanner, RealToComplex};

use crate::DataError;

/// Samples per second of every waveform.
pub const SAMPLE_RATE: u32 = 16_000;
/// Samples per clip: one second.
pub const SAMPLES: usize = 16_000;
/// Frames per clip.
pub const FRAMES: usize = (SAMPLES - FRAME) / STEP + 1;
/// Cepstral coefficients kept per frame.
pub const COEFFICIENTS: usize = 10;

/// Samples per frame, 30 ms.
pub(super) const FRAME: usize = 480;
/// Samples between frames, 20 ms.
pub(super) const STEP: usize = 320;
/// Transform length; the frame is padded with zeros at its end.
pub(super) const FFT: usize = 512;
/// Mel bins.
pub(super) const MELS: usize = 40;
/// Added to a mel magnitude before the logarithm.
pub(super) const LOG_OFFSET: f64 = 1e-6;
const LOWER_HZ: f64 = 20.0;
const UPPER_HZ: f64 = 4000.0;

/// The scalar the front end computes with: f32 for speed, f64 for stored features and proofs.
pub trait Real: NdFloat + FftNum {}

impl Real for f32 {}
impl Real for f64 {}

/// Exact for every constant used here; both types represent any f64 to their own precision.
pub(super) fn real<T: Real>(x: f64) -> T {
    T::from_f64(x).unwrap_or_else(T::nan)
}

/// Triangular weights of one mel bin over consecutive transform bins.
pub(super) struct Triangle<T> {
    pub(super) start: usize,
    pub(super) weights: Array1<T>,
}

/// The front end's tables and transform plans; make once, share between threads, one [`MfccWork`] each.
///
/// Recipe: frames of 480 samples every 320; periodic Hann window; transform of 512; magnitude; 40 triangular mel bins
/// (HTK mel scale, 20 to 4,000 Hz, DC excluded); ln(x + 1e-6); orthonormal-up-to-the-first DCT-II
/// (Σₖ v\[k\] cos(π n (k + ½)/40) · 2/√80, n = 0..9).
pub struct Mfcc<T: Real> {
    pub(super) forward: Arc<dyn RealToComplex<T>>,
    pub(super) inverse: Arc<dyn ComplexToReal<T>>,
    pub(super) window: Array1<T>,
    pub(super) triangles: Vec<Triangle<T>>,
    /// One past the highest transform bin any mel bin uses.
    pub(super) used_bins: usize,
    /// `[MELS, COEFFICIENTS]`.
    pub(super) dct: Array2<T>,
}

/// Buffers of one thread; holds the last clip's log-mel energies.
pub struct MfccWork<T: Real> {
    pub(super) frame: Vec<T>,
    pub(super) spectrum: Vec<Complex<T>>,
    pub(super) scratch: Vec<Complex<T>>,
    pub(super) magnitude: Vec<T>,
    pub(super) log_mel: Array2<T>,
}

impl<T: Real> fmt::Debug for Mfcc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mfcc")
            .field("frames", &FRAMES)
            .field("coefficients", &COEFFICIENTS)
            .finish_non_exhaustive()
    }
}

impl<T: Real> Default for Mfcc<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Real> Mfcc<T> {
    /// Builds the tables (computed in f64, then rounded to T).
    pub fn new() -> Self {
        let mut planner = RealFftPlanner::new();
        let turn = 2.0 * std::f64::consts::PI;
        let triangles = mel_triangles();
        Mfcc {
            forward: planner.plan_fft_forward(FFT),
            inverse: planner.plan_fft_inverse(FFT),
            window: Array1::from_shape_fn(FRAME, |n| {
                real(0.5 - 0.5 * (turn * n as f64 / FRAME as f64).cos())
            }),
            used_bins: triangles.iter().map(|t| t.start + t.weights.len()).max().unwrap_or(0),
            triangles,
            dct: Array2::from_shape_fn((MELS, COEFFICIENTS), |(k, n)| {
                let angle = std::f64::consts::PI * n as f64 * (k as f64 + 0.5) / MELS as f64;
                real(angle.cos() * 2.0 / (2.0 * MELS as f64).sqrt())
            }),
        }
    }

    /// Buffers for one thread.
    pub fn work(&self) -> MfccWork<T> {
        let scratch = self.forward.get_scratch_len().max(self.inverse.get_scratch_len());
        MfccWork {
            frame: vec![T::zero(); FFT],
            spectrum: vec![Complex::new(T::zero(), T::zero()); FFT / 2 + 1],
            scratch: vec![Complex::new(T::zero(), T::zero()); scratch],
            magnitude: vec![T::zero(); self.used_bins],
            log_mel: Array2::zeros((FRAMES, MELS)),
        }
    }

    /// MFCC of a normalised waveform: `wave` of [`SAMPLES`] values, `out` `[FRAMES, COEFFICIENTS]` row-major.
    ///
    /// # Errors
    /// [`DataError::Request`] on wrong lengths or a sample that is not finite.
    pub fn compute(&self, wave: &[T], work: &mut MfccWork<T>, out: &mut [T]) -> Result<(), DataError> {
        check_len("mfcc out", out.len(), FRAMES * COEFFICIENTS)?;
        self.log_mel(wave, work)?;
        self.cepstrum(work, out);
        Ok(())
    }

    /// Natural logarithms of the mel magnitudes plus 1e-6, `[FRAMES, 40]`, of a normalised waveform of [`SAMPLES`] values.
    ///
    /// # Errors
    /// As [`compute`](Self::compute).
    pub fn log_mel<'a>(&self, wave: &[T], work: &'a mut MfccWork<T>) -> Result<ArrayView2<'a, T>, DataError> {
        check_len("waveform", wave.len(), SAMPLES)?;
        for t in 0..FRAMES {
            self.spectrum(wave, t, work)?;
            for (k, magnitude) in work.magnitude.iter_mut().enumerate() {
                *magnitude = magnitude_of(work.spectrum[k]);
            }
            for (m, triangle) in self.triangles.iter().enumerate() {
                work.log_mel[[t, m]] = (triangle.apply(&work.magnitude) + real(LOG_OFFSET)).ln();
            }
        }
        // Looking at the result is cheaper than at every sample, and nothing not finite gets past the logarithm.
        if work.log_mel.iter().any(|x| !x.is_finite()) {
            let at = wave.iter().position(|x| !x.is_finite()).unwrap_or(0);
            let reason = format!("sample {at} is {}, or the values are too large", wave[at]);
            return Err(DataError::request("waveform", reason));
        }
        Ok(work.log_mel.view())
    }

    /// Spectrum of frame t of `wave` into the work's `spectrum`.
    pub(super) fn spectrum(&self, wave: &[T], t: usize, work: &mut MfccWork<T>) -> Result<(), DataError> {
        let samples = &wave[t * STEP..][..FRAME];
        for ((slot, &x), &w) in work.frame.iter_mut().zip(samples).zip(&self.window) {
            *slot = x * w;
        }
        work.frame[FRAME..].fill(T::zero());
        self.forward
            .process_with_scratch(&mut work.frame, &mut work.spectrum, &mut work.scratch)
            .map_err(|e| DataError::request("mfcc transform", e.to_string()))
    }

    /// DCT of the log-mel energies in `work`.
    pub(super) fn cepstrum(&self, work: &MfccWork<T>, out: &mut [T]) {
        for (row, log_mel) in out.chunks_exact_mut(COEFFICIENTS).zip(work.log_mel.rows()) {
            // Mel by mel into all coefficients at once: independent sums that run side by side, each in mel order.
            let mut sums = [T::zero(); COEFFICIENTS];
            for (&v, basis) in log_mel.iter().zip(self.dct.rows()) {
                for (sum, &b) in sums.iter_mut().zip(basis) {
                    *sum += b * v;
                }
            }
            row.copy_from_slice(&sums);
        }
    }
}

impl<T: Real> Triangle<T> {
    pub(super) fn apply(&self, magnitude: &[T]) -> T {
        let mut sum = T::zero();
        for (&w, &x) in self.weights.iter().zip(&magnitude[self.start..]) {
            sum += w * x;
        }
        sum
    }
}

pub(super) fn magnitude_of<T: Real>(z: Complex<T>) -> T {
    (z.re * z.re + z.im * z.im).sqrt()
}

/// `tf.signal.linear_to_mel_weight_matrix(40, 257, 16000, 20, 4000)`, column by column without its zeros.
fn mel_triangles<T: Real>() -> Vec<Triangle<T>> {
    let mel = |hz: f64| 1127.0 * (1.0 + hz / 700.0).ln();
    let (low, high) = (mel(LOWER_HZ), mel(UPPER_HZ));
    let edge = |i: usize| low + (high - low) * i as f64 / (MELS + 1) as f64;
    let bin_mel = |k: usize| mel(k as f64 * f64::from(SAMPLE_RATE) / FFT as f64);
    (0..MELS)
        .map(|m| {
            let (lower, centre, upper) = (edge(m), edge(m + 1), edge(m + 2));
            let weight = |k: usize| {
                let x = bin_mel(k);
                ((x - lower) / (centre - lower)).min((upper - x) / (upper - centre)).max(0.0)
            };
            // Bin 0 is excluded by TensorFlow whatever its weight.
            let inside: Vec<usize> = (1..=FFT / 2).filter(|&k| weight(k) > 0.0).collect();
            let start = inside.first().copied().unwrap_or(1);
            Triangle { start, weights: inside.iter().map(|&k| real(weight(k))).collect() }
        })
        .collect()
}

/// Scales a 16-bit clip as MLPerf Tiny does, x / max(x) (the largest value, not the largest magnitude), and pads it with
/// zeros to `out`'s length. A clip whose largest value is not positive is divided by 32,768 instead: there is nothing to
/// scale by.
///
/// # Errors
/// [`DataError::Request`] when the clip is empty or longer than `out`.
pub fn normalise<T: Real>(clip: &[i16], out: &mut [T]) -> Result<(), DataError> {
    if clip.is_empty() || clip.len() > out.len() {
        let reason = format!("{} samples, 1 to {} expected", clip.len(), out.len());
        return Err(DataError::request("clip", reason));
    }
    let largest = clip.iter().copied().max().filter(|&max| max > 0).map_or(32_768.0, f64::from);
    let largest: T = real(largest);
    for (x, &sample) in out.iter_mut().zip(clip) {
        *x = T::from_i16(sample).unwrap_or_else(T::nan) / largest;
    }
    out[clip.len()..].fill(T::zero());
    Ok(())
}

pub(super) fn check_len(what: &'static str, len: usize, expected: usize) -> Result<(), DataError> {
    if len == expected {
        return Ok(());
    }
    Err(DataError::request(what, format!("{len} values, {expected} expected")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tones_land_in_their_mel_bin() {
        let mfcc = Mfcc::<f64>::new();
        let mut work = mfcc.work();
        assert_eq!(mfcc.triangles.len(), MELS);
        assert!(mfcc.triangles.iter().all(|t| !t.weights.is_empty()));
        let peak = |hz: f64, work: &mut MfccWork<f64>| {
            let wave: Vec<f64> =
                (0..SAMPLES).map(|n| (2.0 * std::f64::consts::PI * hz * n as f64 / 16_000.0).sin()).collect();
            let log_mel = mfcc.log_mel(&wave, work).unwrap();
            (0..MELS).max_by(|&a, &b| log_mel[[20, a]].total_cmp(&log_mel[[20, b]])).unwrap()
        };
        let bins: Vec<usize> =
            [200.0, 500.0, 1000.0, 2000.0, 3500.0].iter().map(|&hz| peak(hz, &mut work)).collect();
        assert!(bins.windows(2).all(|pair| pair[0] < pair[1]), "{bins:?}");
    }

    #[test]
    fn bad_waveforms_are_refused() {
        let mfcc = Mfcc::<f32>::new();
        let mut work = mfcc.work();
        let mut out = vec![0.0; FRAMES * COEFFICIENTS];
        let mut wave = vec![0.0f32; SAMPLES];
        mfcc.compute(&wave, &mut work, &mut out).unwrap();
        assert!(out.iter().all(|x| x.is_finite()));
        assert!(mfcc.compute(&wave[1..], &mut work, &mut out).is_err());
        assert!(mfcc.compute(&wave, &mut work, &mut out[1..]).is_err());
        wave[77] = f32::NAN;
        let error = mfcc.compute(&wave, &mut work, &mut out).unwrap_err();
        assert!(error.to_string().contains("sample 77"), "{error}");
    }

    #[test]
    fn normalise_divides_by_the_largest_value_and_pads() {
        let mut out = [9.0f64; 4];
        normalise(&[-200, 100], &mut out).unwrap();
        assert_eq!(out, [-2.0, 1.0, 0.0, 0.0]);
        normalise(&[-32_768, 0], &mut out).unwrap();
        assert_eq!(out, [-1.0, 0.0, 0.0, 0.0]);
        assert!(normalise(&[], &mut out).is_err());
        assert!(normalise(&[0; 5], &mut out).is_err());
    }
}
