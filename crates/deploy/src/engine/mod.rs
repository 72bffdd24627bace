//! The host engine: the integer program on the SIMD kernels, batched, on all threads.

mod epilogue;
mod lines;
mod step;

use std::sync::{Mutex, PoisonError};

use kernels::dispatch::vectorized;
use rayon::prelude::*;

use crate::DeployError;
use crate::program::{Element, Program, StepOp};
use step::Prepared;

/// Samples of one task: enough to feed the kernels, few enough that activations stay in the second-level cache.
const SAMPLES: usize = 4;

/// A program with its weights packed for the kernels. It is shared by threads; results do not depend on their number or on
/// how samples are batched.
#[derive(Debug)]
pub struct Engine {
    program: Program,
    steps: Vec<Prepared>,
    /// Buffers of past calls, so that calls after the first allocate next to nothing.
    pool: Mutex<Vec<Workspace>>,
}

/// Activations of up to [`SAMPLES`] samples.
#[derive(Debug, Default)]
struct Workspace {
    codes: Vec<Vec<u8>>,
    sums: Vec<Vec<u16>>,
    /// The branch of a sum that is kept until the other one is computed.
    kept: Vec<i32>,
    /// Accumulators that no kernel computes.
    spare: Vec<i32>,
    /// Per branch of a step: its input with every channel as often as a depth multiplier says.
    repeated: [Vec<u8>; 2],
}

impl Engine {
    /// Packs the weights of `program`.
    ///
    /// # Errors
    /// A program that does not end in logits, or weights the kernels refuse.
    pub fn new(program: Program) -> Result<Self, DeployError> {
        program.logits()?;
        let steps = program.steps.iter().map(|s| Prepared::new(s, &program)).collect::<Result<_, _>>()?;
        Ok(Self { program, steps, pool: Mutex::new(Vec::new()) })
    }

    /// The program being run.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Logit accumulators `[n, classes]` of `n` inputs of codes `[n, h, w, c]`, zero point subtracted.
    ///
    /// # Errors
    /// Buffers of the wrong length.
    pub fn logits(&self, codes: &[u8], n: usize, out: &mut [i32]) -> Result<(), DeployError> {
        self.run(codes, n, out, |accumulators, out| out.copy_from_slice(accumulators))
    }

    /// Real logits `[n, classes]`: bit for bit those of the training graph if the proof's report says `logits_exact`.
    ///
    /// # Errors
    /// Buffers of the wrong length.
    pub fn logits_f32(&self, codes: &[u8], n: usize, out: &mut [f32]) -> Result<(), DeployError> {
        let affine = &self.program.logits()?.affine;
        self.run(codes, n, out, |accumulators, out| {
            let classes = affine.scale.len();
            for (i, (out, &acc)) in out.iter_mut().zip(accumulators).enumerate() {
                *out = affine.channel(i % classes).value_f32(acc);
            }
        })
    }

    /// Predicted classes of `n` inputs: the largest real logit, the first of equals.
    ///
    /// # Errors
    /// Buffers of the wrong length.
    pub fn predict(&self, codes: &[u8], n: usize, out: &mut [usize]) -> Result<(), DeployError> {
        length("predictions", n, out.len())?;
        let classes = self.program.classes;
        let mut logits = vec![0.0; n * classes];
        self.logits_f32(codes, n, &mut logits)?;
        for (out, logits) in out.iter_mut().zip(logits.chunks_exact(classes)) {
            *out = logits.iter().enumerate().fold(0, |best, (k, v)| if *v > logits[best] { k } else { best });
        }
        Ok(())
    }

    /// The nearest input codes of real inputs, clamped to the grid.
    ///
    /// # Errors
    /// Buffers of different lengths.
    pub fn input_codes(&self, x: &[f32], codes: &mut [u8]) -> Result<(), DeployError> {
        length("input codes", x.len(), codes.len())?;
        let grid = self.program.grid;
        // The bounds are integers, so clamping first is the same, and brings what is no number to the lowest code.
        let (low, high) = (-f32::from(grid.zero_point), 255.0 - f32::from(grid.zero_point));
        // Around 1.5 * 2^23 the spacing of f32 is 1: an addition rounds to an integer, ties to even, in the lowest bits.
        let integers = 1.5 * (1 << 23) as f32;
        let part = |(codes, x): (&mut [u8], &[f32])| {
            vectorized(|| {
                for (code, &x) in codes.iter_mut().zip(x) {
                    let rounded = (x / grid.scale).max(low).min(high) + integers;
                    *code = (rounded.to_bits() as u8).wrapping_add(grid.zero_point);
                }
            });
        };
        const PART: usize = 1 << 16;
        if codes.len() <= PART {
            part((codes, x));
            return Ok(());
        }
        codes.par_chunks_mut(PART).zip(x.par_chunks(PART)).for_each(part);
        Ok(())
    }

    /// Every activation tensor of one input, in the order of [`Program::tensors`], for inspection.
    ///
    /// # Errors
    /// An input of the wrong length.
    pub fn trace(&self, codes: &[u8]) -> Result<Vec<Vec<u16>>, DeployError> {
        length("input", self.program.input_len(), codes.len())?;
        let mut workspace = Workspace::new(&self.program);
        let mut logits = vec![0; self.program.classes];
        self.samples(&mut workspace, codes, 1, &mut logits)?;
        let tensor = |(i, t): (usize, &crate::program::Tensor)| match t.element {
            Element::U8 => workspace.codes[i][..t.len].iter().map(|&v| v.into()).collect(),
            Element::U16 => workspace.sums[i][..t.len].to_vec(),
        };
        Ok(self.program.tensors.iter().enumerate().map(tensor).collect())
    }

    fn run<T: Send>(
        &self,
        codes: &[u8],
        n: usize,
        out: &mut [T],
        finish: impl Fn(&[i32], &mut [T]) + Sync,
    ) -> Result<(), DeployError> {
        let (len, classes) = (self.program.input_len(), self.program.classes);
        length("input", n.saturating_mul(len), codes.len())?;
        length("logits", n.saturating_mul(classes), out.len())?;
        let task = |codes: &[u8], out: &mut [T]| {
            let pooled = self.pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut workspace = pooled.unwrap_or_else(|| Workspace::new(&self.program));
            let mut logits = [0; 64];
            let mut large = Vec::new();
            let logits = if out.len() <= logits.len() {
                &mut logits[..out.len()]
            } else {
                large.resize(out.len(), 0);
                &mut large[..]
            };
            let result = self.samples(&mut workspace, codes, codes.len() / len, logits);
            self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(workspace);
            result?;
            finish(logits, out);
            Ok(())
        };
        // One task is not worth waking a thread for; the kernels share out its steps where those are large.
        if n <= SAMPLES {
            return if n == 0 { Ok(()) } else { task(codes, out) };
        }
        let tasks = codes.par_chunks(SAMPLES * len).zip(out.par_chunks_mut(SAMPLES * classes));
        tasks.try_for_each(|(codes, out)| task(codes, out))
    }

    fn samples(
        &self,
        w: &mut Workspace,
        codes: &[u8],
        n: usize,
        logits: &mut [i32],
    ) -> Result<(), DeployError> {
        w.codes[0][..codes.len()].copy_from_slice(codes);
        for (step, prepared) in self.program.steps.iter().zip(&self.steps) {
            let failed = |source| DeployError::Kernel { layer: step.name.clone(), source };
            match &step.op {
                StepOp::Logits { .. } => prepared.logits(w, n, logits).map_err(failed)?,
                op => prepared.run(op, w, n).map_err(failed)?,
            }
        }
        Ok(())
    }
}

impl Workspace {
    fn new(program: &Program) -> Self {
        let buffer = |wanted: Element| {
            move |t: &crate::program::Tensor| if t.element == wanted { t.len * SAMPLES } else { 0 }
        };
        let sums = program.steps.iter().map(|step| step.op.branches()).filter(|b| b.len() > 1);
        let kept = sums.map(|b| b[0].linear.window().output_len() * SAMPLES).max().unwrap_or(0);
        let mut repeated = [0, 0];
        for step in &program.steps {
            for (length, branch) in repeated.iter_mut().zip(step.op.branches()) {
                let (times, window) = (branch.linear.multiplier(), branch.linear.window());
                *length =
                    if times > 1 { (window.input_len() * times * SAMPLES).max(*length) } else { *length };
            }
        }
        Self {
            repeated: repeated.map(|n| vec![0; n]),
            codes: program.tensors.iter().map(buffer(Element::U8)).map(|n| vec![0; n]).collect(),
            sums: program.tensors.iter().map(buffer(Element::U16)).map(|n| vec![0; n]).collect(),
            kept: vec![0; kept],
            spare: Vec::new(),
        }
    }
}

fn length(what: &'static str, expected: usize, actual: usize) -> Result<(), DeployError> {
    if expected == actual { Ok(()) } else { Err(DeployError::Length { what, expected, actual }) }
}
