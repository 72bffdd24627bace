//! Running an image.

use super::bytes::i32_at;
use super::record::{Affine, Branch, Record, Window};
use super::tile::Memory;
use super::tiled::Step;
use super::{Image, ImageError, float};

impl Image<'_> {
    /// Runs one sample: `input` codes `[h, w, c]`, `arena` of at least [`Image::arena_bytes`], `logits` one accumulator
    /// per class. Besides, about 15 KB of stack hold the tables and sums of one tile.
    ///
    /// # Errors
    /// A buffer of the wrong size.
    pub fn run(&self, input: &[u8], arena: &mut [u8], logits: &mut [i32]) -> Result<(), ImageError> {
        self.run_with(input, arena, logits, |_| {})
    }

    /// As [`Image::run`]; calls `done` with `None` when the input is in its place, and with each step's number when the step is
    /// done, for measurements.
    ///
    /// # Errors
    /// A buffer of the wrong size.
    pub fn run_with(
        &self,
        input: &[u8],
        arena: &mut [u8],
        logits: &mut [i32],
        mut done: impl FnMut(Option<usize>),
    ) -> Result<(), ImageError> {
        let sizes = [
            ("input", self.input_len(), input.len(), input.len() == self.input_len()),
            ("arena", self.arena_bytes, arena.len(), arena.len() >= self.arena_bytes),
            ("logits", self.classes, logits.len(), logits.len() == self.classes),
        ];
        for (what, expected, actual, fits) in sizes {
            if !fits {
                return Err(ImageError::Buffer { what, expected, actual });
            }
        }
        arena[self.input_at..][..input.len()].copy_from_slice(input);
        let mut memory = Memory::new();
        done(None);
        for (number, record) in self.records().enumerate() {
            match record? {
                Record::Codes { first, second, form, shift, max, output } => {
                    let len = first.window.out_h * first.window.out_w * first.window.out_c;
                    let (output, rest) = carve(arena, output, len);
                    let x = rest.get(first.input, first.input_bytes());
                    let w = first.window;
                    let second = second.map(|second| (second, rest.get(second.input, second.input_bytes())));
                    let step = Step { first: (first, x), second, form, shift, max };
                    if let Some(tiles) = step.tiles() {
                        step.run(&tiles, &mut memory, output);
                        done(Some(number));
                        continue;
                    }
                    for (at, out) in positions(&w).zip(output) {
                        let a = first.accumulator(x, at);
                        let b = second.map_or(0, |(second, z)| second.accumulator(z, at));
                        *out = step.code([a, b], at.2);
                    }
                }
                Record::Pool { sum, input, output, window: w } => {
                    let len = w.out_h * w.out_w * w.out_c * (1 + usize::from(sum));
                    let (output, rest) = carve(arena, output, len);
                    pool(&w, sum, rest.get(input, w.in_h * w.in_w * w.in_c), output);
                }
                Record::Logits { branch } => {
                    let x = &arena[branch.input..][..branch.input_bytes()];
                    for (c, out) in logits.iter_mut().enumerate() {
                        *out = branch.accumulator(x, (0, 0, c));
                    }
                }
            }
            done(Some(number));
        }
        Ok(())
    }

    /// The class with the largest logit, the first of equals, for accumulators from [`Image::run`]: compared as the f32
    /// values the training graph computes, in integer arithmetic.
    pub fn predict(&self, logits: &[i32]) -> usize {
        let mut best = (i32::MIN, 0);
        for (class, &acc) in logits.iter().enumerate() {
            let key = float::order(self.logit_bits(acc, class));
            if key > best.0 {
                best = (key, class);
            }
        }
        best.1
    }

    /// The real logit of a class as `f32` bits.
    pub fn logit_bits(&self, accumulator: i32, class: usize) -> u32 {
        match self.records().last() {
            Some(Ok(Record::Logits { branch })) => branch.value(accumulator, class),
            _ => 0,
        }
    }
}

impl Branch<'_> {
    /// The real value of an accumulator as `f32` bits; see `deploy::epilogue::Affine` for the order of operations.
    pub(super) fn value(&self, acc: i32, c: usize) -> u32 {
        let acc = float::from_i32(acc);
        let Some(Affine { scale, bias, norm }) = self.affine else { return acc };
        let at = |table: &[u8]| i32_at(table, c) as u32;
        let mut y = float::fma(acc, at(scale), 0);
        if let Some(bias) = bias {
            y = float::fma(y, float::ONE, at(bias));
        }
        if let Some((a, b)) = norm {
            y = float::fma(y, at(a), at(b));
        }
        y
    }
}

/// Output positions `(y, x, channel)` in memory order.
fn positions(w: &Window) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
    let (h, width, c) = (w.out_h, w.out_w, w.out_c);
    (0..h).flat_map(move |y| (0..width).flat_map(move |x| (0..c).map(move |c| (y, x, c))))
}

/// Largest codes or sums of codes under a window, all channels of a pixel at a time.
fn pool(w: &Window, sum: bool, input: &[u8], output: &mut [u8]) {
    let (channels, size) = (w.in_c, 1 + usize::from(sum));
    for (at, out) in output.chunks_exact_mut(channels * size).enumerate() {
        let (top, left) = (at / w.out_w * w.stride_h, at % w.out_w * w.stride_w);
        out.fill(0);
        for ky in 0..w.kernel_h {
            let start = ((top + ky) * w.in_w + left) * channels;
            for pixel in input[start..][..w.kernel_w * channels].chunks_exact(channels) {
                if sum {
                    for (out, &code) in out.as_chunks_mut::<2>().0.iter_mut().zip(pixel) {
                        *out = u16::from_le_bytes(*out).wrapping_add(code.into()).to_le_bytes();
                    }
                } else {
                    out.iter_mut().zip(pixel).for_each(|(out, &code)| *out = code.max(*out));
                }
            }
        }
    }
}

/// The arena without a step's output.
struct Rest<'a> {
    before: &'a [u8],
    after: &'a [u8],
    after_at: usize,
}

impl<'a> Rest<'a> {
    fn get(&self, at: usize, len: usize) -> &'a [u8] {
        if at >= self.after_at { &self.after[at - self.after_at..][..len] } else { &self.before[at..][..len] }
    }
}

/// Splits off the output, which no input overlaps.
fn carve(arena: &mut [u8], at: usize, len: usize) -> (&mut [u8], Rest<'_>) {
    let (before, tail) = arena.split_at_mut(at);
    let (output, after) = tail.split_at_mut(len);
    (output, Rest { before, after, after_at: at + len })
}
