//! Fixed chunks over rayon: how work is cut depends on sizes alone, so results do not depend on the number of threads.
//!
//! Without `std` the same chunks run one after the other.

/// Calls `f(index, chunk)` for every chunk of `chunk` elements of `data` (the last one may be shorter).
///
/// # Panics
/// If `chunk` is zero while `data` is not empty.
pub fn for_each_chunk<T: Send>(data: &mut [T], chunk: usize, f: impl Fn(usize, &mut [T]) + Sync + Send) {
    if data.is_empty() {
        return;
    }
    assert!(chunk > 0, "chunks need a length");
    #[cfg(feature = "std")]
    if data.len() > chunk && threads() > 1 {
        use rayon::prelude::*;
        data.par_chunks_mut(chunk).enumerate().for_each(|(i, c)| f(i, c));
        return;
    }
    data.chunks_mut(chunk).enumerate().for_each(|(i, c)| f(i, c));
}

/// As [`for_each_chunk`] over two slices cut into equally many chunks.
///
/// # Panics
/// If the two do not have the same number of chunks, or a chunk length is zero while its slice is not empty.
pub fn for_each_chunk2<T: Send, U: Send>(
    (a, a_chunk): (&mut [T], usize),
    (b, b_chunk): (&mut [U], usize),
    f: impl Fn(usize, &mut [T], &mut [U]) + Sync + Send,
) {
    if a.is_empty() && b.is_empty() {
        return;
    }
    assert!(a_chunk > 0 && b_chunk > 0, "chunks need a length");
    assert_eq!(a.len().div_ceil(a_chunk), b.len().div_ceil(b_chunk), "as many chunks in both");
    #[cfg(feature = "std")]
    if a.len() > a_chunk && threads() > 1 {
        use rayon::prelude::*;
        a.par_chunks_mut(a_chunk)
            .zip(b.par_chunks_mut(b_chunk))
            .enumerate()
            .for_each(|(i, (a, b))| f(i, a, b));
        return;
    }
    a.chunks_mut(a_chunk).zip(b.chunks_mut(b_chunk)).enumerate().for_each(|(i, (a, b))| f(i, a, b));
}

/// Threads work is spread over: those of the current rayon pool, 1 without `std`.
pub fn threads() -> usize {
    #[cfg(feature = "std")]
    {
        rayon::current_num_threads()
    }
    #[cfg(not(feature = "std"))]
    {
        1
    }
}

/// Rows of one chunk when `rows` rows of `cost` units each are cut into pieces of about `target` units.
pub(crate) fn rows_per_chunk(rows: usize, cost: usize, target: usize) -> usize {
    (target / cost.max(1)).clamp(1, rows.max(1))
}
