//! Memory for tensors, aligned to cache lines so that no vector straddles two of them.

use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use crate::Real;
use crate::scratch::Line;

/// A slice of floats that starts at a cache line; zeros at first.
#[derive(Clone, Default)]
pub struct Buffer<T> {
    lines: Vec<Line>,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Real> Buffer<T> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        Self { lines: alloc::vec![Line::ZERO; lines], len, of: PhantomData }
    }
}

impl<T: Real> Deref for Buffer<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `lines` holds at least `len * size_of::<T>()` initialised bytes, aligned to 64 >= align_of::<T>(),
        // and every bit pattern is a float.
        unsafe { core::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Real> DerefMut for Buffer<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the borrow is unique, and any float leaves `lines` initialised.
        unsafe { core::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl<T> core::fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Buffer of {}", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::Buffer;

    #[test]
    fn buffers_are_aligned_zeros() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let mut buffer = Buffer::<f32>::zeros(len);
            assert_eq!((buffer.len(), buffer.as_ptr() as usize % 64), (len, 0));
            assert!(buffer.iter().all(|&v| v == 0.0));
            buffer.fill(1.5);
            let copy = buffer.clone();
            assert_eq!(copy.as_ptr() as usize % 64, 0);
            assert!(copy.iter().all(|&v| v == 1.5));
        }
        assert!(Buffer::<f64>::default().is_empty());
    }
}
