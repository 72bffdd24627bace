//! How a step is cut into tiles of eight output positions, and how its weights are laid out for them.
//!
//! A tile is four words of two 16-bit lanes: lane 1 lies `lane_y` rows or `lane_x` columns from lane 0. Rows and columns may
//! be swapped, and an image under 1x1 kernels flattened, so that few positions of the last tiles lie outside the output.
//!
//! Ternary convolutions read the patch as *elements* (one input channel under one tap of the kernel), three to a *group*. A
//! table of all 27 signed sums of a group serves every output channel, so the weights of a group are one number below 27
//! and three of them one halfword: 16 bits for nine weights. Under a 3x3 kernel the group is a kernel row, and its table
//! serves the three output rows that see this input row.

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
    /// The tiling of branches of one output shape with the least work.
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
        all.min_by_key(|t| branches.iter().map(|b| t.work(b.linear.window())).sum::<usize>())
            .expect("there are candidates")
    }

    /// About how many instructions an input channel takes: tables (of which rows of tiles share some), then sums.
    fn work(&self, window: &Window) -> usize {
        let w = Oriented::new(window, self.orientation).window;
        let next = 1 + self.lane_y;
        let rows = w.out_h.div_ceil(next);
        let mut tables = 3 * rows;
        if (w.kernel_h, w.kernel_w) == (3, 3) && w.stride_w <= 2 {
            let step = w.stride_h * next;
            let together = (CELLS / w.out_c).clamp(1, 1 + (TABLES - 3) / step);
            tables = rows * step + rows.div_ceil(together) * 3_usize.saturating_sub(step);
        }
        w.out_w.div_ceil(4 + self.lane_x) * (tables * 230 + rows * w.out_c * 27)
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
    /// Whether groups are kernel rows of one channel, three of them a halfword; else nine neighbouring elements are.
    pub(crate) by_rows: bool,
    /// Halfwords of an output channel.
    pub(crate) halfwords: usize,
    /// Halfwords after which 16-bit sums may be full; 0 if never.
    pub(crate) flush: usize,
    /// What every table entry is larger by, so that no sum is negative.
    pub(crate) lift: usize,
    /// Whether no sum needs more than 15 bits.
    pub(crate) narrow: bool,
    /// Weights `[halfword][channel]`.
    pub(crate) weights: Vec<u16>,
}

impl Triples {
    /// The convolution of `branch`, if it is ternary, of 8-bit codes, and computed at more than one position.
    pub(crate) fn of(branch: &Branch, tiling: Tiling, tensor: &Tensor) -> Option<Self> {
        let Linear::Conv2d { weights: Weights::Trits(trits), window } = &branch.linear else { return None };
        if tensor.element != Element::U8 || is_dense(&branch.linear) {
            return None;
        }
        let oriented = Oriented::new(window, tiling.orientation);
        let w = &oriented.window;
        let by_rows = (w.kernel_h, w.kernel_w) == (3, 3) && w.stride_w <= 2;
        let elements = w.kernel_h * w.kernel_w * w.in_c;
        let halfwords = if by_rows { w.in_c } else { elements.div_ceil(9) };
        // Element `i` of halfword `h`: tap and input channel.
        let element = |h: usize, i: usize| {
            let at = 9 * h + i;
            match by_rows {
                true => Some((oriented.tap(i / 3, i % 3), h)),
                false if at < elements => {
                    let tap = at / w.in_c;
                    Some((oriented.tap(tap / w.kernel_w, tap % w.kernel_w), at % w.in_c))
                }
                false => None,
            }
        };
        let mut weights = Vec::with_capacity(halfwords * w.out_c);
        // Positive and negative weights of a channel by halfword, for the bound on 16-bit sums.
        let mut counts = vec![vec![(0, 0); halfwords]; w.out_c];
        for h in 0..halfwords {
            for (channel, counts) in counts.iter_mut().enumerate() {
                let nine: [i8; 9] = std::array::from_fn(|i| {
                    element(h, i).map_or(0, |(tap, c)| trits[(tap * w.in_c + c) * w.out_c + channel])
                });
                let signs = |sign: i8| nine.iter().filter(|&&t| t == sign).count() as i64;
                counts[h] = (signs(1), signs(-1));
                weights.push(halfword(&[0, 3, 6].map(|i| index([nine[i], nine[i + 1], nine[i + 2]]))));
            }
        }
        let max = i64::from(tensor.max).max(i64::from(tensor.zero_point));
        let (flush, lift) = flush(&counts, max)?;
        let all = |channel: &Vec<(i64, i64)>| channel.iter().map(|c| c.0).sum::<i64>() * max;
        let top = counts.iter().map(all).max().unwrap_or(0) + 3 * halfwords as i64 * lift;
        let narrow = flush == 0 && top <= i64::from(i16::MAX);
        Some(Self { by_rows, halfwords, flush, lift: usize::try_from(lift).ok()?, narrow, weights })
    }

    /// By how much the sums of all halfwords exceed what they stand for.
    pub(crate) fn total_lift(&self) -> usize {
        3 * self.halfwords * self.lift
    }
}

/// Cells of 16-bit sums: rows of tiles at a time, times output channels. Half as many where sums are emptied to accumulators.
const CELLS: usize = 256;
/// Tables kept at a time.
const TABLES: usize = 12;

/// Rows of tiles computed at a time, so that the tables of an input row serve all output rows that see it.
pub(crate) fn rows(program: &Program, branches: &[Branch], tiling: Tiling) -> usize {
    let window = Oriented::new(branches[0].linear.window(), tiling.orientation).window;
    let (next, mut shared, mut rows) = (1 + tiling.lane_y, false, (CELLS / window.out_c).max(1));
    for branch in branches {
        let tensor = &program.tensors[branch.input];
        let w = Oriented::new(branch.linear.window(), tiling.orientation).window;
        let triples = Triples::of(branch, tiling, tensor);
        if triples.as_ref().is_some_and(|t| t.flush > 0) {
            rows = rows.min((CELLS / 2 / window.out_c).max(1));
        }
        if depthwise_fits(branch, tensor) || triples.is_some_and(|t| t.by_rows) {
            shared = true;
            rows = rows.min(1 + TABLES.saturating_sub(w.kernel_h) / (w.stride_h * next));
        }
    }
    let all = window.out_h.div_ceil(next);
    if shared { all.div_ceil(all.div_ceil(rows)) } else { 1 }
}

/// Whether a depthwise convolution runs on 16-bit sums: trits, no multiplier, so few that no sum of 8-bit codes can leave them.
pub(crate) fn depthwise_fits(branch: &Branch, tensor: &Tensor) -> bool {
    let Linear::Depthwise { weights: Weights::Trits(_), window } = &branch.linear else { return false };
    if window.in_c != window.out_c {
        return false;
    }
    tensor.element == Element::U8 && window.kernel_h * window.kernel_w <= 64
}

/// Where sums of depthwise convolutions start, so that 64 codes up to 255 leave neither 0 nor 15 bits.
pub(crate) const DEPTHWISE_LIFT: usize = 1 << 14;

/// The most halfwords after which 16-bit sums must be emptied, and the lift of table entries: over any run that starts at a
/// multiple of it, no channel's sum of codes up to `max` can leave 0 to 65535. Lanes may wrap on the way, since only the end
/// of a run is read.
fn flush(counts: &[Vec<(i64, i64)>], max: i64) -> Option<(usize, i64)> {
    let all = counts.first().map_or(0, Vec::len);
    let fits = |n: usize| {
        let runs = || counts.iter().flat_map(|channel| channel.chunks(n));
        let ends = runs().map(|run| {
            let (plus, minus) = run.iter().fold((0, 0), |(p, m), c| (p + c.0, m + c.1));
            (plus * max, minus * max, 3 * run.len() as i64)
        });
        let ends: Vec<_> = ends.collect();
        let lift = ends.iter().map(|&(_, minus, tables)| (minus + tables - 1) / tables).max().unwrap_or(0);
        let fits = ends.iter().all(|&(plus, _, tables)| plus + tables * lift <= i64::from(u16::MAX));
        fits.then_some(lift)
    };
    (1..=all).rev().find_map(|n| Some((if n == all { 0 } else { n }, fits(n)?)))
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

/// The epilogue of a step as lines on 16-bit sums: one ternary kernel, never emptied on the way, to 8-bit codes. All lines
/// have the shift with which most channels have one; `None` for the others, and nothing if no channel has one.
pub(crate) fn short_lines(
    program: &Program,
    branches: &[Branch],
    channels: &[IntegerEpilogue],
    grid: CodeGrid,
) -> Result<Option<Lines>, DeployError> {
    let [branch] = branches else { return Ok(None) };
    let tensor = &program.tensors[branch.input];
    let (lift, flip) = match Triples::of(branch, Tiling::of(branches), tensor) {
        Some(triples) if triples.flush == 0 => (triples.total_lift(), !triples.narrow),
        None if depthwise_fits(branch, tensor) => (DEPTHWISE_LIFT, false),
        _ => return Ok(None),
    };
    if grid.max != u8::MAX {
        return Ok(None);
    }
    let zeros = correction(branch, tensor);
    let mut best = Lines { shift: 0, flip, channels: Vec::new() };
    let mut most = 0;
    for shift in Short::SHIFTS {
        let mut lines = Vec::with_capacity(channels.len());
        for (c, form) in channels.iter().enumerate() {
            let zero = zeros.get(c).copied().unwrap_or(0) + lift as i32 - if flip { 1 << 15 } else { 0 };
            lines.push(Short::find(form, (grid.max, shift), zero, interval(branch, tensor, c)?));
        }
        let found = lines.iter().flatten().count();
        if found > most {
            (most, best) = (found, Lines { shift, flip, channels: lines });
        }
        if found == channels.len() {
            break;
        }
    }
    Ok((most > 0).then_some(best))
}

/// Lines on the sums of one layer.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    /// Fractional bits of all of them.
    pub(crate) shift: u8,
    /// Whether they are for sums less 2^15, because those need 16 bits: what flipping the highest bit makes of them.
    pub(crate) flip: bool,
    /// By channel.
    pub(crate) channels: Vec<Option<Short>>,
}

impl Lines {
    /// Multiplier and offset of each channel; `i32::MIN`, which no line has, for those without one.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = [i32; 2]> + '_ {
        self.channels.iter().map(|line| line.map_or([i32::MIN, 0], |line| [line.multiplier, line.offset]))
    }

    /// Whether every channel has one.
    pub(crate) fn complete(&self) -> bool {
        self.channels.iter().all(Option::is_some)
    }
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
    fn sums_are_emptied_before_they_can_overflow() {
        // 257 codes of 255 are 65535.
        assert_eq!(flush(&[vec![(128, 0), (129, 0)]], 255), Some((0, 0)));
        assert_eq!(flush(&[vec![(128, 0), (129, 0), (1, 0)]], 255), Some((2, 0)));
        assert_eq!(flush(&[vec![(200, 0), (100, 0), (1, 0)]], 255), Some((1, 0)));
        assert_eq!(flush(&[vec![(258, 0)]], 255), None);
        // Negative sums are lifted to 0 by three tables a halfword, those of the last, shorter run too.
        assert_eq!(flush(&[vec![(0, 128), (0, 128)]], 255), Some((0, 10880)));
        assert_eq!(flush(&[vec![(0, 200), (40, 10), (0, 60)]], 255), Some((2, 8925)));
        assert_eq!(flush(&[vec![(0, 200)], vec![(200, 0)]], 15), Some((0, 1000)));
    }

    #[test]
    fn nine_trits_are_one_halfword() {
        assert_eq!(index([-1, -1, -1]), 0);
        assert_eq!(index([1, 1, 1]), 26);
        assert_eq!(halfword(&[1, 2, 3]), 1 | 2 << 5 | 3 << 10);
    }
}
