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
    /// Words of a patch.
    pub(super) patch: usize,
    /// Words of tables.
    pub(super) table: usize,
    /// Words of 16-bit sums.
    pub(super) sums: usize,
    /// Bytes of unpacked depthwise weights.
    pub(super) unpacked: usize,
    /// Accumulators.
    pub(super) accumulators: usize,
    /// Whether there are convolutions with 8-bit weights.
    pub(super) int8: bool,
    /// Whether there are ternary depthwise convolutions.
    pub(super) depthwise_ternary: bool,
    /// Whether there are other depthwise convolutions.
    pub(super) depthwise_int8: bool,
    /// Shifts of epilogues on 16-bit sums, without and with a flipped bit.
    pub(super) shifts: [[bool; 2]; 32],
    /// Whether some of those steps have channels that need others.
    pub(super) mixed: bool,
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
        self.depthwise_ternary |= other.depthwise_ternary;
        self.depthwise_int8 |= other.depthwise_int8;
        let more = other.shifts.as_flattened();
        self.shifts.as_flattened_mut().iter_mut().zip(more).for_each(|(used, more)| *used |= more);
        self.mixed |= other.mixed;
        self.fixed |= other.fixed;
    }

    /// Bytes, with 4-byte pointers.
    pub(super) fn bytes(&self) -> usize {
        4 * (self.pixels + self.patch + self.table + self.sums + self.accumulators)
            + self.pad.next_multiple_of(4)
            + self.unpacked.next_multiple_of(4)
    }
}
