//! Announcing memory that will be needed soon, where the hardware cannot guess it.

/// Asks for `data[start..end]` (cut to what there is) to be brought to the second-level cache.
#[inline(always)]
pub(crate) fn read_soon<T>(data: &[T], start: usize, end: usize) {
    each_line(data, start, end, |_at| {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: a prefetch reads nothing, whatever the address.
        unsafe {
            use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T1>(_at.cast());
        }
    });
}

/// Asks for the line at `at`, which need not be memory, to be brought to the first-level cache.
#[inline(always)]
pub(crate) fn line_soon<T>(at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing, whatever the address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    let _ = at;
}

/// As [`line_soon`], to be written.
#[inline(always)]
pub(crate) fn line_to_write_soon<T>(at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing, whatever the address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_ET0>(at.cast());
    }
    let _ = at;
}

/// As [`read_soon`], to the first-level cache and to be written.
#[inline(always)]
pub(crate) fn write_soon<T>(data: &[T], start: usize, end: usize) {
    each_line(data, start, end, |_at| {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: a prefetch reads nothing, whatever the address.
        unsafe {
            use core::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_ET0>(_at.cast());
        }
    });
}

#[inline(always)]
fn each_line<T>(data: &[T], start: usize, end: usize, f: impl Fn(*const T)) {
    let Some(data) = data.get(start..end.min(data.len())) else { return };
    data.iter().step_by((64 / size_of::<T>()).max(1)).for_each(|at| f(at));
}
