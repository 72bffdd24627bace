//! The memory planner: places activation tensors in one arena so that those alive together do not overlap.
//!
//! A tensor lives from the step that writes it to the last step that reads it, both included: a step's inputs and output
//! never overlap. Tensors are placed largest first, each at the lowest offset free during its life (as TensorFlow Lite
//! Micro's greedy planner does). The peak is at least the largest sum of sizes alive in one step, and usually equal to it.

use serde::Serialize;

use crate::program::Program;

/// Tensors start at multiples of this.
pub const ALIGN: usize = 4;

/// Size and life of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Size.
    pub bytes: usize,
    /// Step that writes it.
    pub first: usize,
    /// Last step that reads it.
    pub last: usize,
}

/// Where the tensors lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Offset of each tensor in the arena.
    pub offsets: Vec<usize>,
    /// Size of the arena.
    pub peak: usize,
    /// Largest sum of sizes alive in one step: no plan is smaller.
    pub bound: usize,
}

/// Places tensors.
pub fn place(tensors: &[Lifetime]) -> Plan {
    let size = |t: &Lifetime| t.bytes.next_multiple_of(ALIGN);
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| (usize::MAX - tensors[i].bytes, tensors[i].first, i));
    let mut offsets = vec![0; tensors.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(tensors.len());
    for i in order {
        let t = &tensors[i];
        let alive = |&&p: &&usize| tensors[p].first <= t.last && t.first <= tensors[p].last;
        let mut taken: Vec<(usize, usize)> =
            placed.iter().filter(alive).map(|&p| (offsets[p], offsets[p] + size(&tensors[p]))).collect();
        taken.sort_unstable();
        let mut at = 0;
        for (start, end) in taken {
            if at + size(t) <= start {
                break;
            }
            at = at.max(end);
        }
        offsets[i] = at;
        placed.push(i);
    }
    let peak = tensors.iter().zip(&offsets).map(|(t, at)| at + size(t)).max().unwrap_or(0);
    let steps = tensors.iter().map(|t| t.last + 1).max().unwrap_or(0);
    let alive = |s: usize| tensors.iter().filter(|t| t.first <= s && s <= t.last).map(size).sum();
    Plan { offsets, peak, bound: (0..steps).map(alive).max().unwrap_or(0) }
}

/// The arena of a program; the input is part of it.
pub fn plan(program: &Program) -> Plan {
    let mut lives: Vec<Lifetime> = program
        .tensors
        .iter()
        .map(|t| Lifetime { bytes: t.len * t.element.bytes(), first: 0, last: 0 })
        .collect();
    for (s, step) in program.steps.iter().enumerate() {
        if let Some(output) = step.op.output() {
            (lives[output].first, lives[output].last) = (s, s);
        }
        for input in step.op.inputs() {
            lives[input].last = s;
        }
    }
    place(&lives)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tensors_alive_together_do_not_overlap(list in prop::collection::vec((1_usize..500, 0_usize..12, 0_usize..6), 0..20)) {
            let lives: Vec<Lifetime> =
                list.iter().map(|&(bytes, first, more)| Lifetime { bytes, first, last: first + more }).collect();
            let plan = place(&lives);
            prop_assert!(plan.peak >= plan.bound);
            for (i, a) in lives.iter().enumerate() {
                prop_assert!(plan.offsets[i].is_multiple_of(ALIGN) && plan.offsets[i] + a.bytes <= plan.peak);
                for (j, b) in lives.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    let (x, y) = (plan.offsets[i], plan.offsets[j]);
                    prop_assert!(!together || x + a.bytes <= y || y + b.bytes <= x);
                }
            }
        }
    }

    #[test]
    fn a_chain_needs_its_largest_neighbours() {
        let life = |bytes, first| Lifetime { bytes, first, last: first + 1 };
        let plan = place(&[life(100, 0), life(400, 1), life(400, 2), life(40, 3)]);
        assert_eq!((plan.peak, plan.bound), (800, 800));
    }
}
