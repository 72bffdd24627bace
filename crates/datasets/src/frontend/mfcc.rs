//! The MFCC of MLPerf Tiny's keyword spotting reference (mlcommons/tiny `keyword_spotting/get_dataset.py`, TensorFlow's
//! `tf.signal`), generic over f32 and f64.
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array1, Array2, ArrayView2, NdFloat};
use pulp::Arch;
use realfft::num_complex::Complex;
use realfft::{ComplexToReal, FftNum, RealFftPlanner, RealToComplex};

use super::Parameters;
use super::analysis::{Analysis, BLOCK, Wanted};
use super::lanes::Lanes;
use super::transform::Transform;
use crate::DataError;

/// Frames per clip of the default front end.
pub const FRAMES: usize = Parameters::MLPERF_TINY.frames();
/// Cepstral coefficients kept per frame by the default front end.
pub const COEFFICIENTS: usize = Parameters::MLPERF_TINY.coefficients;

/// The scalar the front end computes with: f32 for speed, f64 for stored features and proofs.
pub trait Real: NdFloat + FftNum + Lanes {}

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
/// Recipe ([`Parameters`], here with MLPerf Tiny's numbers): frames of 480 samples every 320; periodic Hann window; transform
/// of 512; magnitude; 40 triangular mel bins (HTK mel scale, 20 to 4,000 Hz, DC excluded); ln(x + 1e-6);
/// orthonormal-up-to-the-first DCT-II (Σₖ v\[k\] cos(π n (k + ½)/40) · 2/√80, n = 0..9).
pub struct Mfcc<T: Real> {
    parameters: Parameters,
    pub(super) forward: Arc<dyn RealToComplex<T>>,
    pub(super) inverse: Arc<dyn ComplexToReal<T>>,
    pub(super) window: Array1<T>,
    pub(super) triangles: Vec<Triangle<T>>,
    /// The lowest and one past the highest transform bin any mel bin uses.
    pub(super) bins: Range<usize>,
    /// `[MELS, COEFFICIENTS]`.
    pub(super) dct: Array2<T>,
    /// `[ceil(COEFFICIENTS / BLOCK), MELS, BLOCK]`: the same by blocks, zeros at the end.
    pub(super) basis: Vec<[T; BLOCK]>,
    /// The forward transform of many frames at once, where the length allows it.
    pub(super) transform: Option<Transform<T>>,
    arch: Arch,
}

/// Buffers of one thread; holds the last clip's log-mel energies when it was asked for them.
pub struct MfccWork<T: Real> {
    pub(super) frame: FrameWork<T>,
    pub(super) magnitude: Vec<T>,
    pub(super) mel_grad: Vec<T>,
    pub(super) lanes: Vec<T>,
    log_mel: Array2<T>,
}

/// Buffers for the transform of a single frame.
pub(super) struct FrameWork<T> {
    pub(super) samples: Vec<T>,
    pub(super) spectrum: Vec<Complex<T>>,
    pub(super) scratch: Vec<Complex<T>>,
}

impl<T: Real> fmt::Debug for Mfcc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mfcc").field("parameters", &self.parameters).finish_non_exhaustive()
    }
}

impl<T: Real> Default for Mfcc<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Real> Mfcc<T> {
    /// MLPerf Tiny's front end, tables computed in f64, then rounded to T.
    pub fn new() -> Self {
        Self::build(Parameters::MLPERF_TINY)
    }

    /// A front end of other numbers.
    ///
    /// # Errors
    /// [`DataError::Request`] as [`Parameters::check`].
    pub fn with(parameters: Parameters) -> Result<Self, DataError> {
        parameters.check()?;
        Ok(Self::build(parameters))
    }

    fn build(parameters: Parameters) -> Self {
        let Parameters { frame, fft, mel_bins, coefficients, .. } = parameters;
        let mut planner = RealFftPlanner::new();
        let turn = 2.0 * std::f64::consts::PI;
        let triangles = mel_triangles(&parameters);
        let window =
            Array1::from_shape_fn(frame, |n| real(0.5 - 0.5 * (turn * n as f64 / frame as f64).cos()));
        let bins = used_bins(&triangles);
        let dct = Array2::from_shape_fn((mel_bins, coefficients), |(k, n)| {
            let angle = std::f64::consts::PI * n as f64 * (k as f64 + 0.5) / mel_bins as f64;
            real(angle.cos() * 2.0 / (2.0 * mel_bins as f64).sqrt())
        });
        Mfcc {
            parameters,
            forward: planner.plan_fft_forward(fft),
            inverse: planner.plan_fft_inverse(fft),
            transform: window.as_slice().and_then(|window| Transform::new(fft, window, bins.clone())),
            window,
            triangles,
            bins,
            basis: blocks(&dct),
            dct,
            arch: Arch::new(),
        }
    }

    /// The numbers it was built from.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Values per clip: frames × coefficients.
    pub fn features(&self) -> usize {
        self.parameters.frames() * self.parameters.coefficients
    }

    /// Buffers for one thread.
    pub fn work(&self) -> MfccWork<T> {
        let Parameters { fft, mel_bins, .. } = self.parameters;
        let scratch = self.forward.get_scratch_len().max(self.inverse.get_scratch_len());
        MfccWork {
            frame: FrameWork {
                samples: vec![T::zero(); fft],
                spectrum: vec![Complex::new(T::zero(), T::zero()); fft / 2 + 1],
                scratch: vec![Complex::new(T::zero(), T::zero()); scratch],
            },
            magnitude: vec![T::zero(); self.bins.end],
            mel_grad: vec![T::zero(); mel_bins],
            lanes: vec![T::zero(); self.lane_buffer()],
            log_mel: Array2::zeros((self.parameters.frames(), mel_bins)),
        }
    }

    /// MFCC of normalised waveforms, one or several that follow each other: `wave` `[clips, samples]`, `out`
    /// `[clips, frames, coefficients]`, row-major. Clips do not influence each other; several together take less time.
    ///
    /// # Errors
    /// [`DataError::Request`] on wrong lengths or a sample that is not finite.
    pub fn compute(&self, wave: &[T], work: &mut MfccWork<T>, out: &mut [T]) -> Result<(), DataError> {
        self.analyse(wave, &mut work.frame, &mut work.lanes, Wanted::Cepstrum, out)
    }

    /// As [`compute`](Self::compute) for log-mel energies: `out` `[clips, frames, mel_bins]`.
    pub(super) fn energies(
        &self,
        wave: &[T],
        work: &mut MfccWork<T>,
        out: &mut [T],
    ) -> Result<(), DataError> {
        self.analyse(wave, &mut work.frame, &mut work.lanes, Wanted::LogMel, out)
    }

    /// Natural logarithms of the mel magnitudes plus the offset, `[frames, mel_bins]`, of a normalised waveform of `samples`
    /// values.
    ///
    /// # Errors
    /// As [`compute`](Self::compute).
    pub fn log_mel<'a>(&self, wave: &[T], work: &'a mut MfccWork<T>) -> Result<ArrayView2<'a, T>, DataError> {
        let MfccWork { frame, lanes, log_mel, .. } = work;
        let out = log_mel.as_slice_mut().unwrap_or_default();
        self.analyse(wave, frame, lanes, Wanted::LogMel, out)?;
        Ok(log_mel.view())
    }

    fn analyse(
        &self,
        wave: &[T],
        frame: &mut FrameWork<T>,
        lanes: &mut [T],
        wanted: Wanted,
        out: &mut [T],
    ) -> Result<(), DataError> {
        let clips = (wave.len() / self.parameters.samples).max(1);
        check_len("waveform", wave.len(), clips * self.parameters.samples)?;
        check_len("features", out.len(), clips * self.parameters.frames() * wanted.columns(self))?;
        self.arch.dispatch(Analysis { front: self, wave, frame, lanes, wanted, out: &mut *out })?;
        // Looking at the result is cheaper than at every sample, and nothing not finite gets past the logarithm.
        if out.iter().any(|x| !x.is_finite()) {
            let at = wave.iter().position(|x| !x.is_finite()).unwrap_or(0);
            let reason = format!("sample {at} is {}, or the values are too large", wave[at]);
            return Err(DataError::request("waveform", reason));
        }
        Ok(())
    }

    /// Spectrum of one frame into the work's `spectrum`.
    pub(super) fn spectrum(&self, frame: &[T], work: &mut FrameWork<T>) -> Result<(), DataError> {
        for ((slot, &x), &w) in work.samples.iter_mut().zip(frame).zip(&self.window) {
            *slot = x * w;
        }
        work.samples[frame.len()..].fill(T::zero());
        self.forward
            .process_with_scratch(&mut work.samples, &mut work.spectrum, &mut work.scratch)
            .map_err(|e| DataError::request("mfcc transform", e.to_string()))
    }
}

impl<T: Real> Triangle<T> {
    pub(super) fn apply(&self, magnitude: &[T]) -> T {
        let mut sum = T::zero();
        // A bin too narrow to hold any transform bin has no weights, and its start may lie past the end.
        for (&w, &x) in self.weights.iter().zip(magnitude.get(self.start..).unwrap_or_default()) {
            sum += w * x;
        }
        sum
    }
}

pub(super) fn magnitude_of<T: Real>(z: Complex<T>) -> T {
    (z.re * z.re + z.im * z.im).sqrt()
}

/// The range of transform bins that triangles with any weights use.
fn used_bins<T>(triangles: &[Triangle<T>]) -> Range<usize> {
    let used = || triangles.iter().filter(|t| !t.weights.is_empty());
    let end = used().map(|t| t.start + t.weights.len()).max().unwrap_or(0);
    used().map(|t| t.start).min().unwrap_or(end)..end
}

/// `[mels, coefficients]` as `[ceil(coefficients / BLOCK), mels, BLOCK]`.
fn blocks<T: Real>(dct: &Array2<T>) -> Vec<[T; BLOCK]> {
    let row = |first: usize, mel: usize| {
        std::array::from_fn(|i| dct.get([mel, first + i]).copied().unwrap_or_else(T::zero))
    };
    let firsts = (0..dct.ncols()).step_by(BLOCK);
    firsts.flat_map(|first| (0..dct.nrows()).map(move |mel| row(first, mel))).collect()
}

/// `tf.signal.linear_to_mel_weight_matrix(mel_bins, fft/2 + 1, sample_rate, lower_hz, upper_hz)`, column by column without
/// its zeros.
fn mel_triangles<T: Real>(parameters: &Parameters) -> Vec<Triangle<T>> {
    let Parameters { sample_rate, fft, mel_bins, lower_hz, upper_hz, .. } = *parameters;
    let mel = |hz: f64| 1127.0 * (1.0 + hz / 700.0).ln();
    let (low, high) = (mel(lower_hz), mel(upper_hz));
    let edge = |i: usize| low + (high - low) * i as f64 / (mel_bins + 1) as f64;
    let bin_mel: Vec<f64> =
        (0..=fft / 2).map(|k| mel(k as f64 * f64::from(sample_rate) / fft as f64)).collect();
    (0..mel_bins)
        .map(|m| {
            let (lower, centre, upper) = (edge(m), edge(m + 1), edge(m + 2));
            let weight = |k: usize| {
                let x = bin_mel[k];
                ((x - lower) / (centre - lower)).min((upper - x) / (upper - centre)).max(0.0)
            };
            // Bin 0 is excluded by TensorFlow whatever its weight.
            let inside: Vec<usize> = (1..=fft / 2).filter(|&k| weight(k) > 0.0).collect();
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
    let largest: T = real(f64::from(scale_of(clip)));
    for (x, &sample) in out.iter_mut().zip(clip) {
        *x = T::from_i16(sample).unwrap_or_else(T::nan) / largest;
    }
    out[clip.len()..].fill(T::zero());
    Ok(())
}

/// What [`normalise`] divides a clip by.
#[inline(always)]
pub(crate) fn scale_of(clip: &[i16]) -> f32 {
    clip.iter().copied().max().filter(|&max| max > 0).map_or(32_768.0, f32::from)
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
    use crate::frontend::SAMPLES;

    #[test]
    fn tones_land_in_their_mel_bin() {
        let mfcc = Mfcc::<f64>::new();
        let mut work = mfcc.work();
        assert_eq!(mfcc.triangles.len(), 40);
        assert!(mfcc.triangles.iter().all(|t| !t.weights.is_empty()));
        let peak = |hz: f64, work: &mut MfccWork<f64>| {
            let wave: Vec<f64> =
                (0..SAMPLES).map(|n| (2.0 * std::f64::consts::PI * hz * n as f64 / 16_000.0).sin()).collect();
            let log_mel = mfcc.log_mel(&wave, work).unwrap();
            (0..40).max_by(|&a, &b| log_mel[[20, a]].total_cmp(&log_mel[[20, b]])).unwrap()
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
