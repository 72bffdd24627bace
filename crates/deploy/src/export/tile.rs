//! How a step is cut into tiles of eight output positions, and how its weights are laid out for them.
//!
//! A tile is four words of two 16-bit lanes: lane 1 lies `lane_y` rows or `lane_x` columns from lane 0. Rows and columns may
//! be swapped, and an image under 1x1 kernels flattened, so that few positions of the last tiles lie outside the output.
//!
//! Ternary convolutions read the patch as *elements* (input channel, kernel row), three to a *group*. A table of all 27
//! signed sums of a group serves each output channel and each kernel column, so the weights of one group and column are one
//! number below 27 and three of them one halfword: 16 bits for nine weights.

use crate::DeployError;
use crate::epilogue::{CodeGrid, IntegerEpilogue};
use crate::program::{Branch, Element, Linear, Program, Tensor, Weights, Window};
use crate::prove::{Short, interval};

/// Orientation and tile of one step, shared by its branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    pub(crate) orientation: Orientation,
    pub(crate) lane_y: usize,
    pub(crate) lane_x: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Orientation {
    /// Rows are rows.
    Plain,
    /// Rows are the image's columns.
    Swapped,
    /// All positions are one row.
    Flat,
}

/// A window seen in an orientation, with the distances between its rows and columns in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Oriented {
    pub(crate) window: Window,
    pub(crate) in_row: usize,
    pub(crate) in_col: usize,
    pub(crate) out_row: usize,
    pub(crate) out_col: usize,
    swapped: bool,
}

impl Tiling {
    /// The tiling of branches of one output shape with the fewest tiles.
    pub(crate) fn of(branches: &[Branch]) -> Self {
        let pointwise = branches.iter().all(|b| {
            let w = b.linear.window();
            [w.kernel_h, w.kernel_w, w.stride_h, w.stride_w] == [1; 4]
                && (w.in_h, w.in_w) == (w.out_h, w.out_w)
        });
        let mut candidates = vec![Orientation::Plain, Orientation::Swapped];
        if pointwise {
            candidates.push(Orientation::Flat);
        }
        let all = candidates.into_iter().flat_map(|orientation| {
            [(0, 4), (1, 0)].map(|(lane_y, lane_x)| Self { orientation, lane_y, lane_x })
        });
        all.min_by_key(|t| t.tiles(branches[0].linear.window())).expect("there are candidates")
    }

    /// Tiles that cover the output of `window`.
    pub(crate) fn tiles(&self, window: &Window) -> usize {
        let w = Oriented::new(window, self.orientation).window;
        w.out_h.div_ceil(1 + self.lane_y) * w.out_w.div_ceil(4 + self.lane_x)
    }
}

impl Oriented {
    pub(crate) fn new(w: &Window, orientation: Orientation) -> Self {
        let (in_row, out_row) = (w.in_w * w.in_c, w.out_w * w.out_c);
        let plain = Self { window: *w, in_row, in_col: w.in_c, out_row, out_col: w.out_c, swapped: false };
        match orientation {
            Orientation::Plain => plain,
            Orientation::Flat => {
                let (input, output) = (w.in_h * w.in_w, w.out_h * w.out_w);
                let window = Window { in_h: 1, in_w: input, out_h: 1, out_w: output, ..*w };
                Self { window, in_row: 0, out_row: 0, ..plain }
            }
            Orientation::Swapped => Self {
                window: Window {
                    in_h: w.in_w,
                    in_w: w.in_h,
                    out_h: w.out_w,
                    out_w: w.out_h,
                    kernel_h: w.kernel_w,
                    kernel_w: w.kernel_h,
                    stride_h: w.stride_w,
                    stride_w: w.stride_h,
                    pad_top: w.pad_left,
                    pad_left: w.pad_top,
                    ..*w
                },
                in_row: w.in_c,
                in_col: in_row,
                out_row: w.out_c,
                out_col: out_row,
                swapped: true,
            },
        }
    }

    /// The kernel's tap at oriented `(ky, kx)`, in memory order.
    pub(crate) fn tap(&self, ky: usize, kx: usize) -> usize {
        if self.swapped { kx * self.window.kernel_h + ky } else { ky * self.window.kernel_w + kx }
    }
}

/// A ternary convolution laid out for tables of sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Triples {
    /// Input column of each word of a table entry, relative to the tile.
    pub(crate) columns: Vec<usize>,
    /// Words from one table entry to the next, as a power of two.
    pub(crate) words_log2: usize,
    /// Word at which each index of a chunk finds its table.
    pub(crate) places: Vec<usize>,
    /// Groups per chunk: as many tables as are built at a time.
    pub(crate) chunk: usize,
    /// Chunks.
    pub(crate) chunks: usize,
    /// Chunks after which 16-bit sums may be full; 0 if never.
    pub(crate) flush: usize,
    /// Weights `[chunk][channel][halfword]`.
    pub(crate) weights: Vec<u16>,
}

impl Triples {
    /// Lays out a convolution with kernel columns of `oriented`.
    ///
    /// `None` if one chunk alone could overflow 16 bits: kernels of more than 14 columns.
    pub(crate) fn new(oriented: &Oriented, trits: &[i8], tensor: &Tensor) -> Option<Self> {
        let (columns, _) = columns(oriented.window.kernel_w, oriented.window.stride_w);
        let sizes: &[usize] = match (oriented.window.kernel_w % 3, columns.len()) {
            (0, ..=8) => &[8, 4, 3, 2, 1],
            (0, _) => &[2, 1],
            (_, 4) => &[6, 3],
            _ => &[3],
        };
        Self::sized(oriented, trits, tensor, sizes)
    }

    /// The convolution of `branch` as [`crate::rt`] runs it, if it does: kernels of one or three columns and up to three
    /// rows.
    pub(crate) fn of_runtime(branch: &Branch, tiling: Tiling, tensor: &Tensor) -> Option<Self> {
        let Linear::Conv2d { weights: Weights::Trits(trits), window } = &branch.linear else { return None };
        let oriented = Oriented::new(window, tiling.orientation);
        let w = &oriented.window;
        let sizes: &[usize] = match (w.kernel_w, w.stride_w) {
            (3, 1) => &[4, 3, 2, 1],
            (3, 2) => &[2, 1],
            (1, 1 | 2) => &[6, 3],
            _ => return None,
        };
        let fits = w.kernel_h <= 3 && tensor.element == Element::U8 && !is_dense(&branch.linear);
        if fits { Self::sized(&oriented, trits, tensor, sizes) } else { None }
    }

    /// As [`Self::new`] with chunks of one of these sizes: the one that wastes least, the first of equals.
    fn sized(oriented: &Oriented, trits: &[i8], tensor: &Tensor, sizes: &[usize]) -> Option<Self> {
        let w = &oriented.window;
        let (columns, offsets) = columns(w.kernel_w, w.stride_w);
        let words_log2 = columns.len().next_power_of_two().trailing_zeros() as usize;
        let groups = (w.in_c * w.kernel_h).div_ceil(3);
        let chunk = sizes.iter().copied().min_by_key(|g| groups.div_ceil(*g) * g).unwrap_or(3);
        let chunks = groups.div_ceil(chunk);
        let places =
            (0..chunk).flat_map(|g| offsets.iter().map(move |o| ((27 * g) << words_log2) + o)).collect();
        let trit = |element: usize, kx: usize, channel: usize| {
            let (c, ky) = (element / w.kernel_h, element % w.kernel_h);
            if c < w.in_c { trits[(oriented.tap(ky, kx) * w.in_c + c) * w.out_c + channel] } else { 0 }
        };
        let mut weights = Vec::with_capacity(chunks * w.out_c * chunk * w.kernel_w / 3);
        // Positive and negative weights of a channel by chunk, for the bound on 16-bit sums.
        let mut counts = vec![vec![(0, 0); chunks]; w.out_c];
        for k in 0..chunks {
            for (channel, counts) in counts.iter_mut().enumerate() {
                let indices: Vec<u16> = (0..chunk * w.kernel_w)
                    .map(|i| {
                        let (group, kx) = (k * chunk + i / w.kernel_w, i % w.kernel_w);
                        let triple = [0, 1, 2].map(|e| trit(3 * group + e, kx, channel));
                        for t in triple {
                            counts[k].0 += i64::from(t == 1);
                            counts[k].1 += i64::from(t == -1);
                        }
                        index(triple)
                    })
                    .collect();
                weights.extend(indices.chunks(3).map(halfword));
            }
        }
        let flush = flush(&counts, i64::from(tensor.max).max(i64::from(tensor.zero_point)))?;
        Some(Self { columns, words_log2, places, chunk, chunks, flush, weights })
    }
}

/// Input columns of the words that four neighbouring outputs need, by phase of the stride, and the word at which each
/// kernel column's four start.
fn columns(kernel: usize, stride: usize) -> (Vec<usize>, Vec<usize>) {
    let (mut columns, mut starts) = (Vec::new(), Vec::new());
    for phase in 0..kernel.min(stride) {
        starts.push(columns.len());
        columns.extend((0..4 + (kernel - 1 - phase) / stride).map(|m| phase + stride * m));
    }
    (columns, (0..kernel).map(|kx| starts[kx % stride] + kx / stride).collect())
}

/// The most chunks after which 16-bit sums must be emptied: over any run that starts at a multiple of it, no channel's
/// sum of codes up to `max` can leave 16 bits. Lanes may wrap on the way, since only the end of a run is read.
fn flush(counts: &[Vec<(i64, i64)>], max: i64) -> Option<usize> {
    let chunks = counts.first().map_or(0, Vec::len);
    let fits = |n: usize| {
        counts.iter().all(|channel| {
            channel.chunks(n).all(|run| {
                let (plus, minus) = run.iter().fold((0, 0), |(p, m), c| (p + c.0, m + c.1));
                plus * max <= i64::from(i16::MAX) && minus * max <= -i64::from(i16::MIN)
            })
        })
    };
    (1..=chunks).rev().find(|&n| fits(n)).map(|n| if n == chunks { 0 } else { n })
}

/// The table index of three trits.
fn index([a, b, c]: [i8; 3]) -> u16 {
    (9 * (a + 1) + 3 * (b + 1) + c + 1) as u16
}

fn halfword(indices: &[u16]) -> u16 {
    indices.iter().rev().fold(0, |word, i| word << 5 | i)
}

/// Rows of trits as halfwords of three indices each, nine trits to a halfword.
pub(crate) fn dense_rows(linear: &Linear) -> Vec<u16> {
    let mut halfwords = Vec::new();
    for c in 0..linear.window().out_c {
        let row: Vec<i8> = linear.channel(c).collect();
        halfwords.extend(row.chunks(9).map(|nine| {
            let at = |i: usize| nine.get(i).copied().unwrap_or(0);
            halfword(&[0, 3, 6].map(|i| index([at(i), at(i + 1), at(i + 2)])))
        }));
    }
    halfwords
}

/// The epilogue of a step as lines on 16-bit sums: one ternary convolution, never emptied on the way, to 8-bit codes, with a
/// short line for every channel.
pub(crate) fn short_lines(
    program: &Program,
    branches: &[Branch],
    channels: &[IntegerEpilogue],
    grid: CodeGrid,
) -> Result<Option<Vec<Short>>, DeployError> {
    let [branch] = branches else { return Ok(None) };
    let Linear::Conv2d { weights: Weights::Trits(trits), window } = &branch.linear else { return Ok(None) };
    let tensor = &program.tensors[branch.input];
    let oriented = Oriented::new(window, Tiling::of(branches).orientation);
    let one_run = Triples::new(&oriented, trits, tensor).is_some_and(|t| t.flush == 0);
    if grid.max != u8::MAX || is_dense(&branch.linear) || !one_run {
        return Ok(None);
    }
    let zeros = correction(branch, tensor);
    let mut lines = Vec::with_capacity(channels.len());
    for (c, form) in channels.iter().enumerate() {
        let zero = zeros.get(c).copied().unwrap_or(0);
        let Some(line) = Short::find(form, grid.max, zero, interval(branch, tensor, c)?) else {
            return Ok(None);
        };
        lines.push(line);
    }
    Ok(Some(lines))
}

/// Whether a branch is computed at one position only.
pub(crate) fn is_dense(linear: &Linear) -> bool {
    let w = linear.window();
    matches!(linear, Linear::Conv2d { .. }) && [w.in_h, w.in_w, w.kernel_h, w.kernel_w] == [1; 4]
}

/// Zero point times the sum of weights, by channel; empty where it is nothing.
pub(crate) fn correction(branch: &Branch, tensor: &Tensor) -> Vec<i32> {
    if tensor.zero_point == 0 {
        return Vec::new();
    }
    let zero = i32::from(tensor.zero_point);
    (0..branch.linear.window().out_c)
        .map(|c| zero * branch.linear.channel(c).map(i32::from).sum::<i32>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_each_kernel_column_are_consecutive() {
        for (kernel, stride) in [(1, 1), (1, 2), (3, 1), (3, 2), (4, 2), (5, 3), (10, 2)] {
            let (columns, offsets) = columns(kernel, stride);
            for kx in 0..kernel {
                let four: Vec<usize> = columns[offsets[kx]..offsets[kx] + 4].to_vec();
                assert_eq!(four, [0, 1, 2, 3].map(|j| j * stride + kx), "{kernel} {stride}");
            }
        }
        assert_eq!(columns(3, 2), (vec![0, 2, 4, 6, 8, 1, 3, 5, 7], vec![0, 5, 1]));
    }

    #[test]
    fn sums_are_emptied_before_they_can_overflow() {
        // 128 codes of 255 still fit, 129 do not.
        assert_eq!(flush(&[vec![(64, 0), (64, 0)]], 255), Some(0));
        assert_eq!(flush(&[vec![(64, 0), (64, 0), (1, 0)]], 255), Some(2));
        assert_eq!(flush(&[vec![(100, 0), (100, 0), (1, 0)]], 255), Some(1));
        assert_eq!(flush(&[vec![(0, 200), (0, 200)]], 15), Some(0));
        assert_eq!(flush(&[vec![(129, 0)]], 255), None);
    }

    #[test]
    fn nine_trits_are_one_halfword() {
        assert_eq!(index([-1, -1, -1]), 0);
        assert_eq!(index([1, 1, 1]), 26);
        assert_eq!(halfword(&[1, 2, 3]), 1 | 2 << 5 | 3 << 10);
    }
}
