//! Activations of a scale and shift per channel, and their gradients, in one pass over memory.

use kernels::through::{self, Affine, Ahead};
use kernels::{KernelError, Real};
use qtensor::inline::{Ramp, Rounding};

use super::math::Element;
use super::{Nonlinearity, Op};

fn affine_of<'a, T>(x: &[&'a [T]]) -> Affine<'a, T> {
    Affine { x: x[0], a: x[1], b: Some(x[2]) }
}

/// Runs `$body` with `$f(t, g)`: `g` times the slope of a nonlinearity at `t`.
macro_rules! with_gradient {
    ($op:expr, $t:ty, |$f:ident| $body:expr) => {
        match gradient_of($op) {
            Nonlinearity::Relu => {
                let $f = |t: $t, g: $t| if t > <$t>::ZERO { g } else { <$t>::ZERO };
                $body
            }
            Nonlinearity::Quantizer(q) => match q.ramp() {
                Some(ramp) => {
                    let $f = move |t: $t, g: $t| g * Ramp::at(&ramp, t);
                    $body
                }
                None => {
                    let $f = |t: $t, g: $t| g * slope(q, t);
                    $body
                }
            },
        }
    };
}

/// An activation of a scale and shift (operands `x, a, b`), or its gradient (and `g`).
pub(super) fn activation<T: Element>(
    op: &Op,
    x: &[&[T]],
    ahead: Ahead,
    out: &mut [T],
) -> Result<(), KernelError> {
    let of = affine_of(x);
    match op {
        Op::Activation(Nonlinearity::Relu) => {
            through::map(of, ahead, None, |t, _| if t > T::ZERO { t } else { T::ZERO }, out)
        }
        Op::Activation(Nonlinearity::Quantizer(q)) => match q.rounding() {
            Some(rounding) => through::map(of, ahead, None, move |t, _| Rounding::value(&rounding, t), out),
            None => through::map(of, ahead, None, |t, _| value(q, t), out),
        },
        op => with_gradient!(op, T, |f| through::map(of, ahead, Some(x[3]), f, out)),
    }
}

/// Sums over channels of the gradient of an activation of a scale and shift (operands `x, a, b, g`): times `x`, and alone.
pub(super) fn sums<T: Element>(
    op: &Op,
    x: &[&[T]],
    ahead: Ahead,
    sums: (&mut [f64], &mut [f64]),
) -> Result<(), KernelError> {
    with_gradient!(op, T, |f| through::add_sums(affine_of(x), ahead, x[3], f, sums))
}

/// `p f(x a + b, g) + q x + r` with such a gradient `f`; operands `x, a, b, g, p, q, r`.
pub(super) fn affine<T: Element>(
    op: &Op,
    x: &[&[T]],
    ahead: Ahead,
    out: &mut [T],
) -> Result<(), KernelError> {
    with_gradient!(op, T, |f| through::map_affine(affine_of(x), ahead, x[3], f, (x[4], x[5], x[6]), out))
}

fn gradient_of(op: &Op) -> &Nonlinearity {
    match op {
        Op::ActivationGrad(f, 1) => f,
        other => unreachable!("{other:?} is no gradient of an activation"),
    }
}

/// Quantizers without a loop of their own are not inlined into one: each would be compiled for every instruction set.
#[inline(never)]
fn value<T: Real>(q: &qtensor::Elementwise, x: T) -> T {
    q.value(x)
}

#[inline(never)]
fn slope<T: Real>(q: &qtensor::Elementwise, x: T) -> T {
    q.surrogate(x, 1)
}
