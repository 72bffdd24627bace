//! What the report says, before it is set in Markdown or HTML: rows joined over folds and seeds into tables.
use crate::interval::wilson;
use crate::pipeline::AuditReport;
use crate::recipe::Role;
use crate::results::{Footprint, Measure, Row};

/// An accuracy joined over the runs of a recipe.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Accuracy {
    pub(super) value: f64,
    /// Wilson's 95 % interval.
    pub(super) lo: f64,
    pub(super) hi: f64,
    /// Distinct test samples behind it.
    pub(super) samples: usize,
    /// Runs (folds times seeds) behind it.
    pub(super) runs: usize,
    /// Smallest and largest accuracy of a single run.
    pub(super) spread: (f64, f64),
    /// Samples still missing.
    pub(super) missing: usize,
}

impl Accuracy {
    /// Joins rows that measure the same thing in different runs. Folds hold out different samples, so their counts
    /// add up; seeds share theirs, so the interval counts each sample once.
    fn join(rows: &[&Row]) -> Option<Self> {
        Self::count(rows, &|row| row.correct)
    }

    fn count(rows: &[&Row], correct_of: &dyn Fn(&Row) -> usize) -> Option<Self> {
        let (samples, correct): (usize, usize) =
            rows.iter().fold((0, 0), |(s, c), row| (s + row.samples, c + correct_of(row)));
        let mut seeds: Vec<u64> = rows.iter().filter(|r| r.samples > 0).map(|r| r.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        let distinct = samples as f64 / seeds.len().max(1) as f64;
        let value = correct as f64 / samples.max(1) as f64;
        let (lo, hi) = wilson(value * distinct, distinct)?;
        let measured = rows.iter().filter(|r| r.samples > 0);
        let values = || measured.clone().map(|r| correct_of(r) as f64 / r.samples as f64);
        Some(Self {
            value,
            lo,
            hi,
            samples: distinct.round() as usize,
            runs: values().count(),
            spread: (values().fold(1.0, f64::min), values().fold(0.0, f64::max)),
            missing: rows.iter().map(|r| r.expected.saturating_sub(r.samples)).sum(),
        })
    }
}

/// An attack of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    pub(super) attack: String,
    pub(super) role: Option<Role>,
    /// The size in the main table.
    pub(super) headline: String,
}

impl Column {
    /// The attack's name without parameters.
    pub(super) fn short(&self) -> &str {
        short(&self.attack)
    }
}

/// An attack's name without its parameters.
pub(super) fn short(attack: &str) -> &str {
    attack.split('(').next().unwrap_or(attack).trim()
}

/// Whether an attack, by its text form, sees only the network's answers.
pub(super) fn black_box(attack: &str) -> bool {
    ["square", "boundary", "zoo", "hop_skip_jump", "noise"].contains(&short(attack))
}

/// One recipe of a table.
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    pub(super) recipe: String,
    pub(super) title: String,
    /// Any row of it, for what all its rows share.
    pub(super) any: &'a Row,
    pub(super) rows: Vec<&'a Row>,
    pub(super) clean: Option<Accuracy>,
    pub(super) deployed: Option<Accuracy>,
    pub(super) footprint: Option<&'a Footprint>,
    /// The audits of all runs, worst verdict first.
    pub(super) audits: Vec<(String, &'a AuditReport)>,
}

impl Line<'_> {
    /// Accuracy under an attack at one size.
    pub(super) fn under(&self, attack: &str, eps_text: &str) -> Option<Accuracy> {
        let rows: Vec<&Row> = self
            .rows
            .iter()
            .copied()
            .filter(|r| r.measure == Measure::Attack && r.attack == attack && r.eps_text == eps_text)
            .collect();
        Accuracy::join(&rows)
    }

    /// Accuracy without the attack on the samples it was run on.
    pub(super) fn before(&self, attack: &str) -> Option<Accuracy> {
        let (_, size) = self.sizes(attack).into_iter().next()?;
        let of_attack = |r: &&Row| r.measure == Measure::Attack && r.attack == attack && r.eps_text == size;
        let rows: Vec<&Row> = self.rows.iter().copied().filter(of_attack).collect();
        Accuracy::count(&rows, &|row| row.clean_correct)
    }

    /// Sizes at which an attack was run, smallest first, with their text.
    pub(super) fn sizes(&self, attack: &str) -> Vec<(f64, String)> {
        let mut sizes: Vec<(f64, String)> = Vec::new();
        for row in self.rows.iter().filter(|r| r.measure == Measure::Attack && r.attack == attack) {
            if !sizes.iter().any(|(_, text)| *text == row.eps_text) {
                sizes.push((row.eps, row.eps_text.clone()));
            }
        }
        sizes.sort_by(|a, b| a.0.total_cmp(&b.0));
        sizes
    }

    /// Mean robust accuracy over all attacks of a kind and all their sizes.
    pub(super) fn mean_under(&self, black_box_kind: bool) -> Option<f64> {
        let values: Vec<f64> = self
            .rows
            .iter()
            .filter(|r| r.measure == Measure::Attack && black_box(&r.attack) == black_box_kind)
            .filter_map(|r| r.value)
            .collect();
        crate::interval::mean(&values)
    }

    /// The worst verdict over all runs.
    pub(super) fn verdict(&self) -> Option<&str> {
        self.audits.first().map(|(_, audit)| audit.verdict.as_str())
    }
}

/// One study's table.
#[derive(Clone, Debug)]
pub(super) struct Table<'a> {
    pub(super) study: String,
    pub(super) columns: Vec<Column>,
    pub(super) lines: Vec<Line<'a>>,
    /// Whether any row rests on generated data.
    pub(super) embedded: bool,
}

/// All tables, studies in alphabetical order, lines in the recipes' order.
pub(super) fn tables<'a>(rows: &[&'a Row]) -> Vec<Table<'a>> {
    let mut tables: Vec<Table<'a>> = Vec::new();
    for &row in rows {
        let at = tables.iter().position(|t| t.study == row.study).unwrap_or_else(|| {
            tables.push(Table { study: row.study.clone(), columns: vec![], lines: vec![], embedded: false });
            tables.len() - 1
        });
        let table = &mut tables[at];
        table.embedded |= row.data.embedded;
        let known = table.columns.iter().any(|c| c.attack == row.attack);
        if row.measure == Measure::Attack && row.headline && !known {
            let (attack, headline) = (row.attack.clone(), row.eps_text.clone());
            table.columns.push(Column { attack, role: row.role, headline });
        }
        match table.lines.iter_mut().find(|l| l.recipe == row.recipe) {
            Some(line) => line.rows.push(row),
            None => table.lines.push(Line {
                recipe: row.recipe.clone(),
                title: row.title.clone(),
                any: row,
                rows: vec![row],
                clean: None,
                deployed: None,
                footprint: None,
                audits: vec![],
            }),
        }
    }
    for line in tables.iter_mut().flat_map(|t| &mut t.lines) {
        finish(line);
    }
    tables.sort_by(|a, b| a.study.cmp(&b.study));
    tables
}

fn finish(line: &mut Line<'_>) {
    let of = |measure| -> Vec<&Row> { line.rows.iter().copied().filter(|r| r.measure == measure).collect() };
    let clean = of(Measure::Clean);
    line.deployed = Accuracy::join(&of(Measure::Deployed));
    line.footprint = clean.iter().find_map(|r| r.footprint.as_ref());
    line.audits = clean.iter().filter_map(|r| r.audit.as_ref().map(|a| (r.run_name(), a))).collect();
    line.audits.sort_by_key(|(_, audit)| match audit.verdict.as_str() {
        "masked" => 0,
        "inconclusive" => 1,
        _ => 2,
    });
    line.clean = Accuracy::join(&clean);
}

/// Heading of a study.
pub(super) fn study_title(study: &str) -> String {
    match study {
        "cifar10" => "CIFAR-10".to_owned(),
        "cifar10_jacobian" => "CIFAR-10, one Jacobian penalty at a time".to_owned(),
        "speech" => "Google Speech Commands".to_owned(),
        other => other.to_owned(),
    }
}

/// An accuracy in percent.
pub(super) fn percent(value: f64) -> String {
    format!("{:.1}", 100.0 * value)
}

/// `62.3 [58.1, 66.4]`, in percent.
pub(super) fn with_interval(accuracy: &Accuracy) -> String {
    format!("{} [{}, {}]", percent(accuracy.value), percent(accuracy.lo), percent(accuracy.hi))
}

/// Bytes in KB of 1,024.
pub(super) fn kilobytes(bytes: u64) -> String {
    let kb = bytes as f64 / 1024.0;
    if kb < 10.0 { format!("{kb:.1} KB") } else { format!("{kb:.0} KB") }
}

/// Counts in millions.
pub(super) fn millions(count: u64) -> String {
    format!("{:.1} M", count as f64 / 1e6)
}
