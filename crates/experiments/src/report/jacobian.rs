//! Jacobian norms over training, one chart per layer, from what every run's probe left in its history.
use std::path::Path;

use jacreg::diagnose::LOGITS_BY;

use super::chart::{Chart, Point, Series, round_ticks};
use super::training::{Run, epoch_ticks, runs};
use super::view::Table;
use crate::error::StudyError;

/// `||d logits / d layer||_F` (root mean square over the probed samples) against the epoch: the input first, then every
/// activation, one line per run.
pub(super) fn jacobian_charts(table: &Table<'_>, out: &Path) -> Result<Vec<String>, StudyError> {
    let runs = runs(table, out)?;
    let mut layers: Vec<String> = Vec::new();
    for (name, _) in runs.iter().flat_map(|r| &r.history).flat_map(|record| &record.probes) {
        if let Some(layer) = name.strip_prefix(LOGITS_BY)
            && !layers.iter().any(|known| known == layer)
        {
            layers.push(layer.to_owned());
        }
    }
    Ok(layers.iter().map(|layer| chart(&runs, layer)).collect())
}

fn chart(runs: &[Run<'_>], layer: &str) -> String {
    let name = format!("{LOGITS_BY}{layer}");
    let mut highest = 0.0f64;
    let mut line = |run: &Run<'_>| {
        let points = run.history.iter().filter_map(|record| {
            let (_, norm) = record.probes.iter().find(|(n, v)| *n == name && v.is_finite())?;
            highest = highest.max(*norm);
            let tip = format!("{}, epoch {}: {norm:.4}", run.line.title, record.epoch + 1);
            Some(Point { x: f64::from(record.epoch + 1), y: *norm, interval: None, tip })
        });
        Series { colour: run.colour, dashed: false, points: points.collect() }
    };
    let series: Vec<Series> = runs.iter().map(&mut line).filter(|s| !s.points.is_empty()).collect();
    Chart {
        title: &format!("Jacobian of the logits by {layer}"),
        x_label: "epoch",
        y_label: "‖J‖",
        x_ticks: epoch_ticks(runs),
        y_ticks: round_ticks(highest),
        series,
    }
    .svg()
}
