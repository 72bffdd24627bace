//! One step of an image, as stored and as read.
//!
//! A record is a kind byte followed by its fields:
//!
//! | kind | fields |
//! |---|---|
//! | 1 codes | branches `u8` (1 or 2), form `u8` (0 integer, 1 f32, 2 short lines, 3 f32 with shortcuts, 4 short lines where there are any), shift `i8`, largest code `u8`, output offset `u32`, then but for form 1 the table offset `u32`, then the branches |
//! | 2 max pool, 3 sum pool | input offset `u32`, output offset `u32`, window |
//! | 4 logits | branch |
//!
//! A *window* is twelve `u32`: input h, w, c; output h, w, c; kernel h, w; stride h, w; padding top, left. A *branch* is
//! kind `u8` (0 codes, 1 convolution, 2 depthwise), element `u8` (0 `u8`, 1 `u16`), zero point `u8`, weight format `u8`
//! (0: 2-bit trits, 1: `i8`, 2: tiles), input offset `u32`, window, for format 2 the tiling, weights offset `u32` (absent
//! for kind 0); if the epilogue is f32
//! or the record holds logits, also flags `u8` (1 bias, 2 normalisation) and the offset `u32` of its f32 tables: scale,
//! bias, a, b, those present, one `f32` per channel each. Weights are rows, one per output channel, in the order of the
//! kernel's other axes; a row of trits is digits trit + 1, earliest lowest, four to a byte.
//!
//! The table of form 0 is, per channel, `i32` multipliers, then `i64` offsets, then `u8` shifts. A shift of 0x80 or 0x81
//! (falling) marks a channel with thresholds: the multiplier is their number and the offset their place in the image. 0x82
//! marks a channel whose f32 scale, bias, a and b (absent ones 0, 1 and 0) lie at the offset.
//!
//! Format 2 is for `tile`: a tiling is `u8` (bit 0: lanes a row apart; above: orientation), a zero byte, halfwords
//! after which sums are emptied `u16`, and what table entries (of depthwise kernels: sums) are larger by `u16`. Weights of convolutions are halfwords of three table indices, `[halfword][channel]`;
//! those of depthwise ones are rows of trits. The table of form 2 is the shift `u8` (bit 7: lines are for sums less 2^15), then per channel `i32` multiplier and `i32` offset. That of
//! form 4 is the same, a multiplier of -2^31 for channels without a line, followed by the table of form 0 and, per channel,
//! the `i32` by which sums exceed accumulators. That of form 3 is, per channel, `i64` offset, two `i32` slopes and the `u32`
//! margin (see `deploy::prove`).

use super::ImageError;
use super::bytes::Reader;
use super::form::Form;
use super::tile::Tiles;

/// Kind bytes.
pub(crate) const CODES: u8 = 1;
pub(crate) const MAX_POOL: u8 = 2;
pub(crate) const SUM_POOL: u8 = 3;
pub(crate) const LOGITS: u8 = 4;

#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) in_h: usize,
    pub(super) in_w: usize,
    pub(super) in_c: usize,
    pub(super) out_h: usize,
    pub(super) out_w: usize,
    pub(super) out_c: usize,
    pub(super) kernel_h: usize,
    pub(super) kernel_w: usize,
    pub(super) stride_h: usize,
    pub(super) stride_w: usize,
    pub(super) pad_top: usize,
    pub(super) pad_left: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BranchKind {
    Codes,
    Conv2d,
    Depthwise,
}

/// f32 tables of a branch, as bit patterns; absent ones are `None`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine<'a> {
    pub(super) scale: &'a [u8],
    pub(super) bias: Option<&'a [u8]>,
    pub(super) norm: Option<(&'a [u8], &'a [u8])>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Branch<'a> {
    pub(super) kind: BranchKind,
    /// Elements are `u16`.
    pub(super) wide: bool,
    pub(super) zero_point: i32,
    /// Weights are 2-bit trits.
    pub(super) trits: bool,
    /// Weights are laid out for tiles.
    pub(super) tiles: Option<Tiles>,
    pub(super) input: usize,
    pub(super) window: Window,
    pub(super) weights: &'a [u8],
    /// Bytes of one output channel's weights.
    pub(super) row: usize,
    pub(super) affine: Option<Affine<'a>>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack for one step; boxing would need an allocator"
)]
#[derive(Clone, Copy, Debug)]
pub(super) enum Record<'a> {
    Codes {
        first: Branch<'a>,
        second: Option<Branch<'a>>,
        form: Form<'a>,
        shift: i32,
        max: u8,
        output: usize,
    },
    Pool {
        sum: bool,
        input: usize,
        output: usize,
        window: Window,
    },
    Logits {
        branch: Branch<'a>,
    },
}

/// Reads record `number`.
pub(super) fn read<'a>(r: &mut Reader<'a>, number: usize, classes: usize) -> Result<Record<'a>, ImageError> {
    let malformed = |reason| ImageError::Malformed { record: number, reason };
    let record = fields(r).ok_or(malformed("cut off, or a field or offset out of range"))?;
    if let Record::Logits { branch } = &record
        && branch.window.out_c != classes
    {
        return Err(malformed("the logits are not as many as the classes"));
    }
    Ok(record)
}

fn fields<'a>(r: &mut Reader<'a>) -> Option<Record<'a>> {
    match r.u8()? {
        CODES => {
            let (branches, form, shift, max) = (r.u8()?, r.u8()?, r.u8()? as i8, r.u8()?);
            let output = r.size()?;
            let float = form & 1 == 1;
            if form > 4 || !(1..=2).contains(&branches) || (branches == 2) != float {
                return None;
            }
            let tables = if form == 1 { None } else { Some(r.u32()? as usize) };
            let image = r.image();
            let first = branch(r, float)?;
            let second = if branches == 2 { Some(branch(r, float)?) } else { None };
            let n = first.window.out_c;
            let form = Form::read(image, form, tables, n)?;
            Some(Record::Codes { first, second, form, shift: i32::from(shift), max, output })
        }
        kind @ (MAX_POOL | SUM_POOL) => {
            let (input, output) = (r.size()?, r.size()?);
            Some(Record::Pool { sum: kind == SUM_POOL, input, output, window: window(r)? })
        }
        LOGITS => Some(Record::Logits { branch: branch(r, true)? }),
        _ => None,
    }
}

fn window(r: &mut Reader<'_>) -> Option<Window> {
    Some(Window {
        in_h: r.size()?,
        in_w: r.size()?,
        in_c: r.size()?,
        out_h: r.size()?,
        out_w: r.size()?,
        out_c: r.size()?,
        kernel_h: r.size()?,
        kernel_w: r.size()?,
        stride_h: r.size()?,
        stride_w: r.size()?,
        pad_top: r.size()?,
        pad_left: r.size()?,
    })
}

fn branch<'a>(r: &mut Reader<'a>, float: bool) -> Option<Branch<'a>> {
    let kind = match r.u8()? {
        0 => BranchKind::Codes,
        1 => BranchKind::Conv2d,
        2 => BranchKind::Depthwise,
        _ => return None,
    };
    let (element, zero_point, format) = (r.u8()?, i32::from(r.u8()?), r.u8()?);
    if element > 1 || format > 2 {
        return None;
    }
    let trits = format == 0 || (format == 2 && kind == BranchKind::Depthwise);
    let (input, window) = (r.size()?, window(r)?);
    let tiles = if format == 2 {
        let (flags, _zero, flush, lift) = (r.u8()?, r.u8()?, r.u16()?.into(), r.u16()?);
        Some(Tiles { row_apart: flags & 1 != 0, orientation: flags >> 1, flush, lift })
    } else {
        None
    };
    let taps = window.kernel_h.checked_mul(window.kernel_w)?;
    let count = match kind {
        BranchKind::Codes => 0,
        BranchKind::Conv2d => taps.checked_mul(window.in_c)?,
        BranchKind::Depthwise => taps,
    };
    let row = if trits { count.div_ceil(4) } else { count };
    let bytes = match &tiles {
        Some(tiles) if kind == BranchKind::Conv2d => {
            tiles.halfwords(&window)?.checked_mul(2)?.checked_mul(window.out_c)?
        }
        _ => row.checked_mul(window.out_c)?,
    };
    let weights = if kind == BranchKind::Codes { &[][..] } else { r.blob(bytes)? };
    let affine = if float { Some(affine(r, window.out_c)?) } else { None };
    Some(Branch { kind, wide: element == 1, zero_point, trits, tiles, input, window, weights, row, affine })
}

fn affine<'a>(r: &mut Reader<'a>, channels: usize) -> Option<Affine<'a>> {
    let flags = r.u8()?;
    if flags > 3 {
        return None;
    }
    let (bias, norm) = (flags & 1 != 0, flags & 2 != 0);
    let bytes = channels.checked_mul(4)?;
    let tables = 1 + usize::from(bias) + 2 * usize::from(norm);
    let mut rest = r.blob(bytes.checked_mul(tables)?)?;
    let mut next = || {
        let (table, tail) = rest.split_at(bytes);
        rest = tail;
        table
    };
    Some(Affine { scale: next(), bias: bias.then(&mut next), norm: norm.then(|| (next(), next())) })
}

impl Window {
    fn input_len(&self) -> Option<usize> {
        self.in_h.checked_mul(self.in_w)?.checked_mul(self.in_c)
    }

    fn output_len(&self) -> Option<usize> {
        self.out_h.checked_mul(self.out_w)?.checked_mul(self.out_c)
    }

    /// Sizes the loops can rely on: nothing is zero, coordinates do not overflow.
    fn check(&self) -> Result<(), &'static str> {
        const LARGEST: usize = 1 << 24;
        let positive = [
            self.in_h,
            self.in_w,
            self.in_c,
            self.out_h,
            self.out_w,
            self.out_c,
            self.kernel_h,
            self.kernel_w,
            self.stride_h,
            self.stride_w,
        ];
        if positive.contains(&0) || positive.iter().any(|&n| n > LARGEST) {
            return Err("a window has a zero or huge size");
        }
        if self.pad_top >= self.kernel_h || self.pad_left >= self.kernel_w {
            return Err("padding is as large as the window");
        }
        let reach = |out: usize, stride: usize| (out - 1).checked_mul(stride).is_some_and(|n| n < LARGEST);
        if !reach(self.out_h, self.stride_h) || !reach(self.out_w, self.stride_w) {
            return Err("a window moves too far");
        }
        Ok(())
    }
}

/// `len` elements at `at` lie in the arena.
fn inside(at: usize, len: Option<usize>, wide: bool, arena: usize) -> Result<(usize, usize), &'static str> {
    let end = len.and_then(|n| n.checked_mul(1 + usize::from(wide))).and_then(|n| n.checked_add(at));
    match end {
        Some(end) if end <= arena => Ok((at, end)),
        _ => Err("a tensor does not lie in the arena"),
    }
}

fn apart(a: (usize, usize), b: (usize, usize)) -> Result<(), &'static str> {
    if a.1 <= b.0 || b.1 <= a.0 { Ok(()) } else { Err("an input and the output overlap") }
}

impl Branch<'_> {
    fn check(&self, arena: usize) -> Result<(usize, usize), &'static str> {
        self.window.check()?;
        let w = &self.window;
        let depthwise = self.kind == BranchKind::Depthwise;
        if self.kind == BranchKind::Codes && w.in_c != w.out_c {
            return Err("a shortcut changes the number of channels");
        }
        if depthwise && (w.in_c == 0 || w.out_c == 0 || !w.out_c.is_multiple_of(w.in_c)) {
            return Err("a depthwise branch's output channels are no multiple of its input's");
        }
        if depthwise && self.tiles.is_some() && w.in_c != w.out_c {
            return Err("tiles of a depthwise branch with a multiplier");
        }
        if self.kind == BranchKind::Codes
            && ((w.in_h, w.in_w) != (w.out_h, w.out_w)
                || [w.kernel_h, w.kernel_w, w.stride_h, w.stride_w] != [1; 4])
        {
            return Err("a shortcut has a window");
        }
        // Digit 3 is no trit.
        if self.trits && self.weights.iter().any(|b| b & b >> 1 & 0x55 != 0) {
            return Err("a weight is no trit");
        }
        if let Some(tiles) = &self.tiles {
            tiles.check(self.kind, w)?;
            if self.wide {
                return Err("tiles of 16-bit elements");
            }
            let (halfwords, _) = self.weights.as_chunks::<2>();
            let bad = |&v: &[u8; 2]| {
                let v = u16::from_le_bytes(v);
                v >> 15 != 0 || [v, v >> 5, v >> 10].iter().any(|v| v & 31 > 26)
            };
            if self.kind == BranchKind::Conv2d && halfwords.iter().any(bad) {
                return Err("a weight is no table index");
            }
        }
        inside(self.input, w.input_len(), self.wide, arena)
    }
}

impl Record<'_> {
    pub(super) fn is_logits(&self) -> bool {
        matches!(self, Self::Logits { .. })
    }

    /// Everything running relies on.
    pub(super) fn check(&self, arena: usize) -> Result<(), &'static str> {
        match self {
            Self::Codes { first, second, form, output, max, .. } => {
                let output = inside(*output, first.window.output_len(), false, arena)?;
                apart(first.check(arena)?, output)?;
                if let Some(second) = second {
                    apart(second.check(arena)?, output)?;
                    let shape = |w: &Window| [w.out_h, w.out_w, w.out_c];
                    if shape(&second.window) != shape(&first.window) {
                        return Err("the branches of a sum have different shapes");
                    }
                }
                let tiled = |b: &Branch<'_>| b.tiles.map(|t| (t, b.zero_point));
                let tiles = [tiled(first), second.as_ref().and_then(tiled)];
                let short = matches!(form, Form::Short { .. });
                if let [Some((a, _)), Some((b, _))] = tiles
                    && (a.row_apart, a.orientation) != (b.row_apart, b.orientation)
                {
                    return Err("the branches of a sum have different tiles");
                }
                if tiles.iter().flatten().filter(|(t, _)| t.flush != 0).count() > 1 {
                    return Err("both branches of a sum are emptied on the way");
                }
                if short && (*max != u8::MAX || !matches!(tiles[0], Some((t, _)) if t.flush == 0)) {
                    return Err("short lines without 16-bit sums, or to few codes");
                }
                // Only short lines take the zero point into account.
                if !short && tiles.iter().flatten().any(|(_, zero)| *zero != 0) {
                    return Err("tiles of codes with a zero point");
                }
                form.check(first.window.out_c, *max)
            }
            Self::Pool { sum, input, output, window } => {
                window.check()?;
                let w = window;
                if w.in_c != w.out_c || w.pad_top != 0 || w.pad_left != 0 {
                    return Err("a pool pads or changes the number of channels");
                }
                let fits =
                    |out: usize, stride: usize, size: usize, all: usize| (out - 1) * stride + size <= all;
                if !fits(w.out_h, w.stride_h, w.kernel_h, w.in_h)
                    || !fits(w.out_w, w.stride_w, w.kernel_w, w.in_w)
                {
                    return Err("a pool's windows leave the image");
                }
                let output = inside(*output, w.output_len(), *sum, arena)?;
                apart(inside(*input, w.input_len(), false, arena)?, output)
            }
            Self::Logits { branch } => {
                branch.check(arena)?;
                if branch.tiles.is_some() {
                    return Err("the logits have tiles");
                }
                if (branch.window.out_h, branch.window.out_w) != (1, 1) {
                    return Err("the logits are an image");
                }
                Ok(())
            }
        }
    }
}
