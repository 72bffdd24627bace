//! Tables of the sums of a group.
//!
//! Three codes under a kernel (a kernel row of one channel, or neighbouring channels) form a group; all 27 sums
//! `x0 * w0 + x1 * w1 + x2 * w2` of a group are computed once and serve every output channel. Three weights are a 5-bit
//! table index, nine of them a halfword. Lanes are added as one integer and may wrap; what is read in the end fits 16 bits
//! (the writer sees to that).

use core::sync::atomic::{Ordering, compiler_fence};

use super::tile::TABLES;

/// Four words: a sum for each pair of positions.
#[derive(Clone, Copy)]
#[repr(align(8))]
pub(super) struct Entry([u32; 4]);

/// Entries of a table: all sums of a group, `9 * (w0 + 1) + 3 * (w1 + 1) + w2 + 1`.
const ENTRIES: usize = 27;
/// Three tables, what a 5-bit index can reach beyond the last, and an entry before them: with offsets that are never 0 the
/// compiler uses one address for all words of an entry.
const THREE: usize = 1 + 2 * ENTRIES + 32;
pub(super) type Three = [Entry; THREE];

/// All tables.
pub(super) type Tables = [Entry; 1 + TABLES * ENTRIES + 5];
pub(super) const NO_TABLES: Tables = [Entry([0; 4]); 1 + TABLES * ENTRIES + 5];

/// Three tables from number `first` on.
pub(super) fn three(tables: &[Entry], first: usize) -> Option<&Three> {
    tables.get(first * ENTRIES..)?.first_chunk()
}

/// Computes table number `number`.
#[inline(always)]
pub(super) fn build(tables: &mut Tables, number: usize, x: &[[u32; 4]; 3], lift: u32) {
    let from = 1 + number * ENTRIES;
    if let Some(table) = tables.get_mut(from..).and_then(|t| t.first_chunk_mut()) {
        build_table(table, x, lift);
    }
}

#[inline(never)]
fn build_table(table: &mut [Entry; ENTRIES], [x0, x1, x2]: &[[u32; 4]; 3], lift: u32) {
    // Two words at a time, so that they are stored by one instruction.
    for word in [0, 2] {
        let (a, b, c) = ([x0[word], x0[word + 1]], [x1[word], x1[word + 1]], [x2[word], x2[word + 1]]);
        let mut put = |at: usize, [low, high]: [u32; 2]| {
            (table[at].0[word], table[at].0[word + 1]) = (low, high);
            compiler_fence(Ordering::AcqRel);
        };
        let mut first = minus([lift; 2], a);
        for i in 0..3 {
            let mut p = minus(first, b);
            for j in 0..3 {
                put(9 * i + 3 * j, minus(p, c));
                put(9 * i + 3 * j + 1, p);
                put(9 * i + 3 * j + 2, plus(p, c));
                p = plus(p, b);
            }
            first = plus(first, a);
        }
    }
}

#[inline(always)]
fn plus(a: [u32; 2], b: [u32; 2]) -> [u32; 2] {
    [a[0].wrapping_add(b[0]), a[1].wrapping_add(b[1])]
}

#[inline(always)]
fn minus(a: [u32; 2], b: [u32; 2]) -> [u32; 2] {
    [a[0].wrapping_sub(b[0]), a[1].wrapping_sub(b[1])]
}

/// Adds a halfword of weights to each channel's sums, or starts them with it.
#[inline(never)]
pub(super) fn nine<const FIRST: bool>(sums: &mut [[u32; 4]], tables: &Three, weights: &[u8]) {
    // Two iterators, not `zip`: one index for both would cost an addition at every access.
    let mut pairs = weights.as_chunks::<2>().0.iter();
    for to in sums {
        let Some(&pair) = pairs.next() else { break };
        let v = usize::from(u16::from_le_bytes(pair));
        let e = &tables[1 + (v & 31)].0;
        let f = &tables[1 + ENTRIES + (v >> 5 & 31)].0;
        let g = &tables[1 + 2 * ENTRIES + (v >> 10 & 31)].0;
        for h in [0, 2] {
            let (a, b) = if FIRST { (0, 0) } else { (to[h], to[h + 1]) };
            let (a, b) = (a.wrapping_add(e[h]), b.wrapping_add(e[h + 1]));
            let (a, b) = (a.wrapping_add(f[h]), b.wrapping_add(f[h + 1]));
            (to[h], to[h + 1]) = (a.wrapping_add(g[h]), b.wrapping_add(g[h + 1]));
            // No instruction, but it keeps the compiler from loading all words at once and running out of registers.
            compiler_fence(Ordering::AcqRel);
        }
    }
}
