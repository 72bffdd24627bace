//! The real transform of many frames at once, a frame in every lane: samples in, magnitudes out.
//!
//! Two neighbouring samples make a complex number, whose transform of half the length is decimated in frequency by four (Gentleman
//! and Sande 1966), in place, and then parted into the real transform's bins, of which only those asked for are made.
use std::ops::Range;

use pulp::Simd;

use super::lanes::{QUAD, Vector};
use super::mfcc::{Real, real};

/// Tables of one transform length.
pub(super) struct Transform<T> {
    /// Half the window; what lies past the frame is zero.
    window: Vec<[T; QUAD]>,
    /// Per pass and butterfly, ω, ω² and ω³ as real and imaginary parts. The last pass needs none.
    passes: Vec<Vec<[T; 6]>>,
    bins: Vec<Bin<T>>,
}

/// How one bin of the real transform follows from two of the complex one.
struct Bin<T> {
    /// Their places in the buffer.
    places: [usize; 2],
    cos: T,
    sin: T,
}

/// A complex number in every lane.
type Pair<S, T> = [Vector<S, T>; 2];

impl<T: Real> Transform<T> {
    /// Transform of windowed frames (`window`, no longer than `length`), giving `bins`; `None` for a length that is no power
    /// of two from 16.
    pub(super) fn new(length: usize, window: &[T], bins: Range<usize>) -> Option<Self> {
        if length < 16 || !length.is_power_of_two() {
            return None;
        }
        let half = |n: usize| window.get(n).map_or_else(T::zero, |&w| w * real(0.5));
        let points = length / 2;
        let mut passes = Vec::new();
        let mut size = points;
        while size > 4 {
            passes.push((0..size / 4).map(|k| twiddles(k, size)).collect());
            size /= 4;
        }
        let bin = |k: usize| {
            let (sin, cos) = (2.0 * std::f64::consts::PI * k as f64 / length as f64).sin_cos();
            let places = [k % points, (points - k) % points].map(|k| place(k, points));
            Bin { places, cos: real(cos), sin: real(sin) }
        };
        Some(Self {
            window: (0..length / QUAD).map(|q| std::array::from_fn(|i| half(QUAD * q + i))).collect(),
            passes,
            bins: bins.map(bin).collect(),
        })
    }

    /// Scalars of the work buffer per lane.
    pub(super) fn buffer(&self) -> usize {
        QUAD * self.window.len()
    }

    /// Magnitudes of the bins asked for, `[bins, lanes]`, of `count` frames, at most as many as there are lanes. The lanes
    /// are in the order of [`order`](super::lanes::order); those of no frame hold anything. `work` holds [`buffer`](Self::buffer)
    /// registers.
    #[inline(always)]
    pub(super) fn magnitudes<'a, S: Simd>(
        &self,
        simd: S,
        count: usize,
        frame: impl Fn(usize) -> &'a [T],
        work: &mut [T],
        magnitudes: &mut [T],
    ) {
        let lanes = T::count::<S>();
        let mut lane = 0;
        while lane < count {
            // Four frames at a time fill a cache line, where there are four lanes.
            if lanes.is_multiple_of(4) && lane + 4 <= count {
                gather([frame(lane), frame(lane + 1), frame(lane + 2), frame(lane + 3)], lanes, lane, work);
                lane += 4;
            } else {
                gather([frame(lane)], lanes, lane, work);
                lane += 1;
            }
        }
        let points = T::registers::<S>(&mut work[..self.buffer() * lanes]);
        let mut passes = self.passes.iter();
        if let Some(first) = passes.next() {
            self.first(simd, first, points);
        }
        for pass in passes {
            for block in points.chunks_exact_mut(8 * pass.len()) {
                by_four(simd, pass, block);
            }
        }
        if self.window.len().trailing_zeros().is_multiple_of(2) {
            points.as_chunks_mut::<4>().0.iter_mut().for_each(|block| last_two::<S, T>(simd, block));
        } else {
            points.as_chunks_mut::<8>().0.iter_mut().for_each(|block| last_four::<S, T>(simd, block));
        }
        self.part(simd, points, T::registers::<S>(magnitudes));
    }

    /// The first pass, which also deals quads of samples to their lanes and windows them.
    #[inline(always)]
    fn first<S: Simd>(&self, simd: S, twiddles: &[[T; 6]], points: &mut [T::Of<S>]) {
        let quads = twiddles.len() / 2;
        let (low, high) = points.as_chunks_mut::<QUAD>().0.split_at_mut(2 * quads);
        let (a, b) = low.split_at_mut(quads);
        let (c, d) = high.split_at_mut(quads);
        let (window, rest) = self.window.split_at(quads);
        let (window_b, rest) = rest.split_at(quads);
        let (window_c, window_d) = rest.split_at(quads);
        let windows = window.iter().zip(window_b).zip(window_c).zip(window_d);
        let twiddles = twiddles.as_chunks::<2>().0.iter();
        let quads = a.iter_mut().zip(b).zip(c).zip(d);
        for (((((a, b), c), d), (((wa, wb), wc), wd)), [even, odd]) in quads.zip(windows).zip(twiddles) {
            let [a0, a1] = dealt(simd, *a, wa);
            let [b0, b1] = dealt(simd, *b, wb);
            let [c0, c1] = dealt(simd, *c, wc);
            let [d0, d1] = dealt(simd, *d, wd);
            let x: [Pair<S, T>; 4] = turned(butterfly(a0, b0, c0, d0), even);
            let y: [Pair<S, T>; 4] = turned(butterfly(a1, b1, c1, d1), odd);
            for (i, quad) in [a, b, c, d].into_iter().enumerate() {
                let ([re, im], [re1, im1]) = (x[i], y[i]);
                *quad = [re.register(), im.register(), re1.register(), im1.register()];
            }
        }
    }

    /// From the half-length transform Z to magnitudes of the real one: X\[k\] is half of
    /// (Z\[k\] + Z*\[n−k\]) − i ω^k (Z\[k\] − Z*\[n−k\]); the half is in the window.
    #[inline(always)]
    fn part<S: Simd>(&self, simd: S, points: &[T::Of<S>], magnitudes: &mut [T::Of<S>]) {
        let points = points.as_chunks::<2>().0;
        for (bin, out) in self.bins.iter().zip(magnitudes) {
            let [re, im]: Pair<S, T> = loaded(simd, points[bin.places[0]]);
            let [mirror_re, mirror_im] = loaded(simd, points[bin.places[1]]);
            let (even_re, even_im) = (re + mirror_re, im - mirror_im);
            let (odd_re, odd_im) = (re - mirror_re, im + mirror_im);
            let x = even_re + (odd_im * bin.cos - odd_re * bin.sin);
            let y = even_im - (odd_re * bin.cos + odd_im * bin.sin);
            *out = (x * x + y * y).sqrt().register();
        }
    }
}

/// ω^k, ω^2k and ω^3k, ω = exp(−2πi / size).
fn twiddles<T: Real>(k: usize, size: usize) -> [T; 6] {
    std::array::from_fn(|i| {
        let angle = 2.0 * std::f64::consts::PI * ((i / 2 + 1) * k) as f64 / size as f64;
        real(if i % 2 == 0 { angle.cos() } else { -angle.sin() })
    })
}

/// Where decimation leaves point k.
fn place(k: usize, size: usize) -> usize {
    match size {
        0..=2 => k,
        _ => k % 4 * (size / 4) + place(k / 4, size / 4),
    }
}

/// N frames into neighbouring lanes, four samples of each at a time; zeros fill the buffer up.
#[inline(always)]
fn gather<T: Real, const N: usize>(frames: [&[T]; N], lanes: usize, lane: usize, work: &mut [T]) {
    let length = frames[0].len();
    let mut quads = [[].as_slice(); N];
    for (quads, frame) in quads.iter_mut().zip(frames) {
        *quads = &frame[..length].as_chunks::<QUAD>().0[..length / QUAD];
    }
    let mut rows = work.chunks_exact_mut(QUAD * lanes);
    for (q, row) in (0..length / QUAD).zip(&mut rows) {
        let out = &mut row.as_chunks_mut::<QUAD>().0[lane..lane + N];
        for (out, quads) in out.iter_mut().zip(&quads) {
            *out = quads[q];
        }
    }
    let mut tail = length - length % QUAD;
    for row in rows {
        for (out, frame) in row.as_chunks_mut::<QUAD>().0[lane..lane + N].iter_mut().zip(frames) {
            *out = std::array::from_fn(|i| frame.get(tail + i).copied().unwrap_or_else(T::zero));
        }
        tail += QUAD;
    }
}

/// Two windowed points of every lane.
#[inline(always)]
fn dealt<S: Simd, T: Real>(simd: S, quad: [T::Of<S>; QUAD], window: &[T; QUAD]) -> [Pair<S, T>; 2] {
    let quad = T::deal(simd, quad);
    let part = |i: usize| Vector::<S, T>::of(simd, quad[i]) * window[i];
    [[part(0), part(1)], [part(2), part(3)]]
}

/// One pass over a block that falls into four transforms of a quarter of its length.
#[inline(always)]
fn by_four<S: Simd, T: Real>(simd: S, twiddles: &[[T; 6]], block: &mut [T::Of<S>]) {
    let (low, high) = block.as_chunks_mut::<2>().0.split_at_mut(2 * twiddles.len());
    let (a, b) = low.split_at_mut(twiddles.len());
    let (c, d) = high.split_at_mut(twiddles.len());
    for ((((w, a), b), c), d) in twiddles.iter().zip(a).zip(b).zip(c).zip(d) {
        let sums = butterfly(loaded(simd, *a), loaded(simd, *b), loaded(simd, *c), loaded(simd, *d));
        let [x, y, z, t] = turned::<S, T>(sums, w);
        [*a, *b, *c, *d] = [stored(x), stored(y), stored(z), stored(t)];
    }
}

/// Transforms of four points.
#[inline(always)]
fn last_four<S: Simd, T: Real>(simd: S, block: &mut [T::Of<S>; 8]) {
    let [a, b, c, d, e, f, g, h] = *block;
    let (a, b) = (loaded::<S, T>(simd, [a, b]), loaded(simd, [c, d]));
    let [x, y, z, t] = butterfly(a, b, loaded(simd, [e, f]), loaded(simd, [g, h]));
    let ([a, b], [c, d], [e, f], [g, h]) = (stored(x), stored(y), stored(z), stored(t));
    *block = [a, b, c, d, e, f, g, h];
}

/// Transforms of two points.
#[inline(always)]
fn last_two<S: Simd, T: Real>(simd: S, block: &mut [T::Of<S>; 4]) {
    let [a, b, c, d] = *block;
    let (a, b) = (loaded::<S, T>(simd, [a, b]), loaded(simd, [c, d]));
    let ([x, y], [z, t]) = (stored([a[0] + b[0], a[1] + b[1]]), stored([a[0] - b[0], a[1] - b[1]]));
    *block = [x, y, z, t];
}

#[inline(always)]
fn loaded<S: Simd, T: Real>(simd: S, [re, im]: [T::Of<S>; 2]) -> Pair<S, T> {
    [Vector::of(simd, re), Vector::of(simd, im)]
}

#[inline(always)]
fn stored<S: Simd, T: Real>([re, im]: Pair<S, T>) -> [T::Of<S>; 2] {
    [re.register(), im.register()]
}

/// The last three of four complex numbers times ω^k, ω^2k and ω^3k.
#[inline(always)]
fn turned<S: Simd, T: Real>([a, b, c, d]: [Pair<S, T>; 4], w: &[T; 6]) -> [Pair<S, T>; 4] {
    [a, turn(b, w[0], w[1]), turn(c, w[2], w[3]), turn(d, w[4], w[5])]
}

/// The product with the complex number re + i im.
#[inline(always)]
fn turn<S: Simd, T: Real>([x, y]: Pair<S, T>, re: T, im: T) -> Pair<S, T> {
    [x * re - y * im, x * im + y * re]
}

/// The transform of four complex numbers.
#[inline(always)]
fn butterfly<S: Simd, T: Real>(
    a: Pair<S, T>,
    b: Pair<S, T>,
    c: Pair<S, T>,
    d: Pair<S, T>,
) -> [Pair<S, T>; 4] {
    let (s, t) = ([a[0] + c[0], a[1] + c[1]], [a[0] - c[0], a[1] - c[1]]);
    let (u, v) = ([b[0] + d[0], b[1] + d[1]], [b[0] - d[0], b[1] - d[1]]);
    [
        [s[0] + u[0], s[1] + u[1]],
        [t[0] + v[1], t[1] - v[0]],
        [s[0] - u[0], s[1] - u[1]],
        [t[0] - v[1], t[1] + v[0]],
    ]
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};
    use realfft::RealFftPlanner;

    use super::super::lanes;
    use super::*;

    struct Run<'a, T: Real> {
        transform: &'a Transform<T>,
        frames: &'a [Vec<T>],
    }

    impl<T: Real> WithSimd for Run<'_, T> {
        type Output = Vec<Vec<T>>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let lanes = T::count::<S>();
            let order = lanes::order::<S, T>(simd);
            // What is left over from before must not matter.
            let mut work = vec![T::nan(); self.transform.buffer() * lanes];
            let bins = self.transform.bins.len();
            let mut magnitudes = vec![T::nan(); bins * lanes];
            let mut out = vec![Vec::new(); self.frames.len()];
            for (out, frames) in out.chunks_mut(lanes).zip(self.frames.chunks(lanes)) {
                let frame = |i: usize| frames[i].as_slice();
                self.transform.magnitudes(simd, frames.len(), frame, &mut work, &mut magnitudes);
                for (lane, &i) in order[..lanes].iter().enumerate().filter(|(_, i)| **i < frames.len()) {
                    out[i] = (0..bins).map(|bin| magnitudes[bin * lanes + lane]).collect();
                }
            }
            out
        }
    }

    /// Largest distance between our magnitudes and those of `realfft` in f64, in units of the frame's Euclidean norm times T's
    /// epsilon.
    fn worst<T: Real>(length: usize, used: usize, sample: impl Fn(usize, usize) -> f64) -> f64 {
        let window = |n: usize| 0.5 - 0.5 * (2.0 * std::f64::consts::PI * n as f64 / used as f64).cos();
        let rounded: Vec<T> = (0..used).map(|n| real(window(n))).collect();
        let transform = Transform::<T>::new(length, &rounded, 0..length / 2 + 1).unwrap();
        let frames: Vec<Vec<T>> = (0..37).map(|i| (0..used).map(|n| real(sample(i, n))).collect()).collect();
        let ours = Arch::new().dispatch(Run { transform: &transform, frames: &frames });
        let plan = RealFftPlanner::<f64>::new().plan_fft_forward(length);
        let mut worst = 0.0f64;
        for (frame, ours) in frames.iter().zip(&ours) {
            let mut padded = plan.make_input_vec();
            for ((slot, &x), &w) in padded.iter_mut().zip(frame).zip(&rounded) {
                *slot = x.to_f64().unwrap() * w.to_f64().unwrap();
            }
            let norm = padded.iter().map(|x| x * x).sum::<f64>().sqrt();
            let mut spectrum = plan.make_output_vec();
            plan.process(&mut padded, &mut spectrum).unwrap();
            assert_eq!(spectrum.len(), ours.len());
            for (theirs, &ours) in spectrum.iter().zip(ours) {
                let error = (theirs.norm() - ours.to_f64().unwrap()).abs();
                worst = worst.max(error / (norm * T::epsilon().to_f64().unwrap()));
            }
        }
        worst
    }

    fn noise(i: usize, n: usize) -> f64 {
        ((i * 104_729 + n * 7919) % 65_521) as f64 / 32_760.0 - 1.0
    }

    #[test]
    fn magnitudes_agree_with_realfft_at_every_length() {
        for (length, used) in
            [(16, 16), (32, 31), (64, 61), (128, 120), (256, 199), (512, 480), (1024, 1023), (4096, 2050)]
        {
            // Twice what rounding alone does to the largest magnitude that a frame of this norm can have.
            let limit = 2.0 * (length as f64).sqrt();
            for sample in [
                noise as fn(usize, usize) -> f64,
                |i, n| if n == i % 16 { 1.0 } else { 0.0 },
                |i, n| (n as f64 * i as f64 * 0.05).sin(),
                |i, n| noise(i, n) * 1e12,
                |i, n| noise(i, n) * 1e-12,
                |_, n| if n.is_multiple_of(2) { 1.0 } else { -1.0 },
            ] {
                let worst = [worst::<f32>(length, used, sample), worst::<f64>(length, used, sample)];
                assert!(worst.iter().all(|&worst| worst <= limit), "{length}: {worst:?} of {limit}");
            }
        }
    }

    #[test]
    fn extreme_frames_give_zero_or_what_is_not_finite() {
        let transform = Transform::<f32>::new(512, &[1.0; 480], 1..200).unwrap();
        let mut spoilt = vec![0.5; 480];
        spoilt[479] = f32::NAN;
        let frames = [vec![0.0; 480], vec![f32::MAX; 480], spoilt, vec![f32::from_bits(1); 480]];
        let magnitudes = Arch::new().dispatch(Run { transform: &transform, frames: &frames });
        assert!(magnitudes[0].iter().all(|&x| x == 0.0));
        assert!(magnitudes[1].iter().any(|x| !x.is_finite()));
        assert!(magnitudes[2].iter().all(|x| x.is_nan()));
        assert!(magnitudes[3].iter().all(|&x| x.abs() < 1e-40));
    }

    #[test]
    fn other_lengths_are_left_to_others() {
        for length in [0, 1, 2, 4, 8, 15, 24, 300, 1000] {
            assert!(Transform::<f32>::new(length, &[], 0..1).is_none(), "{length}");
        }
    }
}
