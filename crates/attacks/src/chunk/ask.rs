//! What a chunk asks the model: logits, losses, gradients and Jacobians of the points gathered, in calls of a good size, every
//! query counted.

use std::ops::Range;

use kernels::Real;

use super::Chunk;
use crate::error::AttackError;
use crate::loss::{Goal, Loss, argmax};

/// Points of one sample put to the model together.
const ROWS: usize = 128;

impl<T: Real> Chunk<'_, '_, T> {
    /// Logits and losses of `probe`.
    pub(crate) fn query(&mut self, loss: Loss) -> Result<(), AttackError> {
        let (n, k) = (self.active.len(), self.k);
        let logits = &mut self.logits[..n * k];
        for rows in calls(n, self.batch) {
            let points = &self.probe[rows.start * self.d..rows.end * self.d];
            self.model.classifier().logits(points, &mut logits[rows.start * k..rows.end * k])?;
        }
        for ((&s, z), value) in self.active.iter().zip(logits.chunks_exact(k)).zip(&mut self.values) {
            self.queries[s] += 1;
            *value = loss.value(z, self.aims[s]);
        }
        Ok(())
    }

    /// Logits of any number of points of slot `s`, in dense batches; one query each.
    fn logits_of(&mut self, s: usize, rows: &[T], mut each: impl FnMut(&[T])) -> Result<(), AttackError> {
        let (d, k) = (self.d, self.k);
        let mut logits = vec![T::ZERO; ROWS.min(rows.len() / d.max(1)) * k];
        for part in rows.chunks(ROWS * d.max(1)) {
            let n = part.len() / d;
            self.model.classifier().logits(part, &mut logits[..n * k])?;
            self.queries[s] += n as u64;
            logits[..n * k].chunks_exact(k).for_each(&mut each);
        }
        Ok(())
    }

    /// Margins of points of slot `s`: above 0 the goal is reached.
    pub(crate) fn margins_of(&mut self, s: usize, rows: &[T]) -> Result<Vec<f64>, AttackError> {
        let (goal, mut out) = (self.goals[s], Vec::with_capacity(rows.len() / self.d.max(1)));
        self.logits_of(s, rows, |z| {
            let margin = Loss::Margin.value(z, goal);
            // A tie is decided by the prediction.
            let reached = goal.reached(argmax(z));
            out.push(if reached { margin.max(f64::MIN_POSITIVE) } else { margin.min(0.0) });
        })?;
        Ok(out)
    }

    /// Whether points of slot `s` are what the adversary wanted.
    pub(crate) fn successes_of(&mut self, s: usize, rows: &[T]) -> Result<Vec<bool>, AttackError> {
        let (goal, mut out) = (self.goals[s], Vec::with_capacity(rows.len() / self.d.max(1)));
        self.logits_of(s, rows, |z| out.push(goal.reached(argmax(z))))?;
        Ok(out)
    }

    /// Logits and losses of `probe`, and the gradients of the losses.
    pub(crate) fn gradient(&mut self, loss: Loss) -> Result<(), AttackError> {
        self.vjp(|z, aim, _, cot| loss.cotangent(z, aim, cot))
    }

    /// Logits of `probe` and the gradients of what `cotangent(logits, aim, slot, cot)` differentiates; its results become
    /// the values.
    pub(crate) fn vjp(
        &mut self,
        cotangent: impl Fn(&[T], Goal, usize, &mut [T]) -> f64,
    ) -> Result<(), AttackError> {
        let (n, k, d) = (self.active.len(), self.k, self.d);
        let model = self.model.differentiable().ok_or_else(no_gradients)?;
        for rows in calls(n, self.batch) {
            let (active, aims, values) =
                (&self.active[rows.clone()], &self.aims, &mut self.values[rows.clone()]);
            // An averaging model asks once per pass: the loss is the mean over them, as the gradient is.
            let mut passes = 0;
            values.fill(0.0);
            let mut each = |z: &[T], cot: &mut [T]| {
                passes += 1;
                let rows = z.chunks_exact(k).zip(cot.chunks_exact_mut(k));
                for (((z, cot), &s), value) in rows.zip(active).zip(values.iter_mut()) {
                    *value += cotangent(z, aims[s], s, cot);
                }
            };
            self.row_ids.clear();
            self.row_ids.extend(active.iter().map(|&s| self.ids[s]));
            model.rows_belong_to(Some(&self.row_ids));
            let features = rows.start * d..rows.end * d;
            let (logits, grad) =
                (&mut self.logits[rows.start * k..rows.end * k], &mut self.grad[features.clone()]);
            model.logits_vjp(&self.probe[features], &mut each, logits, grad)?;
            if passes > 1 {
                values.iter_mut().for_each(|v| *v /= f64::from(passes));
            }
            finite(grad);
        }
        for &s in &self.active {
            self.queries[s] += 1;
            self.gradients[s] += 1;
        }
        Ok(())
    }

    /// Logits and margins of `probe`, and the gradient of every logit: `[k, active, d]` at the front of `jacobian`. In one
    /// model call: for attacks whose chunks are no larger ([`Attack::shrinks`](crate::Attack::shrinks)).
    pub(crate) fn jacobian(&mut self, jacobian: &mut [T]) -> Result<(), AttackError> {
        let (n, k, d) = (self.active.len(), self.k, self.d);
        let model = self.model.differentiable().ok_or_else(no_gradients)?;
        let (logits, jacobian) = (&mut self.logits[..n * k], &mut jacobian[..k * n * d]);
        model.logits_jacobian(&self.probe[..n * d], logits, jacobian)?;
        finite(jacobian);
        for ((&s, z), value) in self.active.iter().zip(logits.chunks_exact(k)).zip(&mut self.values) {
            self.queries[s] += 1;
            self.gradients[s] += k as u64;
            *value = Loss::Margin.value(z, self.aims[s]);
        }
        Ok(())
    }
}

/// Rows of the model calls that take `n` rows: whole batches, and of the rest quarters of a batch, and quarters of these,
/// down to eight rows. A model compiled for few sizes ([`Network`](crate::Network)) fills up to the next one: 59 rows would
/// cost it as much as 128, but in two calls only as much as 64.
fn calls(n: usize, batch: usize) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let left = n - from;
        let mut size = batch;
        while size >= 32 && 4 * left <= 3 * size {
            size /= 4;
        }
        let rows = from..from + left.min(size);
        from = rows.end;
        (!rows.is_empty()).then_some(rows)
    })
}

fn no_gradients() -> AttackError {
    AttackError::NeedsGradients { attack: "the attack".into() }
}

/// A gradient that is not a number says nothing: the coordinate stays where it is, as in ART.
fn finite<T: Real>(grad: &mut [T]) {
    for g in grad.iter_mut().filter(|g| !g.to_f64().is_finite()) {
        *g = T::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::calls;

    #[test]
    fn calls_cover_all_rows_and_fill_the_sizes_a_network_is_compiled_for() {
        let sizes = |n| calls(n, 128).map(|rows| rows.len()).collect::<Vec<_>>();
        assert_eq!(sizes(300), [128, 128, 32, 8, 4]);
        assert_eq!(
            (sizes(59), sizes(97), sizes(20), sizes(5)),
            (vec![32, 27], vec![97], vec![8, 8, 4], vec![5])
        );
        assert!(sizes(0).is_empty());
        for batch in [1, 3, 8, 31, 64, 128] {
            for n in 0..400 {
                let mut next = 0;
                for rows in calls(n, batch) {
                    assert!(rows.start == next && rows.len() <= batch);
                    next = rows.end;
                }
                assert_eq!(next, n);
            }
        }
    }
}
