//! A clip's features with its frames side by side in vector lanes: transform, mel triangles, logarithm and cosine transform all
//! run over as many frames at once as a register holds.
use pulp::{Simd, WithSimd};

use super::lanes::{self, Vector};
use super::mfcc::{FrameWork, Mfcc, Real, magnitude_of, real};
use crate::DataError;

/// Coefficients summed at a time: MLPerf Tiny's ten, whose sums fit the registers there are.
pub(super) const BLOCK: usize = 10;

/// What is to be written, frame by frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    LogMel,
    Cepstrum,
}

impl Wanted {
    /// Values per frame.
    pub(super) fn columns<T: Real>(self, front: &Mfcc<T>) -> usize {
        match self {
            Wanted::LogMel => front.parameters().mel_bins,
            Wanted::Cepstrum => front.parameters().coefficients,
        }
    }
}

/// The analysis of clips, one after the other in `wave`, to be run with whatever vector unit there is. The frames of all follow
/// each other in the lanes, so that few stay empty.
pub(super) struct Analysis<'a, T: Real> {
    pub(super) front: &'a Mfcc<T>,
    pub(super) wave: &'a [T],
    pub(super) frame: &'a mut FrameWork<T>,
    /// At least [`Mfcc::lane_buffer`] values.
    pub(super) lanes: &'a mut [T],
    pub(super) wanted: Wanted,
    /// `[clips, frames, mel_bins]` or `[clips, frames, coefficients]`.
    pub(super) out: &'a mut [T],
}

impl<T: Real> Mfcc<T> {
    /// Values of work space per lane: transform, magnitudes, mel energies, a block of coefficients.
    fn spaces(&self) -> [usize; 4] {
        let points = self.transform.as_ref().map_or(0, |transform| transform.buffer());
        [points, self.bins.len(), self.triangles.len(), BLOCK]
    }

    /// Values of work space for the widest registers, with room to start at a cache line.
    pub(super) fn lane_buffer(&self) -> usize {
        (self.spaces().iter().sum::<usize>() + 1) * CACHE_LINE / size_of::<T>()
    }

    /// Magnitudes of frames one by one, for lengths the vector transform does not do.
    fn magnitudes_singly<'a>(
        &self,
        frames: impl Iterator<Item = &'a [T]>,
        lanes: usize,
        work: &mut FrameWork<T>,
        magnitudes: &mut [T],
    ) -> Result<(), DataError> {
        magnitudes.fill(T::zero());
        for (lane, frame) in frames.enumerate() {
            self.spectrum(frame, work)?;
            let bins = &work.spectrum[self.bins.clone()];
            for (row, &z) in magnitudes.chunks_exact_mut(lanes).zip(bins) {
                row[lane] = magnitude_of(z);
            }
        }
        Ok(())
    }
}

/// Bytes of the widest register and of a cache line: a register that crosses two lines takes twice as long to load.
const CACHE_LINE: usize = 64;

impl<T: Real> WithSimd for Analysis<'_, T> {
    type Output = Result<(), DataError>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let Self { front, wave, frame: single, lanes: buffer, wanted, out } = self;
        let parameters = front.parameters();
        let frames = parameters.frames();
        let frame = |i: usize| {
            &wave[i / frames * parameters.samples + i % frames * parameters.step..][..parameters.frame]
        };
        let lanes = T::count::<S>();
        let columns = wanted.columns(front);
        let order = match front.transform {
            Some(_) => lanes::order::<S, T>(simd),
            None => std::array::from_fn(|lane| lane),
        };
        let order = &order[..lanes];
        let start = buffer.as_ptr().align_offset(CACHE_LINE).min(CACHE_LINE / size_of::<T>());
        let [points, bins, mels, block] = front.spaces();
        let (points, rest) = buffer[start..].split_at_mut(points * lanes);
        let (magnitudes, rest) = rest.split_at_mut(bins * lanes);
        let (energies, rest) = rest.split_at_mut(mels * lanes);
        let sums = &mut rest[..block * lanes];
        for (group, out) in out.chunks_mut(lanes * columns).enumerate() {
            let (first, count) = (group * lanes, out.len() / columns);
            match &front.transform {
                Some(transform) => {
                    transform.magnitudes(simd, count, |i| frame(first + i), points, magnitudes);
                }
                None => {
                    let frames = (first..first + count).map(frame);
                    front.magnitudes_singly(frames, lanes, single, magnitudes)?;
                }
            }
            triangles(simd, front, magnitudes, energies);
            energies.iter_mut().for_each(|x| *x = x.ln_lane());
            match wanted {
                Wanted::LogMel => scatter(energies, order, out, columns, 0),
                Wanted::Cepstrum => {
                    for (i, basis) in front.basis.chunks_exact(front.triangles.len()).enumerate() {
                        project(simd, basis, energies, sums);
                        scatter(sums, order, out, columns, i * BLOCK);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Mel magnitudes plus the offset, `[mel_bins, lanes]`, each summed in the order of its bins.
#[inline(always)]
fn triangles<S: Simd, T: Real>(simd: S, front: &Mfcc<T>, magnitudes: &mut [T], energies: &mut [T]) {
    let magnitudes = T::registers::<S>(magnitudes);
    let offset = Vector::<S, T>::splat(simd, real(front.parameters().log_offset));
    for (triangle, energy) in front.triangles.iter().zip(T::registers::<S>(energies)) {
        let mut sum = Vector::<S, T>::splat(simd, T::zero());
        // A bin too narrow to hold any transform bin has no weights, and its start may lie past the end.
        let rows = magnitudes.get(triangle.start.wrapping_sub(front.bins.start)..).unwrap_or_default();
        for (&w, &x) in triangle.weights.iter().zip(rows) {
            sum = sum + Vector::of(simd, x) * w;
        }
        *energy = (sum + offset).register();
    }
}

/// A block of coefficients, `[BLOCK, lanes]`. The cosines of a bin and of its mirror image are the same in even coefficients
/// and opposite in odd ones, so the two energies are added or subtracted first. Sums are made in short runs and these added:
/// half the products, and a third of the rounding error of one long sum.
#[inline(always)]
fn project<S: Simd, T: Real>(simd: S, basis: &[[T; BLOCK]], energies: &mut [T], out: &mut [T]) {
    const RUN: usize = 4;
    let energies = &*T::registers::<S>(energies);
    let out = T::registers::<S>(out);
    let zero = Vector::<S, T>::splat(simd, T::zero());
    let half = energies.len() / 2;
    // The middle one of an odd number is its own mirror image.
    let middle = energies.get(half).filter(|_| energies.len() % 2 == 1);
    for (i, out) in out.iter_mut().enumerate() {
        *out = middle.map_or(zero, |&x| Vector::of(simd, x) * basis[half][i]).register();
    }
    let (low, high) = (&energies[..half], &energies[energies.len() - half..]);
    for ((low, high), basis) in low.chunks(RUN).zip(high.rchunks(RUN)).zip(basis.chunks(RUN)) {
        let mut sums = [zero; BLOCK];
        for ((&a, &b), basis) in low.iter().zip(high.iter().rev()).zip(basis) {
            let (a, b) = (Vector::<S, T>::of(simd, a), Vector::of(simd, b));
            let (even, odd) = (a + b, a - b);
            for (sums, basis) in sums.as_chunks_mut::<2>().0.iter_mut().zip(basis.as_chunks::<2>().0) {
                *sums = [sums[0] + even * basis[0], sums[1] + odd * basis[1]];
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = (Vector::of(simd, *out) + sum).register();
        }
    }
}

/// `[values, lanes]` into columns from `column` on of `[frames, columns]`; lane i is of frame `order[i]`.
#[inline(always)]
fn scatter<T: Copy>(values: &[T], order: &[usize], out: &mut [T], columns: usize, column: usize) {
    for (lane, &frame) in order.iter().enumerate() {
        let Some(row) = out.get_mut(frame * columns + column..(frame + 1) * columns) else { continue };
        for (x, values) in row.iter_mut().zip(values.chunks_exact(order.len())) {
            *x = values[lane];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Parameters;
    use super::*;

    /// Features of a clip with the vectors of `S` whatever [`Arch::new`](pulp::Arch::new) would choose.
    fn features<T: Real, S: Simd>(simd: S, front: &Mfcc<T>, wanted: Wanted, wave: &[T]) -> Vec<u64> {
        let clips = wave.len() / front.parameters().samples;
        let mut work = front.work();
        let mut out = vec![T::nan(); clips * front.parameters().frames() * wanted.columns(front)];
        let (frame, lanes) = (&mut work.frame, work.lanes.as_mut_slice());
        simd.vectorize(Analysis { front, wave, frame, lanes, wanted, out: &mut out }).unwrap();
        out.iter().map(|x| x.to_f64().unwrap().to_bits()).collect()
    }

    fn every_vector_unit_agrees<T: Real>(parameters: Parameters) {
        let front = Mfcc::<T>::with(parameters).unwrap();
        let wave: Vec<T> = (0..3 * parameters.samples)
            .map(|n| real((n as f64 * (0.01 + n as f64 * 1e-5)).sin() + ((n * 7919) % 997) as f64 * 1e-3))
            .collect();
        for wanted in [Wanted::LogMel, Wanted::Cepstrum] {
            let plain = features(pulp::Scalar, &front, wanted, &wave);
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            {
                use pulp::x86::{V3, V4};
                if let Some(simd) = V3::try_new() {
                    assert_eq!(plain, features(simd, &front, wanted, &wave));
                }
                match V4::try_new() {
                    Some(simd) => assert_eq!(plain, features(simd, &front, wanted, &wave)),
                    None => println!("not compared: no AVX-512 here"),
                }
            }
            let mut out = vec![T::zero(); plain.len()];
            let mut work = front.work();
            let (frame, lanes) = (&mut work.frame, work.lanes.as_mut_slice());
            let chosen = Analysis { front: &front, wave: &wave, frame, lanes, wanted, out: &mut out };
            pulp::Arch::new().dispatch(chosen).unwrap();
            assert!(plain.iter().zip(&out).all(|(a, b)| *a == b.to_f64().unwrap().to_bits()));
            // Clips together are what they are alone.
            let clips = wave.chunks(parameters.samples);
            let alone: Vec<u64> =
                clips.flat_map(|wave| features(pulp::Scalar, &front, wanted, wave)).collect();
            assert_eq!(plain, alone);
        }
    }

    #[test]
    fn every_vector_unit_gives_the_same_bits() {
        let tiny = Parameters::MLPERF_TINY;
        let short = Parameters { samples: 2_000, frame: 199, step: 77, fft: 256, coefficients: 13, ..tiny };
        for parameters in [tiny, short, Parameters { fft: 300, ..short }] {
            every_vector_unit_agrees::<f32>(parameters);
            every_vector_unit_agrees::<f64>(parameters);
        }
    }
}
