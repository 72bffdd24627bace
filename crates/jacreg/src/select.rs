//! Which Jacobians a recipe names: outputs and inputs by word, by rule over the hidden layers, or by layer name.

use qnn::graph::NodeId;
use qnn::{Forward, LayerOp, Model, QnnError};

/// Stands for the network's logits, in [`crate::JacobianPenalty::of`].
pub const LOGITS: &str = "logits";
/// Stands for the network's input, in [`crate::JacobianPenalty::wrt`].
pub const INPUT: &str = "input";
/// Stands for every activation layer in turn, in either place.
pub const EACH: &str = "each";
/// Stands for the activation before (or the input), in [`crate::JacobianPenalty::wrt`]: each layer's local Jacobian.
pub const PREVIOUS: &str = "previous";

/// One Jacobian: of a node with respect to an earlier one.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Output.
    pub of: NodeId,
    /// Input.
    pub wrt: NodeId,
    /// The output's layer, or `logits`.
    pub of_layer: String,
    /// The input's layer, or `input`.
    pub wrt_layer: String,
}

impl Pair {
    /// The layer whose Jacobian it is: the hidden one, or the input's where both ends are the network's own.
    pub fn layer(&self) -> &str {
        if self.of_layer == LOGITS { &self.wrt_layer } else { &self.of_layer }
    }
}

/// A network's places: its layers with their nodes.
#[derive(Clone, Copy, Debug)]
struct Places<'a> {
    model: &'a Model,
    forward: &'a Forward,
}

impl Places<'_> {
    fn name(&self, i: usize) -> &str {
        &self.model.network.layers[i].name
    }

    /// Indices of the activation layers.
    fn hidden(&self) -> Vec<usize> {
        let layers = self.model.network.layers.iter().enumerate();
        layers.filter(|(_, l)| matches!(l.op, LayerOp::Activation { .. })).map(|(i, _)| i).collect()
    }

    /// Layers that a rule names: `each`, `first 2`, `last 2`, or names with `*`, separated by commas.
    fn rule(&self, text: &str) -> Result<Vec<usize>, QnnError> {
        let hidden = self.hidden();
        let count = |word: &str| text.strip_prefix(word).and_then(|n| n.trim().parse::<usize>().ok());
        if text == EACH {
            return Ok(hidden);
        }
        if let Some(n) = count("first ") {
            return Ok(hidden.into_iter().take(n).collect());
        }
        if let Some(n) = count("last ") {
            return Ok(hidden[hidden.len().saturating_sub(n)..].to_vec());
        }
        let mut chosen = Vec::new();
        for pattern in text.split(',').map(str::trim) {
            let before = chosen.len();
            chosen.extend((0..self.forward.layers.len()).filter(|&i| matches(pattern, self.name(i))));
            if chosen.len() == before {
                let network = &self.model.network;
                let known: Vec<&str> = network.layers.iter().map(|l| l.name.as_str()).collect();
                return Err(QnnError::Config(format!(
                    "Jacobian penalty: network `{}` has no layer `{pattern}`; it has {}",
                    network.name,
                    known.join(", ")
                )));
            }
        }
        chosen.sort_unstable();
        chosen.dedup();
        Ok(chosen)
    }
}

/// The pairs that `of` and `wrt` name, in the order of the layers.
///
/// # Errors
/// A layer that the network does not have, or no pair at all.
pub fn pairs(model: &Model, forward: &Forward, of: &str, wrt: &str) -> Result<Vec<Pair>, QnnError> {
    let places = Places { model, forward };
    let outputs: Vec<(NodeId, String)> = match of {
        LOGITS => vec![(forward.logits, LOGITS.to_owned())],
        rule => {
            let chosen = places.rule(rule)?.into_iter();
            chosen.map(|i| (forward.layers[i], places.name(i).to_owned())).collect()
        }
    };
    let hidden = places.hidden();
    let mut pairs = Vec::new();
    for (of, of_layer) in outputs {
        let mut add = |wrt, wrt_layer: &str| {
            pairs.push(Pair { of, wrt, of_layer: of_layer.clone(), wrt_layer: wrt_layer.to_owned() });
        };
        match wrt {
            INPUT => add(forward.input, INPUT),
            PREVIOUS => match hidden.iter().rev().find(|i| forward.layers[**i] < of) {
                Some(&i) => add(forward.layers[i], places.name(i)),
                None => add(forward.input, INPUT),
            },
            rule => {
                let earlier = places.rule(rule)?.into_iter().filter(|i| forward.layers[*i] < of);
                earlier.for_each(|i| add(forward.layers[i], places.name(i)));
            }
        }
    }
    if pairs.is_empty() {
        return Err(QnnError::Config(format!("Jacobian penalty: `{of}` by `{wrt}` names no pair of layers")));
    }
    Ok(pairs)
}

/// Whether `name` fits `pattern`, in which every `*` stands for any run of characters.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).any(|i| rest.is_char_boundary(i) && matches(tail, &rest[i..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stand_for_any_run() {
        for (pattern, name, fits) in [
            ("conv1_act", "conv1_act", true),
            ("conv1_act", "conv1_actor", false),
            ("conv*_act", "conv12_act", true),
            ("conv*_act", "conv1_bn", false),
            ("*", "", true),
            ("*1*", "conv1", true),
            ("*1*", "conv2", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
