//! One step as C: its constant tables and the descriptor that `runtime.c` interprets.

use std::fmt::Write as _;

use super::CSizes;
use super::data::{Scratch, array};
use crate::DeployError;
use crate::epilogue::{CodeGrid, IntegerEpilogue};
use crate::export::tile::{self, Oriented, Tiling, Triples, short_lines};
use crate::image::fixed_sums;
use crate::program::{Branch, Element, Epilogue, Linear, Program, Step, StepOp, Weights, Window};
use crate::prove::{Short, interval};

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
                let float = matches!(epilogue, Epilogue::Float);
                let mut fields = Vec::new();
                for (b, branch) in branches.iter().enumerate() {
                    fields.push(self.branch(&format!("s{i}_b{b}"), branch, tiling, float)?);
                }
                let o = Oriented::new(branches[0].linear.window(), tiling.orientation);
                self.scratch.grow(Scratch {
                    accumulators: 8 * branches.len() * o.window.out_c,
                    ..Scratch::default()
                });
                let tables = match epilogue {
                    Epilogue::Integer(channels) => {
                        match short_lines(self.program, branches, channels, *grid)? {
                            Some(lines) => self.short(&format!("s{i}"), &lines),
                            None => self.integer(&format!("s{i}"), channels, &branches[0])?,
                        }
                    }
                    Epilogue::Float => self.fixed(&format!("s{i}"), branches, *grid)?,
                };
                let _ = writeln!(
                    self.data,
                    "static const step_t step_{i} = {{\n    .branch = {{{}}},\n    .branches = {}, .lane_y = {}, .lane_x = {}, \
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
                let fields =
                    self.branch(&format!("s{i}"), branch, Tiling::of(std::slice::from_ref(branch)), true)?;
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

    /// The descriptor of a branch.
    fn branch(
        &mut self,
        name: &str,
        branch: &Branch,
        tiling: Tiling,
        float: bool,
    ) -> Result<String, DeployError> {
        let tensor = &self.program.tensors[branch.input];
        let o = Oriented::new(branch.linear.window(), tiling.orientation);
        let w = o.window;
        let mut more = String::new();
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
            Linear::Conv2d { weights: Weights::Trits(trits), .. } => {
                let triples = Triples::new(&o, trits, tensor).ok_or_else(|| DeployError::Unsupported {
                    layer: branch.name.clone(),
                    reason: format!(
                        "a ternary kernel of {} columns is too wide for the C export",
                        w.kernel_w
                    ),
                })?;
                self.triples(&mut more, name, &triples, &w);
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
            Linear::Depthwise { weights, .. } => {
                let codes = weights.codes();
                let rows: Vec<i8> = taps(&w)
                    .flat_map(|(ky, kx)| codes[o.tap(ky, kx) * w.out_c..][..w.out_c].iter().copied())
                    .collect();
                if matches!(weights, Weights::Trits(_)) {
                    let packed = kernels::ternary::storage::pack2(&rows)
                        .map_err(|source| DeployError::Kernel { layer: branch.name.clone(), source })?;
                    self.weights(&mut more, name, "uint8_t", &packed);
                    more += ".kernel = 1, ";
                    self.scratch.grow(Scratch { unpacked: rows.len(), ..Scratch::default() });
                } else {
                    self.weights(&mut more, name, "int8_t", &rows);
                }
                self.tile_scratch(&w);
                self.scratch.depthwise = true;
                "DEPTHWISE"
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
        Ok(format!(
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
        ))
    }

    fn weights<T: std::fmt::Display>(&mut self, more: &mut String, name: &str, kind: &str, values: &[T]) {
        let table = self.table(kind, &format!("{name}_weights"), values, true);
        let _ = write!(more, ".weights = {table}, ");
    }

    fn triples(&mut self, more: &mut String, name: &str, t: &Triples, w: &Window) {
        self.weights(more, name, "uint16_t", &t.weights);
        let columns = self.table("uint8_t", &format!("{name}_columns"), &t.columns, false);
        let kernel = match (w.kernel_w, w.stride_w) {
            (3, 1) => "KERNEL_3",
            (3, 2) => "KERNEL_3_STRIDE_2",
            (1, _) => "KERNEL_1",
            _ => {
                let places = self.table("uint16_t", &format!("{name}_places"), &t.places, false);
                let _ = write!(more, ".places = {places}, ");
                "KERNEL_ANY"
            }
        };
        let _ = write!(
            more,
            ".kernel = {kernel}, .columns = {columns}, .words = {}, .words_log2 = {}, .chunk = {}, .halfwords = {}, \
             .chunks = {}, .flush = {}, ",
            t.columns.len(),
            t.words_log2,
            t.chunk,
            t.chunk * w.kernel_w / 3,
            t.chunks,
            t.flush,
        );
        if kernel == "KERNEL_3" {
            self.scratch.chunks[t.chunk] = true;
        }
        let words = t.columns.len();
        self.scratch.grow(Scratch {
            pixels: 2 * w.kernel_h * words,
            pad: w.in_c,
            patch: 3 * t.chunk * words.next_multiple_of(2),
            table: (27 * t.chunk) << t.words_log2,
            sums: 4 * w.out_c,
            ..Scratch::default()
        });
    }

    fn tile_scratch(&mut self, w: &Window) {
        self.scratch.grow(Scratch { pixels: 8 * w.kernel_h * w.kernel_w, pad: w.in_c, ..Scratch::default() });
    }

    /// The tables of epilogues on 16-bit sums.
    fn short(&mut self, name: &str, lines: &[Short]) -> String {
        let pairs: Vec<String> = lines.iter().flat_map(|l| [l.multiplier, l.offset]).map(literal).collect();
        let fractions: Vec<u8> = lines.iter().map(|l| l.shift).collect();
        self.scratch.short = true;
        format!(
            ".lines = {}, .fraction = {}, ",
            self.table("int32_t", &format!("{name}_lines"), &pairs, false),
            self.table("uint8_t", &format!("{name}_fraction"), &fractions, false),
        )
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
