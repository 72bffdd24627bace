//! Proof that the integer epilogue equals the f32 epilogue on every accumulator a channel can reach.
//!
//! Every f32 operation of the epilogue (conversion, multiplication by and addition of a constant, fused multiply-add,
//! rounding, clamping) is monotone, and so is their composition. A monotone map into 2^n codes is known everywhere once
//! its at most 2^n - 1 steps are known, and those are found by bisection on the f32 epilogue itself. The integer form is
//! equal on the whole range exactly if it gives the same code on both sides of every step and at both ends, being monotone
//! in the same direction; that is what is checked.

mod fixed;
mod multiplier;
mod short;
mod steps;

use serde::Serialize;

use crate::DeployError;
use crate::epilogue::{ChannelAffine, CodeGrid, IntegerEpilogue, epilogue_f32};
use crate::program::{Branch, Tensor};

pub use fixed::FixedSum;
pub use short::Short;
pub use steps::Steps;

/// What was proved for one layer or a whole program.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EquivalenceReport {
    /// Channels whose integer epilogue was proved equal to the f32 epilogue.
    pub channels: u64,
    /// Accumulator values covered by those proofs.
    pub values: u64,
    /// Evaluations of the two epilogues the proofs took.
    pub evaluations: u64,
    /// Channels with a multiplier.
    pub multipliers: u64,
    /// Channels with thresholds, because no multiplier has the same steps and there are few codes.
    pub thresholds: u64,
    /// Channels that compute the f32 operations in integer arithmetic and so are equal by construction, for every
    /// accumulator or pair of them: residual sums, logits, and channels of many codes no multiplier fits.
    pub float_in_integers: u64,
    /// Accumulators at which the two differ. Lowering fails unless it is 0.
    pub mismatches: u64,
    /// Whether the program's logits are those of the training graph bit for bit. Not so after an average pool, whose f32
    /// mean the graph carries through an inexact f32 dense layer.
    pub logits_exact: bool,
    /// Largest distance between a logit of the program and the training graph's; 0 if exact. Predictions are equal
    /// wherever the two largest logits are more than twice this apart.
    pub logit_error: f64,
}

impl EquivalenceReport {
    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        self.channels += other.channels;
        self.values += other.values;
        self.evaluations += other.evaluations;
        self.multipliers += other.multipliers;
        self.thresholds += other.thresholds;
        self.float_in_integers += other.float_in_integers;
        self.mismatches += other.mismatches;
    }
}

impl core::fmt::Display for EquivalenceReport {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "{} channels over {} accumulator values: {} multipliers, {} threshold lists, {} mismatches; {} channels \
             compute f32 in integers; logits ",
            self.channels,
            self.values,
            self.multipliers,
            self.thresholds,
            self.mismatches,
            self.float_in_integers
        )?;
        if self.logits_exact {
            f.write_str("bit for bit")
        } else {
            write!(f, "within {:.1e}", self.logit_error)
        }
    }
}

/// Smallest and largest accumulator of a channel with these weights, for inputs (zero point subtracted) in
/// `low..=high`. Padding contributes 0, which `low..=high` contains.
pub fn reachable(weights: impl Iterator<Item = i8>, (low, high): (i32, i32)) -> (i64, i64) {
    weights.fold((0, 0), |(lo, hi), w| {
        let ends = [i64::from(w) * i64::from(low), i64::from(w) * i64::from(high)];
        (lo + ends[0].min(ends[1]), hi + ends[0].max(ends[1]))
    })
}

/// The accumulators channel `c` of `branch` can reach from the codes of `tensor`, zero point subtracted.
///
/// # Errors
/// [`DeployError::AccumulatorRange`] beyond 2^30.
pub fn interval(branch: &Branch, tensor: &Tensor, c: usize) -> Result<(i32, i32), DeployError> {
    const LIMIT: i64 = 1 << 30;
    let zero = i32::from(tensor.zero_point);
    let (low, high) = reachable(branch.linear.channel(c), (-zero, i32::from(tensor.max) - zero));
    // The same codes before the zero point is subtracted, as the kernels see them.
    let raw = reachable(branch.linear.channel(c), (0, i32::from(tensor.max)));
    if [low, high, raw.0, raw.1].iter().any(|v| v.abs() > LIMIT) {
        return Err(DeployError::AccumulatorRange { layer: branch.name.clone(), channel: c, low, high });
    }
    Ok((low as i32, high as i32))
}

/// Checks that both branches of a residual sum and the sum itself are finite on the reachable accumulators; there the
/// program computes the very f32 operations of the training graph in integer arithmetic.
pub fn prove_residual(
    branches: &[Branch],
    tensors: &[Tensor],
    c: usize,
) -> Result<EquivalenceReport, DeployError> {
    let mut sum = 0.0_f32;
    for branch in branches {
        let (low, high) = interval(branch, &tensors[branch.input], c)?;
        let affine = branch.affine.channel(c);
        let ends = [(low, affine.value_f32(low)), (high, affine.value_f32(high))];
        sum += ends[0].1.abs().max(ends[1].1.abs());
        if let Some(&(accumulator, value)) = ends.iter().find(|e| !e.1.is_finite() || !sum.is_finite()) {
            return Err(DeployError::NotFinite {
                layer: branch.name.clone(),
                channel: c,
                accumulator,
                value,
            });
        }
    }
    Ok(EquivalenceReport { float_in_integers: 1, ..Default::default() })
}

/// Thresholds take 4 bytes each, the f32 constants of a channel 16: beyond 4-bit codes the constants are worth their time.
const MOST_THRESHOLDS: u8 = 15;

/// Finds an integer epilogue equal to the f32 epilogue of `channel` on the accumulators `low..=high` and proves it:
/// a multiplier if there is one, else thresholds for codes of up to 4 bits, else the f32 operations in integers. `place` is the layer and channel, for errors.
pub fn prove_channel(
    channel: &ChannelAffine,
    grid: CodeGrid,
    (low, high): (i32, i32),
    place: (&str, usize),
) -> Result<(IntegerEpilogue, EquivalenceReport), DeployError> {
    for accumulator in [low, high] {
        let value = channel.value_f32(accumulator);
        if !value.is_finite() {
            let (layer, channel) = (place.0.to_owned(), place.1);
            return Err(DeployError::NotFinite { layer, channel, accumulator, value });
        }
    }
    let steps = Steps::find(|acc| epilogue_f32(acc, channel, grid), low, high, grid.max);
    let slope = f64::from(channel.scale)
        * channel.norm.map_or(1.0, |(a, _)| f64::from(a))
        * f64::from(grid.shift).exp2();
    let mut report = EquivalenceReport { channels: 1, evaluations: steps.evaluations, ..Default::default() };
    report.values = (i64::from(high) - i64::from(low)) as u64 + 1;
    let form = match multiplier::find(&steps, slope.abs()) {
        Some(form) => {
            report.multipliers = 1;
            form
        }
        None if grid.max > MOST_THRESHOLDS => {
            report.float_in_integers = 1;
            IntegerEpilogue::Float { channel: *channel, shift: grid.shift }
        }
        None => {
            report.thresholds = 1;
            IntegerEpilogue::Thresholds { falling: steps.falling, at: steps.at.clone() }
        }
    };
    report.evaluations += verify(&form, channel, grid, &steps, place)?;
    Ok((form, report))
}

/// Compares both epilogues at the ends of the range and on both sides of every step; returns the number of
/// evaluations.
fn verify(
    form: &IntegerEpilogue,
    channel: &ChannelAffine,
    grid: CodeGrid,
    steps: &Steps,
    (layer, index): (&str, usize),
) -> Result<u64, DeployError> {
    let mut evaluations = 0;
    for accumulator in steps.witnesses() {
        let (integer, float) = (form.code(accumulator, grid.max), epilogue_f32(accumulator, channel, grid));
        evaluations += 2;
        if integer != float {
            let layer = layer.to_owned();
            return Err(DeployError::NotEqual { layer, channel: index, accumulator, integer, float });
        }
    }
    Ok(evaluations)
}

#[cfg(test)]
mod tests;
