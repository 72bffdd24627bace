//! Square attack: random search whose proposals are square windows at the surface of the ball.
//!
//! auto-attack's schedule, pattern and acceptance. Unlike there, window and signs belong to the sample, keyed by
//! (seed, id, restart, iteration), so a sample's fate does not depend on its batch. Two more differences make it
//! stronger and can be switched off (`literal`): windows reach the last row and column, and, as in the authors' own code,
//! signs that would change nothing are redrawn instead of wasting a query.

use kernels::Real;
use qtensor::stream::ChaCha8Rng;

use crate::chunk::Chunk;
use crate::error::AttackError;
use crate::geometry::{Norm, clamp, clip};
use crate::l1;
use crate::random::{Draw, offset, random_sign, stream, uniform};
use crate::spec::Square;

/// Redraws of signs that change nothing, before a query is wasted after all (an eps of no effect would loop for ever).
const REDRAWS: usize = 16;

pub(crate) fn attack<T: Real>(square: &Square, c: &mut Chunk<'_, '_, T>) -> Result<(), AttackError> {
    let mut points = c.x.clone();
    let mut losses = vec![f64::NEG_INFINITY; c.len()];
    let mut scratch = Scratch::new(c.shape, c.norm, square.literal);
    for restart in 0..square.restarts {
        if !c.activate() {
            break;
        }
        losses.fill(f64::NEG_INFINITY);
        for query in 0..square.queries {
            if c.active.is_empty() {
                break;
            }
            let share = square.p_init * schedule(query, square.queries, square.rescale);
            scratch.prepare(query, share);
            for (j, &s) in c.active.iter().enumerate() {
                let mut rng = stream(c.seed, Draw::Square, c.ids[s], ((restart as u64) << 32) | query as u64);
                let (row, x, current) = (c.at(j), &c.x[c.at(s)], &points[c.at(s)]);
                let task = Proposal { x, current, eps: c.eps, lo: c.lo, hi: c.hi };
                let out = &mut c.probe[row];
                match (c.norm, query) {
                    (Norm::Linf, 0) => task.stripes(&mut rng, &scratch, out),
                    (Norm::Linf, _) => task.window(&mut rng, &mut scratch, out),
                    (_, 0) => task.tiles(&mut rng, &mut scratch, out),
                    _ => task.swap(&mut rng, &mut scratch, out),
                }
            }
            c.query(square.loss)?;
            for j in 0..c.active.len() {
                let (s, success) = (c.active[j], c.offer(j));
                if c.values[j] > losses[s] || success {
                    losses[s] = c.values[j];
                    let (to, from) = (c.at(s), c.at(j));
                    points[to].copy_from_slice(&c.probe[from]);
                }
            }
            c.retain_survivors();
            c.tick(restart * square.queries + query + 1, square.restarts * square.queries);
        }
    }
    Ok(())
}

/// Share of the first windows' area after `query` queries (thresholds are for 10,000 queries).
fn schedule(query: usize, queries: usize, rescale: bool) -> f64 {
    let at = if rescale { query * 10_000 / queries } else { query };
    let halvings = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000].iter().filter(|&&t| at > t).count();
    0.5f64.powi(halvings as i32)
}

/// Geometry of the current iteration and buffers shared by all samples.
struct Scratch<T> {
    /// Whether auto-attack's two weaknesses are kept.
    literal: bool,
    norm: Norm,
    height: usize,
    width: usize,
    channels: usize,
    /// Window height and width.
    window: [usize; 2],
    /// Pattern of side `window[0]` and its transpose (L2 and L1).
    pattern: [Vec<f64>; 2],
    delta: Vec<f64>,
    signs: Vec<T>,
    /// Per-channel sums of squares (in L1 of magnitudes) over the first window and over both.
    budget: Vec<[f64; 2]>,
}

impl<T: Real> Scratch<T> {
    fn new([height, width, channels]: [usize; 3], norm: Norm, literal: bool) -> Self {
        Self {
            literal,
            norm,
            height,
            width,
            channels,
            window: [0, 0],
            pattern: [Vec::new(), Vec::new()],
            delta: vec![0.0; height * width * channels],
            signs: vec![T::ONE; channels],
            budget: vec![[0.0; 2]; channels],
        }
    }

    /// Sets the window (and in L2 and L1 the pattern) for an iteration.
    fn prepare(&mut self, query: usize, share: f64) {
        let (h, w) = (self.height, self.width);
        let side = (share * (h * w) as f64).sqrt().round_ties_even() as usize;
        let window = match self.norm {
            // A square where it fits; on narrow inputs a rectangle of the same area.
            Norm::Linf => {
                let side = side.max(1);
                let (wh, ww) = (side.min(h), side.min(w));
                [(side * side / ww).clamp(1, h), (side * side / wh).clamp(1, w)]
            }
            _ if query == 0 => [(h.min(w) / 5).max(1); 2],
            _ => {
                let side = side.max(3).min(h.min(w));
                [if side % 2 == 0 && side + 1 > h.min(w) { side - 1 } else { side | 1 }.max(1); 2]
            }
        };
        if window != self.window && self.norm != Norm::Linf {
            self.pattern = pattern(self.norm, window[0]);
        }
        self.window = window;
    }

    fn draw_signs(&mut self, rng: &mut ChaCha8Rng) {
        for sign in &mut self.signs {
            *sign = random_sign(rng);
        }
    }

    fn draw_corner(&self, rng: &mut ChaCha8Rng) -> [usize; 2] {
        let spare = usize::from(self.literal);
        let [height, width] = self.window;
        let mut draw = |room: usize| offset(rng, room.saturating_sub(spare));
        [draw(self.height - height), draw(self.width - width)]
    }
}

/// One sample's next point.
struct Proposal<'a, T> {
    x: &'a [T],
    current: &'a [T],
    eps: f64,
    lo: &'a [T],
    hi: &'a [T],
}

impl<T: Real> Proposal<'_, T> {
    /// First L-infinity point: every (column, channel) at +-eps.
    fn stripes(&self, rng: &mut ChaCha8Rng, g: &Scratch<T>, out: &mut [T]) {
        let (stripe, eps) = (g.width * g.channels, T::from_f64(self.eps));
        for i in 0..stripe {
            let shift = eps * random_sign::<T>(rng);
            for p in (i..out.len()).step_by(stripe) {
                out[p] = clamp(self.x[p] + shift, self.lo[p], self.hi[p]);
            }
        }
    }

    /// L-infinity: one window at +-eps per channel.
    fn window(&self, rng: &mut ChaCha8Rng, g: &mut Scratch<T>, out: &mut [T]) {
        out.copy_from_slice(self.current);
        let [top, left] = g.draw_corner(rng);
        let (run, eps) = (g.window[1] * g.channels, T::from_f64(self.eps));
        for _ in 0..if g.literal { 1 } else { REDRAWS } {
            g.draw_signs(rng);
            let mut changed = false;
            for row in top..top + g.window[0] {
                let from = (row * g.width + left) * g.channels;
                for (p, &sign) in (from..from + run).zip(g.signs.iter().cycle()) {
                    let v = clamp(self.x[p] + eps * sign, self.lo[p], self.hi[p]);
                    changed |= v != self.current[p];
                    out[p] = v;
                }
            }
            if changed {
                break;
            }
        }
    }

    /// First L2 or L1 point: a grid of patterns.
    fn tiles(&self, rng: &mut ChaCha8Rng, g: &mut Scratch<T>, out: &mut [T]) {
        let side = g.window[0];
        let (rows, columns) = (g.height / side, g.width / side);
        let (top, left) = ((g.height - rows * side) / 2, (g.width - columns * side) / 2);
        g.delta.fill(0.0);
        for tile in 0..rows * columns {
            let corner = [top + tile / columns * side, left + tile % columns * side];
            let turned = usize::from(uniform(rng) > 0.5);
            g.draw_signs(rng);
            for i in 0..side * side {
                let p = g.pixel(corner, i);
                for ch in 0..g.channels {
                    g.delta[p + ch] = g.pattern[turned][i] * g.signs[ch].to_f64();
                }
            }
        }
        self.apply(g.norm, &g.delta, out);
    }

    /// L2 and L1: moves the budget of a second window, and what the box left unused, into the first one. In L1 the first
    /// window gets that many times over, as often as there are channels, and the projection decides who keeps it.
    fn swap(&self, rng: &mut ChaCha8Rng, g: &mut Scratch<T>, out: &mut [T]) {
        for ((delta, p), x) in g.delta.iter_mut().zip(self.current).zip(self.x) {
            *delta = p.to_f64() - x.to_f64();
        }
        let (first, second) = (g.draw_corner(rng), g.draw_corner(rng));
        let turned = usize::from(uniform(rng) > 0.5);
        g.draw_signs(rng);
        let area = g.window[0] * g.window[1];
        let l1 = g.norm == Norm::L1;
        let (size, root) =
            (|v: f64| if l1 { v.abs() } else { v * v }, |v: f64| if l1 { v } else { v.sqrt() });
        let times = if l1 { g.channels as f64 } else { 1.0 };
        let total: f64 = g.delta.iter().map(|v| size(*v)).sum();
        g.budget.fill([0.0; 2]);
        for i in 0..area {
            let (p, q) = (g.pixel(first, i), g.pixel(second, i));
            let shared = g.inside(second, first, i);
            for ch in 0..g.channels {
                let (a, b) = (size(g.delta[p + ch]), size(g.delta[q + ch]));
                g.budget[ch][0] += a;
                g.budget[ch][1] += if shared { a } else { a + b };
            }
        }
        let unused = (size(self.eps) - total).max(0.0) / g.channels as f64;
        // The new first window: the pattern plus the old direction, rescaled per channel.
        for ch in 0..g.channels {
            let [own, both] = g.budget[ch];
            let (old, sign) = (1.0 / (1e-12 + root(own)), g.signs[ch].to_f64());
            let mut length = 0.0;
            for i in 0..area {
                let p = g.pixel(first, i) + ch;
                let v = g.pattern[turned][i] * sign + g.delta[p] * old;
                length += size(v);
            }
            g.budget[ch] = [old, times * root(unused + both) / (1e-12 + root(length))];
        }
        // The second window is emptied after the first one was read and before it is written: they may overlap.
        for i in 0..area {
            let p = g.pixel(first, i);
            for ch in 0..g.channels {
                let [old, scale] = g.budget[ch];
                let v = g.pattern[turned][i] * g.signs[ch].to_f64() + g.delta[p + ch] * old;
                g.delta[p + ch] = v * scale;
            }
        }
        for i in 0..area {
            if !g.inside(second, first, i) {
                let q = g.pixel(second, i);
                g.delta[q..q + g.channels].fill(0.0);
            }
        }
        self.apply(g.norm, &g.delta, out);
    }

    /// `x + eps * delta / ||delta||_2`, clipped; in L1 the nearest point to `x + delta` in ball and box, where a `delta`
    /// inside the ball is first stretched to its surface.
    fn apply(&self, norm: Norm, delta: &[f64], out: &mut [T]) {
        let length = norm.length(delta);
        let scale = if length > 0.0 { self.eps / length } else { 0.0 };
        let scale = if norm == Norm::L1 { scale.max(1.0) } else { scale };
        for ((out, &x), delta) in out.iter_mut().zip(self.x).zip(delta) {
            *out = x + T::from_f64(delta * scale);
        }
        if norm == Norm::L1 {
            return l1::project(out, self.x, self.eps, self.lo, self.hi);
        }
        clip(out, self.lo, self.hi);
    }
}

impl<T> Scratch<T> {
    /// Index of the first channel of pixel `i` of a window.
    fn pixel(&self, [top, left]: [usize; 2], i: usize) -> usize {
        let (row, column) = (i / self.window[1], i % self.window[1]);
        ((top + row) * self.width + left + column) * self.channels
    }

    /// Whether pixel `i` of the window at `of` lies in the window at `other`.
    fn inside(&self, of: [usize; 2], other: [usize; 2], i: usize) -> bool {
        let (row, column) = (of[0] + i / self.window[1], of[1] + i % self.window[1]);
        (other[0]..other[0] + self.window[0]).contains(&row)
            && (other[1]..other[1] + self.window[1]).contains(&column)
    }
}

/// auto-attack's `eta(s)`: two half-rectangles of opposite sign built from concentric bumps, of unit length; and its transpose.
fn pattern(norm: Norm, side: usize) -> [Vec<f64>; 2] {
    let mut p = vec![0.0; side * side];
    let half = side / 2;
    bumps(norm, &mut p[..half * side], half, side);
    bumps(norm, &mut p[half * side..], side - half, side);
    for v in &mut p[half * side..] {
        *v = -*v;
    }
    let length = norm.length(&p);
    for v in &mut p {
        *v /= length;
    }
    let turned = (0..side * side).map(|i| p[i % side * side + i / side]).collect();
    [p, turned]
}

/// Concentric rectangles weighted `1 / (k + 1)^2`, in L1 `1 / (k + 1)^4`, of unit length.
fn bumps(norm: Norm, out: &mut [f64], rows: usize, columns: usize) {
    let (cr, cc) = (rows / 2 + 1, columns / 2 + 1);
    for k in 0..cr.max(cc) {
        let square = ((k + 1) * (k + 1)) as f64;
        let weight = 1.0 / if norm == Norm::L1 { square * square } else { square };
        for row in (cr - 1).saturating_sub(k)..(cr + k).min(rows) {
            for column in (cc - 1).saturating_sub(k)..(cc + k).min(columns) {
                out[row * columns + column] += weight;
            }
        }
    }
    let length = norm.length(out);
    if length > 0.0 {
        out.iter_mut().for_each(|v| *v /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_is_auto_attacks() {
        let at = |q| schedule(q, 5000, false);
        assert_eq!(
            [at(0), at(10), at(11), at(50), at(51), at(4999)],
            [1.0, 1.0, 0.5, 0.5, 0.25, 1.0 / 128.0]
        );
        assert_eq!(schedule(499, 500, true), 1.0 / 512.0);
    }

    #[test]
    fn windows_keep_their_area_on_narrow_inputs() {
        let mut g = Scratch::<f32>::new([49, 10, 1], Norm::Linf, false);
        g.prepare(1, 0.8);
        assert_eq!(g.window, [40, 10]);
        let mut g = Scratch::<f32>::new([490, 1, 1], Norm::Linf, false);
        g.prepare(1, 0.2);
        assert_eq!(g.window, [100, 1]);
        let mut g = Scratch::<f32>::new([16, 16, 3], Norm::Linf, false);
        g.prepare(1, 0.8);
        assert_eq!(g.window, [14, 14]);
        for norm in [Norm::L2, Norm::L1] {
            let mut g = Scratch::<f32>::new([16, 16, 3], norm, false);
            g.prepare(1, 0.8);
            assert_eq!(g.window, [15, 15]);
        }
    }

    #[test]
    fn patterns_have_unit_length_and_balance() {
        for (norm, side) in (1..12).flat_map(|side| [(Norm::L2, side), (Norm::L1, side)]) {
            let [p, t] = pattern(norm, side);
            assert!((norm.length(&p) - 1.0).abs() < 1e-12);
            assert_eq!(p[0], t[0]);
            if side > 1 {
                assert!(p[0] > 0.0 && p[side * side - 1] < 0.0, "{side}");
            }
        }
    }
}
