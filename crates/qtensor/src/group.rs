//! Which elements of a tensor share a scale, and the reductions over them, in an order that never changes.
//!
//! Elements are visited in rows of one `period`, the shortest run after which the element-to-scale pattern repeats
//! (at least a few vector registers long). Accumulators live per position in the row, so the inner loops run over contiguous
//! memory whatever the number of channels, and are folded into groups at the end. All sums are f64.

use kernels::Real;
use kernels::dispatch::vectorized;

use crate::error::QuantizeError;
use crate::math::{self, EPSILON};

/// Which axes have scales of their own.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) enum Axes {
    /// One scale per index of the last axis (QKeras' rule; a rank-1 tensor has one scale per element).
    #[default]
    Last,
    /// One scale per index of the last two axes: the channels of a depthwise kernel [kh, kw, c, multiplier].
    LastTwo,
    /// The axes listed, each with the number of consecutive indices that share a scale.
    Listed(Vec<(usize, usize)>),
}

impl Axes {
    /// Whether indices along `axis`, of `rank`, have scales of their own.
    pub(crate) fn has(&self, axis: usize, rank: usize) -> bool {
        match self {
            Self::Last => axis + 1 == rank,
            Self::LastTwo => axis + 2 >= rank,
            Self::Listed(list) => list.iter().any(|(listed, _)| *listed == axis),
        }
    }
}

/// Working memory of [`crate::Quantizer::quantize`]. Keep one per tensor (or per thread): after the first call with a shape,
/// nothing is allocated.
#[derive(Clone, Debug)]
pub struct Scratch<T> {
    axes: Axes,
    shape: Vec<usize>,
    /// Per position: the group whose statistics it shares.
    group: Vec<u32>,
    /// Elements per group.
    group_len: usize,
    /// Per position: index into the scales reported.
    slot: Vec<u32>,
    slots: usize,
    /// Rank 1: least squares runs per element, maxima over the whole vector.
    per_element: bool,
    sums: [Vec<f64>; 2],
    folded: [Vec<f64>; 2],
    /// Per position: the scale.
    pub(crate) scale: Vec<T>,
    /// Per position: the threshold or slope derived from it.
    pub(crate) first: Vec<T>,
    /// Per position: a second parameter.
    pub(crate) second: Vec<T>,
    /// One row of random words.
    pub(crate) words: Vec<u32>,
}

impl<T: Real> Default for Scratch<T> {
    fn default() -> Self {
        Scratch {
            axes: Axes::Last,
            shape: Vec::new(),
            group: Vec::new(),
            group_len: 0,
            slot: Vec::new(),
            slots: 0,
            per_element: false,
            sums: [Vec::new(), Vec::new()],
            folded: [Vec::new(), Vec::new()],
            scale: Vec::new(),
            first: Vec::new(),
            second: Vec::new(),
            words: Vec::new(),
        }
    }
}

/// Rows are made at least this long by repeating short patterns.
const MIN_PERIOD: usize = 64;

impl<T: Real> Scratch<T> {
    /// Empty working memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Row length: element i of the tensor is at position `i % period`.
    pub(crate) fn period(&self) -> usize {
        self.group.len().max(1)
    }

    /// How many scales are reported.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// Prepares for tensors of this shape; cheap when the last call was for the same.
    pub(crate) fn prepare(&mut self, shape: &[usize], axes: &Axes) -> Result<(), QuantizeError> {
        if self.shape == shape && self.axes == *axes && !self.group.is_empty() {
            return Ok(());
        }
        let scalar = [1];
        let dims: &[usize] = if shape.is_empty() { &scalar } else { shape };
        let rank = dims.len();
        // No list is made: an executor brings kernels of different shapes to one scratch in every step.
        let last_two = [(rank.saturating_sub(2), 1), (rank - 1, 1)];
        let listed: &[(usize, usize)] = match axes {
            Axes::LastTwo if rank >= 2 => &last_two,
            Axes::Last | Axes::LastTwo => &last_two[1..],
            Axes::Listed(list) => list,
        };
        for &(axis, block) in listed {
            if axis >= rank || block == 0 || !dims[axis].is_multiple_of(block) {
                return Err(QuantizeError::ScaleAxis { axis, block, shape: shape.to_vec() });
            }
        }
        // The pattern repeats after everything from the first scaled axis on.
        let first = listed.iter().map(|&(axis, _)| axis).min().unwrap_or(rank - 1);
        let pattern: usize = dims[first..].iter().product::<usize>().max(1);
        let total: usize = dims.iter().product();
        self.per_element = rank == 1;
        let repeats =
            if self.per_element { 1 } else { MIN_PERIOD.div_ceil(pattern).min((total / pattern).max(1)) };
        self.group.clear();
        self.slot.clear();
        let (mut groups, mut slots) = (1, 1);
        for &(axis, block) in listed {
            groups *= dims[axis] / block;
            slots *= dims[axis];
        }
        for position in 0..pattern * repeats {
            let (mut rest, mut group, mut slot) = (position % pattern, 0, 0);
            let (mut group_stride, mut slot_stride) = (1, 1);
            for axis in (first..rank).rev() {
                let index = rest % dims[axis].max(1);
                rest /= dims[axis].max(1);
                if let Some(&(_, block)) = listed.iter().find(|&&(a, _)| a == axis) {
                    group += index / block * group_stride;
                    group_stride *= dims[axis] / block;
                    slot += index * slot_stride;
                    slot_stride *= dims[axis];
                }
            }
            self.group.push(if self.per_element { 0 } else { group as u32 });
            self.slot.push(slot as u32);
        }
        let groups = if self.per_element { 1 } else { groups.max(1) };
        self.group_len = total / groups;
        self.slots = slots;
        self.shape.clear();
        self.shape.extend_from_slice(shape);
        if self.axes != *axes {
            self.axes.clone_from(axes);
        }
        let period = self.group.len();
        for sums in &mut self.sums {
            sums.resize(period, 0.0);
        }
        for folded in &mut self.folded {
            folded.resize(groups.max(slots), 0.0);
        }
        for parameter in [&mut self.scale, &mut self.first, &mut self.second] {
            parameter.resize(period, T::ZERO);
        }
        self.words.resize(period, 0);
        Ok(())
    }

    /// Per position, the largest |x| of its group, into `first`. Fails on NaN and infinities.
    pub(crate) fn max_abs(&mut self, x: &[T]) -> Result<(), QuantizeError> {
        self.peaks(x)?;
        peaks_of(&self.group, &mut self.folded[0], &mut self.first);
        Ok(())
    }

    /// Per position, the largest |x| under its reported scale, into `first`: as [`Self::max_abs`], but per element for rank 1
    /// and without regard to blocks.
    pub(crate) fn max_abs_by_slot(&mut self, x: &[T]) -> Result<(), QuantizeError> {
        self.peaks(x)?;
        peaks_of(&self.slot, &mut self.folded[0], &mut self.first);
        Ok(())
    }

    /// Per position, the largest |x| of the positions' own column.
    fn peaks(&mut self, x: &[T]) -> Result<(), QuantizeError> {
        let largest = T::from_f64(if size_of::<T>() == 4 { f64::from(f32::MAX) } else { f64::MAX });
        let peak = &mut self.first;
        peak.fill(T::ZERO);
        let mut finite = true;
        for row in x.chunks(peak.len()) {
            for (peak, &v) in peak.iter_mut().zip(row) {
                let a = math::abs(v);
                finite &= a <= largest;
                *peak = math::max(a, *peak);
            }
        }
        if !finite {
            let index = x.iter().position(|&v| !v.to_f64().is_finite()).unwrap_or(0);
            return Err(QuantizeError::NotFinite { index, value: x[index].to_f64() });
        }
        Ok(())
    }

    /// Per position, the population standard deviation of its group, into `second`.
    pub(crate) fn std_dev(&mut self, x: &[T]) {
        let count = self.group_len.max(1) as f64;
        let (mean, deviation) = {
            let [mean, deviation] = &mut self.sums;
            (mean, deviation)
        };
        mean.fill(0.0);
        for row in x.chunks(mean.len()) {
            for (sum, &v) in mean.iter_mut().zip(row) {
                *sum += v.to_f64();
            }
        }
        spread(&self.group, mean, &mut self.folded[0], count);
        deviation.fill(0.0);
        for row in x.chunks(mean.len()) {
            for ((sum, &mean), &v) in deviation.iter_mut().zip(&*mean).zip(row) {
                let d = v.to_f64() - mean;
                *sum += d * d;
            }
        }
        spread(&self.group, deviation, &mut self.folded[0], count);
        for (out, &variance) in self.second.iter_mut().zip(&*deviation) {
            *out = T::from_f64(variance.sqrt());
        }
    }

    /// The least-squares scale mean(x q) / (mean(q^2) + eps) of every group (of every element for rank 1), into `scale`,
    /// where `q` sees the element and the parameter in `first`; `po2` rounds it to a power of two.
    #[inline(always)]
    pub(crate) fn least_squares(&mut self, x: &[T], po2: bool, q: impl Fn(T, T) -> T) {
        let eps = T::from_f64(EPSILON);
        if self.per_element {
            for ((scale, &parameter), &v) in self.scale.iter_mut().zip(&self.first).zip(x) {
                let code = q(v, parameter);
                let s = v * code / (code * code + eps);
                *scale = if po2 { math::round_to_po2(s) } else { s };
            }
            return;
        }
        let [products, squares] = &mut self.sums;
        products.fill(0.0);
        squares.fill(0.0);
        for row in x.chunks(self.first.len()) {
            let (all, q) = (products.iter_mut().zip(&mut *squares).zip(&self.first).zip(row), &q);
            vectorized(move || {
                for (((product, square), &parameter), &v) in all {
                    let code = q(v, parameter);
                    *product += (v * code).to_f64();
                    *square += (code * code).to_f64();
                }
            });
        }
        self.finish_least_squares(po2);
    }

    /// From the sums per position to the scale per position.
    fn finish_least_squares(&mut self, po2: bool) {
        let [products, squares] = &self.sums;
        let [xq, qq] = &mut self.folded;
        fold(&self.group, products, xq);
        fold(&self.group, squares, qq);
        let eps = T::from_f64(EPSILON);
        let count = self.group_len.max(1) as f64;
        for (xq, qq) in xq.iter_mut().zip(qq) {
            let s = T::from_f64(*xq / count) / (T::from_f64(*qq / count) + eps);
            *xq = (if po2 { math::round_to_po2(s) } else { s }).to_f64();
        }
        for (scale, &g) in self.scale.iter_mut().zip(&self.group) {
            *scale = T::from_f64(xq[g as usize]);
        }
    }

    /// [`Self::least_squares`] for codes already made.
    pub(crate) fn least_squares_of(&mut self, x: &[T], codes: &[T], po2: bool) {
        let eps = T::from_f64(EPSILON);
        if self.per_element {
            for ((scale, &code), &v) in self.scale.iter_mut().zip(codes).zip(x) {
                let s = v * code / (code * code + eps);
                *scale = if po2 { math::round_to_po2(s) } else { s };
            }
            return;
        }
        let [products, squares] = &mut self.sums;
        products.fill(0.0);
        squares.fill(0.0);
        let period = self.group.len();
        for (row, codes) in x.chunks(period).zip(codes.chunks(period)) {
            for (((product, square), &code), &v) in products.iter_mut().zip(&mut *squares).zip(codes).zip(row)
            {
                *product += (v * code).to_f64();
                *square += (code * code).to_f64();
            }
        }
        self.finish_least_squares(po2);
    }

    /// Writes each reported scale once.
    pub(crate) fn report(&self, scales: &mut Vec<T>) {
        scales.resize(self.slots, T::ZERO);
        for (&slot, &scale) in self.slot.iter().zip(&self.scale) {
            if let Some(out) = scales.get_mut(slot as usize) {
                *out = scale;
            }
        }
    }

    /// The inverse of [`Self::report`]: per position the reported scale, into `scale`. False if their number is another.
    pub(crate) fn recall(&mut self, scales: &[T]) -> bool {
        if scales.len() != self.slots {
            return false;
        }
        for (&slot, scale) in self.slot.iter().zip(&mut self.scale) {
            *scale = scales[slot as usize];
        }
        true
    }
}

/// Replaces every position's peak by that of all positions with its index.
fn peaks_of<T: Real>(index: &[u32], folded: &mut [f64], peaks: &mut [T]) {
    folded.fill(0.0);
    for (&i, peak) in index.iter().zip(&*peaks) {
        let largest = &mut folded[i as usize];
        *largest = largest.max(peak.to_f64());
    }
    for (&i, peak) in index.iter().zip(peaks) {
        *peak = T::from_f64(folded[i as usize]);
    }
}

/// Sums per position into sums per group.
fn fold(group: &[u32], positions: &[f64], groups: &mut [f64]) {
    groups.fill(0.0);
    for (&g, &sum) in group.iter().zip(positions) {
        groups[g as usize] += sum;
    }
}

/// Replaces every position's sum by its group's mean.
fn spread(group: &[u32], positions: &mut [f64], groups: &mut [f64], count: f64) {
    fold(group, positions, groups);
    for (&g, value) in group.iter().zip(positions) {
        *value = groups[g as usize] / count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maxima(shape: &[usize], axes: &Axes) -> Vec<f32> {
        let n: usize = shape.iter().product();
        let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let mut scratch = Scratch::new();
        scratch.prepare(shape, axes).unwrap();
        scratch.max_abs(&x).unwrap();
        scratch.scale.clone_from(&scratch.first);
        let mut out = Vec::new();
        scratch.report(&mut out);
        out
    }

    #[test]
    fn groups_follow_the_axes() {
        assert_eq!(maxima(&[2, 3], &Axes::Last), [3.0, 4.0, 5.0]);
        assert_eq!(maxima(&[2, 3], &Axes::Listed(vec![(0, 1)])), [2.0, 5.0]);
        assert_eq!(maxima(&[2, 2, 3, 1], &Axes::Last), [11.0]);
        assert_eq!(maxima(&[2, 2, 3, 1], &Axes::LastTwo), [9.0, 10.0, 11.0]);
        assert_eq!(maxima(&[1, 4, 2], &Axes::Listed(vec![(1, 2)])), [3.0, 3.0, 7.0, 7.0]);
        assert_eq!(maxima(&[4], &Axes::Last), [3.0; 4]);
    }

    #[test]
    fn bad_axes_and_values_are_errors() {
        let mut scratch = Scratch::<f32>::new();
        assert!(matches!(
            scratch.prepare(&[2, 3], &Axes::Listed(vec![(2, 1)])),
            Err(QuantizeError::ScaleAxis { axis: 2, .. })
        ));
        assert!(scratch.prepare(&[2, 3], &Axes::Listed(vec![(1, 2)])).is_err());
        scratch.prepare(&[2, 2], &Axes::Last).unwrap();
        let found = scratch.max_abs(&[1.0, 2.0, f32::NAN, 0.0]).unwrap_err();
        assert!(matches!(found, QuantizeError::NotFinite { index: 2, .. }));
        scratch.prepare(&[0, 2], &Axes::Last).unwrap();
        scratch.max_abs(&[]).unwrap();
    }

    #[test]
    fn deviation_is_the_population_one() {
        let mut scratch = Scratch::<f64>::new();
        scratch.prepare(&[4, 2], &Axes::Last).unwrap();
        scratch.std_dev(&[1.0, 5.0, 2.0, 5.0, 3.0, 5.0, 4.0, 5.0]);
        assert!((scratch.second[0] - 1.25f64.sqrt()).abs() < 1e-15);
        assert_eq!(scratch.second[1], 0.0);
    }
}
