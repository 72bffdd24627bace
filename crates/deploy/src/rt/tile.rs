//! How a step is cut into tiles of eight output positions, and where their codes are.
//!
//! A tile is four words of two 16-bit lanes: lane 1 lies a row or four columns from lane 0, so one addition adds at two
//! positions. Rows and columns may be swapped, and an image under 1x1 kernels flattened. Several rows of tiles are computed
//! at a time, because kernels share input rows.

use super::patch::Patch;
use super::record::{Branch, BranchKind, Window};
use super::table::{NO_TABLES, Tables};

/// Cells of 16-bit sums: rows of tiles at a time, times output channels.
pub(super) const CELLS: usize = 128;
/// Tables kept at a time, and input rows read.
pub(super) const TABLES: usize = 12;
/// Most words of an input row.
pub(super) const WORDS: usize = 9;
/// Most taps of a depthwise kernel: so many 8-bit codes are less than 2^14.
pub(super) const TAPS: usize = 64;

/// Working memory.
pub(super) struct Memory {
    pub(super) tables: Tables,
    pub(super) patch: Patch,
    /// `[branch][row and channel][word]`
    pub(super) sums: [[[u32; 4]; CELLS]; 2],
    /// `[row and channel][position]`, of the branch whose sums are emptied.
    pub(super) accumulators: [[i32; 8]; CELLS],
    /// Codes of a tile that is partly outside: `[lane][column and channel]`
    pub(super) codes: [[u8; 4 * CELLS]; 2],
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            tables: NO_TABLES,
            patch: Patch::new(),
            sums: [[[0; 4]; CELLS]; 2],
            accumulators: [[0; 8]; CELLS],
            codes: [[0; 4 * CELLS]; 2],
        }
    }
}

/// How a step is cut into tiles, and when a convolution's sums are emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tiles {
    /// Lane 1 is a row apart, else four columns.
    pub(super) row_apart: bool,
    /// 0: as in memory; 1: rows and columns swapped; 2: all positions are one row.
    pub(super) orientation: u8,
    /// Halfwords of weights after which sums may be full; 0 if never.
    pub(super) flush: usize,
    /// What entries of tables are larger by, so that no sum is negative.
    pub(super) lift: u16,
}

/// A window as tiles see it, and the distances of its rows and columns in memory.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub(super) w: Window,
    pub(super) in_row: usize,
    pub(super) in_col: usize,
    pub(super) out_row: usize,
    pub(super) out_col: usize,
}

impl View {
    /// Whether the kernel is one whose rows share tables.
    pub(super) fn by_rows(&self) -> bool {
        (self.w.kernel_h, self.w.kernel_w) == (3, 3) && self.w.stride_w <= 2
    }

    /// Words of an input row that a tile needs.
    pub(super) fn words(&self, kind: BranchKind) -> usize {
        match (kind, self.w.stride_w) {
            (BranchKind::Depthwise, stride) => stride.saturating_mul(3).saturating_add(self.w.kernel_w),
            (_, 1) => 6,
            _ => WORDS,
        }
    }
}

impl Tiles {
    pub(super) fn view(&self, w: &Window) -> View {
        // Sizes may not have been checked yet.
        let (in_row, out_row) = (w.in_w.wrapping_mul(w.in_c), w.out_w.wrapping_mul(w.out_c));
        let plain = View { w: *w, in_row, in_col: w.in_c, out_row, out_col: w.out_c };
        match self.orientation {
            0 => plain,
            1 => {
                let w = Window {
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
                };
                View { w, in_row: plain.in_col, in_col: in_row, out_row: plain.out_col, out_col: out_row }
            }
            _ => {
                let (input, output) = (w.in_h.wrapping_mul(w.in_w), w.out_h.wrapping_mul(w.out_w));
                View { w: Window { in_h: 1, in_w: input, out_h: 1, out_w: output, ..*w }, ..plain }
            }
        }
    }

    /// Rows and columns from lane 0 to lane 1.
    pub(super) fn lane(&self) -> (usize, usize) {
        if self.row_apart { (1, 0) } else { (0, 4) }
    }

    /// The lift in both lanes.
    pub(super) fn lanes_lift(&self) -> u32 {
        u32::from(self.lift) << 16 | u32::from(self.lift)
    }

    /// By how much sums exceed what they stand for.
    pub(super) fn total_lift(&self, branch: &Branch<'_>) -> i32 {
        match branch.kind {
            BranchKind::Depthwise => self.lift.into(),
            _ => {
                let halfwords = self.halfwords(&branch.window).unwrap_or(0) as i32;
                halfwords.wrapping_mul(3).wrapping_mul(self.lift.into())
            }
        }
    }

    /// Halfwords of weights of an output channel.
    pub(super) fn halfwords(&self, plain: &Window) -> Option<usize> {
        let v = self.view(plain);
        if v.by_rows() {
            return Some(v.w.in_c);
        }
        Some(v.w.kernel_h.checked_mul(v.w.kernel_w)?.checked_mul(v.w.in_c)?.div_ceil(9))
    }

    /// Rows of tiles a branch allows at a time.
    pub(super) fn rows(&self, branch: &Branch<'_>) -> usize {
        let v = self.view(&branch.window);
        if branch.kind != BranchKind::Depthwise && !v.by_rows() {
            return CELLS;
        }
        1 + TABLES.saturating_sub(v.w.kernel_h) / (v.w.stride_h * (1 + self.lane().0))
    }

    /// Whether the loops here do this window.
    pub(super) fn check(&self, kind: BranchKind, plain: &Window) -> Result<(), &'static str> {
        let whole = (plain.in_h, plain.in_w) == (plain.out_h, plain.out_w)
            && [plain.kernel_h, plain.kernel_w, plain.stride_h, plain.stride_w] == [1; 4];
        let v = self.view(plain);
        match kind {
            BranchKind::Conv2d => {}
            BranchKind::Depthwise
                if v.words(kind) <= WORDS
                    && v.w.kernel_h <= TABLES
                    && self.flush == 0
                    && v.w.kernel_h * v.w.kernel_w <= TAPS => {}
            _ => return Err("tiles of a kernel they cannot have"),
        }
        match self.orientation {
            0 | 1 => Ok(()),
            2 if whole => Ok(()),
            2 => Err("one row of an image with a window"),
            _ => Err("tiles of an orientation they cannot have"),
        }
    }
}
