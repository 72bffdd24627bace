//! Which operations of a group are done in one pass: batch normalisation with the activation behind it, and their gradients.

use super::fuse::{From, Instruction, To, Work};
use super::{Graph, NodeId, Op};

/// The instructions of a group with those merged that one loop does together, and the tensors cut into pieces whose next
/// pieces none of them announces.
pub(crate) fn merge(graph: &Graph, singles: &[Instruction]) -> (Vec<Instruction>, Vec<NodeId>) {
    let mut all: Vec<Option<Instruction>> = singles.iter().cloned().map(Some).collect();
    for k in 0..all.len() {
        activation(graph, &mut all, k);
    }
    for k in 0..all.len() {
        gradient(graph, &mut all, k);
        moments(graph, &mut all, k);
    }
    // What only merged instructions read is needed no more.
    for k in 0..all.len() {
        let unread = |i: &Instruction| matches!(i.to, To::Local(_)) && readers(&all, i.to).is_empty();
        if all[k].as_ref().is_some_and(unread) {
            all[k] = None;
        }
    }
    let mut merged: Vec<Instruction> = all.into_iter().flatten().collect();
    let cuts = announce(&mut merged);
    (merged, cuts)
}

/// Lets the first merged instruction that reads a tensor announce its next piece; returns the tensors that none announces.
fn announce(instructions: &mut [Instruction]) -> Vec<NodeId> {
    let mut seen = Vec::new();
    for instruction in &mut *instructions {
        let places: &[usize] = match instruction.work {
            Work::Alone => &[],
            Work::Moments(_) => &[0],
            _ => &[0, 3],
        };
        for (announces, &place) in instruction.announces.iter_mut().zip(places) {
            if let Some(From::Cut(id)) = instruction.from.get(place)
                && !seen.contains(id)
            {
                *announces = true;
                seen.push(*id);
            }
        }
    }
    let mut left = Vec::new();
    for from in instructions.iter().flat_map(|i| &i.from) {
        if let From::Cut(id) = from
            && !seen.contains(id)
        {
            left.push(*id);
            seen.push(*id);
        }
    }
    left
}

/// Merges the sum of squares of a tensor with its sum.
fn moments(graph: &Graph, all: &mut [Option<Instruction>], k: usize) {
    let op = |i: &Instruction| &graph.nodes[i.node.index()].op;
    let Some(dot) = &all[k] else { return };
    let [x @ From::Cut(_), y] = dot.from[..] else { return };
    if *op(dot) != Op::ChannelDot || dot.work != Work::Alone || x != y {
        return;
    }
    let is_sum = |i: &Instruction| *op(i) == Op::ChannelSum && i.from[..] == [x];
    let Some(sum) = all.iter().position(|i| i.as_ref().is_some_and(is_sum)) else { return };
    let Some(Instruction { to: To::Sums(at), .. }) = all[sum] else { return };
    all[k] = Some(Instruction { work: Work::Moments(at), from: vec![x], ..dot.clone() });
    all[sum] = None;
}

/// The instructions that read what was put somewhere.
fn readers(all: &[Option<Instruction>], to: To) -> Vec<usize> {
    let reads = |from: &From| match (to, from) {
        (To::Local(a), From::Local(b, _)) => a == *b,
        _ => false,
    };
    (0..all.len()).filter(|&k| all[k].as_ref().is_some_and(|i| i.from.iter().any(reads))).collect()
}

/// Merges an activation, or its gradient, with the scale and shift it is of.
fn activation(graph: &Graph, all: &mut [Option<Instruction>], k: usize) {
    let Some(this) = &all[k] else { return };
    if !matches!(graph.nodes[this.node.index()].op, Op::Activation(_) | Op::ActivationGrad(_, 1)) {
        return;
    }
    let From::Local(at, _) = this.from[0] else { return };
    let makes = |i: &&Instruction| matches!(i.to, To::Local(a) if a == at);
    let Some(affine) = all[..k].iter().flatten().find(makes) else { return };
    if graph.nodes[affine.node.index()].op != Op::ChannelAffine(1, true) {
        return;
    }
    let from = affine.from.iter().chain(&this.from[1..]).copied().collect();
    all[k] = Some(Instruction { work: Work::Through, from, ..this.clone() });
}

/// Merges the gradient of an activation of a scale and shift with the sums or the scales that alone read it.
fn gradient(graph: &Graph, all: &mut [Option<Instruction>], k: usize) {
    let Some(this) = &all[k] else { return };
    let op = |i: &Instruction| &graph.nodes[i.node.index()].op;
    let To::Local(at) = this.to else { return };
    if this.work != Work::Through || !matches!(op(this), Op::ActivationGrad(..)) {
        return;
    }
    let (x, grad) = (this.from[0], this.node);
    let is_this = |from: &From| matches!(from, From::Local(a, _) if *a == at);
    let found = readers(all, this.to);
    let reader = |i: usize| all[found[i]].as_ref().expect("readers exist");
    match found.len() {
        2 => {
            let dots = (0..2).find(|&i| {
                let dot = reader(i);
                let [first, second] = dot.from[..] else { return false };
                let pair = (is_this(&first) && second == x) || (is_this(&second) && first == x);
                *op(dot) == Op::ChannelDot && pair
            });
            let Some(dot) = dots else { return };
            let (To::Sums(_), To::Sums(sums)) = (reader(dot).to, reader(1 - dot).to) else { return };
            if *op(reader(1 - dot)) != Op::ChannelSum {
                return;
            }
            let merged = Instruction {
                work: Work::SumsThrough(grad, sums),
                from: this.from.clone(),
                ..reader(dot).clone()
            };
            all[found[1 - dot]] = None;
            all[found[dot]] = Some(merged);
        }
        1 => {
            let affine = reader(0);
            let [gradient, p, second, q, r] = affine.from[..] else { return };
            if *op(affine) != Op::ChannelAffine(2, true) || !is_this(&gradient) || second != x {
                return;
            }
            let from = this.from.iter().copied().chain([p, q, r]).collect();
            all[found[0]] = Some(Instruction { work: Work::AffineThrough(grad), from, ..affine.clone() });
        }
        _ => {}
    }
}
