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
        // With a multiplier, neighbouring output channels of a depthwise convolution share an input channel.
        let shared = if self.kind == BranchKind::Depthwise { c / (w.out_c / w.in_c) } else { 0 };
        let columns =
            w.pad_left.saturating_sub(left)..w.kernel_w.min((w.in_w + w.pad_left).saturating_sub(left));
        let count = columns.end.saturating_sub(columns.start);
        for ky in w.pad_top.saturating_sub(top)..w.kernel_h.min((w.in_h + w.pad_top).saturating_sub(top)) {
            if count == 0 {
                break;
            }
            let pixel = (top + ky - w.pad_top) * w.in_w + left + columns.start - w.pad_left;
            let tap = ky * w.kernel_w + columns.start;
            let (sum, total) = match self.kind {
                BranchKind::Depthwise => self.dot(row, tap, input, (pixel * w.in_c + shared, w.in_c), count),
                // The window's columns are neighbours in memory, and so are their weights.
                _ if self.wide => self.dot(row, tap * w.in_c, input, (pixel * w.in_c, 1), count * w.in_c),
                _ if self.trits => {
                    let codes = &input[pixel * w.in_c..][..count * w.in_c];
                    trits_dot(row, tap * w.in_c, codes, self.zero_point != 0)
                }
                _ => {
                    let codes = &input[pixel * w.in_c..][..count * w.in_c];
                    int8_dot(&row[tap * w.in_c..][..codes.len()], codes)
                }
            };
            acc = acc.wrapping_add(sum);
            weights = weights.wrapping_add(total);
        }
        acc.wrapping_sub(weights.wrapping_mul(self.zero_point))
    }

    /// Sum of `count` products of the weights from `first` on with the codes at `start`, `start + step`, and so on, and the
    /// sum of those weights.
    fn dot(
        &self,
        row: &[u8],
        first: usize,
        input: &[u8],
        (start, step): (usize, usize),
        count: usize,
    ) -> (i32, i32) {
        let (mut sum, mut total) = (0_i32, 0_i32);
        for i in 0..count {
            let weight = self.weight(row, first + i);
            sum = sum.wrapping_add(weight.wrapping_mul(self.element(input, start + i * step)));
            total = total.wrapping_add(weight);
        }
        (sum, total)
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

/// As `Branch::dot` for trits and neighbouring codes: digits are one more than trits, so the sum of codes is subtracted
/// in the end. The sum of weights is 0 where nobody needs it. Unsigned, so that sums of any length only wrap.
fn trits_dot(row: &[u8], first: usize, codes: &[u8], weigh: bool) -> (i32, i32) {
    let digit = |i: usize| u32::from(row[i / 4] >> (2 * (i % 4)) & 3);
    let (mut sum, mut all) = (0_u32, 0_u32);
    let mut one = |i: usize, code: u8| {
        sum = sum.wrapping_add(digit(i) * u32::from(code));
        all = all.wrapping_add(code.into());
    };
    let head = codes.len().min(first.wrapping_neg() % 4);
    let (start, rest) = codes.split_at(head);
    start.iter().enumerate().for_each(|(i, &code)| one(first + i, code));
    let fours = rest.chunks_exact(4);
    let tail = fours.remainder();
    let from = first + codes.len() - tail.len();
    tail.iter().enumerate().for_each(|(i, &code)| one(from + i, code));
    for (&byte, four) in row[(first + head) / 4..].iter().zip(fours) {
        let d = u32::from(byte);
        let [a, b, c, e] = [0, 1, 2, 3].map(|i| u32::from(four[i]));
        sum = sum.wrapping_add((d & 3) * a + (d >> 2 & 3) * b + (d >> 4 & 3) * c + (d >> 6) * e);
        all = all.wrapping_add(a + b + c + e);
    }
    let digits = || (first..first + codes.len()).fold(0_u32, |n, i| n.wrapping_add(digit(i)));
    let total = if weigh { digits().wrapping_sub(codes.len() as u32) } else { 0 };
    (sum.wrapping_sub(all) as i32, total as i32)
}

/// As `Branch::dot` for 8-bit weights and neighbouring codes.
fn int8_dot(weights: &[u8], codes: &[u8]) -> (i32, i32) {
    weights.iter().zip(codes).fold((0_i32, 0_i32), |(sum, total), (&weight, &code)| {
        let weight = i32::from(weight as i8);
        (sum.wrapping_add(weight * i32::from(code)), total.wrapping_add(weight))
    })
}
