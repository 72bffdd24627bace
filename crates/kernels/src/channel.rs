//! Operations along the last axis: scale and shift per channel, and sums over everything but the channel.

use crate::dispatch::every_path;
use crate::error::length;
use crate::lanes::{for_each_block, lanes, lanes_mut};
use crate::scratch::Scratch;
use crate::{KernelError, Real, parallel};

/// `y[i, c] = sum_t x_t[i, c] * a_t[c] + bias[c]` for `terms = [(x_t, a_t)]`, terms added in order. `a_t` and `bias`
/// have `c` elements, the `x_t` and `y` a multiple of that. `y` is overwritten.
///
/// # Errors
/// No term and no bias, slices whose lengths disagree, or a `y` that is no multiple of `c`.
pub fn affine<T: Real>(terms: &[(&[T], &[T])], bias: Option<&[T]>, y: &mut [T]) -> Result<(), KernelError> {
    const OP: &str = "channel::affine";
    let Some(c) = bias.map(<[T]>::len).or_else(|| terms.first().map(|t| t.1.len())) else {
        return Err(KernelError::Geometry { op: OP, reason: "no term and no bias", sizes: [0; 4] });
    };
    rows(OP, y.len(), c)?;
    for (x, a) in terms {
        length(OP, "x", y.len(), x.len())?;
        length(OP, "a", c, a.len())?;
    }
    let chunk = parallel::rows_per_chunk(y.len() / c, c, CHUNK) * c;
    parallel::for_each_chunk(y, chunk, |i, y| affine_rows(terms, bias, y, c, i * chunk));
    Ok(())
}

/// `out[c] = sum_i x[i, c] * y[i, c]`. Products and partial sums are doubles, over fixed chunks added in order.
///
/// # Errors
/// `x` and `y` of different lengths, or no multiple of `out`'s.
pub fn dot<T: Real>(x: &[T], y: &[T], out: &mut [T]) -> Result<(), KernelError> {
    length("channel::dot", "y", x.len(), y.len())?;
    reduce("channel::dot", x.len(), out, |range, acc| dot_rows(&x[range.clone()], &y[range], acc))
}

/// `out[c] = sum_i x[i, c]`. Partial sums are doubles, over fixed chunks added in order.
///
/// # Errors
/// An `x` whose length is no multiple of `out`'s.
pub fn sum<T: Real>(x: &[T], out: &mut [T]) -> Result<(), KernelError> {
    reduce("channel::sum", x.len(), out, |range, acc| sum_rows(&x[range], acc))
}

/// Adds `sum_i x[i, c] * y[i, c]` to `sums[c]`, on the calling thread.
///
/// # Errors
/// As [`dot`].
pub fn add_dot<T: Real>(x: &[T], y: &[T], sums: &mut [f64]) -> Result<(), KernelError> {
    length("channel::add_dot", "y", x.len(), y.len())?;
    rows("channel::add_dot", x.len(), sums.len())?;
    dot_rows(x, y, sums);
    Ok(())
}

/// Adds `sum_i x[i, c]` to `sums[c]`, on the calling thread.
///
/// # Errors
/// As [`sum`].
pub fn add_sum<T: Real>(x: &[T], sums: &mut [f64]) -> Result<(), KernelError> {
    rows("channel::add_sum", x.len(), sums.len())?;
    sum_rows(x, sums);
    Ok(())
}

/// Elements of one parallel chunk.
const CHUNK: usize = 1 << 15;
/// Elements of one summation chunk, and how many of them there are at most.
const SUM_CHUNK: usize = 1 << 14;
const MAX_SUMS: usize = 64;

fn rows(op: &'static str, len: usize, c: usize) -> Result<usize, KernelError> {
    if c == 0 || !len.is_multiple_of(c) {
        return Err(KernelError::Geometry {
            op,
            reason: "the length is no multiple of the channels (length, channels)",
            sizes: [len, c, 0, 0],
        });
    }
    Ok(len / c)
}

/// Sums chunks of rows into one double per channel each, then the chunks in order.
fn reduce<T: Real>(
    op: &'static str,
    len: usize,
    out: &mut [T],
    part: impl Fn(core::ops::Range<usize>, &mut [f64]) + Sync + Send,
) -> Result<(), KernelError> {
    let c = out.len();
    let rows = rows(op, len, c)?;
    let chunk = (SUM_CHUNK / c).max(1).max(rows.div_ceil(MAX_SUMS)) * c;
    let mut partial = Scratch::<f64>::filled(len.div_ceil(chunk).max(1) * c, 0.0);
    parallel::for_each_chunk(&mut partial, c, |i, acc| {
        part(i * chunk..((i + 1) * chunk).min(len), acc);
    });
    let (total, rest) = partial.split_at_mut(c);
    for chunk in rest.chunks_exact(c) {
        total.iter_mut().zip(chunk).for_each(|(t, &p)| *t += p);
    }
    out.iter_mut().zip(total).for_each(|(o, &mut t)| *o = T::from_f64(t));
    Ok(())
}

every_path! {
    fn affine_rows<T: Real>(terms: &[(&[T], &[T])], bias: Option<&[T]>, y: &mut [T], c: usize, at: usize) {
        match (terms, bias) {
            ([(x, a)], None) => each::<T, FUSED, WIDE, 1>([(&x[at..], *a)], None, y, c),
            ([(x, a)], Some(b)) => each::<T, FUSED, WIDE, 1>([(&x[at..], *a)], Some(b), y, c),
            ([(x, a), (z, b)], bias) => {
                each::<T, FUSED, WIDE, 2>([(&x[at..], *a), (&z[at..], *b)], bias, y, c);
            }
            ([(x, a), (z, b), (u, d)], bias) => {
                each::<T, FUSED, WIDE, 3>([(&x[at..], *a), (&z[at..], *b), (&u[at..], *d)], bias, y, c);
            }
            ([(x, a), (z, b), (u, d), (v, e)], bias) => {
                let terms = [(&x[at..], *a), (&z[at..], *b), (&u[at..], *d), (&v[at..], *e)];
                each::<T, FUSED, WIDE, 4>(terms, bias, y, c);
            }
            (terms, bias) => {
                for (i, y) in y.chunks_exact_mut(c).enumerate() {
                    match bias {
                        Some(bias) => y.copy_from_slice(bias),
                        None => y.fill(T::ZERO),
                    }
                    for (x, a) in terms {
                        let x = &x[at + i * c..][..c];
                        for ((y, &x), &a) in y.iter_mut().zip(x).zip(*a) {
                            *y = x.madd::<FUSED>(a, *y);
                        }
                    }
                }
            }
        }
    }
}

/// [`affine`] for a number of terms known at compile time.
#[inline(always)]
fn each<T: Real, const FUSED: bool, const WIDE: bool, const N: usize>(
    terms: [(&[T], &[T]); N],
    bias: Option<&[T]>,
    y: &mut [T],
    c: usize,
) {
    let rows = y.len() / c;
    // Blocks outside, rows inside: the factors of a block stay in registers.
    for_each_block!(c, [32, 16, 8, 1] if WIDE else [16, 8, 1], |start, L| {
        let factors = terms.map(|(_, a)| *lanes::<T, L>(a, start));
        let zero = bias.map_or([T::ZERO; L], |bias| *lanes::<T, L>(bias, start));
        for i in 0..rows {
            let mut acc = zero;
            for (n, (x, _)) in terms.iter().enumerate() {
                let x = lanes::<T, L>(x, i * c + start);
                for l in 0..L {
                    acc[l] = x[l].madd::<FUSED>(factors[n][l], acc[l]);
                }
            }
            *lanes_mut::<T, L>(y, i * c + start) = acc;
        }
    });
}

every_path! {
    /// Adds to `out`.
    fn dot_rows<T: Real>(x: &[T], y: &[T], out: &mut [f64]) {
        let c = out.len();
        for_each_block!(c, [32, 16, 4, 1] if WIDE else [16, 4, 1], |start, L| {
            let mut acc = *lanes::<f64, L>(out, start);
            for (x, y) in x.chunks_exact(c).zip(y.chunks_exact(c)) {
                let (x, y) = (lanes::<T, L>(x, start), lanes::<T, L>(y, start));
                for l in 0..L {
                    acc[l] = x[l].to_f64().madd::<FUSED>(y[l].to_f64(), acc[l]);
                }
            }
            *lanes_mut::<f64, L>(out, start) = acc;
        });
    }
}

every_path! {
    /// Adds to `out`.
    fn sum_rows<T: Real>(x: &[T], out: &mut [f64]) {
        let c = out.len();
        for_each_block!(c, [32, 16, 4, 1] if WIDE else [16, 4, 1], |start, L| {
            let mut acc = *lanes::<f64, L>(out, start);
            for x in x.chunks_exact(c) {
                let x = lanes::<T, L>(x, start);
                for l in 0..L {
                    acc[l] += x[l].to_f64();
                }
            }
            *lanes_mut::<f64, L>(out, start) = acc;
        });
    }
}
