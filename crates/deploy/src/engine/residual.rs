//! The sum of two branches on the host: the f32 operations of the training graph, in the kernels' vector loops.

use kernels::dispatch::{Kernel, Path};
use kernels::{KernelError, channel};

use super::step::Packed;
use crate::epilogue::CodeGrid;

/// Both branches' constants as rows of channels.
#[derive(Debug)]
pub(super) struct Residual {
    branches: [Constants; 2],
    /// Codes per unit, and the largest code.
    unit: f32,
    max: f32,
}

#[derive(Debug)]
struct Constants {
    /// Accumulator of the real value 0.
    zero: Vec<i32>,
    scale: Vec<f32>,
    /// 0 where there is none: adding it changes no value.
    bias: Vec<f32>,
    norm: Option<[Vec<f32>; 2]>,
}

impl Residual {
    pub(super) fn new(branches: [&Packed; 2], grid: CodeGrid) -> Self {
        let constants = |b: &Packed| Constants {
            zero: b.offset.clone(),
            scale: b.affine.scale.clone(),
            bias: b.affine.bias.clone().unwrap_or_else(|| vec![0.0; b.offset.len()]),
            norm: b.affine.norm.as_ref().map(|n| [n.a.clone(), n.b.clone()]),
        };
        Self { branches: branches.map(constants), unit: 1.0 / grid.step(), max: grid.max.into() }
    }

    /// Codes of the sum of both branches' accumulators. `reals` is memory, three times as long as `out` at least.
    pub(super) fn apply(
        &self,
        accumulators: [&[i32]; 2],
        reals: &mut [f32],
        out: &mut [u8],
    ) -> Result<(), KernelError> {
        let len = out.len();
        let (a, rest) = reals.split_at_mut(len);
        let (b, rest) = rest.split_at_mut(len);
        for ((constants, acc), y) in self.branches.iter().zip(accumulators).zip([&mut *a, &mut *b]) {
            constants.values(acc, &mut rest[..len], y)?;
        }
        // Beyond 2^23 the spacing of f32 is 1, so the addition rounds to an integer, ties to even, in the lowest bits.
        const INTEGERS: f32 = (1 << 23) as f32;
        for ((out, &a), &b) in out.iter_mut().zip(&*a).zip(&*b) {
            *out = (((a + b) * self.unit).max(0.0).min(self.max) + INTEGERS).to_bits() as u8;
        }
        Ok(())
    }
}

impl Constants {
    /// Real values of accumulators.
    fn values(&self, acc: &[i32], scratch: &mut [f32], y: &mut [f32]) -> Result<(), KernelError> {
        let channels = self.zero.len();
        // The portable kernels do not fuse.
        let fused = Kernel::default().path() != Path::Scalar;
        let scaled = if self.norm.is_some() && fused { &mut *scratch } else { &mut *y };
        for (y, acc) in scaled.chunks_exact_mut(channels).zip(acc.chunks_exact(channels)) {
            let constants = self.zero.iter().zip(&self.scale).zip(&self.bias);
            for ((y, &acc), ((&zero, &scale), &bias)) in y.iter_mut().zip(acc).zip(constants) {
                *y = (acc - zero) as f32 * scale + bias;
            }
        }
        match &self.norm {
            Some([a, b]) if fused => channel::affine(&[(scratch, a)], Some(b), y),
            Some([a, b]) => {
                for y in y.chunks_exact_mut(channels) {
                    y.iter_mut().zip(a).zip(b).for_each(|((y, &a), &b)| *y = y.mul_add(a, b));
                }
                Ok(())
            }
            None => Ok(()),
        }
    }
}
