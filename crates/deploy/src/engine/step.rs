//! One step on the kernels: accumulators of every branch, then the epilogue.

use kernels::dispatch::Kernel;
use kernels::epilogue::{Accumulators, Epilogue as KernelEpilogue, Requantize};
use kernels::int8::{self, Panel16};
use kernels::ternary;
use kernels::{Conv2d, KernelError, Padding, Pool2d, codes};

use super::Workspace;
use super::residual::Residual;
use crate::DeployError;
use crate::epilogue::{Affine, CodeGrid, IntegerEpilogue};
use crate::program::{Branch, Element, Epilogue, Linear, Program, Step, StepOp, Weights, Window};

/// A step with packed weights.
#[derive(Debug)]
pub(super) struct Prepared {
    branches: Vec<Packed>,
    lines: Lines,
    /// The lines as an epilogue of the kernels, where they have the form it takes: no accumulator is stored then.
    fused: Option<Requantize>,
    /// A sum of two branches.
    residual: Option<Residual>,
}

/// A branch as the kernels want it.
#[derive(Debug)]
pub(super) struct Packed {
    input: usize,
    window: Window,
    zero_point: u8,
    weights: Packing,
    /// What the zero point adds to each channel's accumulators.
    pub(super) offset: Vec<i32>,
    pub(super) affine: Affine,
}

#[derive(Debug)]
enum Packing {
    Codes,
    Trits(ternary::Packed),
    Bytes(Panel16),
    Depthwise(Vec<i8>),
    /// Dense on sums of codes: `[in, out]`.
    Sums(Vec<i8>),
}

/// Integer epilogues, as arrays.
#[derive(Debug, Default)]
struct Lines {
    multiplier: Vec<i64>,
    offset: Vec<i64>,
    shift: Vec<u8>,
    /// Channels without a multiplier.
    others: Vec<(usize, IntegerEpilogue)>,
}

impl Prepared {
    pub(super) fn new(step: &Step, program: &Program) -> Result<Self, DeployError> {
        let pack = |b: &Branch| {
            Packed::new(b, program).map_err(|source| DeployError::Kernel { layer: b.name.clone(), source })
        };
        let branches: Vec<Packed> = step.op.branches().iter().map(pack).collect::<Result<_, _>>()?;
        let mut lines = Lines::default();
        if let StepOp::Compute { epilogue: Epilogue::Integer(channels), .. } = &step.op {
            for (c, channel) in channels.iter().enumerate() {
                let (m, o, s) = match channel {
                    IntegerEpilogue::Multiplier { multiplier, offset, shift } => {
                        (*multiplier, *offset, *shift)
                    }
                    IntegerEpilogue::Thresholds { .. } | IntegerEpilogue::Float { .. } => {
                        lines.others.push((c, channel.clone()));
                        (0, 0, 0)
                    }
                };
                lines.multiplier.push(m.into());
                lines.offset.push(o);
                lines.shift.push(s);
            }
        }
        let (fused, residual) = match (&branches[..], &step.op) {
            ([only], StepOp::Compute { grid, .. }) => (lines.requantize(only, grid.max), None),
            ([a, b], StepOp::Compute { grid, .. }) => (None, Some(Residual::new([a, b], *grid))),
            _ => (None, None),
        };
        Ok(Self { branches, lines, fused, residual })
    }

    /// A step that writes codes or sums, for `n` samples.
    pub(super) fn run(&self, op: &StepOp, w: &mut Workspace, n: usize) -> Result<(), KernelError> {
        match op {
            StepOp::Compute { grid, output, .. } => {
                let mut out = std::mem::take(&mut w.codes[*output]);
                let result = self.compute(w, n, *grid, &mut out);
                w.codes[*output] = out;
                result
            }
            StepOp::MaxPool { window, input, output } => {
                let mut out = std::mem::take(&mut w.codes[*output]);
                let (from, to) = (n * window.input_len(), n * window.output_len());
                let result = pool(window, n)
                    .and_then(|g| codes::max_pool(&g, &w.codes[*input][..from], &mut out[..to]));
                w.codes[*output] = out;
                result
            }
            StepOp::SumPool { window, input, output } => {
                let (input, output) = (&w.codes[*input], &mut w.sums[*output]);
                let samples =
                    input.chunks_exact(window.input_len()).zip(output.chunks_exact_mut(window.output_len()));
                samples.take(n).for_each(|(x, y)| sum_pool(window, x, y));
                Ok(())
            }
            StepOp::Logits { .. } => Ok(()),
        }
    }

    /// The logits of `n` samples.
    pub(super) fn logits(&self, w: &mut Workspace, n: usize, out: &mut [i32]) -> Result<(), KernelError> {
        self.branches[0].accumulate(w, n, out)?;
        let offset = &self.branches[0].offset;
        for row in out.chunks_exact_mut(offset.len()) {
            row.iter_mut().zip(offset).for_each(|(acc, o)| *acc -= o);
        }
        Ok(())
    }

    fn compute(
        &self,
        w: &mut Workspace,
        n: usize,
        grid: CodeGrid,
        out: &mut [u8],
    ) -> Result<(), KernelError> {
        let len = n * self.branches[0].window.output_len();
        let out = &mut out[..len];
        if let Some(fused) = &self.fused {
            return self.branches[0].apply(w, n, fused, out);
        }
        let mut acc = std::mem::take(&mut w.accumulators);
        let mut result = Ok(());
        for (branch, acc) in self.branches.iter().zip(&mut acc) {
            result = result.and_then(|()| branch.accumulate(w, n, &mut acc[..len]));
        }
        result = result.and_then(|()| match (&self.residual, &self.branches[..]) {
            (Some(residual), _) => residual.apply([&acc[0][..len], &acc[1][..len]], &mut w.reals, out),
            (None, [only, ..]) => {
                self.lines.apply(&acc[0][..len], &only.offset, grid.max, out);
                Ok(())
            }
            (None, []) => Ok(()),
        });
        w.accumulators = acc;
        result
    }
}

impl Packed {
    fn new(branch: &Branch, program: &Program) -> Result<Self, KernelError> {
        let tensor = &program.tensors[branch.input];
        let window = *branch.linear.window();
        let weights = match &branch.linear {
            Linear::Codes { .. } => Packing::Codes,
            Linear::Depthwise { weights, .. } => Packing::Depthwise(weights.codes().to_vec()),
            Linear::Conv2d { weights, .. } if tensor.element == Element::U16 => {
                Packing::Sums(weights.codes().to_vec())
            }
            Linear::Conv2d { weights: Weights::Trits(trits), .. } => {
                let largest = u8::try_from(tensor.max).unwrap_or(u8::MAX);
                Packing::Trits(ternary::Packed::chosen(largest, &conv(&window, 1, false)?, trits)?)
            }
            Linear::Conv2d { weights: Weights::Int8(bytes), .. } => {
                Packing::Bytes(Panel16::conv2d(&conv(&window, 1, false)?, bytes)?)
            }
        };
        let zero = i32::from(tensor.zero_point);
        let total = |c| branch.linear.channel(c).map(i32::from).sum::<i32>();
        Ok(Self {
            input: branch.input,
            window,
            zero_point: tensor.zero_point,
            weights,
            offset: (0..window.out_c).map(|c| zero * total(c)).collect(),
            affine: branch.affine.clone(),
        })
    }

    /// Accumulators of `n` samples, the zero point not yet subtracted.
    fn accumulate(&self, w: &Workspace, n: usize, out: &mut [i32]) -> Result<(), KernelError> {
        match &self.weights {
            Packing::Codes => {
                out.iter_mut().zip(&w.codes[self.input]).for_each(|(acc, &code)| *acc = code.into());
                Ok(())
            }
            Packing::Sums(p) => {
                let (rows, columns) = (self.window.input_len(), self.window.out_c);
                for (x, out) in w.sums[self.input].chunks_exact(rows).zip(out.chunks_exact_mut(columns)) {
                    out.fill(0);
                    for (&x, row) in x.iter().zip(p.chunks_exact(columns)) {
                        out.iter_mut().zip(row).for_each(|(acc, &w)| *acc += i32::from(w) * i32::from(x));
                    }
                }
                Ok(())
            }
            _ => self.apply(w, n, &Accumulators, out),
        }
    }

    /// What the kernels' `epilogue` makes of `n` samples; nothing for branches no kernel computes.
    fn apply<E: KernelEpilogue>(
        &self,
        w: &Workspace,
        n: usize,
        epilogue: &E,
        out: &mut [E::Out],
    ) -> Result<(), KernelError> {
        let kernel = Kernel::default();
        let x = || (&w.codes[self.input][..n * self.window.input_len()], self.zero_point);
        match &self.weights {
            Packing::Codes | Packing::Sums(_) => Ok(()),
            Packing::Trits(p) => {
                ternary::conv2d(kernel, &conv(&self.window, n, false)?, x(), p, epilogue, out)
            }
            Packing::Bytes(p) => int8::conv2d(kernel, &conv(&self.window, n, false)?, x(), p, epilogue, out),
            Packing::Depthwise(p) => {
                int8::depthwise(kernel, &conv(&self.window, n, true)?, x(), p, epilogue, out)
            }
        }
    }
}

impl Lines {
    /// The same lines for the kernels, on accumulators with the zero point not yet subtracted: shifts brought up to what
    /// they take. `None` if a channel has no line or a slope of 1 or more.
    fn requantize(&self, branch: &Packed, max: u8) -> Option<Requantize> {
        let kernel = matches!(branch.weights, Packing::Trits(_) | Packing::Bytes(_) | Packing::Depthwise(_));
        if !kernel || !self.others.is_empty() {
            return None;
        }
        let (mut multipliers, mut offsets, mut shifts) = (Vec::new(), Vec::new(), Vec::new());
        for (((&m, &o), &s), &zero) in
            self.multiplier.iter().zip(&self.offset).zip(&self.shift).zip(&branch.offset)
        {
            let up = Requantize::SHIFTS.start().saturating_sub(s);
            multipliers.push(i32::try_from(m << up).ok()?);
            let offset = o.checked_sub(m.checked_mul(zero.into())?)?;
            offsets.push(offset.checked_mul(1 << up)?);
            shifts.push(s + up);
        }
        Requantize::lines(&multipliers, &offsets, &shifts, max).ok()
    }

    fn apply(&self, acc: &[i32], zero: &[i32], max: u8, out: &mut [u8]) {
        let (channels, max) = (zero.len(), i64::from(max));
        for (acc, out) in acc.chunks_exact(channels).zip(out.chunks_exact_mut(channels)) {
            let lines = self.multiplier.iter().zip(&self.offset).zip(&self.shift).zip(zero);
            for ((out, &acc), (((&m, &o), &s), &zero)) in out.iter_mut().zip(acc).zip(lines) {
                *out = ((i64::from(acc - zero) * m + o) >> s).clamp(0, max) as u8;
            }
            for (c, other) in &self.others {
                out[*c] = other.code(acc[*c] - zero[*c], max as u8);
            }
        }
    }
}

fn sum_pool(w: &Window, x: &[u8], y: &mut [u16]) {
    for (p, pixel) in y.chunks_exact_mut(w.out_c).enumerate() {
        let (oy, ox) = (p / w.out_w, p % w.out_w);
        pixel.fill(0);
        for ky in 0..w.kernel_h {
            let start = ((oy * w.stride_h + ky) * w.in_w + ox * w.stride_w) * w.in_c;
            for from in x[start..start + w.kernel_w * w.in_c].chunks_exact(w.in_c) {
                pixel.iter_mut().zip(from).for_each(|(sum, &code)| *sum += u16::from(code));
            }
        }
    }
}

/// The kernels' geometry of a window for `n` samples. Windows come from such geometries; SAME or valid is told apart by
/// whether anything is padded.
fn conv(w: &Window, n: usize, depthwise: bool) -> Result<Conv2d, KernelError> {
    let (input, stride) = ([n, w.in_h, w.in_w, w.in_c], [w.stride_h, w.stride_w]);
    let make = |padding| {
        if depthwise {
            Conv2d::depthwise(input, [w.kernel_h, w.kernel_w, w.in_c, 1], stride, padding)
        } else {
            Conv2d::new(input, [w.kernel_h, w.kernel_w, w.in_c, w.out_c], stride, padding)
        }
    };
    let same = make(Padding::Same)?;
    if (same.out_h, same.out_w, same.pad_top, same.pad_left) == (w.out_h, w.out_w, w.pad_top, w.pad_left) {
        Ok(same)
    } else {
        make(Padding::Valid)
    }
}

fn pool(w: &Window, n: usize) -> Result<Pool2d, KernelError> {
    let input = [n, w.in_h, w.in_w, w.in_c];
    Pool2d::new(input, [w.kernel_h, w.kernel_w], [w.stride_h, w.stride_w], Padding::Valid)
}
