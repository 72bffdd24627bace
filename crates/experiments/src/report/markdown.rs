//! The report as Markdown: the same tables as the HTML, without the pictures.
use std::fmt::Write;

use super::Document;
use super::claims::{CLAIMS, Claim};
use super::view::{Accuracy, Line, Table, kilobytes, millions, study_title, with_interval};
use crate::results::Measure;

/// Sets the whole report.
pub(super) fn render(document: &Document<'_>) -> String {
    let mut out = String::from("# Ternion report\n\n");
    let _ = writeln!(out, "{}. Accuracies in percent, with Wilson's 95 % interval.\n", document.origin());
    if let Some(banner) = document.banner() {
        let _ = writeln!(out, "> **{banner}**\n");
    }
    let missing = document.missing();
    if !missing.is_empty() {
        out.push_str("> Parts are missing, numbers from incomplete rows carry a `*`:\n");
        missing.iter().for_each(|line| {
            let _ = writeln!(out, "> - {line}");
        });
        out.push('\n');
    }
    for table in &document.tables {
        study(&mut out, table);
    }
    claims(&mut out, document);
    origins(&mut out, document);
    out
}

fn study(out: &mut String, table: &Table<'_>) {
    let _ = writeln!(out, "## {}\n", study_title(&table.study));
    let mut head = vec!["network".to_owned(), "clean".to_owned(), "integer program".to_owned()];
    for column in &table.columns {
        let role = column.role.map(|r| format!(", {r}")).unwrap_or_default();
        head.push(format!("{} eps {}{role}", column.short(), column.headline));
    }
    for name in ["audit", "flash", "RAM", "MACs", "the paper reports", "not comparable because"] {
        head.push(name.to_owned());
    }
    row(out, &head);
    row(out, &vec!["---".to_owned(); head.len()]);
    for line in &table.lines {
        row(out, &cells(table, line));
    }
    out.push('\n');
    for line in &table.lines {
        sizes(out, table, line);
    }
}

fn cells(table: &Table<'_>, line: &Line<'_>) -> Vec<String> {
    let mut cells = vec![line.title.clone(), accuracy(line.clean.as_ref()), accuracy(line.deployed.as_ref())];
    for column in &table.columns {
        cells.push(accuracy(line.under(&column.attack, &column.headline).as_ref()));
    }
    cells.push(line.verdict().unwrap_or("-").to_owned());
    let size = |bytes: u64, integer: bool| kilobytes(bytes) + if integer { "" } else { " (f32)" };
    cells.push(line.footprint.map_or("-".into(), |f| size(f.flash, f.integer)));
    cells.push(line.footprint.map_or("-".into(), |f| size(f.ram, f.integer)));
    cells.push(millions(line.any.macs));
    let (claims, caveats) = Claim::cells(&line.recipe);
    cells.push(claims.iter().map(|c| c.brief).collect::<Vec<_>>().join("; "));
    cells.push(caveats.join("; "));
    cells
}

fn accuracy(accuracy: Option<&Accuracy>) -> String {
    accuracy.map_or_else(
        || "-".to_owned(),
        |a| format!("{}{}", with_interval(a), if a.missing > 0 { " *" } else { "" }),
    )
}

fn sizes(out: &mut String, table: &Table<'_>, line: &Line<'_>) {
    if table.columns.is_empty() {
        return;
    }
    let _ = writeln!(out, "- {}", line.title);
    for column in &table.columns {
        let list: Vec<String> = line
            .sizes(&column.attack)
            .iter()
            .filter_map(|(_, eps)| {
                Some(format!("eps {eps}: {}", with_interval(&line.under(&column.attack, eps)?)))
            })
            .collect();
        if !list.is_empty() {
            let _ = writeln!(out, "  - `{}`: {}", column.attack, list.join("; "));
        }
    }
    out.push('\n');
}

fn claims(out: &mut String, document: &Document<'_>) {
    out.push_str("## What the papers report\n\n");
    row(out, &["the paper reports", "source", "measured here", "not comparable because"].map(str::to_owned));
    row(out, &["---"; 4].map(str::to_owned));
    for claim in CLAIMS {
        row(
            out,
            &[
                claim.reported.to_owned(),
                claim.source.to_owned(),
                claim.measured(&document.tables),
                claim.caveat.to_owned(),
            ],
        );
    }
    out.push('\n');
}

fn origins(out: &mut String, document: &Document<'_>) {
    out.push_str("## Origin of every number\n\n`results.jsonl` holds one line per number, with the keys of all stages.\n\n");
    let head = ["run", "network", "seed", "data", "data checksum", "commit", "train key", "numbers"];
    row(out, &head.map(str::to_owned));
    row(out, &["---"; 8].map(str::to_owned));
    for first in document.rows.iter().filter(|r| r.measure == Measure::Clean) {
        let numbers = document.rows.iter().filter(|r| r.run_name() == first.run_name()).count();
        row(
            out,
            &[
                first.run_name(),
                first.network.clone(),
                first.seed.to_string(),
                format!("{} ({})", first.data.name, first.data.origin),
                first.data.checksum.chars().take(16).collect(),
                super::short_commit(first.commit.as_deref()),
                first.stages.get("train").cloned().unwrap_or_default(),
                numbers.to_string(),
            ],
        );
    }
    if document.others > 0 {
        let _ = writeln!(out, "\n{} rows of other profiles are not shown.", document.others);
    }
}

fn row(out: &mut String, cells: &[String]) {
    let escaped: Vec<String> = cells.iter().map(|c| c.replace('|', "\\|").replace('\n', " ")).collect();
    let _ = writeln!(out, "| {} |", escaped.join(" | "));
}
