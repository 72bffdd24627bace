//! The two float types everything differentiable is generic over: f32 to train with, f64 to check with.

use core::fmt::{Debug, Display};
use core::iter::Sum;
use core::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

mod sealed {
    /// Keeps [`super::Real`] to the two types the unsafe loops were written for.
    #[expect(private_bounds, reason = "the bound is what seals it")]
    pub trait Sealed: crate::scratch::Plain {
        /// Columns of a packed panel: two 256-bit vectors, one of 512 bits.
        const PANEL: usize = 64 / size_of::<Self>();
        /// Tiles with fused multiply-adds.
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        type Fused: crate::float::Tile<Self>
        where
            Self: super::Real;
        /// The same, twice as wide.
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        type Wide: crate::x86_64::floats512::Columns<Self>;
    }
    impl Sealed for f32 {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        type Fused = crate::x86_64::floats::Fused;
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        type Wide = crate::x86_64::floats512::Wide;
    }
    impl Sealed for f64 {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        type Fused = crate::x86_64::floats::Fused;
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        type Wide = crate::x86_64::floats512::Wide;
    }
}

/// `f32` or `f64`.
pub trait Real:
    sealed::Sealed
    + Copy
    + Debug
    + Display
    + Default
    + PartialOrd
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Rounds a double to this type.
    fn from_f64(value: f64) -> Self;
    /// This value as a double, exactly.
    fn to_f64(self) -> f64;
    /// `self * a + b`: fused (one rounding) if `FUSED`, else two roundings. Fused is fast only inside code compiled
    /// for a CPU that has it, and falls back to two roundings without `std`.
    fn madd<const FUSED: bool>(self, a: Self, b: Self) -> Self;
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn madd<const FUSED: bool>(self, a: Self, b: Self) -> Self {
                #[cfg(feature = "std")]
                if FUSED {
                    return self.mul_add(a, b);
                }
                self * a + b
            }
        }
    };
}
real!(f32);
real!(f64);
