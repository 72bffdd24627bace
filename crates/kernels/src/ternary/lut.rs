//! Trits for codes of one or two bits, as numbers of look-up tables: one table says what a group of trits makes of
//! every group of codes.
//!
//! Four bits hold a group: two 2-bit codes or four 1-bit codes. A table has the group's 16 dot products with its
//! trits; there are 9 or 81 different tables, fixed for ever, and a weight is a list of their numbers. A byte shuffle
//! looks up 32 positions at once, and sums are kept in 8 bits until packing says they must be emptied into 16: the +1
//! and the -1 that each output meets are counted, so that no sum of a *block* can leave -128..=127 whatever the codes
//! are. The 16-bit sums have room for all of `k` ([`Form::largest_k`]).

use alloc::vec;
use alloc::vec::Vec;

use super::Form;
use crate::error::{check_trits, length};
use crate::integer::PANEL;
use crate::{Conv2d, KernelError};

/// Outputs of one tile.
pub(crate) const OUTPUTS: usize = 4;

/// Codes of a run: a vector of them.
pub(crate) const RUN: usize = 32;

/// How a weight is cut into taps, groups of channels and tiles of outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taps {
    /// Positions of the kernel.
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Codes at each.
    pub(crate) channels: usize,
    /// Outputs.
    pub(crate) n: usize,
    /// Codes of one group.
    pub(crate) group: usize,
}

impl Taps {
    /// Groups at one position of the kernel.
    pub(crate) fn tap_groups(&self) -> usize {
        self.channels.div_ceil(self.group)
    }
    /// Codes at one position of the kernel whose groups take one of each of several runs of [`RUN`] codes, as vectors
    /// gather them fastest; the groups of what is left are neighbours.
    pub(crate) fn gathered(&self) -> usize {
        self.channels - self.channels % (RUN * self.group)
    }
    /// Which code of its position is the `j`th of group `i`; beyond the channels if there is none.
    pub(crate) fn channel(&self, i: usize, j: usize) -> usize {
        let block = i / RUN * RUN * self.group;
        if block < self.gathered() { block + j * RUN + i % RUN } else { i * self.group + j }
    }
    /// Groups of one output.
    pub(crate) fn groups(&self) -> usize {
        self.height * self.width * self.tap_groups()
    }
    /// Tiles of outputs.
    pub(crate) fn tiles(&self) -> usize {
        self.n.div_ceil(OUTPUTS)
    }
    /// Rows of the weight.
    pub(crate) fn k(&self) -> usize {
        self.height * self.width * self.channels
    }
}

/// A ternary weight as numbers of look-up tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lut {
    taps: Taps,
    /// Tile by tile, group by group, where each output's table starts in the tables, in units of [`UNIT`] bytes.
    starts: Vec<[u8; OUTPUTS]>,
    /// Per panel of outputs, the group each block ends before; unused places repeat the last.
    ends: Vec<u32>,
    /// Places per panel in `ends`.
    blocks: usize,
    /// Every table.
    tables: Vec<Table>,
}

/// Bytes that starts of tables are counted in: the largest unit that an address scales by.
pub(crate) const UNIT: usize = 8;

/// 16 products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(16))]
pub(crate) struct Table(pub(crate) [i8; 16]);

impl Lut {
    pub(super) fn new(
        form: Form,
        height: usize,
        width: usize,
        (channels, n): (usize, usize),
        trits: &[i8],
    ) -> Result<Self, KernelError> {
        let group = 4 / form.bits() as usize;
        let taps = Taps { height, width, channels, n, group };
        let k = height
            .checked_mul(width)
            .and_then(|t| t.checked_mul(channels))
            .filter(|&k| k <= form.largest_k());
        if k.is_none_or(|k| {
            k == 0 || n == 0 || n.checked_add(OUTPUTS).and_then(|n| n.checked_mul(k)).is_none()
        }) {
            return Err(KernelError::Geometry {
                op: "Lut",
                reason: "sizes are zero or too large (kernel rows, kernel columns, channels, outputs)",
                sizes: [height, width, channels, n],
            });
        }
        length("Lut", "trits", taps.k() * n, trits.len())?;
        // All trits of one sign: the shortest blocks there can be.
        let shortest = largest_count(form.bits()) as usize / group;
        let blocks = taps.groups().div_ceil(shortest);
        let mut packed = Self {
            taps,
            starts: vec![[0; OUTPUTS]; taps.groups() * taps.tiles()],
            ends: vec![0; blocks * taps.n.div_ceil(PANEL)],
            blocks,
            tables: tables(form.bits()),
        };
        packed.repack(trits)?;
        Ok(packed)
    }

    pub(super) fn repack(&mut self, trits: &[i8]) -> Result<(), KernelError> {
        let taps = self.taps;
        check_trits("Lut::repack", "Lut", taps.k() * taps.n, trits)?;
        let (tap_groups, groups, bits) = (taps.tap_groups(), taps.groups(), self.bits());
        let panels =
            self.starts.chunks_mut(PANEL / OUTPUTS * groups).zip(self.ends.chunks_exact_mut(self.blocks));
        for (panel, (starts, ends)) in panels.enumerate() {
            let first = panel * PANEL;
            let count = PANEL.min(taps.n - first);
            let mut schedule = Schedule::new(bits, ends);
            for i in 0..groups {
                let (tap, in_tap) = (i / tap_groups, i % tap_groups);
                let mut signs = [[0_u32; PANEL]; 2];
                for (o, start) in starts[i..].iter_mut().step_by(groups).flatten().enumerate() {
                    let mut number = 0;
                    for j in (0..taps.group).rev() {
                        let channel = taps.channel(in_tap, j);
                        let trit = if channel < taps.channels && o < count {
                            trits[(tap * taps.channels + channel) * taps.n + first + o]
                        } else {
                            0
                        };
                        signs[0][o] += u32::from(trit > 0);
                        signs[1][o] += u32::from(trit < 0);
                        number = 3 * number + (trit + 1) as u8;
                    }
                    *start = number * (size_of::<Table>() / UNIT) as u8;
                }
                schedule.add(i, signs);
            }
            schedule.end(groups);
        }
        Ok(())
    }

    pub(crate) fn taps(&self) -> Taps {
        self.taps
    }

    pub(crate) fn bits(&self) -> u32 {
        4 / self.taps.group as u32
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.starts[..]) + size_of_val(&self.ends[..]) + size_of_val(&self.tables[..])
    }

    /// Table starts of a tile of outputs.
    #[inline(always)]
    pub(crate) fn tile(&self, tile: usize) -> &[[u8; OUTPUTS]] {
        let groups = self.taps.groups();
        &self.starts[tile * groups..][..groups]
    }

    /// Block ends of a panel of outputs.
    #[inline(always)]
    pub(crate) fn ends(&self, panel: usize) -> &[u32] {
        &self.ends[panel * self.blocks..][..self.blocks]
    }

    /// Every table; starts are counted from here, and none lies beyond.
    pub(crate) fn tables(&self) -> &[Table] {
        &self.tables
    }
}

/// Trits of one sign an 8-bit sum may meet within a block.
fn largest_count(bits: u32) -> u32 {
    i8::MAX as u32 / ((1 << bits) - 1)
}

/// Finds the ends of blocks while groups are counted.
struct Schedule<'a> {
    most: u32,
    /// +1 and -1 of each output in the current block.
    counts: [[u32; PANEL]; 2],
    ends: &'a mut [u32],
    block: usize,
}

impl<'a> Schedule<'a> {
    fn new(bits: u32, ends: &'a mut [u32]) -> Self {
        Self { most: largest_count(bits), counts: [[0; PANEL]; 2], ends, block: 0 }
    }

    fn add(&mut self, group: usize, signs: [[u32; PANEL]; 2]) {
        let mut counts = self.counts;
        counts.as_flattened_mut().iter_mut().zip(signs.as_flattened()).for_each(|(c, s)| *c += s);
        if counts.as_flattened().iter().any(|&c| c > self.most) {
            self.ends[self.block] = group as u32;
            self.block += 1;
            counts = signs;
        }
        self.counts = counts;
    }

    fn end(self, groups: usize) {
        self.ends[self.block..].fill(groups as u32);
    }
}

/// Every table: number `t` is for the trits that are `t`'s base-3 digits less one, earliest lowest.
fn tables(bits: u32) -> Vec<Table> {
    let group = 4 / bits;
    let product = |number: usize, codes: usize| {
        let (mut trits, mut codes, mut sum) = (number, codes, 0);
        for _ in 0..group {
            sum += (trits % 3) as i8 * (codes & ((1 << bits) - 1)) as i8 - (codes & ((1 << bits) - 1)) as i8;
            (trits, codes) = (trits / 3, codes >> bits);
        }
        sum
    };
    (0..3_usize.pow(group)).map(|t| Table(core::array::from_fn(|i| product(t, i)))).collect()
}

/// The height, width and channels a convolution's weight has as taps.
pub(super) fn shape(g: &Conv2d) -> (usize, usize, (usize, usize)) {
    (g.kernel_h, g.kernel_w, (g.in_c, g.out_c))
}

#[cfg(test)]
mod tests {
    use super::{Form, Lut, tables};

    #[test]
    fn tables_are_dot_products() {
        // Trits (1, -1) are digits (2, 0): number 2. Codes 3 and 1 are the byte 3 + 4 * 1.
        assert_eq!(tables(2)[2].0[7], 3 - 1);
        assert_eq!(tables(2).len(), 9);
        // All +1: as many as there are bits set.
        assert_eq!(tables(1)[80].0[0b1011], 3);
        assert_eq!(tables(1).len(), 81);
    }

    #[test]
    fn blocks_follow_the_weights() {
        let ends = |form, k: usize, trit: fn(usize) -> i8| {
            let trits: Vec<i8> = (0..k).map(trit).collect();
            Lut::new(form, 1, 1, (k, 1), &trits).expect("trits").ends(0).to_vec()
        };
        // 42 codes of 3 are 126: 21 groups of two. 127 codes of 1: 31 groups of four.
        assert_eq!(ends(Form::Lut2, 100, |_| 1), [21, 42, 50]);
        assert_eq!(ends(Form::Lut2, 100, |_| -1), [21, 42, 50]);
        assert_eq!(ends(Form::Lut2, 100, |i| if i % 2 == 0 { 1 } else { -1 }), [42, 50, 50]);
        assert_eq!(ends(Form::Lut1, 256, |_| 1), [31, 62, 64]);
        assert_eq!(ends(Form::Lut2, 100, |_| 0), [50; 3]);
    }
}
