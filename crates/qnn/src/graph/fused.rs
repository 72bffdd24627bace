//! Runs one piece of a group, and the elementwise operations themselves.

use std::collections::HashMap;

use kernels::parallel::Part;
use kernels::through::{Ahead, add_moments};
use kernels::{KernelError, Pool2d, channel, elementwise, pool};

use super::fuse::{CODED, From, Group, OPERANDS, OUTPUTS, To, Work};
use super::math::Element;
use super::quantized::Grid;
use super::{Graph, NodeId, Nonlinearity, Op, through};

/// Computes one part of a group, piece after piece; of the outputs that have a grid, codes too. `value` reads tensors that
/// are not the group's own.
pub(super) fn run_part<'a, T: Element>(
    graph: &Graph,
    group: &Group,
    grids: [Option<(usize, Grid)>; CODED],
    value: impl Fn(NodeId) -> &'a [T],
    mut part: Part<'_, T, OUTPUTS, CODED>,
) -> Result<(), (NodeId, KernelError)> {
    let first = part.index * group.part;
    let last = (first + group.part).min(group.units);
    part.sums.fill(0.0);
    for start in (first..last).step_by(group.piece) {
        let units = group.piece.min(last - start);
        // The next piece's operands, of which the hardware sees too little to guess them: some before each operation, as
        // only so many can be under way at once.
        let soon = start + units..(start + units + group.piece).min(last);
        let share = group.instructions.len();
        for (number, instruction) in group.instructions.iter().enumerate() {
            for id in &group.cuts {
                let unit = graph.nodes[id.index()].len() / group.units;
                let next = &value(*id)[soon.start * unit..soon.end * unit];
                elementwise::read_soon(&next[next.len() * number / share..next.len() * (number + 1) / share]);
            }
            let node = &graph.nodes[instruction.node.index()];
            let own = node.len() / group.units * units;
            // What is written is taken out, so that the rest can be read meanwhile.
            let mut taken: &mut [T] = &mut [];
            let (below, rest) = part.scratch.split_at_mut(match instruction.to {
                To::Local(at) => at,
                _ => 0,
            });
            let (local, above) =
                rest.split_at_mut(if matches!(instruction.to, To::Local(_)) { own } else { 0 });
            if let To::Output(k) = instruction.to {
                taken = std::mem::take(&mut part.outputs[k]);
            }
            let mut operands: [&[T]; OPERANDS] = [&[]; OPERANDS];
            for (operand, from) in operands.iter_mut().zip(&instruction.from) {
                *operand = match *from {
                    From::Local(at, unit) if at < below.len() => &below[at..][..units * unit],
                    From::Local(at, unit) => &above[at - below.len() - local.len()..][..units * unit],
                    From::Output(k, unit) => &part.outputs[k][(start - first) * unit..][..units * unit],
                    From::Cut(id) => {
                        let unit = graph.nodes[id.index()].len() / group.units;
                        &value(id)[start * unit..][..units * unit]
                    }
                    From::Whole(id) => value(id),
                };
            }
            let operands = &operands[..instruction.from.len()];
            let out = match instruction.to {
                To::Sums(_) => &mut [][..],
                To::Local(_) => local,
                To::Output(_) => &mut taken[(start - first) * (own / units)..][..own],
            };
            let next = operands.first().map_or(0, |x| x.len() / units * group.piece);
            let ahead = |announces: bool| if announces { next } else { 0 };
            let [x, g] = instruction.announces.map(ahead);
            let y = if matches!(instruction.to, To::Output(_)) { own / units * group.piece } else { 0 };
            let ahead = Ahead { x, g, y };
            let done = match (instruction.work, instruction.to) {
                (Work::Alone, To::Sums(at)) if node.op == Op::ChannelSum => {
                    channel::add_sum(operands[0], &mut part.sums[at..at + node.len()])
                }
                (Work::Alone, To::Sums(at)) => {
                    channel::add_dot(operands[0], operands[1], &mut part.sums[at..at + node.len()])
                }
                (Work::Alone, _) => apply(&node.op, (units, group.units), operands, out),
                (Work::Through, _) => through::activation(&node.op, operands, ahead, out),
                (Work::SumsThrough(grad, sums), To::Sums(dots)) => {
                    let op = &graph.nodes[grad.index()].op;
                    through::sums(op, operands, ahead, two(part.sums, (dots, sums), node.len()))
                }
                (Work::Moments(sums), To::Sums(squares)) => {
                    add_moments(operands[0], ahead, two(part.sums, (squares, sums), node.len()))
                }
                (Work::SumsThrough(..) | Work::Moments(_), _) => unreachable!("sums go to sums"),
                (Work::AffineThrough(grad), _) => {
                    through::affine(&graph.nodes[grad.index()].op, operands, ahead, out)
                }
            };
            done.map_err(|e| (instruction.node, e))?;
            if let To::Output(k) = instruction.to {
                part.outputs[k] = taken;
            }
        }
        for (codes, (output, grid)) in part.bytes.iter_mut().zip(grids.into_iter().flatten()) {
            let unit = graph.nodes[group.outputs[output].index()].len() / group.units;
            let (at, len) = ((start - first) * unit, units * unit);
            if let Some(x) = T::f32s(&part.outputs[output][at..at + len]) {
                grid.encode(x, &mut codes[at..at + len]);
            }
        }
    }
    Ok(())
}

/// `len` elements at each of two places that do not overlap.
fn two(data: &mut [f64], (a, b): (usize, usize), len: usize) -> (&mut [f64], &mut [f64]) {
    let (low, high) = data.split_at_mut(a.max(b));
    let (low, high) = (&mut low[a.min(b)..][..len], &mut high[..len]);
    if a < b { (low, high) } else { (high, low) }
}

/// The first node of a group that is not finite: its operations once more, one after the other and whole.
pub(super) fn first_non_finite<'a, T: Element>(
    graph: &Graph,
    root: &[NodeId],
    group: &Group,
    value: impl Fn(NodeId) -> &'a [T],
) -> Option<NodeId> {
    let mut known: HashMap<NodeId, Vec<T>> = HashMap::new();
    for instruction in &group.singles {
        let node = &graph.nodes[instruction.node.index()];
        let operands: Vec<&[T]> = node
            .inputs
            .iter()
            .zip(&instruction.from)
            .map(|(input, from)| match from {
                From::Cut(id) | From::Whole(id) => value(*id),
                From::Local(..) | From::Output(..) => &known[&root[input.index()]],
            })
            .collect();
        let mut out = vec![T::ZERO; node.len()];
        let mut sums = vec![0.0; node.len()];
        match (instruction.to, &operands[..]) {
            (To::Sums(_), [x]) => channel::add_sum(x, &mut sums),
            (To::Sums(_), [x, y, ..]) => channel::add_dot(x, y, &mut sums),
            (_, x) => apply(&node.op, (group.units, group.units), x, &mut out),
        }
        .ok()?;
        if out.iter().map(|v| v.to_f64()).chain(sums).any(|v| !v.is_finite()) {
            return Some(instruction.node);
        }
        known.insert(instruction.node, out);
    }
    None
}

/// One operation on `units.0` of the `units.1` equal cuts of its tensors along their first axes.
pub(super) fn apply<T: Element>(
    op: &Op,
    units: (usize, usize),
    x: &[&[T]],
    out: &mut [T],
) -> Result<(), KernelError> {
    match op {
        Op::Linear(c) => linear(c, x, out),
        Op::AddScalar(c) => elementwise::shift(T::from_f64(*c), x[0], out),
        Op::Mul => elementwise::multiply(x[0], x[1], out),
        Op::ScalarMul => elementwise::scale(x[1][0], x[0], out),
        Op::Activation(Nonlinearity::Relu) => elementwise::relu(x[0], out),
        Op::Activation(Nonlinearity::Quantizer(q)) => q.values(x[0], out),
        Op::ActivationGrad(f, order) => activation_grad(f, *order, x[0], x[1], out),
        Op::ChannelAffine(terms, bias) => {
            let bias = bias.then(|| x[2 * terms]);
            let term = |t: usize| (x[2 * t], x[2 * t + 1]);
            return match terms {
                0 => channel::affine(&[], bias, out),
                1 => channel::affine(&[term(0)], bias, out),
                2 => channel::affine(&[term(0), term(1)], bias, out),
                3 => channel::affine(&[term(0), term(1), term(2)], bias, out),
                4 => channel::affine(&[term(0), term(1), term(2), term(3)], bias, out),
                5 => channel::affine(&[term(0), term(1), term(2), term(3), term(4)], bias, out),
                n => channel::affine(&(0..*n).map(term).collect::<Vec<_>>(), bias, out),
            };
        }
        Op::MaxPool(g) => return pool::max_forward(&cut(g, units)?, x[0], out),
        Op::MaxScatter(g) => return pool::max_scatter(&cut(g, units)?, x[0], x[1], out),
        Op::MaxGather(g) => return pool::max_gather(&cut(g, units)?, x[0], x[1], out),
        other => unreachable!("{other:?} is not elementwise"),
    }
    Ok(())
}

/// A pool over some cuts of its images, each a whole number of windows high.
fn cut(g: &Pool2d, (units, of): (usize, usize)) -> Result<Pool2d, KernelError> {
    if units == of && of == g.batch {
        return Ok(*g);
    }
    let rows = g.in_h * g.batch / of;
    Pool2d::new(
        [units, rows, g.in_w, g.channels],
        [g.size_h, g.size_w],
        [g.stride_h, g.stride_w],
        kernels::Padding::Valid,
    )
}

fn linear<T: Element>(c: &[f64], x: &[&[T]], out: &mut [T]) {
    let scalar = |k: usize| T::from_f64(c[k]);
    if c.len() == 1 {
        return elementwise::scale(scalar(0), x[0], out);
    }
    elementwise::combine(scalar(0), x[0], scalar(1), x[1], out);
    (2..c.len()).for_each(|k| elementwise::add_scaled(scalar(k), x[k], out));
}

fn activation_grad<T: Element>(f: &Nonlinearity, order: u32, x: &[T], g: &[T], out: &mut [T]) {
    match f {
        Nonlinearity::Relu if order == 1 => elementwise::relu_grad(x, g, out),
        Nonlinearity::Relu => out.fill(T::ZERO),
        Nonlinearity::Quantizer(q) if order == 1 => q.slopes_times(x, g, out),
        Nonlinearity::Quantizer(q) => {
            let operands = x.iter().zip(g);
            out.iter_mut().zip(operands).for_each(|(o, (&x, &g))| *o = g * q.surrogate(x, order));
        }
    }
}
