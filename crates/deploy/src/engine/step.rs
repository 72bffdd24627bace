//! One step on the kernels: accumulators of every branch, then the epilogue.

use kernels::dispatch::Kernel;
use kernels::epilogue::{
    Accumulators, Addend, Epilogue as KernelEpilogue, Quantize, QuantizeSum, Requantize, apply,
};
use kernels::int8;
use kernels::ternary;
use kernels::{Conv2d, KernelError, Padding, Pool2d, codes};

use super::epilogue::{self as real, Residual};
use super::{Workspace, lines};
use crate::DeployError;
use crate::epilogue::Affine;
use crate::program::{Branch, Element, Epilogue, Linear, Program, Step, StepOp, Weights, Window};

/// A step with packed weights.
#[derive(Debug)]
pub(super) struct Prepared {
    branches: Vec<Packed>,
    epilogue: Finish,
}

/// What becomes of the accumulators.
#[derive(Debug)]
enum Finish {
    /// They are kept, or there are none.
    None,
    /// The program's lines.
    Lines(Requantize),
    /// The f32 operations the program's epilogues are proved equal to, where these are not all lines the kernels take.
    Real(Quantize),
    /// A sum of two branches.
    Sum(Box<Residual>),
}

/// A branch as the kernels want it.
#[derive(Debug)]
pub(super) struct Packed {
    input: usize,
    window: Window,
    zero_point: u8,
    weights: Packing,
    /// With a depth multiplier: how often the kernels are given every channel, and in which of the workspace's buffers.
    repeated: Option<(usize, usize)>,
    /// What the zero point adds to each channel's accumulators.
    pub(super) offset: Vec<i32>,
    pub(super) affine: Affine,
    /// Multiply-accumulates of one sample.
    pub(super) macs: u64,
}

#[derive(Debug)]
enum Packing {
    Codes,
    Trits(ternary::Packed),
    Bytes(int8::Packed),
    Depthwise(Vec<i8>),
    /// Dense on sums of codes: `[in, out]`.
    Sums(Vec<i8>),
}

impl Prepared {
    pub(super) fn new(step: &Step, program: &Program) -> Result<Self, DeployError> {
        let pack = |(i, b): (usize, &Branch)| {
            Packed::new(b, i, program).map_err(|source| DeployError::Kernel { layer: b.name.clone(), source })
        };
        let branches: Vec<Packed> =
            step.op.branches().iter().enumerate().map(pack).collect::<Result<_, _>>()?;
        let failed = |source| DeployError::Kernel { layer: step.name.clone(), source };
        let epilogue = match (&branches[..], &step.op) {
            ([only], StepOp::Compute { grid, epilogue: Epilogue::Integer(channels), .. }) => {
                match lines::requantize(channels, &only.offset, grid.max) {
                    Some(lines) => Finish::Lines(lines),
                    None => Finish::Real(real::quantize(only, *grid).map_err(failed)?),
                }
            }
            ([only], StepOp::Compute { grid, .. }) => {
                Finish::Real(real::quantize(only, *grid).map_err(failed)?)
            }
            ([a, b], StepOp::Compute { grid, .. }) => {
                Finish::Sum(Box::new(Residual::new([a, b], *grid).map_err(failed)?))
            }
            _ => Finish::None,
        };
        Ok(Self { branches, epilogue })
    }

    /// A step that writes codes or sums, for `n` samples.
    pub(super) fn run(&self, op: &StepOp, w: &mut Workspace, n: usize) -> Result<(), KernelError> {
        match op {
            StepOp::Compute { output, .. } => {
                self.branches.iter().for_each(|b| b.repeat(w, n));
                let mut out = std::mem::take(&mut w.codes[*output]);
                let result = self.compute(w, n, &mut out);
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
                let (from, to) = (n * window.input_len(), n * window.output_len());
                codes::sum_pool(&pool(window, n)?, &w.codes[*input][..from], &mut w.sums[*output][..to])
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

    fn compute(&self, w: &mut Workspace, n: usize, out: &mut [u8]) -> Result<(), KernelError> {
        let len = n * self.branches[0].window.output_len();
        let out = &mut out[..len];
        let mut spare = std::mem::take(&mut w.spare);
        let mut kept = std::mem::take(&mut w.kept);
        let result = match &self.epilogue {
            Finish::None => Ok(()),
            Finish::Lines(lines) => self.branches[0].finish(w, n, lines, &mut spare, out),
            Finish::Real(real) => self.branches[0].finish(w, n, real, &mut spare, out),
            Finish::Sum(sum) => self.sum(w, n, sum, (&mut kept[..], &mut spare), out),
        };
        (w.spare, w.kept) = (spare, kept);
        result
    }

    /// The codes of a sum of two branches.
    fn sum(
        &self,
        w: &Workspace,
        n: usize,
        sum: &Residual,
        (acc, spare): (&mut [i32], &mut Vec<i32>),
        out: &mut [u8],
    ) -> Result<(), KernelError> {
        let kept = &self.branches[sum.kept];
        let addend = match kept.weights {
            Packing::Codes => Addend::Codes(&w.codes[kept.input][..out.len()]),
            _ => {
                let acc = &mut acc[..out.len()];
                kept.accumulate(w, n, acc)?;
                Addend::Accumulators(acc)
            }
        };
        let epilogue = QuantizeSum::new(&sum.affine[1], (&sum.affine[0], addend), sum.grid, out)?;
        self.branches[sum.last].finish(w, n, &epilogue, spare, out)
    }
}

impl Packed {
    /// `index` is the branch's among those of its step.
    fn new(branch: &Branch, index: usize, program: &Program) -> Result<Self, KernelError> {
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
                Packing::Bytes(int8::Packed::conv2d(&conv(&window, 1, false)?, bytes)?)
            }
        };
        let times = branch.linear.multiplier();
        let zero = i32::from(tensor.zero_point);
        let total = |c| branch.linear.channel(c).map(i32::from).sum::<i32>();
        Ok(Self {
            input: branch.input,
            window,
            zero_point: tensor.zero_point,
            weights,
            repeated: (times > 1).then_some((times, index)),
            offset: (0..window.out_c).map(|c| zero * total(c)).collect(),
            affine: branch.affine.clone(),
            macs: branch.linear.macs(),
        })
    }

    /// Every channel of the input as often as the depth multiplier says, for kernels that know none.
    fn repeat(&self, w: &mut Workspace, n: usize) {
        let Some((times, buffer)) = self.repeated else { return };
        let codes = &w.codes[self.input][..n * self.window.input_len()];
        let copies = w.repeated[buffer].chunks_exact_mut(times);
        copies.zip(codes).for_each(|(copies, &code)| copies.fill(code));
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

    /// What `epilogue` makes of `n` samples.
    fn finish<E: KernelEpilogue>(
        &self,
        w: &Workspace,
        n: usize,
        epilogue: &E,
        spare: &mut Vec<i32>,
        out: &mut [E::Out],
    ) -> Result<(), KernelError> {
        match &self.weights {
            Packing::Codes | Packing::Sums(_) => {
                spare.resize(out.len(), 0);
                self.accumulate(w, n, spare)?;
                apply(epilogue, self.window.out_c, spare, out)
            }
            _ => self.apply(w, n, epilogue, out),
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
        let len = n * self.window.input_len();
        let x = || match self.repeated {
            None => (&w.codes[self.input][..len], self.zero_point),
            Some((times, buffer)) => (&w.repeated[buffer][..len * times], self.zero_point),
        };
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

/// The kernels' geometry of a window for `n` samples. Windows come from such geometries; SAME or valid is told apart by
/// whether anything is padded.
fn conv(w: &Window, n: usize, depthwise: bool) -> Result<Conv2d, KernelError> {
    let stride = [w.stride_h, w.stride_w];
    let make = |padding| {
        if depthwise {
            let input = [n, w.in_h, w.in_w, w.out_c];
            Conv2d::depthwise(input, [w.kernel_h, w.kernel_w, w.out_c, 1], stride, padding)
        } else {
            let input = [n, w.in_h, w.in_w, w.in_c];
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
