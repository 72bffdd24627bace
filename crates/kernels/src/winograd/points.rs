//! The transforms of F(4x4, 3x3) at the points 0, ±3/4, ±3/2 and infinity, a block of channels at a time.
//!
//! With `V` the interpolation matrix of the points, a convolution is `y = A' ((G w G') * (B' x B)) A` (matrix products
//! on the outside, elementwise in the middle); its adjoints use the same matrices transposed.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::{Block, POINTS, SPAN, TILE};
use crate::Real;
use crate::dispatch::every_path;
use crate::lanes::{for_each_block, lanes, lanes_mut};

/// The squares of the points, and what they are multiplied with; all exact in binary.
const A: f64 = 0.75;
const B: f64 = 1.5;
const AA: f64 = A * A;
const BB: f64 = B * B;
/// Lagrange denominators at 0, ±A and ±B.
const N0: f64 = AA * BB;
const NA: f64 = 2.0 * AA * (AA - BB);
const NB: f64 = 2.0 * BB * (BB - AA);

/// A block of channels.
type Lanes<T, const L: usize> = [T; L];

#[inline(always)]
fn real<T: Real>(v: f64) -> T {
    T::from_f64(v)
}

/// Combines blocks lane by lane.
#[inline(always)]
fn each<T: Real, const L: usize, const I: usize, const O: usize>(
    x: [Lanes<T, L>; I],
    f: impl Fn([T; I]) -> [T; O],
) -> [Lanes<T, L>; O] {
    let mut out = [[T::ZERO; L]; O];
    for l in 0..L {
        let y = f(core::array::from_fn(|i| x[i][l]));
        for o in 0..O {
            out[o][l] = y[o];
        }
    }
    out
}

/// `B' x`: inputs at the points.
#[inline(always)]
fn input<T: Real, const FUSED: bool>([d0, d1, d2, d3, d4, d5]: [T; 6]) -> [T; 6] {
    let (a, b) = (real::<T>(A), real::<T>(B));
    let (minus_aa, minus_bb) = (real::<T>(-AA), real::<T>(-BB));
    let (both, sum) = (real::<T>(AA * BB), real::<T>(-(AA + BB)));
    let even_a = minus_bb.madd::<FUSED>(d2, d4);
    let odd_a = a * minus_bb.madd::<FUSED>(d1, d3);
    let even_b = minus_aa.madd::<FUSED>(d2, d4);
    let odd_b = b * minus_aa.madd::<FUSED>(d1, d3);
    [
        both.madd::<FUSED>(d0, sum.madd::<FUSED>(d2, d4)),
        even_a + odd_a,
        even_a - odd_a,
        even_b + odd_b,
        even_b - odd_b,
        both.madd::<FUSED>(d1, sum.madd::<FUSED>(d3, d5)),
    ]
}

/// `A' m`: outputs from the points.
#[inline(always)]
fn output<T: Real, const FUSED: bool>([m0, m1, m2, m3, m4, m5]: [T; 6]) -> [T; 4] {
    let (even_a, odd_a, even_b, odd_b) = (m1 + m2, m1 - m2, m3 + m4, m3 - m4);
    let two = |a: f64, b: f64| real::<T>(a).madd::<FUSED>(odd_a, real::<T>(b) * odd_b);
    [
        m0 + (even_a + even_b),
        two(A, B),
        real::<T>(AA).madd::<FUSED>(even_a, real::<T>(BB) * even_b),
        two(A * AA, B * BB) + m5,
    ]
}

/// `A y`: output gradients at the points.
#[inline(always)]
fn output_adjoint<T: Real, const FUSED: bool>([d0, d1, d2, d3]: [T; 4]) -> [T; 6] {
    let even = |pp: f64| real::<T>(pp).madd::<FUSED>(d2, d0);
    let odd = |p: f64| real::<T>(p) * real::<T>(p * p).madd::<FUSED>(d3, d1);
    let (even_a, odd_a, even_b, odd_b) = (even(AA), odd(A), even(BB), odd(B));
    [d0, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, d3]
}

/// `G w`: the kernel at the points.
#[inline(always)]
fn kernel<T: Real, const FUSED: bool>([w0, w1, w2]: [T; 3]) -> [T; 6] {
    let even = |pp: f64, n: f64| real::<T>(pp / n).madd::<FUSED>(w2, real::<T>(1.0 / n) * w0);
    let (even_a, odd_a) = (even(AA, NA), real::<T>(A / NA) * w1);
    let (even_b, odd_b) = (even(BB, NB), real::<T>(B / NB) * w1);
    [real::<T>(1.0 / N0) * w0, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, w2]
}

/// `G' m`: kernel gradients from the points.
#[inline(always)]
fn kernel_adjoint<T: Real, const FUSED: bool>([m0, m1, m2, m3, m4, m5]: [T; 6]) -> [T; 3] {
    let (even_a, odd_a, even_b, odd_b) = (m1 + m2, m1 - m2, m3 + m4, m3 - m4);
    let two = |a: f64, x: T, b: f64, y: T| real::<T>(a).madd::<FUSED>(x, real::<T>(b) * y);
    [
        real::<T>(1.0 / N0).madd::<FUSED>(m0, two(1.0 / NA, even_a, 1.0 / NB, even_b)),
        two(A / NA, odd_a, B / NB, odd_b),
        two(AA / NA, even_a, BB / NB, even_b) + m5,
    ]
}

/// Applies `f` along both axes of an `I` x `I` block read by `from(row, column)`; `to(row, column, block)` takes results.
#[inline(always)]
fn both_axes<T: Real, const L: usize, const I: usize, const O: usize>(
    from: impl Fn(usize, usize) -> Lanes<T, L>,
    f: impl Fn([T; I]) -> [T; O],
    to: impl FnMut(usize, usize, Lanes<T, L>),
) {
    some_rows::<T, L, I, O>(from, f, 0..O, to);
}

/// As [`both_axes`] for some rows of the results; where they are constants, nothing is computed for the others.
#[inline(always)]
fn some_rows<T: Real, const L: usize, const I: usize, const O: usize>(
    from: impl Fn(usize, usize) -> Lanes<T, L>,
    f: impl Fn([T; I]) -> [T; O],
    rows: Range<usize>,
    mut to: impl FnMut(usize, usize, Lanes<T, L>),
) {
    // Not initialised before it is computed: that would be a call of `memset` for every block.
    let mut columns = [const { MaybeUninit::<[Lanes<T, L>; O]>::uninit() }; I];
    for (column, done) in columns.iter_mut().enumerate() {
        done.write(each(core::array::from_fn(|row| from(row, column)), &f));
    }
    for row in rows {
        // SAFETY: every column has been written above.
        let line = core::array::from_fn(|column| unsafe { columns[column].assume_init_ref() }[row]);
        let done = each(line, &f);
        for (column, block) in done.into_iter().enumerate() {
            to(row, column, block);
        }
    }
}

every_path! {
    /// A 6x6 block of an image at the points: point `k`, channel `i` goes to `to[k step + i]`. Pixels outside are `zeros`.
    pub(super) fn input_tile<T: Real>(image: &[T], zeros: &[T], block: Block, to: &mut [T], step: usize) {
        to_points::<T, SPAN, 0, SPAN, WIDE>((image, zeros), block, input::<T, FUSED>, to, (step, T::PANEL));
    }
}

/// Of the points of a tile, those of some rows: all six of part (0, 1), a half of (0, 2) and (1, 2), a third of (0, 3) and so on.
pub(super) type Part = (usize, usize);

every_path! {
    /// A part of what [`input_tile`] makes, to panels `steps.1` elements apart.
    pub(super) fn input_part<T: Real>(
        image: &[T], zeros: &[T], block: Block, part: Part, to: &mut [T], steps: (usize, usize),
    ) {
        a_part::<T, SPAN, WIDE>((image, zeros), block, part, input::<T, FUSED>, to, steps);
    }
}

every_path! {
    /// As [`input_part`] for a 4x4 block of output gradients.
    pub(super) fn output_adjoint_part<T: Real>(
        image: &[T], zeros: &[T], block: Block, part: Part, to: &mut [T], steps: (usize, usize),
    ) {
        a_part::<T, TILE, WIDE>((image, zeros), block, part, output_adjoint::<T, FUSED>, to, steps);
    }
}

/// [`to_points`] with the part as a constant.
#[inline(always)]
fn a_part<T: Real, const I: usize, const WIDE: bool>(
    image: (&[T], &[T]),
    block: Block,
    part: Part,
    f: impl Fn([T; I]) -> [T; SPAN] + Copy,
    to: &mut [T],
    steps: (usize, usize),
) {
    match part {
        (0, 2) => to_points::<T, I, 0, 3, WIDE>(image, block, f, to, steps),
        (_, 2) => to_points::<T, I, 3, 6, WIDE>(image, block, f, to, steps),
        (0, 3) => to_points::<T, I, 0, 2, WIDE>(image, block, f, to, steps),
        (1, 3) => to_points::<T, I, 2, 4, WIDE>(image, block, f, to, steps),
        (_, 3) => to_points::<T, I, 4, 6, WIDE>(image, block, f, to, steps),
        _ => to_points::<T, I, 0, 6, WIDE>(image, block, f, to, steps),
    }
}

/// Reads a block, applies `f` along both axes and spreads the points of rows `FIRST..END`: their `k`-th one, channel `i` goes
/// to `to[k step + i / PANEL * panel + i % PANEL]`.
#[inline(always)]
fn to_points<T: Real, const I: usize, const FIRST: usize, const END: usize, const WIDE: bool>(
    (image, zeros): (&[T], &[T]),
    block: Block,
    f: impl Fn([T; I]) -> [T; SPAN] + Copy,
    to: &mut [T],
    (step, panel): (usize, usize),
) {
    // No block of channels is wider than a panel.
    let wide = WIDE && T::PANEL >= 16;
    let inside = block.is_inside(I);
    let pixels: [[&[T]; I]; I] = match inside {
        true => [[&[]; I]; I],
        false => block.pixels(image, zeros),
    };
    for_each_block!(block.c, [16, 8, 1] if wide else [8, 1], |at, L| {
        let place = at / T::PANEL * panel + at % T::PANEL;
        let to = |i: usize, j: usize, v: Lanes<T, L>| {
            *lanes_mut::<T, L>(to, ((i - FIRST) * SPAN + j) * step + place) = v;
        };
        if inside {
            let first = block.at as usize + at;
            let from = |i, j| *lanes::<T, L>(image, first + i * block.row + j * block.c);
            some_rows::<T, L, I, SPAN>(from, f, FIRST..END, to);
        } else {
            some_rows::<T, L, I, SPAN>(|i, j| *lanes::<T, L>(pixels[i][j], at), f, FIRST..END, to);
        }
    });
}

every_path! {
    /// The first `wanted` rows and columns of a tile's outputs from its points (point `k`, channel `i` at `from[k step + i]`), to
    /// rows `row` apart of `c` channels, of pixels `pixel` apart.
    pub(super) fn output_tile<T: Real>(
        from: &[T], step: usize, channels: (usize, usize), to: &mut [T], row: usize, wanted: (usize, usize),
    ) {
        let (c, pixel) = channels;
        for_each_block!(c, [16, 8, 1] if WIDE else [8, 1], |at, L| {
            both_axes::<T, L, SPAN, TILE>(
                |i, j| *lanes::<T, L>(from, (i * SPAN + j) * step + at),
                output::<T, FUSED>,
                |i, j, v| {
                    if i < wanted.0 && j < wanted.1 {
                        *lanes_mut::<T, L>(to, i * row + j * pixel + at) = v;
                    }
                },
            );
        });
    }
}

every_path! {
    /// Up to a panel of columns, from `first`, of kernel `[3, 3, terms, n]` at the points: panels of `terms` terms, `step`
    /// elements from point to point.
    pub(super) fn kernel_panel<T: Real>(w: &[T], sizes: (usize, usize), first: usize, to: &mut [T], step: usize) {
        let (terms, n) = sizes;
        let columns = T::PANEL.min(n - first);
        if columns < T::PANEL {
            to.fill(T::ZERO);
        }
        // No block is wider than a panel.
        let wide = WIDE && T::PANEL >= 16;
        for term in 0..terms {
            for_each_block!(columns, [16, 8, 1] if wide else [8, 1], |at, L| {
                both_axes::<T, L, 3, SPAN>(
                    |i, j| *lanes::<T, L>(w, ((i * 3 + j) * terms + term) * n + first + at),
                    kernel::<T, FUSED>,
                    |i, j, v| *lanes_mut::<T, L>(to, (i * SPAN + j) * step + term * T::PANEL + at) = v,
                );
            });
        }
    }
}

every_path! {
    /// Kernel gradient `[3, 3, n]` from its 36 points `[n]`, `step` elements apart.
    pub(super) fn kernel_adjoint_all<T: Real>(points: &[T], step: usize, dw: &mut [T]) {
        let n = dw.len() / 9;
        debug_assert_eq!(points.len(), step * POINTS);
        for_each_block!(n, [16, 8, 1] if WIDE else [8, 1], |at, L| {
            both_axes::<T, L, SPAN, 3>(
                |i, j| *lanes::<T, L>(points, (i * SPAN + j) * step + at),
                kernel_adjoint::<T, FUSED>,
                |i, j, v| *lanes_mut::<T, L>(dw, (i * 3 + j) * n + at) = v,
            );
        });
    }
}
