//! Writing a program as the flat image [`crate::rt`] runs, and reading one back.

use crate::DeployError;
use crate::arena;
use crate::epilogue::{Affine, CodeGrid, IntegerEpilogue};
use crate::export::tile::{
    DEPTHWISE_LIFT, Lines, Orientation, Oriented, Tiling, Triples, correction, depthwise_fits, short_lines,
};
use crate::program::{Branch, Element, Epilogue, Linear, Program, StepOp, Weights, Window};
use crate::prove::FixedSum;
use crate::rt::{self, HEADER_BYTES, Image, MAGIC, VERSION};

/// The image of a program; its layout is described in `rt/format.rs` and `rt/record.rs`.
///
/// # Errors
/// Sizes beyond the format's 16-bit input sizes or 32-bit offsets.
pub fn write_image(program: &Program) -> Result<Vec<u8>, DeployError> {
    let plan = arena::plan(program);
    let mut writer = Writer { offsets: plan.offsets, ..Writer::default() };
    for step in &program.steps {
        writer.step(program, &step.op)?;
    }
    let Writer { mut records, mut data, fixups, offsets, .. } = writer;
    let base = HEADER_BYTES + records.len();
    for fixup in fixups {
        match fixup {
            Fixup::Record { at, target } => {
                records[at..at + 4].copy_from_slice(&size("the image", base + target)?.to_le_bytes());
            }
            Fixup::Table { at, target } => {
                data[at..at + 8].copy_from_slice(&((base + target) as i64).to_le_bytes());
            }
        }
    }
    let mut image = Vec::with_capacity(base + data.len());
    image.extend(MAGIC);
    image.extend(VERSION.to_le_bytes());
    image.extend([0; 2]);
    image.extend(size("the image", base + data.len())?.to_le_bytes());
    image.extend([0; 4]);
    for n in program.input.into_iter().chain([program.classes]) {
        image
            .extend(u16::try_from(n).map_err(|_| DeployError::TooLarge { what: "the input" })?.to_le_bytes());
    }
    image.extend(program.grid.scale.to_le_bytes());
    image.extend([program.grid.zero_point, 0, 0, 0]);
    for n in [plan.peak, offsets[0], program.steps.len()] {
        image.extend(size("the arena", n)?.to_le_bytes());
    }
    image.extend([0; 4]);
    debug_assert_eq!(image.len(), HEADER_BYTES);
    image.append(&mut records);
    image.append(&mut data);
    let checksum = rt::checksum(&image[16..]);
    image[12..16].copy_from_slice(&checksum.to_le_bytes());
    // What the reader refuses must not leave the writer.
    read_image(&image)?;
    Ok(image)
}

/// Checks an image, which [`Image::run`] can then run.
///
/// # Errors
/// [`DeployError::Image`].
pub fn read_image(bytes: &[u8]) -> Result<Image<'_>, DeployError> {
    Ok(Image::parse(bytes)?)
}

fn size(what: &'static str, n: usize) -> Result<u32, DeployError> {
    u32::try_from(n).map_err(|_| DeployError::TooLarge { what })
}

/// A place that holds an offset into the data section, known only once the records' length is.
enum Fixup {
    Record { at: usize, target: usize },
    Table { at: usize, target: usize },
}

#[derive(Default)]
struct Writer {
    offsets: Vec<usize>,
    records: Vec<u8>,
    data: Vec<u8>,
    fixups: Vec<Fixup>,
}

impl Writer {
    fn step(&mut self, program: &Program, op: &StepOp) -> Result<(), DeployError> {
        match op {
            StepOp::Compute { branches, epilogue, grid, output } => {
                let tiling = Tiling::of(branches);
                let tiles = tiles(program, branches, tiling);
                let short = match epilogue {
                    Epilogue::Integer(channels) if tiles[0].is_some() => {
                        short_lines(program, branches, channels, *grid)?
                    }
                    _ => None,
                };
                let sums = match epilogue {
                    Epilogue::Float => fixed_sums(program, branches, *grid)?,
                    Epilogue::Integer(_) => None,
                };
                let form = match (epilogue, &short, &sums) {
                    (Epilogue::Integer(_), Some(lines), _) if lines.complete() => 2,
                    (Epilogue::Integer(_), Some(_), _) => 4,
                    (Epilogue::Integer(_), None, _) => 0,
                    (Epilogue::Float, _, Some(_)) => 3,
                    (Epilogue::Float, _, None) => 1,
                };
                self.records.extend([
                    rt::kind::CODES,
                    branches.len() as u8,
                    form,
                    grid.shift as u8,
                    grid.max,
                ]);
                self.tensor(*output)?;
                let table = match (epilogue, short, sums) {
                    (Epilogue::Integer(channels), Some(lines), _) => {
                        let rest = (form == 4).then(|| {
                            let (branch, mut zeros) = (&branches[0], vec![0; channels.len()]);
                            let correction = correction(branch, &program.tensors[branch.input]);
                            zeros.iter_mut().zip(correction).for_each(|(to, zero)| *to = zero);
                            let lift = match &tiles[0] {
                                Some(Tiles::Conv2d(triples)) => triples.total_lift(),
                                _ => DEPTHWISE_LIFT,
                            };
                            zeros.iter_mut().for_each(|zero| *zero += lift as i32);
                            (&channels[..], zeros)
                        });
                        Some(self.short(&lines, rest))
                    }
                    (Epilogue::Integer(channels), None, _) => Some(self.integer(channels)),
                    (Epilogue::Float, _, Some(sums)) => Some(self.fixed(&sums)),
                    (Epilogue::Float, _, None) => None,
                };
                if let Some(table) = table {
                    self.pointer(table);
                }
                for (branch, tiles) in branches.iter().zip(tiles) {
                    // Only short lines take a zero point into account.
                    let zero = program.tensors[branch.input].zero_point;
                    let tiles = tiles.filter(|_| matches!(form, 2 | 4) || zero == 0);
                    self.branch(program, branch, form & 1 == 1, tiles.map(|tiles| (tiling, tiles)))?;
                }
            }
            StepOp::MaxPool { window, input, output } | StepOp::SumPool { window, input, output } => {
                let sum = matches!(op, StepOp::SumPool { .. });
                self.records.push(if sum { rt::kind::SUM_POOL } else { rt::kind::MAX_POOL });
                self.tensor(*input)?;
                self.tensor(*output)?;
                self.window(window)?;
            }
            StepOp::Logits { branch } => {
                self.records.push(rt::kind::LOGITS);
                self.branch(program, branch, true, None)?;
            }
        }
        Ok(())
    }

    fn branch(
        &mut self,
        program: &Program,
        branch: &Branch,
        float: bool,
        tiles: Option<(Tiling, Tiles)>,
    ) -> Result<(), DeployError> {
        let tensor = &program.tensors[branch.input];
        let (kind, format) = match &branch.linear {
            Linear::Codes { .. } => (0, 0),
            Linear::Conv2d { .. } if tiles.is_some() => (1, 2),
            Linear::Depthwise { .. } if tiles.is_some() => (2, 2),
            Linear::Conv2d { weights, .. } => (1, u8::from(matches!(weights, Weights::Int8(_)))),
            Linear::Depthwise { weights, .. } => (2, u8::from(matches!(weights, Weights::Int8(_)))),
        };
        self.records.extend([kind, u8::from(tensor.element == Element::U16), tensor.zero_point, format]);
        self.tensor(branch.input)?;
        self.window(branch.linear.window())?;
        if let Some((tiling, tiles)) = &tiles {
            let orientation = match tiling.orientation {
                Orientation::Plain => 0,
                Orientation::Swapped => 1,
                Orientation::Flat => 2,
            };
            let numbers = match tiles {
                Tiles::Conv2d(triples) => [triples.flush, triples.lift],
                Tiles::Depthwise => [0, DEPTHWISE_LIFT],
            };
            self.records.extend([u8::from(tiling.lane_y == 1) + 2 * orientation, 0]);
            for n in numbers {
                let n = u16::try_from(n).map_err(|_| DeployError::TooLarge { what: "a convolution" })?;
                self.records.extend(n.to_le_bytes());
            }
        }
        if let Some((_, Tiles::Conv2d(triples))) = &tiles {
            let at = self.data.len();
            self.data.extend(triples.weights.iter().flat_map(|w| w.to_le_bytes()));
            self.pointer(at);
        } else if let Some(weights) = branch.linear.weights() {
            let at = self.data.len();
            for c in 0..branch.linear.window().out_c {
                let row: Vec<i8> = branch.linear.channel(c).collect();
                match weights {
                    Weights::Trits(_) => {
                        let packed = kernels::ternary::storage::pack2(&row)
                            .map_err(|source| DeployError::Kernel { layer: branch.name.clone(), source })?;
                        self.data.extend(packed);
                    }
                    Weights::Int8(_) => self.data.extend(row.iter().map(|&w| w as u8)),
                }
            }
            self.pointer(at);
        }
        if float {
            let Affine { scale, bias, norm } = &branch.affine;
            self.records.push(u8::from(bias.is_some()) + 2 * u8::from(norm.is_some()));
            let at = self.data.len();
            let norm = norm.iter().flat_map(|n| [&n.a, &n.b]);
            for table in [scale].into_iter().chain(bias).chain(norm) {
                self.data.extend(table.iter().flat_map(|v| v.to_le_bytes()));
            }
            self.pointer(at);
        }
        Ok(())
    }

    /// Writes the table of short lines and, for channels without one, integer epilogues and corrections; returns its place.
    fn short(&mut self, lines: &Lines, rest: Option<(&[IntegerEpilogue], Vec<i32>)>) -> usize {
        let mut table = vec![lines.shift | if lines.flip { rt::kind::FLIP } else { 0 }];
        table.extend(lines.pairs().flatten().flat_map(i32::to_le_bytes));
        let Some((channels, corrections)) = rest else {
            let at = self.data.len();
            self.data.append(&mut table);
            return at;
        };
        // What the integer table points to comes before it: lines must not lie between.
        let (mut apart, place) = (Writer::default(), self.data.len());
        let at = apart.integer(channels);
        let (extra, integer) = apart.data.split_at(at);
        self.data.extend(extra);
        let lines_at = self.data.len();
        self.fixups.extend(apart.fixups.into_iter().map(|fixup| match fixup {
            Fixup::Table { at: entry, target } => {
                Fixup::Table { at: entry + place + table.len(), target: target + place }
            }
            Fixup::Record { at, target } => Fixup::Record { at, target },
        }));
        self.data.append(&mut table);
        self.data.extend(integer);
        self.data.extend(corrections.into_iter().flat_map(i32::to_le_bytes));
        lines_at
    }

    /// Writes the table of fixed-point residual sums; returns its place.
    fn fixed(&mut self, sums: &[FixedSum]) -> usize {
        let at = self.data.len();
        for sum in sums {
            self.data.extend(sum.offset.to_le_bytes());
            self.data.extend(sum.slopes.into_iter().flat_map(i32::to_le_bytes));
            self.data.extend(sum.margin.to_le_bytes());
        }
        at
    }

    /// Writes the table of integer epilogues and the thresholds it points to; returns its place.
    fn integer(&mut self, channels: &[IntegerEpilogue]) -> usize {
        let (mut multipliers, mut offsets, mut shifts) = (Vec::new(), Vec::new(), Vec::new());
        let table = self.data.len() + channels.iter().map(apart).sum::<usize>();
        for (c, channel) in channels.iter().enumerate() {
            match channel {
                IntegerEpilogue::Multiplier { multiplier, offset, shift } => {
                    multipliers.extend(multiplier.to_le_bytes());
                    offsets.extend(offset.to_le_bytes());
                    shifts.push(*shift);
                }
                IntegerEpilogue::Thresholds { falling, at } => {
                    multipliers.extend((at.len() as i32).to_le_bytes());
                    offsets.extend([0; 8]);
                    let place = table + 4 * channels.len() + 8 * c;
                    self.fixups.push(Fixup::Table { at: place, target: self.data.len() });
                    shifts.push(if *falling { rt::kind::FALLING } else { rt::kind::RISING });
                    self.data.extend(at.iter().flat_map(|t| t.to_le_bytes()));
                }
                IntegerEpilogue::Float { channel, .. } => {
                    multipliers.extend([0; 4]);
                    offsets.extend([0; 8]);
                    let place = table + 4 * channels.len() + 8 * c;
                    self.fixups.push(Fixup::Table { at: place, target: self.data.len() });
                    shifts.push(rt::kind::FLOAT);
                    // Adding 0 and multiplying by 1 change nothing, so what is absent needs no flag.
                    let (a, b) = channel.norm.unwrap_or((1.0, 0.0));
                    let constants = [channel.scale, channel.bias.unwrap_or(0.0), a, b];
                    self.data.extend(constants.iter().flat_map(|v| v.to_le_bytes()));
                }
            }
        }
        self.data.extend(multipliers);
        self.data.extend(offsets);
        self.data.extend(shifts);
        table
    }

    /// Appends the offset of a place in the data section.
    fn pointer(&mut self, target: usize) {
        self.fixups.push(Fixup::Record { at: self.records.len(), target });
        self.records.extend([0; 4]);
    }

    fn tensor(&mut self, index: usize) -> Result<(), DeployError> {
        let at = size("the arena", self.offsets[index])?;
        self.records.extend(at.to_le_bytes());
        Ok(())
    }

    fn window(&mut self, w: &Window) -> Result<(), DeployError> {
        let sizes = [
            w.in_h, w.in_w, w.in_c, w.out_h, w.out_w, w.out_c, w.kernel_h, w.kernel_w, w.stride_h,
            w.stride_w, w.pad_top, w.pad_left,
        ];
        for n in sizes {
            self.records.extend(size("a window", n)?.to_le_bytes());
        }
        Ok(())
    }
}

/// A branch laid out for tiles.
enum Tiles {
    Conv2d(Triples),
    Depthwise,
}

/// Which branches of a step run in tiles.
fn tiles(program: &Program, branches: &[Branch], tiling: Tiling) -> Vec<Option<Tiles>> {
    let mut emptied = false;
    let mut of = |branch: &Branch| {
        let tensor = &program.tensors[branch.input];
        let w = Oriented::new(branch.linear.window(), tiling.orientation).window;
        if let Some(triples) = Triples::of(branch, tiling, tensor) {
            // There is memory to empty the sums of one branch.
            let full = triples.flush > 0;
            if full && emptied {
                return None;
            }
            emptied |= full;
            return Some(Tiles::Conv2d(triples));
        }
        // As many rows and columns as the runtime has places for.
        let fits = 3 * w.stride_w + w.kernel_w <= 9 && w.kernel_h <= 12;
        (depthwise_fits(branch, tensor) && fits).then_some(Tiles::Depthwise)
    };
    branches.iter().map(&mut of).collect()
}

/// The fixed-point shortcuts of a residual sum, if any channel has one.
pub(crate) fn fixed_sums(
    program: &Program,
    branches: &[Branch],
    grid: CodeGrid,
) -> Result<Option<Vec<FixedSum>>, DeployError> {
    let channels = 0..branches[0].linear.window().out_c;
    let sums = channels.map(|c| FixedSum::of(branches, &program.tensors, grid, c));
    let sums = sums.collect::<Result<Vec<_>, _>>()?;
    Ok(sums.iter().any(|s| *s != FixedSum::NEVER).then_some(sums))
}

/// Bytes of a channel's epilogue outside the table.
fn apart(channel: &IntegerEpilogue) -> usize {
    match channel {
        IntegerEpilogue::Multiplier { .. } => 0,
        IntegerEpilogue::Thresholds { at, .. } => 4 * at.len(),
        IntegerEpilogue::Float { .. } => 16,
    }
}
