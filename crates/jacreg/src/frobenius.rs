//! Half the squared Frobenius norm of a Jacobian, as graph nodes: exact, by random projection, or in given directions.

use qnn::QnnError;
use qnn::graph::{Graph, NodeId, Random};

/// Most backward passes an exact norm may take: beyond it the graph itself becomes unwieldy.
pub const MOST_EXACT: usize = 4096;

/// The directions `v` (rows `[batch, width]`) in which the outputs' Jacobian is sampled.
#[derive(Clone, Copy, Debug)]
pub enum Directions<'a> {
    /// This many unit vectors per sample, uniform on the sphere, drawn anew in every run.
    Random(u32),
    /// Every output in turn; as many backward passes as outputs.
    Exact,
    /// Rows of unit length that the caller provides.
    Given(&'a [NodeId]),
}

/// `||d of_b / d wrt_b||_F^2` for every sample, `[batch]`; `None` if `of` does not depend on `wrt`.
///
/// With random directions it is the unbiased estimate `width / n * sum_k ||J^T v_k||^2` (Hoffman, Roberts, Yaida 2019,
/// arXiv 1908.02729, section 2.3). Where samples interact (batch statistics) `J^T v` is the gradient of the sum over the
/// batch, so cross-sample terms are in it, as they are in the reference implementation.
///
/// # Errors
/// Zero directions, or more than [`MOST_EXACT`] exact ones.
pub fn squares(
    graph: &mut Graph,
    of: NodeId,
    wrt: NodeId,
    directions: Directions<'_>,
) -> Result<Option<NodeId>, QnnError> {
    let terms = products(graph, of, wrt, directions, |graph, jv| graph.row_dot(jv, jv))?;
    Ok((!terms.is_empty()).then(|| graph.linear(&terms)))
}

/// `1/2 * mean_b ||d of_b / d wrt_b||_F^2`, a scalar; `None` if `of` does not depend on `wrt`. See [`squares`].
///
/// # Errors
/// As [`squares`].
pub fn half_square(
    graph: &mut Graph,
    of: NodeId,
    wrt: NodeId,
    directions: Directions<'_>,
) -> Result<Option<NodeId>, QnnError> {
    let scale = 0.5 / graph.shape(of)[0] as f64;
    let mut terms = products(graph, of, wrt, directions, |graph, jv| graph.dot_all(jv, jv))?;
    terms.iter_mut().for_each(|(c, _)| *c *= scale);
    Ok((!terms.is_empty()).then(|| graph.linear(&terms)))
}

/// `count` nodes of unit vectors in the space of `of`'s outputs, `[batch, width]`, drawn anew in every run.
pub fn draw(graph: &mut Graph, of: NodeId, count: u32) -> Vec<NodeId> {
    let shape = [graph.shape(of)[0], graph.shape(of)[1..].iter().product()];
    (0..count).map(|_| graph.random(Random::UnitRows, &shape)).collect()
}

/// `reduce(J^T v)` for every direction, with the factor that makes their sum the squared norm.
fn products(
    graph: &mut Graph,
    of: NodeId,
    wrt: NodeId,
    directions: Directions<'_>,
    reduce: impl Fn(&mut Graph, NodeId) -> NodeId,
) -> Result<Vec<(f64, NodeId)>, QnnError> {
    let batch = graph.shape(of)[0];
    let width = graph.shape(of)[1..].iter().product::<usize>();
    let refuse = |why: String| Err(QnnError::Config(format!("Jacobian norm: {why}")));
    let (count, factor) = match directions {
        Directions::Random(0) | Directions::Given([]) => {
            return refuse("projections must be at least 1".into());
        }
        // E ||J^T v||^2 = ||J||^2 / width for v uniform on the unit sphere.
        Directions::Random(n) => (n as usize, width as f64 / f64::from(n)),
        Directions::Given(rows) => (rows.len(), width as f64 / rows.len() as f64),
        Directions::Exact if width > MOST_EXACT => {
            return refuse(format!(
                "an exact norm of {width} outputs takes as many backward passes; at most {MOST_EXACT} are allowed, use \
                 random projections"
            ));
        }
        Directions::Exact => (width, 1.0),
    };
    let flat = graph.reshape(of, &[batch, width]);
    let mut terms = Vec::with_capacity(count);
    for k in 0..count {
        let v = match directions {
            Directions::Random(_) => graph.random(Random::UnitRows, &[batch, width]),
            Directions::Exact => graph.one_hot(k, &[batch, width]),
            Directions::Given(rows) => rows[k],
        };
        if let [Some(jv)] = graph.vjp(flat, v, &[wrt])[..] {
            terms.push((factor, reduce(graph, jv)));
        }
    }
    Ok(terms)
}
