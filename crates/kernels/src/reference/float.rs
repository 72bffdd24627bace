//! Float operations, generic over f32 and f64.

use crate::Real;
use crate::gemm::MatRef;

/// [`crate::gemm::gemm`].
pub fn gemm<T: Real>(
    (m, n, k): (usize, usize, usize),
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    beta: T,
    c: &mut [T],
) {
    for i in 0..m {
        for j in 0..n {
            let mut sum = if beta == T::ZERO { T::ZERO } else { beta * c[i * n + j] };
            for p in 0..k {
                sum +=
                    a.data[i * a.row_stride + p * a.col_stride] * b.data[p * b.row_stride + j * b.col_stride];
            }
            c[i * n + j] = sum;
        }
    }
}

/// [`crate::channel::affine`], `c` channels.
pub fn affine<T: Real>(terms: &[(&[T], &[T])], bias: Option<&[T]>, c: usize, y: &mut [T]) {
    for (i, y) in y.iter_mut().enumerate() {
        let start = bias.map_or(T::ZERO, |b| b[i % c]);
        *y = terms.iter().fold(start, |sum, (x, a)| sum + x[i] * a[i % c]);
    }
}

/// [`crate::channel::dot`].
pub fn dot<T: Real>(x: &[T], y: &[T], out: &mut [T]) {
    let c = out.len();
    for (j, out) in out.iter_mut().enumerate() {
        *out = T::from_f64((j..x.len()).step_by(c).map(|i| x[i].to_f64() * y[i].to_f64()).sum());
    }
}

/// [`crate::channel::sum`].
pub fn sum<T: Real>(x: &[T], out: &mut [T]) {
    let c = out.len();
    for (j, out) in out.iter_mut().enumerate() {
        *out = T::from_f64(x.iter().skip(j).step_by(c).map(|v| v.to_f64()).sum());
    }
}

/// 2-D convolution and its gradients.
pub mod conv2d {
    use crate::{Conv2d, Real};

    /// [`crate::conv2d::forward`].
    pub fn forward<T: Real>(g: &Conv2d, x: &[T], w: &[T], y: &mut [T]) {
        y.fill(T::ZERO);
        super::for_each_term(g, |x_at, y_at, tap| {
            for ci in 0..g.in_c {
                for co in 0..g.out_c {
                    y[y_at * g.out_c + co] += x[x_at * g.in_c + ci] * w[(tap * g.in_c + ci) * g.out_c + co];
                }
            }
        });
    }

    /// [`crate::conv2d::input_grad`].
    pub fn input_grad<T: Real>(g: &Conv2d, dy: &[T], w: &[T], dx: &mut [T]) {
        dx.fill(T::ZERO);
        super::for_each_term(g, |x_at, y_at, tap| {
            for ci in 0..g.in_c {
                for co in 0..g.out_c {
                    dx[x_at * g.in_c + ci] += dy[y_at * g.out_c + co] * w[(tap * g.in_c + ci) * g.out_c + co];
                }
            }
        });
    }

    /// [`crate::conv2d::weight_grad`].
    pub fn weight_grad<T: Real>(g: &Conv2d, x: &[T], dy: &[T], dw: &mut [T]) {
        dw.fill(T::ZERO);
        super::for_each_term(g, |x_at, y_at, tap| {
            for ci in 0..g.in_c {
                for co in 0..g.out_c {
                    dw[(tap * g.in_c + ci) * g.out_c + co] += x[x_at * g.in_c + ci] * dy[y_at * g.out_c + co];
                }
            }
        });
    }
}

/// Depthwise 2-D convolution and its gradients.
pub mod depthwise {
    use crate::{Conv2d, Real};

    /// [`crate::depthwise::forward`].
    pub fn forward<T: Real>(g: &Conv2d, x: &[T], w: &[T], y: &mut [T]) {
        let c = g.in_c;
        y.fill(T::ZERO);
        super::for_each_term(g, |x_at, y_at, tap| {
            (0..c).for_each(|i| y[y_at * c + i] += x[x_at * c + i] * w[tap * c + i]);
        });
    }

    /// [`crate::depthwise::input_grad`].
    pub fn input_grad<T: Real>(g: &Conv2d, dy: &[T], w: &[T], dx: &mut [T]) {
        let c = g.in_c;
        dx.fill(T::ZERO);
        super::for_each_term(g, |x_at, y_at, tap| {
            (0..c).for_each(|i| dx[x_at * c + i] += dy[y_at * c + i] * w[tap * c + i]);
        });
    }

    /// [`crate::depthwise::weight_grad`].
    pub fn weight_grad<T: Real>(g: &Conv2d, x: &[T], dy: &[T], dw: &mut [T]) {
        let c = g.in_c;
        dw.fill(T::ZERO);
        super::for_each_term(g, |x_at, y_at, tap| {
            (0..c).for_each(|i| dw[tap * c + i] += x[x_at * c + i] * dy[y_at * c + i]);
        });
    }
}

/// Calls `f(input pixel, output pixel, kernel position)` for every term of a convolution that is not padding.
pub(crate) fn for_each_term(g: &crate::Conv2d, mut f: impl FnMut(usize, usize, usize)) {
    for (n, oy, ox) in places(g.batch, g.out_h, g.out_w) {
        for (_, ky, kx) in places(1, g.kernel_h, g.kernel_w) {
            let iy = (oy * g.stride_h + ky).wrapping_sub(g.pad_top);
            let ix = (ox * g.stride_w + kx).wrapping_sub(g.pad_left);
            if iy < g.in_h && ix < g.in_w {
                f((n * g.in_h + iy) * g.in_w + ix, (n * g.out_h + oy) * g.out_w + ox, ky * g.kernel_w + kx);
            }
        }
    }
}

/// All `(i, j, k)` below the given sizes, in order.
pub(crate) fn places(n: usize, h: usize, w: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..n * h * w).map(move |i| (i / (h * w), i / w % h, i % w))
}

/// Maximum and average pools.
pub mod pool {
    use alloc::vec::Vec;

    use crate::{Pool2d, Real};

    /// Calls `f(output element, input elements under its window)`.
    pub(crate) fn for_each_window(g: &Pool2d, mut f: impl FnMut(usize, &[usize])) {
        let mut window = Vec::new();
        for (n, oy, ox) in super::places(g.batch, g.out_h, g.out_w) {
            for c in 0..g.channels {
                window.clear();
                for (_, ky, kx) in super::places(1, g.size_h, g.size_w) {
                    let iy = (oy * g.stride_h + ky).wrapping_sub(g.pad_top);
                    let ix = (ox * g.stride_w + kx).wrapping_sub(g.pad_left);
                    if iy < g.in_h && ix < g.in_w {
                        window.push(((n * g.in_h + iy) * g.in_w + ix) * g.channels + c);
                    }
                }
                f(((n * g.out_h + oy) * g.out_w + ox) * g.channels + c, &window);
            }
        }
    }

    /// Element of the first maximum of `x` among `window`.
    fn first_max<T: Real>(x: &[T], window: &[usize]) -> usize {
        window.iter().skip(1).fold(window[0], |best, &i| if x[i] > x[best] { i } else { best })
    }

    /// [`crate::pool::max_forward`].
    pub fn max_forward<T: Real>(g: &Pool2d, x: &[T], y: &mut [T]) {
        max_gather(g, x, x, y);
    }

    /// [`crate::pool::max_gather`].
    pub fn max_gather<T: Real>(g: &Pool2d, x: &[T], gx: &[T], gy: &mut [T]) {
        for_each_window(g, |o, window| gy[o] = gx[first_max(x, window)]);
    }

    /// [`crate::pool::max_scatter`].
    pub fn max_scatter<T: Real>(g: &Pool2d, x: &[T], gy: &[T], gx: &mut [T]) {
        gx.fill(T::ZERO);
        for_each_window(g, |o, window| gx[first_max(x, window)] += gy[o]);
    }

    /// [`crate::pool::avg_forward`].
    pub fn avg_forward<T: Real>(g: &Pool2d, x: &[T], y: &mut [T]) {
        for_each_window(g, |o, window| {
            y[o] = window.iter().map(|&i| x[i]).sum::<T>() / T::from_f64(window.len() as f64);
        });
    }

    /// [`crate::pool::avg_adjoint`].
    pub fn avg_adjoint<T: Real>(g: &Pool2d, gy: &[T], gx: &mut [T]) {
        gx.fill(T::ZERO);
        for_each_window(g, |o, window| {
            window.iter().for_each(|&i| gx[i] += gy[o] / T::from_f64(window.len() as f64));
        });
    }
}
