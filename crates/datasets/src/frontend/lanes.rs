//! Numbers side by side: the arithmetic of the front end written once, for whatever vector unit the processor has.
//!
//! Every lane computes as if it were alone: one operation per sign in the source, rounded once, never fused. Results are
//! therefore the same bits with vectors of 16, of 4, or with none.
use std::ops::{Add, Mul, Sub};

use pulp::Simd;

use super::ln;
use super::mfcc::{Real, real};

/// How many neighbouring scalars [`Lanes::deal`] takes apart.
pub(super) const QUAD: usize = 4;

/// Scalars that vector registers hold; for f32 and f64 alone.
pub trait Lanes: Copy + 'static {
    /// One register of `S` full of them.
    #[doc(hidden)]
    type Of<S: Simd>: Copy;

    /// How many [`Of`](Self::Of) holds.
    #[doc(hidden)]
    fn count<S: Simd>() -> usize;
    /// A slice as whole registers; what does not fill one is left out.
    #[doc(hidden)]
    fn registers<S: Simd>(slice: &mut [Self]) -> &mut [Self::Of<S>]
    where
        Self: Sized;
    /// Four registers that hold four neighbouring values of every lane, to one register for each of the four. The lanes
    /// come out in the order of [`order`].
    #[doc(hidden)]
    fn deal<S: Simd>(simd: S, quad: [Self::Of<S>; QUAD]) -> [Self::Of<S>; QUAD];
    #[doc(hidden)]
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Of<S>;
    #[doc(hidden)]
    fn add<S: Simd>(simd: S, a: Self::Of<S>, b: Self::Of<S>) -> Self::Of<S>;
    #[doc(hidden)]
    fn sub<S: Simd>(simd: S, a: Self::Of<S>, b: Self::Of<S>) -> Self::Of<S>;
    #[doc(hidden)]
    fn mul<S: Simd>(simd: S, a: Self::Of<S>, b: Self::Of<S>) -> Self::Of<S>;
    #[doc(hidden)]
    fn sqrt<S: Simd>(simd: S, a: Self::Of<S>) -> Self::Of<S>;
    /// Natural logarithm; of zero −∞, of a negative number NaN.
    #[doc(hidden)]
    fn ln_lane(self) -> Self;
}

macro_rules! lanes {
    ($scalar:ty, $register:ident, $count:ident, $view:ident, $deal:ident, $splat:ident, $add:ident, $sub:ident, $mul:ident, $sqrt:ident,
     $ln:path) => {
        impl Lanes for $scalar {
            type Of<S: Simd> = S::$register;

            #[inline(always)]
            fn count<S: Simd>() -> usize {
                S::$count
            }
            #[inline(always)]
            fn registers<S: Simd>(slice: &mut [Self]) -> &mut [S::$register] {
                S::$view(slice).0
            }
            #[inline(always)]
            fn deal<S: Simd>(simd: S, quad: [S::$register; QUAD]) -> [S::$register; QUAD] {
                simd.$deal(quad)
            }
            #[inline(always)]
            fn splat<S: Simd>(simd: S, x: Self) -> S::$register {
                simd.$splat(x)
            }
            #[inline(always)]
            fn add<S: Simd>(simd: S, a: S::$register, b: S::$register) -> S::$register {
                simd.$add(a, b)
            }
            #[inline(always)]
            fn sub<S: Simd>(simd: S, a: S::$register, b: S::$register) -> S::$register {
                simd.$sub(a, b)
            }
            #[inline(always)]
            fn mul<S: Simd>(simd: S, a: S::$register, b: S::$register) -> S::$register {
                simd.$mul(a, b)
            }
            #[inline(always)]
            fn sqrt<S: Simd>(simd: S, a: S::$register) -> S::$register {
                simd.$sqrt(a)
            }
            #[inline(always)]
            fn ln_lane(self) -> Self {
                $ln(self)
            }
        }
    };
}

lanes!(
    f32,
    f32s,
    F32_LANES,
    as_mut_simd_f32s,
    deinterleave_shfl_f32s,
    splat_f32s,
    add_f32s,
    sub_f32s,
    mul_f32s,
    sqrt_f32s,
    ln::single
);
lanes!(
    f64,
    f64s,
    F64_LANES,
    as_mut_simd_f64s,
    deinterleave_shfl_f64s,
    splat_f64s,
    add_f64s,
    sub_f64s,
    mul_f64s,
    sqrt_f64s,
    ln::double
);

/// The largest number of lanes: a cache line of f32.
pub(super) const MOST: usize = 16;

/// Which value stands in each lane after [`Lanes::deal`]: registers leave them in the order that is cheapest.
#[inline(always)]
pub(super) fn order<S: Simd, T: Real>(simd: S) -> [usize; MOST] {
    let lanes = T::count::<S>();
    let mut numbers = [T::zero(); QUAD * MOST];
    for (i, number) in numbers.iter_mut().enumerate() {
        *number = real((i / QUAD) as f64);
    }
    let numbers = &mut numbers[..QUAD * lanes];
    for quad in T::registers::<S>(numbers).as_chunks_mut::<QUAD>().0 {
        *quad = T::deal(simd, *quad);
    }
    let mut order = [0; MOST];
    for (order, number) in order.iter_mut().zip(numbers) {
        *order = number.to_usize().unwrap_or(0);
    }
    order
}

/// A register with the signs +, − and × on it.
pub(super) struct Vector<S: Simd, T: Lanes> {
    simd: S,
    register: T::Of<S>,
}

impl<S: Simd, T: Lanes> Clone for Vector<S, T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Simd, T: Lanes> Copy for Vector<S, T> {}

impl<S: Simd, T: Lanes> Vector<S, T> {
    #[inline(always)]
    pub(super) fn of(simd: S, register: T::Of<S>) -> Self {
        Self { simd, register }
    }

    #[inline(always)]
    pub(super) fn splat(simd: S, x: T) -> Self {
        Self { simd, register: T::splat(simd, x) }
    }

    #[inline(always)]
    pub(super) fn sqrt(self) -> Self {
        Self::of(self.simd, T::sqrt(self.simd, self.register))
    }

    #[inline(always)]
    pub(super) fn register(self) -> T::Of<S> {
        self.register
    }
}

impl<S: Simd, T: Lanes> Add for Vector<S, T> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self::of(self.simd, T::add(self.simd, self.register, other.register))
    }
}

impl<S: Simd, T: Lanes> Sub for Vector<S, T> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self::of(self.simd, T::sub(self.simd, self.register, other.register))
    }
}

impl<S: Simd, T: Lanes> Mul for Vector<S, T> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self::of(self.simd, T::mul(self.simd, self.register, other.register))
    }
}

impl<S: Simd, T: Lanes> Mul<T> for Vector<S, T> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, x: T) -> Self {
        self * Self::splat(self.simd, x)
    }
}
