//! First and second derivatives of every operation, every layer and whole networks against central differences in double
//! precision, as one table.
#![forbid(unsafe_code)]

mod networks;
mod normalization;
mod operations;
mod surrogates;

use std::collections::BTreeSet;

use qnn::graph::{Graph, Leaves, Op};

/// External tensors and parameters of a graph under test.
struct Values {
    params: Vec<Vec<f64>>,
    inputs: Vec<Vec<f64>>,
}

impl Leaves<f64> for Values {
    fn input(&self, slot: usize) -> &[f64] {
        &self.inputs[slot]
    }
    fn param(&self, index: usize) -> &[f64] {
        &self.params[index]
    }
}

fn noise(n: usize, seed: u64) -> Vec<f64> {
    let mut rng = qtensor::stream::stream(seed, qtensor::stream::Purpose::Test, &[]);
    (0..n).map(|_| qtensor::stream::normal_pair(&mut rng)[0]).collect()
}

/// What was compared, and which operations took part.
#[derive(Default)]
struct Table {
    rows: Vec<(String, [Option<f64>; 2])>,
    operations: BTreeSet<&'static str>,
}

impl Table {
    /// The largest relative error of one row's derivatives of `order`.
    fn row(&mut self, name: &str, order: usize, largest: f64) {
        let at = self.rows.iter().position(|r| r.0 == name).unwrap_or_else(|| {
            self.rows.push((name.to_owned(), [None; 2]));
            self.rows.len() - 1
        });
        self.rows[at].1[order - 1] = Some(largest);
    }

    fn saw(&mut self, graph: &Graph) {
        self.operations.extend(graph.operations());
    }
}

#[test]
fn derivatives_match_central_differences() {
    let mut table = Table::default();
    operations::rows(&mut table);
    surrogates::rows(&mut table);
    normalization::rows(&mut table);
    networks::rows(&mut table);
    println!("{:44} {:>10} {:>10}", "largest error / (1 + |derivative|)", "first", "second");
    for (name, errors) in &table.rows {
        let text = errors.map(|e| e.map_or("-".to_owned(), |e| format!("{e:.1e}")));
        println!("{name:44} {:>10} {:>10}", text[0], text[1]);
        assert!(errors.iter().all(Option::is_some), "{name}: one order was not compared");
    }
    // Columns of ones are made by penalties that ask for one class's row.
    let elsewhere = ["one_hot"];
    let unseen: Vec<&str> =
        Op::NAMES.into_iter().filter(|n| !table.operations.contains(n) && !elsewhere.contains(n)).collect();
    assert!(unseen.is_empty(), "no row differentiates through {unseen:?}");
}
