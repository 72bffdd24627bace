//! C arrays as text, and the working memory the kernels need.

use std::fmt::{Display, Write as _};

/// `TYPE NAME[] = {...};`
pub(super) fn array<T: Display>(kind: &str, name: &str, values: impl ExactSizeIterator<Item = T>) -> String {
    let aligned = if name.ends_with("weights") { " ALIGNED" } else { "" };
    let mut text = format!("{kind} {name}[{}]{aligned} = {{", values.len());
    let mut column = 200;
    for value in values {
        let item = value.to_string();
        if column + item.len() > 118 {
            text += "\n    ";
            column = 4;
        }
        column += item.len() + 1;
        let _ = write!(text, "{item},");
    }
    text + "};\n"
}

/// Sizes of the static buffers, the largest over all steps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scratch {
    /// Pointers.
    pub(super) pixels: usize,
    /// Bytes of one padding pixel.
    pub(super) pad: usize,
    /// Words of one group's columns.
    pub(super) patch: usize,
    /// Words of a chunk's tables.
    pub(super) table: usize,
    /// Words of 16-bit sums.
    pub(super) sums: usize,
    /// Bytes of unpacked depthwise weights.
    pub(super) unpacked: usize,
    /// Accumulators.
    pub(super) accumulators: usize,
    /// Whether there are convolutions with 8-bit weights.
    pub(super) int8: bool,
    /// Chunk sizes of 3x3 ternary convolutions of stride 1.
    pub(super) chunks: [bool; 9],
    /// Whether there are depthwise convolutions.
    pub(super) depthwise: bool,
    /// Whether there are epilogues on 16-bit sums.
    pub(super) short: bool,
    /// Whether there are fixed-point residual sums.
    pub(super) fixed: bool,
}

impl Scratch {
    /// Keeps the larger of each.
    pub(super) fn grow(&mut self, other: Self) {
        self.pixels = self.pixels.max(other.pixels);
        self.pad = self.pad.max(other.pad);
        self.patch = self.patch.max(other.patch);
        self.table = self.table.max(other.table);
        self.sums = self.sums.max(other.sums);
        self.unpacked = self.unpacked.max(other.unpacked);
        self.accumulators = self.accumulators.max(other.accumulators);
        self.int8 |= other.int8;
        self.chunks.iter_mut().zip(other.chunks).for_each(|(used, more)| *used |= more);
        self.depthwise |= other.depthwise;
        self.short |= other.short;
        self.fixed |= other.fixed;
    }

    /// Bytes, with 4-byte pointers.
    pub(super) fn bytes(&self) -> usize {
        4 * (self.pixels + self.patch + self.table + self.sums + self.accumulators)
            + self.pad.next_multiple_of(4)
            + self.unpacked.next_multiple_of(4)
    }
}
