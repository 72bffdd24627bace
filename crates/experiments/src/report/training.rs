//! Curves over perturbation size and over training.
use std::path::Path;

use qnn::Evaluation;
use qnn::train::EpochRecord;

use super::artefact;
use super::chart::{Chart, Point, Series, percent_ticks, round_ticks};
use super::view::{Line, Table, percent, with_interval};
use crate::error::StudyError;

/// One chart per attack: accuracy against perturbation size, one line per recipe, with Wilson's intervals as bands.
pub(super) fn eps_charts(table: &Table<'_>) -> Vec<String> {
    let mut charts = Vec::new();
    for column in &table.columns {
        let mut sizes: Vec<(f64, String)> =
            table.lines.iter().flat_map(|l| l.sizes(&column.attack)).collect();
        sizes.push((0.0, "0".to_owned()));
        sizes.sort_by(|a, b| a.0.total_cmp(&b.0));
        sizes.dedup_by(|a, b| a.1 == b.1);
        // Evenly spaced: sizes are chosen as powers of two and a linear axis would crowd the small ones.
        let place = |text: &str| sizes.iter().position(|s| s.1 == text).unwrap_or(0) as f64;
        let series = table.lines.iter().enumerate().map(|(colour, line)| {
            let mut points = Vec::new();
            for (_, text) in &sizes {
                let accuracy =
                    if text == "0" { line.before(&column.attack) } else { line.under(&column.attack, text) };
                if let Some(a) = accuracy {
                    let tip = format!(
                        "{}, {} eps {text}: {} %, {} samples",
                        line.title,
                        column.short(),
                        with_interval(&a),
                        a.samples
                    );
                    points.push(Point { x: place(text), y: a.value, interval: Some((a.lo, a.hi)), tip });
                }
            }
            Series { colour, dashed: false, points }
        });
        let role = column.role.map(|r| format!(" ({r})")).unwrap_or_default();
        let title = format!("{}{role}", column.short());
        let chart = Chart {
            title: &title,
            x_label: "eps",
            y_label: "accuracy, %",
            x_ticks: sizes.iter().map(|s| (place(&s.1), s.1.clone())).collect(),
            y_ticks: percent_ticks(),
            series: series.filter(|s| s.points.len() > 1).collect(),
        };
        charts.push(chart.svg());
    }
    charts
}

/// A run that kept its history.
pub(super) struct Run<'a> {
    /// Number of its recipe's line.
    pub(super) colour: usize,
    pub(super) line: &'a Line<'a>,
    pub(super) history: Vec<EpochRecord>,
}

/// Every run of a table that kept a history.
pub(super) fn runs<'a>(table: &'a Table<'a>, out: &Path) -> Result<Vec<Run<'a>>, StudyError> {
    let mut runs = Vec::new();
    for (colour, line) in table.lines.iter().enumerate() {
        let mut seen = Vec::new();
        for row in &line.rows {
            let name = row.run_name();
            if !seen.contains(&name) {
                seen.push(name);
                if let Some(history) = artefact::history(out, row)?.filter(|h| !h.is_empty()) {
                    runs.push(Run { colour, line, history });
                }
            }
        }
    }
    Ok(runs)
}

/// Round epochs up to the last one of any run.
pub(super) fn epoch_ticks(runs: &[Run<'_>]) -> Vec<(f64, String)> {
    let epochs = runs.iter().filter_map(|r| r.history.last()).map(|r| r.epoch + 1).max().unwrap_or(0);
    let whole = round_ticks(f64::from(epochs)).into_iter().filter(|t| t.0.fract() == 0.0);
    whole.map(|t| (t.0, format!("{}", t.0))).collect()
}

/// Loss and accuracy over the epochs of every run that kept a history.
pub(super) fn training_charts(table: &Table<'_>, out: &Path) -> Result<Vec<String>, StudyError> {
    let runs = runs(table, out)?;
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let highest = runs
        .iter()
        .flat_map(|r| &r.history)
        .map(|r| r.train.loss)
        .filter(|l| l.is_finite())
        .fold(0.0, f64::max);
    let curve = |value: &dyn Fn(&EpochRecord) -> Option<f64>, dashed: bool| -> Vec<Series> {
        let one = |Run { colour, line, history }: &Run<'_>| {
            let points = history.iter().filter_map(|r| {
                let y = value(r).filter(|y| y.is_finite())?;
                let tip = format!(
                    "{}, epoch {}: loss {:.4}, training accuracy {} %",
                    line.title,
                    r.epoch + 1,
                    r.train.loss,
                    percent(r.train.accuracy)
                );
                Some(Point { x: f64::from(r.epoch + 1), y, interval: None, tip })
            });
            Series { colour: *colour, dashed, points: points.collect() }
        };
        runs.iter().map(one).filter(|s| !s.points.is_empty()).collect()
    };
    let x_ticks = epoch_ticks(&runs);
    let accuracy = {
        let mut series = curve(&|r| Some(r.train.accuracy), true);
        series.extend(curve(&|r| r.validation.as_ref().map(Evaluation::accuracy), false));
        series
    };
    let chart = |title, y_label, y_ticks, series| {
        Chart { title, x_label: "epoch", y_label, x_ticks: x_ticks.clone(), y_ticks, series }.svg()
    };
    let mut charts = vec![
        chart("training cross-entropy", "nats", round_ticks(highest), curve(&|r| Some(r.train.loss), false)),
        chart("accuracy: validation (solid), training (dashed)", "accuracy, %", percent_ticks(), accuracy),
    ];
    let penalty = |r: &EpochRecord| r.train.penalties.first().copied();
    let penalties = curve(&penalty, false);
    if !penalties.is_empty() {
        let high = runs.iter().flat_map(|r| &r.history).filter_map(penalty).fold(0.0, f64::max);
        charts.push(chart(
            "Jacobian penalty, before its weight",
            "½ mean ‖J‖²",
            round_ticks(high),
            penalties,
        ));
    }
    Ok(charts)
}
