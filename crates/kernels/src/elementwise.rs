//! Elementwise operations over slices of one length, on the calling thread. Callers see to the lengths: the shortest
//! counts.

use crate::Real;
use crate::dispatch::every_path;

every_path! {
    /// `y = max(x, 0)`; NaN gives 0.
    pub fn relu<T: Real>(x: &[T], y: &mut [T]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = if x > T::ZERO { x } else { T::ZERO });
    }
}

every_path! {
    /// `y = g` where `x > 0`, else 0.
    pub fn relu_grad<T: Real>(x: &[T], g: &[T], y: &mut [T]) {
        let operands = x.iter().zip(g);
        y.iter_mut().zip(operands).for_each(|(y, (&x, &g))| *y = if x > T::ZERO { g } else { T::ZERO });
    }
}

every_path! {
    /// `y = a x`
    pub fn scale<T: Real>(a: T, x: &[T], y: &mut [T]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = a * x);
    }
}

every_path! {
    /// `y = y + a x`, rounded twice.
    pub fn add_scaled<T: Real>(a: T, x: &[T], y: &mut [T]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y += a * x);
    }
}

every_path! {
    /// `y = a x + b z`, each product rounded.
    pub fn combine<T: Real>(a: T, x: &[T], b: T, z: &[T], y: &mut [T]) {
        let operands = x.iter().zip(z);
        y.iter_mut().zip(operands).for_each(|(y, (&x, &z))| *y = a * x + b * z);
    }
}

every_path! {
    /// `y = x z`
    pub fn multiply<T: Real>(x: &[T], z: &[T], y: &mut [T]) {
        y.iter_mut().zip(x.iter().zip(z)).for_each(|(y, (&x, &z))| *y = x * z);
    }
}

every_path! {
    /// `y = x + a`
    pub fn shift<T: Real>(a: T, x: &[T], y: &mut [T]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = x + a);
    }
}

/// Announces that `x` will be read soon, so that it is brought nearer meanwhile.
#[inline]
pub fn read_soon<T: Real>(x: &[T]) {
    crate::prefetch::read_soon(x, 0, x.len());
}
