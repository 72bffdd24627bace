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

/// As [`for_each_chunk`], on one thread where the chunks are `few`: the work is then done before another thread is awake.
pub(crate) fn for_each_chunk_unless<T: Send>(
    few: bool,
    data: &mut [T],
    chunk: usize,
    f: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    if few {
        data.chunks_mut(chunk.max(1)).enumerate().for_each(|(i, c)| f(i, c));
    } else {
        for_each_chunk(data, chunk, f);
    }
}

/// Integer multiply-accumulates below which work is not shared out: some tens of microseconds with wide vectors, about what
/// it takes until another thread works at all.
pub(crate) const FEW_MACS: usize = 1 << 25;

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

/// What [`for_each_part`] hands out for one part.
pub struct Part<'a, T, const N: usize, const M: usize> {
    /// Number of the part.
    pub index: usize,
    /// The part's chunk of each output; empty where an output has fewer chunks.
    pub outputs: [&'a mut [T]; N],
    /// The same of bytes.
    pub bytes: [&'a mut [u8]; M],
    /// The part's sums, holding what they held before.
    pub sums: &'a mut [f64],
    /// Memory of the thread, holding anything.
    pub scratch: &'a mut [T],
}

/// Calls `f` for `parts` parts of several outputs at once: part `i` gets chunk `i` of every output (`(slice, chunk
/// length)`; the last chunk may be shorter), of `bytes` and of `sums`, and `scratch` elements of memory.
///
/// # Panics
/// If an output or the sums have more chunks than there are parts.
pub fn for_each_part<T: crate::Real, const N: usize, const M: usize>(
    parts: usize,
    outputs: [(&mut [T], usize); N],
    bytes: [(&mut [u8], usize); M],
    (sums, sums_chunk): (&mut [f64], usize),
    scratch: usize,
    f: impl Fn(Part<'_, T, N, M>) + Sync + Send,
) {
    let outputs = outputs.map(|(data, chunk)| Chunks::new(data, chunk, parts));
    let bytes = bytes.map(|(data, chunk)| Chunks::new(data, chunk, parts));
    let sums = Chunks::new(sums, sums_chunk, parts);
    let run = |index: usize| {
        let mut memory = crate::scratch::Scratch::<T>::take(scratch);
        // SAFETY: every index below `parts` is visited once, so no two parts share a chunk.
        let (outputs, bytes, sums) = unsafe {
            let outputs = core::array::from_fn(|k| outputs[k].get(index));
            (outputs, core::array::from_fn(|k| bytes[k].get(index)), sums.get(index))
        };
        f(Part { index, outputs, bytes, sums, scratch: &mut memory });
    };
    #[cfg(feature = "std")]
    if parts > 1 && threads() > 1 {
        use rayon::prelude::*;
        (0..parts).into_par_iter().for_each(run);
        return;
    }
    (0..parts).for_each(run);
}

/// A slice that several threads take different chunks of.
struct Chunks<'a, T> {
    data: *mut T,
    len: usize,
    chunk: usize,
    of: core::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: it gives out disjoint chunks only (see `get`), which may go to other threads as `T` may.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}

impl<'a, T> Chunks<'a, T> {
    fn new(data: &'a mut [T], chunk: usize, parts: usize) -> Self {
        assert!(data.len() <= chunk.saturating_mul(parts), "no more chunks than parts");
        Self { data: data.as_mut_ptr(), len: data.len(), chunk, of: core::marker::PhantomData }
    }

    /// # Safety
    /// No two calls for the same index while the first one's chunk lives.
    #[expect(clippy::mut_from_ref, reason = "chunks are disjoint")]
    unsafe fn get(&self, index: usize) -> &mut [T] {
        let start = index.saturating_mul(self.chunk).min(self.len);
        let len = self.chunk.min(self.len - start);
        // SAFETY: `start + len <= self.len`, within the slice borrowed for 'a; chunks of different indices do not
        // overlap, and the caller asks for each once.
        unsafe { core::slice::from_raw_parts_mut(self.data.add(start), len) }
    }
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
