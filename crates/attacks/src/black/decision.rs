//! What attacks on single samples share: counted answers for many points of one sample, a first adversarial point, and the
//! way from there to the boundary.

use kernels::Real;

use crate::chunk::Chunk;
use crate::error::AttackError;
use crate::geometry::Norm;
use crate::random::{Draw, stream, uniform};

/// One sample under an attack that asks many points of it at a time.
pub(super) struct Sample<'c, 'a, 'm, T: Real> {
    pub(super) chunk: &'c mut Chunk<'a, 'm, T>,
    /// Its slot.
    pub(super) slot: usize,
    /// The clean sample and its box.
    pub(super) x: Vec<f64>,
    pub(super) lo: Vec<f64>,
    pub(super) hi: Vec<f64>,
    rows: Vec<T>,
}

impl<'c, 'a, 'm, T: Real> Sample<'c, 'a, 'm, T> {
    pub(super) fn new(chunk: &'c mut Chunk<'a, 'm, T>, slot: usize) -> Self {
        let wide = |v: &[T]| v.iter().map(|v| v.to_f64()).collect();
        let (x, lo, hi) = (wide(&chunk.x[chunk.at(slot)]), wide(chunk.lo), wide(chunk.hi));
        Self { chunk, slot, x, lo, hi, rows: Vec::new() }
    }

    /// Features.
    pub(super) fn d(&self) -> usize {
        self.x.len()
    }

    /// Widest feature of the box.
    pub(super) fn range(&self) -> f64 {
        self.lo.iter().zip(&self.hi).fold(0.0, |m, (lo, hi)| f64::max(m, hi - lo))
    }

    pub(super) fn stream(&self, draw: Draw, index: u64) -> qtensor::stream::ChaCha8Rng {
        stream(self.chunk.seed, draw, self.chunk.ids[self.slot], index)
    }

    pub(super) fn clip(&self, point: &mut [f64]) {
        for ((p, lo), hi) in point.iter_mut().zip(&self.lo).zip(&self.hi) {
            *p = p.clamp(*lo, *hi);
        }
    }

    pub(super) fn distance(&self, norm: Norm, point: &[f64]) -> f64 {
        norm.distance(point, &self.x)
    }

    /// Margin of every row of `points`: above 0 the goal is reached. One query each.
    pub(super) fn margins(&mut self, points: &[f64]) -> Result<Vec<f64>, AttackError> {
        self.rows.clear();
        self.rows.extend(points.iter().map(|p| T::from_f64(*p)));
        self.chunk.margins_of(self.slot, &self.rows)
    }

    /// Whether every row of `points` is what the adversary wanted. One query each.
    pub(super) fn ask_all(&mut self, points: &[f64]) -> Result<Vec<bool>, AttackError> {
        self.rows.clear();
        self.rows.extend(points.iter().map(|p| T::from_f64(*p)));
        self.chunk.successes_of(self.slot, &self.rows)
    }

    /// The same for one point.
    pub(super) fn ask(&mut self, point: &[f64]) -> Result<bool, AttackError> {
        Ok(self.ask_all(point)?.first().copied().unwrap_or(false))
    }

    /// Takes an adversarial point when it is the closest so far.
    pub(super) fn keep(&mut self, point: &[f64]) {
        self.rows.clear();
        self.rows.extend(point.iter().map(|p| T::from_f64(*p)));
        self.chunk.keep_point(self.slot, &self.rows);
    }

    /// Takes an adversarial point as the answer whatever was found before (`last`), or when it is the closest so far.
    pub(super) fn keep_last(&mut self, point: &[f64], last: bool) {
        if last {
            self.chunk.distance[self.slot] = f64::INFINITY;
        }
        self.keep(point);
    }

    /// The caller's starting point when it is adversarial, else the first of up to `tries` uniform draws from the box that is.
    pub(super) fn first_point(&mut self, draw: Draw, tries: usize) -> Result<Option<Vec<f64>>, AttackError> {
        if let Some(starts) = &self.chunk.starts {
            let point: Vec<f64> = starts[self.chunk.at(self.slot)].iter().map(|v| v.to_f64()).collect();
            if self.ask(&point)? {
                return Ok(Some(point));
            }
        }
        let mut rng = self.stream(draw, u64::MAX);
        for _ in 0..tries {
            let point: Vec<f64> =
                self.lo.iter().zip(&self.hi).map(|(lo, hi)| lo + uniform(&mut rng) * (hi - lo)).collect();
            if self.ask(&point)? {
                return Ok(Some(point));
            }
        }
        Ok(None)
    }

    /// Bisects the segment from the sample to the adversarial `point` down to `threshold` (a share of the segment; in
    /// L-infinity, of the radius to which the point is clipped), and moves `point` to the adversarial end.
    pub(super) fn bisect(
        &mut self,
        norm: Norm,
        point: &mut [f64],
        threshold: f64,
    ) -> Result<(), AttackError> {
        let radius = self.distance(norm, point);
        let (mut low, mut high) = (0.0, if norm == Norm::Linf { radius } else { 1.0 });
        let threshold = if norm == Norm::Linf { (threshold * radius).min(threshold) } else { threshold };
        let place = |x: &[f64], at: f64, out: &mut [f64], point: &[f64]| {
            for ((o, p), x) in out.iter_mut().zip(point).zip(x) {
                *o = if norm == Norm::Linf { p.clamp(x - at, x + at) } else { x + at * (p - x) };
            }
        };
        let (end, mut middle) = (point.to_vec(), point.to_vec());
        while high - low > threshold {
            let at = 0.5 * (low + high);
            if at <= low || at >= high {
                break;
            }
            place(&self.x, at, &mut middle, &end);
            if self.ask(&middle)? {
                high = at;
                point.copy_from_slice(&middle);
            } else {
                low = at;
            }
        }
        Ok(())
    }
}
