//! One step as C: its constant tables and the descriptor that `runtime.c` interprets.

use std::fmt::Write as _;

use super::CSizes;
use super::data::{Scratch, array};
use crate::DeployError;
use crate::epilogue::{CodeGrid, IntegerEpilogue};
use crate::export::tile::{
    self, DEPTHWISE_LIFT, Lines, Oriented, Tiling, Triples, depthwise_fits, short_lines,
};
use crate::image::fixed_sums;
use crate::program::{Branch, Element, Epilogue, Linear, Program, Step, StepOp, Weights, Window};
use crate::prove::interval;

/// Collects the data section.
pub(super) struct Writer<'a> {
    program: &'a Program,
    offsets: &'a [usize],
    pub(super) data: String,
    pub(super) sizes: CSizes,
    pub(super) scratch: Scratch,
}

/// Bytes of an element, for the types used here.
fn width(kind: &str) -> usize {
    match kind {
        "int64_t" => 8,
        "int32_t" | "uint32_t" => 4,
        "uint16_t" => 2,
        _ => 1,
    }
}

impl<'a> Writer<'a> {
    pub(super) fn new(program: &'a Program, offsets: &'a [usize]) -> Self {
        Self { program, offsets, data: String::new(), sizes: CSizes::default(), scratch: Scratch::default() }
    }

    /// Writes step number `i` as `step_i` and whatever it points to.
    pub(super) fn step(&mut self, i: usize, step: &Step) -> Result<(), DeployError> {
        let _ = writeln!(self.data, "/* {} */", step.name);
        match &step.op {
            StepOp::Compute { branches, epilogue, grid, output } => {
                let tiling = Tiling::of(branches);
                let rows = tile::rows(self.program, branches, tiling);
                let float = matches!(epilogue, Epilogue::Float);
                let o = Oriented::new(branches[0].linear.window(), tiling.orientation);
                let (mut fields, mut tiles) = (Vec::new(), 0);
                for (b, branch) in branches.iter().enumerate() {
                    let (text, emptied) =
                        self.branch(&format!("s{i}_b{b}"), branch, (tiling, rows), float)?;
                    fields.push(text);
                    tiles += if emptied { rows } else { 1 };
                    let sums = 4 * (b + 1) * rows * o.window.out_c;
                    self.scratch.grow(Scratch { sums, ..Scratch::default() });
                }
                self.scratch.grow(Scratch { accumulators: 8 * tiles * o.window.out_c, ..Scratch::default() });
                let tables = match epilogue {
                    Epilogue::Integer(channels) => {
                        let lines = short_lines(self.program, branches, channels, *grid)?;
                        let mut tables = String::new();
                        if let Some(lines) = &lines {
                            tables += &self.short(&format!("s{i}"), lines);
                        }
                        if lines.is_none_or(|lines| !lines.complete()) {
                            tables += &self.integer(&format!("s{i}"), channels, &branches[0])?;
                        }
                        tables
                    }
                    Epilogue::Float => self.fixed(&format!("s{i}"), branches, *grid)?,
                };
                let _ = writeln!(
                    self.data,
                    "static const step_t step_{i} = {{\n    .branch = {{{}}},\n    .branches = {}, .rows = {rows}, .lane_y = {}, .lane_x = {}, \
                     .max = {}, .grid = {},\n    .out_h = {}, .out_w = {}, .out_row = {}, .out_col = {}, .output = {},\n    {tables}}};\n",
                    fields.join(", "),
                    branches.len(),
                    tiling.lane_y,
                    tiling.lane_x,
                    grid.max,
                    grid.shift,
                    o.window.out_h,
                    o.window.out_w,
                    o.out_row,
                    o.out_col,
                    self.offsets[*output],
                );
            }
            StepOp::MaxPool { window, input, output } | StepOp::SumPool { window, input, output } => {
                let w = window;
                let _ = writeln!(
                    self.data,
                    "static const pool_t step_{i} = {{.in_w = {}, .out_h = {}, .out_w = {}, .channels = {}, .kernel_h = {}, \
                     .kernel_w = {}, .stride_h = {}, .stride_w = {}, .input = {}, .output = {}}};\n",
                    w.in_w,
                    w.out_h,
                    w.out_w,
                    w.out_c,
                    w.kernel_h,
                    w.kernel_w,
                    w.stride_h,
                    w.stride_w,
                    self.offsets[*input],
                    self.offsets[*output],
                );
            }
            StepOp::Logits { branch } => {
                let tiling = Tiling::of(std::slice::from_ref(branch));
                let (fields, _) = self.branch(&format!("s{i}"), branch, (tiling, 1), true)?;
                let _ = writeln!(self.data, "static const branch_t step_{i} = {fields};");
            }
        }
        Ok(())
    }

    /// A table; its name where it is used.
    fn table<T: std::fmt::Display>(&mut self, kind: &str, name: &str, values: &[T], weights: bool) -> String {
        self.data += &array(&format!("static const {kind}"), name, values.iter());
        let bytes = values.len() * width(kind);
        *(if weights { &mut self.sizes.weights } else { &mut self.sizes.tables }) += bytes;
        name.to_owned()
    }

    /// The descriptor of a branch, and whether its 16-bit sums are emptied on the way.
    fn branch(
        &mut self,
        name: &str,
        branch: &Branch,
        (tiling, rows): (Tiling, usize),
        float: bool,
    ) -> Result<(String, bool), DeployError> {
        let tensor = &self.program.tensors[branch.input];
        let o = Oriented::new(branch.linear.window(), tiling.orientation);
        let w = o.window;
        let (mut more, mut emptied) = (String::new(), false);
        // Input rows under as many rows of tiles.
        let count = (rows - 1) * w.stride_h * (1 + tiling.lane_y) + w.kernel_h;
        let kind = match &branch.linear {
            Linear::Codes { .. } => "CODES",
            linear @ Linear::Conv2d { weights, .. } if tile::is_dense(linear) => match weights {
                Weights::Trits(_) => {
                    self.weights(&mut more, name, "uint16_t", &tile::dense_rows(linear));
                    "DENSE_TERNARY"
                }
                Weights::Int8(_) => {
                    let rows: Vec<i8> = (0..w.out_c).flat_map(|c| linear.channel(c)).collect();
                    self.weights(&mut more, name, "int8_t", &rows);
                    "DENSE_INT8"
                }
            },
            Linear::Conv2d { weights: Weights::Trits(_), .. } => {
                let triples =
                    Triples::of(branch, tiling, tensor).ok_or_else(|| DeployError::Unsupported {
                        layer: branch.name.clone(),
                        reason: "a ternary convolution of more than 8-bit codes".into(),
                    })?;
                emptied = triples.flush > 0;
                self.triples(&mut more, name, &triples, (&w, count));
                "TERNARY"
            }
            Linear::Conv2d { weights: Weights::Int8(codes), .. } => {
                let mut rows = Vec::with_capacity(codes.len());
                for channel in 0..w.out_c {
                    for (ky, kx) in taps(&w) {
                        let from = o.tap(ky, kx) * w.in_c;
                        rows.extend((from..from + w.in_c).map(|row| codes[row * w.out_c + channel]));
                    }
                }
                self.weights(&mut more, name, "int8_t", &rows);
                self.tile_scratch(&w);
                self.scratch.int8 = true;
                "INT8"
            }
            Linear::Depthwise { weights, .. } if depthwise_fits(branch, tensor) => {
                let codes = weights.codes();
                let rows: Vec<i8> = (0..w.out_c)
                    .flat_map(|c| taps(&w).map(move |(ky, kx)| codes[o.tap(ky, kx) * w.out_c + c]))
                    .collect();
                let packed = kernels::ternary::storage::pack2(&rows)
                    .map_err(|source| DeployError::Kernel { layer: branch.name.clone(), source })?;
                self.weights(&mut more, name, "uint8_t", &packed);
                let _ = write!(more, ".total_lift = {DEPTHWISE_LIFT}, ");
                let all = count * (3 * w.stride_w + w.kernel_w);
                self.scratch.grow(Scratch {
                    pixels: 2 * all,
                    pad: w.in_c,
                    patch: if w.in_c.is_multiple_of(4) { 4 * all } else { all },
                    unpacked: rows.len(),
                    depthwise_ternary: true,
                    ..Scratch::default()
                });
                "DEPTHWISE_TERNARY"
            }
            Linear::Depthwise { weights, .. } => {
                let codes = weights.codes();
                let rows: Vec<i8> = taps(&w)
                    .flat_map(|(ky, kx)| codes[o.tap(ky, kx) * w.out_c..][..w.out_c].iter().copied())
                    .collect();
                self.weights(&mut more, name, "int8_t", &rows);
                self.tile_scratch(&w);
                self.scratch.depthwise_int8 = true;
                "DEPTHWISE_INT8"
            }
        };
        let correction = tile::correction(branch, tensor);
        if !correction.is_empty() {
            let table = self.table("int32_t", &format!("{name}_correction"), &correction, false);
            let _ = write!(more, ".correction = {table}, ");
        }
        if float {
            let bits = |v: &[f32]| v.iter().map(|v| format!("{:#x}u", v.to_bits())).collect::<Vec<_>>();
            let affine = &branch.affine;
            let norm = affine.norm.as_ref();
            let tables = [
                ("scale", Some(&affine.scale)),
                ("bias", affine.bias.as_ref()),
                ("a", norm.map(|n| &n.a)),
                ("b", norm.map(|n| &n.b)),
            ];
            for (field, values) in tables {
                let Some(values) = values else { continue };
                let table = self.table("uint32_t", &format!("{name}_{field}"), &bits(values), false);
                let _ = write!(more, ".{field} = {table}, ");
            }
        }
        let text = format!(
            "{{.kind = {kind}, .wide = {}, .zero_point = {}, .input = {}, .in_h = {}, .in_w = {}, .in_c = {}, .out_c = {},\n    \
             .in_row = {}, .in_col = {}, .kernel_h = {}, .kernel_w = {}, .stride_h = {}, .stride_w = {}, .pad_top = {}, \
             .pad_left = {},\n    {more}}}",
            u8::from(tensor.element == Element::U16),
            tensor.zero_point,
            self.offsets[branch.input],
            w.in_h,
            w.in_w,
            w.in_c,
            w.out_c,
            o.in_row,
            o.in_col,
            w.kernel_h,
            w.kernel_w,
            w.stride_h,
            w.stride_w,
            w.pad_top,
            w.pad_left,
        );
        Ok((text, emptied))
    }

    fn weights<T: std::fmt::Display>(&mut self, more: &mut String, name: &str, kind: &str, values: &[T]) {
        let table = self.table(kind, &format!("{name}_weights"), values, true);
        let _ = write!(more, ".weights = {table}, ");
    }

    fn triples(&mut self, more: &mut String, name: &str, t: &Triples, (w, count): (&Window, usize)) {
        self.weights(more, name, "uint16_t", &t.weights);
        let _ = write!(
            more,
            ".by_rows = {}, .halfwords = {}, .flush = {}, .lift = {:#x}u, .total_lift = {}, ",
            u8::from(t.by_rows),
            t.halfwords,
            t.flush,
            t.lift << 16 | t.lift,
            t.total_lift()
        );
        let all = count * if w.stride_w == 1 { 6 } else { 9 };
        self.scratch.grow(if t.by_rows {
            Scratch {
                pixels: 2 * all,
                patch: if w.in_c.is_multiple_of(4) { 4 * all } else { all },
                table: 108 * count,
                ..Scratch::default()
            }
        } else {
            Scratch { pixels: 8 * w.kernel_h * w.kernel_w, patch: 144, table: 324, ..Scratch::default() }
        });
        self.scratch.grow(Scratch { pad: w.in_c, ..Scratch::default() });
    }

    fn tile_scratch(&mut self, w: &Window) {
        self.scratch.grow(Scratch { pixels: 8 * w.kernel_h * w.kernel_w, pad: w.in_c, ..Scratch::default() });
    }

    /// The table of epilogues on 16-bit sums.
    fn short(&mut self, name: &str, lines: &Lines) -> String {
        let pairs: Vec<String> = lines.pairs().flatten().map(literal).collect();
        self.scratch.shifts[usize::from(lines.shift)][usize::from(lines.flip)] = true;
        self.scratch.mixed |= !lines.complete();
        let table = self.table("int32_t", &format!("{name}_lines"), &pairs, false);
        format!(".lines = {table}, .fraction = {}, .flip = {}, ", lines.shift, u8::from(lines.flip))
    }

    /// The tables of fixed-point residual sums, if any channel has one.
    fn fixed(&mut self, name: &str, branches: &[Branch], grid: CodeGrid) -> Result<String, DeployError> {
        let Some(sums) = fixed_sums(self.program, branches, grid)? else { return Ok(String::new()) };
        let slopes: Vec<String> = sums.iter().flat_map(|s| s.slopes).map(literal).collect();
        let offsets: Vec<String> = sums.iter().map(|s| format!("{}LL", s.offset)).collect();
        let margins: Vec<u32> = sums.iter().map(|s| s.margin).collect();
        self.scratch.fixed = true;
        Ok(format!(
            ".slope = {}, .offset = {}, .margin = {}, ",
            self.table("int32_t", &format!("{name}_slope"), &slopes, false),
            self.table("int64_t", &format!("{name}_offset"), &offsets, false),
            self.table("uint32_t", &format!("{name}_margin"), &margins, false),
        ))
    }

    /// The tables of integer epilogues.
    fn integer(
        &mut self,
        name: &str,
        channels: &[IntegerEpilogue],
        branch: &Branch,
    ) -> Result<String, DeployError> {
        let tensor = &self.program.tensors[branch.input];
        let (mut multipliers, mut offsets, mut shifts) = (Vec::new(), Vec::new(), Vec::new());
        let mut extra: Vec<i32> = Vec::new();
        for (c, channel) in channels.iter().enumerate() {
            let (multiplier, offset, shift) = match channel {
                IntegerEpilogue::Multiplier { multiplier, offset, shift } => {
                    let line = |acc: i32| (i64::from(acc) * i64::from(*multiplier) + offset) >> shift;
                    let (low, high) = interval(branch, tensor, c)?;
                    let narrow =
                        *shift > 0 && [low, high].iter().all(|&acc| i32::try_from(line(acc)).is_ok());
                    (*multiplier, *offset, (shift + if narrow { 0 } else { 64 }).to_string())
                }
                IntegerEpilogue::Thresholds { falling, at } => {
                    let place = extra.len() as i64;
                    extra.extend(at);
                    (at.len() as i32, place, if *falling { "FALLING" } else { "RISING" }.to_owned())
                }
                IntegerEpilogue::Float { channel, .. } => {
                    let place = extra.len() as i64;
                    let (a, b) = channel.norm.unwrap_or((1.0, 0.0));
                    let constants = [channel.scale, channel.bias.unwrap_or(0.0), a, b];
                    extra.extend(constants.map(|v| v.to_bits() as i32));
                    (0, place, "FLOAT".to_owned())
                }
            };
            multipliers.push(multiplier);
            // The most negative number has no literal of its own.
            offsets.push(if offset == i64::MIN { "INT64_MIN".to_owned() } else { format!("{offset}LL") });
            shifts.push(shift);
        }
        let mut fields = format!(
            ".multiplier = {}, .offset = {}, .shift = {}, ",
            self.table("int32_t", &format!("{name}_multiplier"), &multipliers, false),
            self.table("int64_t", &format!("{name}_offset"), &offsets, false),
            self.table("uint8_t", &format!("{name}_shift"), &shifts, false),
        );
        if !extra.is_empty() {
            let extra: Vec<String> = extra.into_iter().map(literal).collect();
            let table = self.table("int32_t", &format!("{name}_extra"), &extra, false);
            let _ = write!(fields, ".extra = {table}, ");
        }
        Ok(fields)
    }
}

/// A number as C; the most negative one has no literal of its own.
fn literal(v: i32) -> String {
    if v == i32::MIN { "INT32_MIN".to_owned() } else { v.to_string() }
}

/// Kernel positions in order.
fn taps(w: &Window) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (h, width) = (w.kernel_h, w.kernel_w);
    (0..h).flat_map(move |ky| (0..width).map(move |kx| (ky, kx)))
}
