//! The largest singular value of every sample's Jacobian, by power iteration, as graph nodes.

use qnn::graph::{Graph, NodeId, Random};

/// Keeps the length of an empty direction from dividing by zero.
const TINY: f64 = 1e-30;

/// `sigma_max(d of_b / d wrt_b)^2` for every sample, `[batch]`, after `iterations` rounds of `u <- J J^T u`; `None` if `of` does
/// not depend on `wrt`.
///
/// Starts from a random unit vector per sample and never overestimates where samples do not interact. The last direction is
/// held fixed in derivatives: at convergence the derivative of `||J^T u||^2` is then that of the squared singular value
/// (Danskin), without differentiating the iteration. `J v` is the derivative of the linear map `u -> J^T u`.
pub fn squares(graph: &mut Graph, of: NodeId, wrt: NodeId, iterations: u32) -> Option<NodeId> {
    let batch = graph.shape(of)[0];
    let width = graph.shape(of)[1..].iter().product::<usize>();
    let flat = graph.reshape(of, &[batch, width]);
    let any = graph.random(Random::UnitRows, &[batch, width]);
    let linear = graph.vjp(flat, any, &[wrt])[0]?;
    let mut u = graph.random(Random::UnitRows, &[batch, width]);
    for _ in 0..iterations {
        let v = graph.vjp(flat, u, &[wrt])[0]?;
        let v = unit_rows(graph, v);
        let next = graph.vjp(linear, v, &[any])[0]?;
        u = unit_rows(graph, next);
    }
    let u = graph.detach(u);
    let last = graph.vjp(flat, u, &[wrt])[0]?;
    Some(graph.row_dot(last, last))
}

/// `1/2 * mean_b sigma_max(d of_b / d wrt_b)^2`, a scalar. See [`squares`].
pub fn half_square(graph: &mut Graph, of: NodeId, wrt: NodeId, iterations: u32) -> Option<NodeId> {
    let squares = squares(graph, of, wrt, iterations)?;
    let batch = graph.shape(squares)[0];
    let sum = graph.sum_all(squares);
    Some(graph.scale(0.5 / batch as f64, sum))
}

/// Rows scaled to unit length; a row of zeros stays one.
pub(crate) fn unit_rows(graph: &mut Graph, x: NodeId) -> NodeId {
    let square = graph.row_dot(x, x);
    let square = graph.add_scalar(square, TINY);
    let inverse = graph.unary(qnn::graph::Unary::Rsqrt, square);
    graph.row_scale(x, inverse)
}
