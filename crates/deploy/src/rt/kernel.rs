//! Accumulators of one output position.

use super::record::{Branch, BranchKind};

impl Branch<'_> {
    /// The accumulator of output `(oy, ox, c)`, zero point subtracted; `input` is the branch's tensor.
    pub(super) fn accumulator(&self, input: &[u8], (oy, ox, c): (usize, usize, usize)) -> i32 {
        let w = &self.window;
        if self.kind == BranchKind::Codes {
            return self.element(input, (oy * w.in_w + ox) * w.in_c + c) - self.zero_point;
        }
        let row = &self.weights[c * self.row..][..self.row];
        // Window rows and columns inside the image; padding is the real value 0 and adds nothing.
        let (top, left) = (oy * w.stride_h, ox * w.stride_w);
        let (mut acc, mut weights) = (0_i32, 0_i32);
        for ky in w.pad_top.saturating_sub(top)..w.kernel_h.min((w.in_h + w.pad_top).saturating_sub(top)) {
            for kx in
                w.pad_left.saturating_sub(left)..w.kernel_w.min((w.in_w + w.pad_left).saturating_sub(left))
            {
                let pixel = (top + ky - w.pad_top) * w.in_w + left + kx - w.pad_left;
                let tap = ky * w.kernel_w + kx;
                let (codes, first, count) = match self.kind {
                    BranchKind::Depthwise => (pixel * w.in_c + c, tap, 1),
                    _ => (pixel * w.in_c, tap * w.in_c, w.in_c),
                };
                for i in 0..count {
                    let weight = self.weight(row, first + i);
                    acc = acc.wrapping_add(weight.wrapping_mul(self.element(input, codes + i)));
                    weights = weights.wrapping_add(weight);
                }
            }
        }
        acc.wrapping_sub(weights.wrapping_mul(self.zero_point))
    }

    #[inline(always)]
    fn weight(&self, row: &[u8], i: usize) -> i32 {
        if self.trits { i32::from(row[i / 4] >> (2 * (i % 4)) & 3) - 1 } else { i32::from(row[i] as i8) }
    }

    #[inline(always)]
    fn element(&self, input: &[u8], i: usize) -> i32 {
        if self.wide {
            i32::from(u16::from_le_bytes([input[2 * i], input[2 * i + 1]]))
        } else {
            i32::from(input[i])
        }
    }

    /// Bytes of its input.
    pub(super) fn input_bytes(&self) -> usize {
        let w = &self.window;
        w.in_h * w.in_w * w.in_c * (1 + usize::from(self.wide))
    }
}
