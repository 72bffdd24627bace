//! Trits as two bits, one where they are +1 and one where they are -1, for codes taken apart into planes of bits.
//!
//! Products with a plane are counts of bits. Where a code's bit is set, a +1 adds one and a -1 takes one off; so with
//! `plus` and `minus` the two masks, `count(c & plus) - count(c & minus)` is `count(c ? plus : minus) - count(minus)`: a
//! selection, a count and an addition for 32 codes of 16 outputs, and something to take off that depends on the weight
//! alone. Two planes make codes of 2 bits, the upper one doubled. Sums have 32 bits and need no emptying.

use alloc::vec;
use alloc::vec::Vec;

use super::Form;
use crate::error::{check_trits, length};
use crate::integer::epilogue::Epilogue;
use crate::integer::patches::Patches;
use crate::integer::{Layout, PANEL};
use crate::{Conv2d, KernelError};

/// Where 16 outputs have +1, and where -1, among 32 codes: bit `i` of element `l` is for code `i` and output `l`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Masks {
    pub(crate) plus: [u32; PANEL],
    pub(crate) minus: [u32; PANEL],
}

/// Bytes of a plane that a step takes.
const STEP: usize = 4;
/// Codes of a byte.
pub(crate) const BYTE: usize = 8;

/// A ternary weight as masks. Packing again in place allocates nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signs {
    /// In bytes of a plane: each pixel has whole ones.
    layout: Layout,
    /// Columns of the kernel, and codes at each position.
    width: usize,
    channels: usize,
    /// Panel by panel.
    steps: Vec<Masks>,
    /// How many -1 an output has, negated; zero for outputs that fill up the last panel.
    negated: Vec<i32>,
}

impl Signs {
    pub(super) fn new(
        (height, width, channels): (usize, usize, usize),
        n: usize,
        trits: &[i8],
    ) -> Result<Self, KernelError> {
        let k = height
            .checked_mul(width)
            .and_then(|t| t.checked_mul(channels))
            .filter(|&k| k <= Form::Signs.largest_k());
        if k.is_none_or(|k| {
            // Filled up, a position has at most 32 codes as many and a panel 16 outputs more.
            k == 0 || n == 0 || n.checked_add(PANEL).and_then(|n| n.checked_mul(k)?.checked_mul(32)).is_none()
        }) {
            return Err(KernelError::Geometry {
                op: "Signs",
                reason: "sizes are zero or too large (kernel rows, kernel columns, channels, outputs)",
                sizes: [height, width, channels, n],
            });
        }
        length("Signs", "trits", height * width * channels * n, trits.len())?;
        let layout = Layout { segments: height, segment: width * channels.div_ceil(BYTE), n, step: STEP };
        let none = Masks { plus: [0; PANEL], minus: [0; PANEL] };
        let steps = vec![none; layout.steps() * layout.panels()];
        let mut packed = Self { layout, width, channels, steps, negated: vec![0; layout.panels() * PANEL] };
        packed.repack(trits)?;
        Ok(packed)
    }

    /// The height, width and channels a convolution's weight has.
    pub(super) fn shape(g: &Conv2d) -> (usize, usize, usize) {
        (g.kernel_h, g.kernel_w, g.in_c)
    }

    pub(super) fn repack(&mut self, trits: &[i8]) -> Result<(), KernelError> {
        let n = self.layout.n;
        check_trits("Signs::repack", "Signs", self.k() * n, trits)?;
        let (pixel, run) = (self.channels.div_ceil(BYTE), self.layout.segment_steps());
        let panels = self.steps.chunks_exact_mut(self.layout.steps());
        for (panel, (steps, negated)) in panels.zip(self.negated.chunks_exact_mut(PANEL)).enumerate() {
            let first = panel * PANEL;
            let count = PANEL.min(n - first);
            steps.fill(Masks { plus: [0; PANEL], minus: [0; PANEL] });
            negated.fill(0);
            for (row, trits) in trits.chunks_exact(n).enumerate() {
                let (position, channel) = (row / self.channels, row % self.channels);
                let byte = position % self.width * pixel + channel / BYTE;
                let masks = &mut steps[position / self.width * run + byte / STEP];
                add(masks, negated, &trits[first..first + count], byte % STEP * BYTE + channel % BYTE);
            }
        }
        Ok(())
    }

    /// Rows of the weight: `k`, or `kh kw cin`.
    pub(super) fn k(&self) -> usize {
        self.layout.segments * self.width * self.channels
    }

    pub(super) fn n(&self) -> usize {
        self.layout.n
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.steps[..]) + size_of_val(&self.negated[..])
    }

    /// Rows and columns of the kernel, and codes at each position.
    pub(super) fn kernel(&self) -> (usize, usize, usize) {
        (self.layout.segments, self.width, self.channels)
    }

    /// How it is cut: codes are bytes of a plane here.
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Steps of a panel, and the negated numbers of -1 of its outputs.
    pub(crate) fn panel(&self, panel: usize) -> (&[Masks], &[i32; PANEL]) {
        let steps = self.layout.steps();
        (&self.steps[panel * steps..][..steps], crate::lanes::lanes(&self.negated, panel * PANEL))
    }

    /// Outputs of as many patches as `out` has rows; `patches` says where they are in the plane of the lowest bit, and the next of
    /// `planes` is `plane` bytes further.
    pub(super) fn multiply_scalar<E: Epilogue>(
        &self,
        (planes, plane): (usize, usize),
        patches: &Patches<'_, u8>,
        epilogue: &E,
        out: &mut [E::Out],
    ) {
        let (n, run) = (self.layout.n, self.layout.segment_steps());
        for (p, out) in out.chunks_exact_mut(n).enumerate() {
            for (panel, out) in out.chunks_mut(PANEL).enumerate() {
                let mut acc = [0_i32; PANEL];
                for (i, masks) in self.panel(panel).0.iter().enumerate() {
                    let at = patches.offset(p) + i / run * patches.segment_step + i % run * STEP;
                    for bit in 0..planes {
                        let at = at + bit * plane;
                        let codes = u32::from_le_bytes(*crate::lanes::lanes::<_, STEP>(patches.data, at));
                        for (l, acc) in acc.iter_mut().enumerate() {
                            let count = |mask: u32| (codes & mask).count_ones() as i32;
                            *acc += (count(masks.plus[l]) - count(masks.minus[l])) << bit;
                        }
                    }
                }
                epilogue.store(&acc, panel * PANEL, out);
            }
        }
    }
}

/// Sets bit `bit` of the masks of a row of trits.
#[inline(always)]
fn add(masks: &mut Masks, negated: &mut [i32], trits: &[i8], bit: usize) {
    let mut set = |trits: &[i8]| {
        for (l, &trit) in trits.iter().enumerate() {
            masks.plus[l] |= u32::from(trit > 0) << bit;
            masks.minus[l] |= u32::from(trit < 0) << bit;
            negated[l] -= i32::from(trit < 0);
        }
    };
    match <&[i8; PANEL]>::try_from(trits) {
        // A constant length, so that this becomes a few vector instructions.
        Ok(trits) => set(trits),
        Err(_) => set(trits),
    }
}

#[cfg(test)]
mod tests {
    use super::Signs;

    #[test]
    fn a_position_has_whole_bytes_and_a_row_whole_steps() {
        // 2 x 2 positions of 9 codes: two bytes each, four bytes a row of the kernel.
        let w = Signs::new((2, 2, 9), 1, &[1; 36]).expect("trits");
        let masks: Vec<u32> = w.panel(0).0.iter().map(|m| m.plus[0]).collect();
        assert_eq!(masks, [0x01ff_01ff; 2]);
        assert_eq!(w.panel(0).1[0], 0);
        let w = Signs::new((1, 3, 9), 1, &[-1; 27]).expect("trits");
        let masks: Vec<u32> = w.panel(0).0.iter().map(|m| m.minus[0]).collect();
        assert_eq!(masks, [0x01ff_01ff, 0x01ff]);
        assert_eq!(w.panel(0).1[0], -27);
    }
}
