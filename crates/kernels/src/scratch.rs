//! Scratch memory that a thread grows once and then keeps, so that no operation allocates after its first calls.
//!
//! Each thread has a stack of buffers: a borrowed one is taken off and put back when dropped. So a thread that
//! steals another task while waiting for its own simply takes the next buffer.

use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

/// One cache line, the unit and alignment of scratch memory.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; 64]);

impl Line {
    pub(crate) const ZERO: Self = Self([0; 64]);
}

/// Types of which every bit pattern is a value.
///
/// # Safety
/// Implementors have no padding, no invalid bit patterns and an alignment of at most 64.
pub(crate) unsafe trait Plain: Copy + 'static {}
// SAFETY: primitive numbers.
unsafe impl Plain for f32 {}
// SAFETY: primitive numbers.
unsafe impl Plain for f64 {}
// SAFETY: primitive numbers.
unsafe impl Plain for u8 {}
// SAFETY: primitive numbers.
unsafe impl Plain for i16 {}
// SAFETY: primitive numbers.
unsafe impl Plain for i32 {}
// SAFETY: primitive numbers.
unsafe impl Plain for usize {}

#[cfg(feature = "std")]
std::thread_local! {
    static FREE: core::cell::RefCell<Vec<Vec<Line>>> = const { core::cell::RefCell::new(Vec::new()) };
}

/// A borrowed buffer of `T`s, 64-byte aligned, holding whatever its last user left.
pub(crate) struct Scratch<T: Plain> {
    lines: Vec<Line>,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Plain> Scratch<T> {
    /// Takes a buffer of `len` elements; its contents are unspecified (but initialised).
    pub(crate) fn take(len: usize) -> Self {
        let need = (len * size_of::<T>()).div_ceil(64);
        let mut lines = free_buffer(need);
        if lines.len() < need {
            lines.resize(need, Line::ZERO);
        }
        Self { lines, len, of: PhantomData }
    }

    /// As [`Self::take`], filled with `value`.
    pub(crate) fn filled(len: usize, value: T) -> Self {
        let mut s = Self::take(len);
        s.fill(value);
        s
    }
}

/// The smallest free buffer that holds `need` lines, else the largest, else a new one.
fn free_buffer(need: usize) -> Vec<Line> {
    #[cfg(feature = "std")]
    {
        FREE.with_borrow_mut(|free| {
            let best = free
                .iter()
                .enumerate()
                .min_by_key(|(_, b)| if b.len() >= need { (0, b.len()) } else { (1, usize::MAX - b.len()) })
                .map(|(i, _)| i);
            best.map(|i| free.swap_remove(i)).unwrap_or_default()
        })
    }
    #[cfg(not(feature = "std"))]
    {
        Vec::with_capacity(need)
    }
}

impl<T: Plain> Drop for Scratch<T> {
    fn drop(&mut self) {
        #[cfg(feature = "std")]
        {
            let lines = core::mem::take(&mut self.lines);
            // A thread being torn down has no stack any more: the buffer is then simply freed.
            let _ = FREE.try_with(|free| free.borrow_mut().push(lines));
        }
    }
}

impl<T: Plain> Deref for Scratch<T> {
    type Target = [T];
    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `lines` holds at least `len * size_of::<T>()` initialised bytes, aligned to 64 >= align_of::<T>(),
        // and every bit pattern is a `T` (`Plain`).
        unsafe { core::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Scratch<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the borrow is unique, and any `T` leaves `lines` initialised.
        unsafe { core::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::Scratch;

    #[test]
    fn buffers_are_reused_and_nest() {
        let first = Scratch::<f32>::filled(100, 1.0).as_ptr() as usize;
        let outer = Scratch::<f32>::take(90);
        assert_eq!(outer.as_ptr() as usize, first);
        let inner = Scratch::<f64>::filled(10, 2.0);
        assert!(inner.iter().all(|&v| v == 2.0));
        assert_eq!(outer.len(), 90);
        assert!(outer.iter().all(|&v| v == 1.0), "the inner buffer is another one");
        assert_eq!(inner.as_ptr() as usize % 64, 0);
    }
}
