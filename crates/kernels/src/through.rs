//! Elementwise functions of a scale and shift per channel in one pass: batch normalisation and what follows it, forwards
//! and backwards. The same bits as one operation of [`crate::channel`] after another.

use crate::dispatch::{EveryPath, on_every_path};
use crate::error::length;
use crate::lanes::{for_each_block, lanes, lanes_mut};
use crate::prefetch::{line_soon, line_to_write_soon};
use crate::{KernelError, Real};

/// `t[i, c] = x[i, c] * a[c] + b[c]`, which is never stored.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a, T> {
    /// `[.., c]`
    pub x: &'a [T],
    /// `[c]`
    pub a: &'a [T],
    /// `[c]`; 0 if absent.
    pub b: Option<&'a [T]>,
}

/// What a loop announces to be read soon, so that it is brought nearer meanwhile: what lies so many elements behind the ones
/// it reads. The hardware guesses too little of it where a loop runs over one short piece of memory after another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ahead {
    /// Elements ahead in `x`; 0 announces nothing.
    pub x: usize,
    /// Elements ahead in `g`.
    pub g: usize,
    /// Elements ahead in what is written.
    pub y: usize,
}

impl Ahead {
    #[inline(always)]
    fn announce<T, const L: usize>(self, x: &[T; L], g: &[T; L]) {
        if self.x > 0 {
            lines(x, self.x, line_soon);
        }
        if self.g > 0 {
            lines(g, self.g, line_soon);
        }
    }

    #[inline(always)]
    fn announce_write<T, const L: usize>(self, y: &[T; L]) {
        if self.y > 0 {
            lines(y, self.y, line_to_write_soon);
        }
    }
}

/// Calls `f` for the lines of a block that lies `ahead` of another.
#[inline(always)]
fn lines<T, const L: usize>(block: &[T; L], ahead: usize, f: impl Fn(*const T)) {
    let first = block.as_ptr().wrapping_add(ahead);
    (0..L).step_by((64 / size_of::<T>()).max(1)).for_each(|at| f(first.wrapping_add(at)));
}

/// `c`, which must divide `len`.
fn channels(op: &'static str, len: usize, c: usize) -> Result<usize, KernelError> {
    if c == 0 || !len.is_multiple_of(c) {
        let reason = "x is no multiple of the channels";
        return Err(KernelError::Geometry { op, reason, sizes: [len, c, 0, 0] });
    }
    Ok(c)
}

impl<T: Real> Affine<'_, T> {
    /// Fails if the tensors of the size of `x` or the rows of one value per channel are not that.
    fn check<const N: usize, const M: usize>(
        &self,
        op: &'static str,
        tensors: [(&'static str, usize); N],
        rows: [(&'static str, usize); M],
    ) -> Result<(), KernelError> {
        let c = channels(op, self.x.len(), self.a.len())?;
        length(op, "b", c, self.b.map_or(c, <[T]>::len))?;
        tensors.into_iter().try_for_each(|(name, len)| length(op, name, self.x.len(), len))?;
        rows.into_iter().try_for_each(|(name, len)| length(op, name, c, len))
    }

    /// `a` and `b` of a block of channels.
    #[inline(always)]
    fn block<const L: usize>(&self, start: usize) -> ([T; L], [T; L]) {
        (*lanes(self.a, start), self.b.map_or([T::ZERO; L], |b| *lanes(b, start)))
    }
}

/// `y = f(t, g)`, on the calling thread; without a `g`, `f` sees `x` in its place. `y` is overwritten.
///
/// # Errors
/// Slices whose lengths disagree.
pub fn map<T: Real>(
    of: Affine<'_, T>,
    ahead: Ahead,
    g: Option<&[T]>,
    f: impl Fn(T, T) -> T + Copy,
    y: &mut [T],
) -> Result<(), KernelError> {
    let g = g.unwrap_or(of.x);
    of.check("through::map", [("g", g.len()), ("y", y.len())], [])?;
    on_every_path(Map { of, ahead, g, f, y });
    Ok(())
}

struct Map<'a, T, F> {
    of: Affine<'a, T>,
    ahead: Ahead,
    g: &'a [T],
    f: F,
    y: &'a mut [T],
}

impl<T: Real, F: Fn(T, T) -> T + Copy> EveryPath for Map<'_, T, F> {
    #[inline(always)]
    fn run<const FUSED: bool, const WIDE: bool>(self) {
        let Self { of, ahead, g, f, y } = self;
        let c = of.a.len();
        for_each_block!(c, [32, 16, 8, 1] if WIDE else [16, 8, 1], |start, L| {
            let (a, b) = of.block::<L>(start);
            for row in (start..y.len()).step_by(c) {
                let (x, g) = (lanes::<T, L>(of.x, row), lanes::<T, L>(g, row));
                ahead.announce(x, g);
                let mut out = [T::ZERO; L];
                for l in 0..L {
                    out[l] = f(x[l].madd::<FUSED>(a[l], b[l]), g[l]);
                }
                let y = lanes_mut::<T, L>(y, row);
                ahead.announce_write(y);
                *y = out;
            }
        });
    }
}

/// Adds the sums over everything but the channel of `f(t, g) * x` to `dots` and of `f(t, g)` to `sums`, on the calling
/// thread, in doubles: the gradients of batch normalisation's scale and shift.
///
/// # Errors
/// Slices whose lengths disagree.
pub fn add_sums<T: Real>(
    of: Affine<'_, T>,
    ahead: Ahead,
    g: &[T],
    f: impl Fn(T, T) -> T + Copy,
    (dots, sums): (&mut [f64], &mut [f64]),
) -> Result<(), KernelError> {
    of.check("through::add_sums", [("g", g.len())], [("dots", dots.len()), ("sums", sums.len())])?;
    on_every_path(Sums { of, ahead, g, f, dots, sums });
    Ok(())
}

struct Sums<'a, T, F> {
    of: Affine<'a, T>,
    ahead: Ahead,
    g: &'a [T],
    f: F,
    dots: &'a mut [f64],
    sums: &'a mut [f64],
}

impl<T: Real, F: Fn(T, T) -> T + Copy> EveryPath for Sums<'_, T, F> {
    #[inline(always)]
    fn run<const FUSED: bool, const WIDE: bool>(self) {
        let Self { of, ahead, g, f, dots, sums } = self;
        let c = of.a.len();
        for_each_block!(c, [32, 16, 8, 1] if WIDE else [16, 8, 1], |start, L| {
            let (a, b) = of.block::<L>(start);
            let (mut dot, mut sum) = (*lanes::<f64, L>(dots, start), *lanes::<f64, L>(sums, start));
            for row in (start..g.len()).step_by(c) {
                let (x, g) = (lanes::<T, L>(of.x, row), lanes::<T, L>(g, row));
                ahead.announce(x, g);
                for l in 0..L {
                    let v = f(x[l].madd::<FUSED>(a[l], b[l]), g[l]).to_f64();
                    dot[l] = v.madd::<FUSED>(x[l].to_f64(), dot[l]);
                    sum[l] += v;
                }
            }
            *lanes_mut::<f64, L>(dots, start) = dot;
            *lanes_mut::<f64, L>(sums, start) = sum;
        });
    }
}

/// Adds the sums over everything but the channel of `x` to `sums` and of its squares to `squares`, on the calling thread,
/// in doubles: what batch normalisation takes its statistics from.
///
/// # Errors
/// Slices whose lengths disagree.
pub fn add_moments<T: Real>(
    x: &[T],
    ahead: Ahead,
    (squares, sums): (&mut [f64], &mut [f64]),
) -> Result<(), KernelError> {
    const OP: &str = "through::add_moments";
    length(OP, "squares", sums.len(), squares.len())?;
    channels(OP, x.len(), sums.len())?;
    on_every_path(Moments { x, ahead, squares, sums });
    Ok(())
}

struct Moments<'a, T> {
    x: &'a [T],
    ahead: Ahead,
    squares: &'a mut [f64],
    sums: &'a mut [f64],
}

impl<T: Real> EveryPath for Moments<'_, T> {
    #[inline(always)]
    fn run<const FUSED: bool, const WIDE: bool>(self) {
        let Self { x, ahead, squares, sums } = self;
        let c = sums.len();
        for_each_block!(c, [32, 16, 8, 1] if WIDE else [16, 8, 1], |start, L| {
            let (mut square, mut sum) = (*lanes::<f64, L>(squares, start), *lanes::<f64, L>(sums, start));
            for row in (start..x.len()).step_by(c) {
                let x = lanes::<T, L>(x, row);
                ahead.announce(x, x);
                for l in 0..L {
                    let v = x[l].to_f64();
                    square[l] = v.madd::<FUSED>(v, square[l]);
                    sum[l] += v;
                }
            }
            *lanes_mut::<f64, L>(squares, start) = square;
            *lanes_mut::<f64, L>(sums, start) = sum;
        });
    }
}

/// `y = f(t, g) * outer.0[c] + x * outer.1[c] + outer.2[c]`, on the calling thread: the gradient of batch normalisation's
/// input. `y` is overwritten.
///
/// # Errors
/// Slices whose lengths disagree.
pub fn map_affine<T: Real>(
    of: Affine<'_, T>,
    ahead: Ahead,
    g: &[T],
    f: impl Fn(T, T) -> T + Copy,
    outer: (&[T], &[T], &[T]),
    y: &mut [T],
) -> Result<(), KernelError> {
    let factors = [outer.0, outer.1, outer.2].map(|factors| ("outer", factors.len()));
    of.check("through::map_affine", [("g", g.len()), ("y", y.len())], factors)?;
    on_every_path(MapAffine { of, ahead, g, f, outer, y });
    Ok(())
}

struct MapAffine<'a, T, F> {
    of: Affine<'a, T>,
    ahead: Ahead,
    g: &'a [T],
    f: F,
    outer: (&'a [T], &'a [T], &'a [T]),
    y: &'a mut [T],
}

impl<T: Real, F: Fn(T, T) -> T + Copy> EveryPath for MapAffine<'_, T, F> {
    #[inline(always)]
    fn run<const FUSED: bool, const WIDE: bool>(self) {
        let Self { of, ahead, g, f, outer, y } = self;
        let c = of.a.len();
        for_each_block!(c, [32, 16, 8, 1] if WIDE else [8, 1], |start, L| {
            let (a, b) = of.block::<L>(start);
            let [p, q, r] = [outer.0, outer.1, outer.2].map(|factors| *lanes::<T, L>(factors, start));
            for row in (start..y.len()).step_by(c) {
                let (x, g) = (lanes::<T, L>(of.x, row), lanes::<T, L>(g, row));
                ahead.announce(x, g);
                let mut out = [T::ZERO; L];
                for l in 0..L {
                    let v = f(x[l].madd::<FUSED>(a[l], b[l]), g[l]);
                    out[l] = x[l].madd::<FUSED>(q[l], v.madd::<FUSED>(p[l], r[l]));
                }
                let y = lanes_mut::<T, L>(y, row);
                ahead.announce_write(y);
                *y = out;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel;
    use alloc::vec;
    use alloc::vec::Vec;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        core::iter::repeat_with(next).take(n).collect()
    }

    #[test]
    fn one_pass_has_the_bits_of_several() {
        for (rows, c) in [(0, 3), (1, 1), (5, 7), (9, 32), (4, 61), (3, 128)] {
            let (x, g) = (numbers(rows * c, 1), numbers(rows * c, 2));
            let [a, b, p, q, r] = [3, 4, 5, 6, 7].map(|seed| numbers(c, seed));
            let f = |t: f32, g: f32| if t > 0.0 { g } else { 0.25 * g };
            for (b, near) in [(None, Ahead { x: 64, g: 1 << 20, y: 32 }), (Some(&b[..]), Ahead::default())] {
                let of = Affine { x: &x, a: &a, b };
                let mut t = vec![0.0; rows * c];
                channel::affine(&[(&x, &a)], b, &mut t).unwrap();
                let v: Vec<f32> = t.iter().zip(&g).map(|(&t, &g)| f(t, g)).collect();
                let mut y = vec![9.0; rows * c];
                map(of, near, Some(&g), f, &mut y).unwrap();
                assert_eq!(y, v);
                map(of, near, None, |t, _| t, &mut y).unwrap();
                assert_eq!(y, t);

                let mut expected = (vec![1.0; c], vec![2.0; c]);
                channel::add_dot(&v, &x, &mut expected.0).unwrap();
                channel::add_sum(&v, &mut expected.1).unwrap();
                let mut found = (vec![1.0; c], vec![2.0; c]);
                add_sums(of, near, &g, f, (&mut found.0, &mut found.1)).unwrap();
                assert_eq!(found, expected);

                let mut expected = (vec![1.0; c], vec![2.0; c]);
                channel::add_dot(&x, &x, &mut expected.0).unwrap();
                channel::add_sum(&x, &mut expected.1).unwrap();
                let mut found = (vec![1.0; c], vec![2.0; c]);
                add_moments(&x, near, (&mut found.0, &mut found.1)).unwrap();
                assert_eq!(found, expected);

                let mut expected = vec![0.0; rows * c];
                channel::affine(&[(&v, &p), (&x, &q)], Some(&r), &mut expected).unwrap();
                map_affine(of, near, &g, f, (&p, &q, &r), &mut y).unwrap();
                assert_eq!(y, expected);
            }
        }
    }

    #[test]
    fn lengths_that_disagree_are_errors() {
        let near = Ahead::default();
        let (six, two, three) = ([0.0_f32; 6], [0.0; 2], [0.0; 3]);
        let (of, f) = (Affine { x: &six, a: &two, b: None }, |t: f32, _| t);
        let mut y = [0.0; 6];
        assert!(map(of, near, Some(&three), f, &mut y).is_err());
        assert!(map(of, near, None, f, &mut y[..4]).is_err());
        assert!(map(Affine { b: Some(&three), ..of }, near, None, f, &mut y).is_err());
        assert!(map(Affine { x: &six[..5], ..of }, near, None, f, &mut y[..5]).is_err());
        assert!(map(Affine { a: &[], ..of }, near, None, f, &mut y).is_err());
        assert!(add_sums(of, near, &six, f, (&mut [0.0; 3], &mut [0.0; 2])).is_err());
        assert!(add_moments(&six, near, (&mut [0.0; 3], &mut [0.0; 2])).is_err());
        assert!(add_moments(&six, near, (&mut [0.0; 4], &mut [0.0; 4])).is_err());
        assert!(map_affine(of, near, &six, f, (&two, &two, &three), &mut y).is_err());
    }
}
