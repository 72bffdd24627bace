//! 2-D convolution of floats, its input gradient and its weight gradient, each linear in either argument.
//!
//! `forward(x, w)`, `input_grad(dy, w)` and `weight_grad(x, dy)` are the three faces of one trilinear form
//! `sum dy * conv(x, w)`: each is the derivative of that form by the argument it lacks. That closes differentiation.

mod patches;

use crate::error::length;
use crate::gemm::{MatRef, product};
use crate::geometry::{Conv2d, Conv2dSizes};
use crate::scratch::Scratch;
use crate::{KernelError, Real, parallel};

/// Bytes of patches unfolded at a time: with the packed operands they stay in a 512 KiB second-level cache.
const STRIP_BYTES: usize = 192 << 10;
/// Output pixels of a strip at least, so that packing the weights again for each strip stays cheap.
const STRIP_PIXELS: usize = 128;

/// `y = conv(x, w)`. `x` `[n, h, w, cin]`, `w` `[kh, kw, cin, cout]`, `y` `[n, oh, ow, cout]`, which is overwritten.
///
/// # Errors
/// Slices whose lengths are not the geometry's.
pub fn forward<T: Real>(g: &Conv2d, x: &[T], w: &[T], y: &mut [T]) -> Result<(), KernelError> {
    check(g, "conv2d::forward", [("x", x.len()), ("w", w.len()), ("y", y.len())], [0, 1, 2])?;
    correlate(g, x, w, y);
    Ok(())
}

/// `dx = d(sum dy * conv(x, w)) / dx`. `dy` `[n, oh, ow, cout]`, `dx` `[n, h, w, cin]`, which is overwritten.
///
/// # Errors
/// Slices whose lengths are not the geometry's.
pub fn input_grad<T: Real>(g: &Conv2d, dy: &[T], w: &[T], dx: &mut [T]) -> Result<(), KernelError> {
    check(g, "conv2d::input_grad", [("dy", dy.len()), ("w", w.len()), ("dx", dx.len())], [2, 1, 0])?;
    if g.stride_h == 1 && g.stride_w == 1 {
        let t = g.transposed();
        let mut turned = Scratch::<T>::take(w.len());
        half_turn(g, w, &mut turned);
        correlate(&t, dy, &turned, dx);
    } else {
        scatter(g, dy, w, dx);
    }
    Ok(())
}

/// `dw = d(sum dy * conv(x, w)) / dw`. `x` `[n, h, w, cin]`, `dy` `[n, oh, ow, cout]`, `dw` `[kh, kw, cin, cout]`,
/// which is overwritten. The batch is summed over chunks that depend on the geometry alone, in order.
///
/// # Errors
/// Slices whose lengths are not the geometry's.
pub fn weight_grad<T: Real>(g: &Conv2d, x: &[T], dy: &[T], dw: &mut [T]) -> Result<(), KernelError> {
    check(g, "conv2d::weight_grad", [("x", x.len()), ("dy", dy.len()), ("dw", dw.len())], [0, 2, 1])?;
    let rows = g.batch * g.out_h;
    let strip = strip_rows::<T>(g);
    let chunks = (rows * g.out_w / CHUNK_PIXELS).clamp(1, MAX_CHUNKS);
    let chunk_rows = rows.div_ceil(chunks).next_multiple_of(strip);
    let chunks = rows.div_ceil(chunk_rows.max(1)).max(1);
    if chunks == 1 {
        accumulate(g, x, dy, 0..rows, strip, dw);
        return Ok(());
    }
    let mut partial = Scratch::<T>::take(chunks * dw.len());
    parallel::for_each_chunk(&mut partial, dw.len(), |i, partial| {
        let rows = i * chunk_rows..((i + 1) * chunk_rows).min(rows);
        accumulate(g, x, dy, rows, strip, partial);
    });
    dw.copy_from_slice(&partial[..dw.len()]);
    for chunk in partial[dw.len()..].chunks_exact(dw.len()) {
        dw.iter_mut().zip(chunk).for_each(|(d, &p)| *d += p);
    }
    Ok(())
}

/// Output pixels of one summation chunk of the weight gradient, and how many chunks there are at most.
const CHUNK_PIXELS: usize = 512;
const MAX_CHUNKS: usize = 16;

/// Checks that slices 0, 1, 2 are long as input, kernel and output; `roles` says which is which.
fn check(
    g: &Conv2d,
    op: &'static str,
    slices: [(&'static str, usize); 3],
    roles: [usize; 3],
) -> Result<(), KernelError> {
    if g.depthwise {
        return Err(KernelError::Geometry {
            op,
            reason: "the geometry is a depthwise one",
            sizes: g.kernel_shape(),
        });
    }
    let lengths = [g.input_len(), g.kernel_len(), g.output_len()];
    for ((name, actual), role) in slices.into_iter().zip(roles) {
        length(op, name, lengths[role], actual)?;
    }
    Ok(())
}

/// Output rows of one strip.
fn strip_rows<T>(g: &Conv2dSizes) -> usize {
    let by_bytes = STRIP_BYTES / (g.out_w * g.patch() * size_of::<T>()).max(1);
    by_bytes.max(STRIP_PIXELS.div_ceil(g.out_w)).clamp(1, (g.batch * g.out_h).max(1))
}

/// The convolution itself, for any leading padding.
fn correlate<T: Real>(g: &Conv2dSizes, x: &[T], w: &[T], y: &mut [T]) {
    let (k, n) = (g.patch(), g.out_c);
    let w = MatRef::rows(w, n);
    if g.is_pointwise() {
        let pixels = parallel::rows_per_chunk(g.batch * g.in_h * g.in_w, k * n, 1 << 21).max(STRIP_PIXELS);
        parallel::for_each_chunk(y, pixels * n, |i, y| {
            let m = y.len() / n;
            product((m, n, k), MatRef::rows(&x[i * pixels * k..], k), w, T::ZERO, y);
        });
        return;
    }
    let strip = strip_rows::<T>(g);
    parallel::for_each_chunk(y, strip * g.out_w * n, |i, y| {
        let m = y.len() / n;
        let rows = i * strip..i * strip + m / g.out_w;
        let mut a = Scratch::<T>::take(m * k);
        patches::unfold(g, x, rows, &mut a);
        product((m, n, k), MatRef::rows(&a, k), w, T::ZERO, y);
    });
}

/// Input gradient of any stride: patches of gradients, added back image by image.
fn scatter<T: Real>(g: &Conv2dSizes, dy: &[T], w: &[T], dx: &mut [T]) {
    let (k, n) = (g.patch(), g.out_c);
    let w = MatRef::transposed(w, n);
    let strip = strip_rows::<T>(g).min(g.out_h);
    parallel::for_each_chunk(dx, g.in_h * g.in_w * g.in_c, |image, dx| {
        dx.fill(T::ZERO);
        let mut patch = Scratch::<T>::take(strip * g.out_w * k);
        for row in (0..g.out_h).step_by(strip) {
            let rows = row..(row + strip).min(g.out_h);
            let m = rows.len() * g.out_w;
            let dy = &dy[(image * g.out_h + row) * g.out_w * n..];
            product((m, k, n), MatRef::rows(dy, n), w, T::ZERO, &mut patch[..m * k]);
            patches::fold_add(g, &patch, rows, dx);
        }
    });
}

/// Weight gradient of output rows `rows`, strip by strip.
fn accumulate<T: Real>(
    g: &Conv2dSizes,
    x: &[T],
    dy: &[T],
    rows: crate::geometry::Range,
    strip: usize,
    dw: &mut [T],
) {
    let (k, n) = (g.patch(), g.out_c);
    if rows.is_empty() {
        return dw.fill(T::ZERO);
    }
    let mut a = Scratch::<T>::take(if g.is_pointwise() { 0 } else { strip * g.out_w * k });
    let (first, end) = (rows.start, rows.end);
    for row in rows.step_by(strip) {
        let strip = row..(row + strip).min(end);
        let m = strip.len() * g.out_w;
        let a = if g.is_pointwise() {
            &x[row * g.out_w * k..]
        } else {
            patches::unfold(g, x, strip, &mut a);
            &a
        };
        let dy = MatRef::rows(&dy[row * g.out_w * n..], n);
        let beta = if row == first { T::ZERO } else { T::ONE };
        product((k, n, m), MatRef::transposed(a, k), dy, beta, dw);
    }
}

/// `w` `[kh, kw, cin, cout]` turned by half a turn, as `[kh, kw, cout, cin]`.
fn half_turn<T: Real>(g: &Conv2dSizes, w: &[T], turned: &mut [T]) {
    let (ci, co) = (g.in_c, g.out_c);
    let taps = g.kernel_h * g.kernel_w;
    for (tap, out) in turned.chunks_exact_mut(ci * co).enumerate() {
        let w = &w[(taps - 1 - tap) * ci * co..][..ci * co];
        for (o, out) in out.chunks_exact_mut(ci).enumerate() {
            out.iter_mut().zip(w[o..].iter().step_by(co)).for_each(|(t, &v)| *t = v);
        }
    }
}
