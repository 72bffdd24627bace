//! The report as one HTML file that needs nothing beside it: style, charts and pictures are inside.
use std::fmt::Write;
use std::path::Path;

use super::Document;
use super::artefact::{self, Examples};
use super::chart::COLOURS;
use super::claims::{CLAIMS, Claim};
use super::jacobian::jacobian_charts;
use super::strip::figures;
use super::training::{eps_charts, training_charts};
use super::view::{Accuracy, Line, Table, kilobytes, millions, percent, study_title};
use crate::error::StudyError;
use crate::results::{Measure, Row};

/// Text with the characters that mean something in HTML replaced.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Sets the whole report.
pub(super) fn render(document: &Document<'_>, out: &Path) -> Result<String, StudyError> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>Ternion report</title><style>{}</style></head><body><main>\n<h1>Ternion report</h1>\n\
         <p class=\"soft\">{}. Accuracies are in percent, with Wilson's 95 % interval.</p>\n",
        include_str!("style.css"),
        escape(&document.origin())
    );
    if let Some(banner) = document.banner() {
        let _ = writeln!(page, "<div class=\"banner\" role=\"alert\">{}</div>", escape(&banner));
    }
    let missing = document.missing();
    if !missing.is_empty() {
        page.push_str(
            "<div class=\"note\"><b>Parts are missing.</b> Numbers from incomplete rows carry a *.<ul>",
        );
        missing.iter().for_each(|line| {
            let _ = write!(page, "<li>{}</li>", escape(line));
        });
        page.push_str("</ul></div>\n");
    }
    for table in &document.tables {
        study(&mut page, table, out)?;
    }
    claims(&mut page, document);
    origins(&mut page, document);
    page.push_str("</main></body></html>\n");
    Ok(page)
}

fn study(page: &mut String, table: &Table<'_>, out: &Path) -> Result<(), StudyError> {
    let note = table.lines.first().map(|l| l.any.data.note.as_str()).unwrap_or_default();
    let _ = writeln!(
        page,
        "<h2>{}{}</h2>\n<p class=\"soft\">{}</p>",
        escape(&study_title(&table.study)),
        if table.embedded { " (generated stand-in)" } else { "" },
        escape(note)
    );
    main_table(page, table);
    audits(page, table);
    let charts = eps_charts(table);
    if !charts.is_empty() {
        page.push_str("<h3>Accuracy against perturbation size</h3>\n");
        legend(page, table);
        let _ = writeln!(page, "<div class=\"charts\">{}</div>", charts.join("\n"));
    }
    let curves = training_charts(table, out)?;
    if !curves.is_empty() {
        page.push_str("<h3>Training</h3>\n");
        legend(page, table);
        let _ = writeln!(page, "<div class=\"charts\">{}</div>", curves.join("\n"));
    }
    let norms = jacobian_charts(table, out)?;
    if !norms.is_empty() {
        page.push_str("<h3>Jacobian norms per layer over training</h3>\n");
        legend(page, table);
        let _ = writeln!(page, "<div class=\"charts\">{}</div>", norms.join("\n"));
    }
    for line in &table.lines {
        if let Some(examples) = artefact::examples(out, line.any)? {
            strip(page, line, &examples);
        }
    }
    Ok(())
}

fn main_table(page: &mut String, table: &Table<'_>) {
    let attacks = table.columns.len();
    let _ = write!(
        page,
        "<div class=\"wide\"><table><thead><tr><th></th><th class=\"group\" colspan=\"{}\">measured here</th>\
         <th class=\"group\" colspan=\"2\">beside it</th></tr><tr><th>network</th><th class=\"group\">clean</th>",
        attacks + 6
    );
    page.push_str("<th title=\"The integer program that ships, on the same samples\">integer program</th>");
    for column in &table.columns {
        let role = column.role.map(|r| r.to_string()).unwrap_or_default();
        let _ = write!(
            page,
            "<th title=\"{}\">{}, eps {}<span class=\"role {role}\">{role}</span></th>",
            escape(&column.attack),
            escape(column.short()),
            escape(&column.headline)
        );
    }
    page.push_str(
        "<th title=\"Whether the measured robustness can be believed\">audit</th><th>flash</th><th>RAM</th><th>MACs</th>\
         <th class=\"group\">the paper reports</th><th>not comparable because</th></tr></thead><tbody>\n",
    );
    for (i, line) in table.lines.iter().enumerate() {
        let _ = write!(
            page,
            "<tr><th title=\"{}, {} parameters, recipe {}\"><span class=\"dot f{}\"></span>{}</th>",
            escape(&line.any.network),
            line.any.parameters,
            escape(&line.recipe),
            i % COLOURS,
            escape(&line.title)
        );
        cell(page, line.clean.as_ref(), "group");
        cell(page, line.deployed.as_ref(), "");
        for column in &table.columns {
            cell(page, line.under(&column.attack, &column.headline).as_ref(), "");
        }
        let verdict = line.verdict().unwrap_or("-");
        let _ = write!(page, "<td class=\"verdict {0}\">{0}</td>", escape(verdict));
        sizes(page, line);
        let (claims, caveats) = Claim::cells(&line.recipe);
        let brief: Vec<String> = claims
            .iter()
            .map(|c| {
                format!(
                    "<span title=\"{}; {}\">{}</span>",
                    escape(c.reported),
                    escape(c.source),
                    escape(c.brief)
                )
            })
            .collect();
        let _ = writeln!(
            page,
            "<td class=\"text group\">{}</td><td class=\"text\">{}</td></tr>",
            brief.join("<br>"),
            escape(&caveats.join("\n")).replace('\n', "<br>")
        );
    }
    page.push_str("</tbody></table></div>\n");
}

fn sizes(page: &mut String, line: &Line<'_>) {
    let mut size = |bytes: Option<u64>| {
        let text = bytes.map_or("-".to_owned(), kilobytes);
        let kind =
            line.footprint.filter(|f| !f.integer).map_or("", |_| "<span class=\"ci\">f32 values</span>");
        let note = line.footprint.map_or("", |f| f.note.as_str());
        let _ = write!(page, "<td class=\"num\" title=\"{}\">{text}{kind}</td>", escape(note));
    };
    size(line.footprint.map(|f| f.flash));
    size(line.footprint.map(|f| f.ram));
    let _ = write!(page, "<td class=\"num\">{}</td>", millions(line.any.macs));
}

fn cell(page: &mut String, accuracy: Option<&Accuracy>, class: &str) {
    let Some(a) = accuracy else {
        let _ = write!(page, "<td class=\"num {class}\">-</td>");
        return;
    };
    let runs = if a.runs > 1 {
        format!("; {} runs from {} to {}", a.runs, percent(a.spread.0), percent(a.spread.1))
    } else {
        String::new()
    };
    let _ = write!(
        page,
        "<td class=\"num {class}\" title=\"{} distinct samples{runs}\">{}{}<span class=\"ci\">{} to {}</span></td>",
        a.samples,
        percent(a.value),
        if a.missing > 0 { " *" } else { "" },
        percent(a.lo),
        percent(a.hi)
    );
}

fn audits(page: &mut String, table: &Table<'_>) {
    if table.lines.iter().all(|l| l.audits.is_empty()) {
        return;
    }
    page.push_str(
        "<details><summary>What the audits found</summary><div class=\"wide\"><table><thead><tr><th>run</th>\
         <th>verdict</th><th>check</th><th>value</th><th>meaning</th></tr></thead><tbody>\n",
    );
    for (run, audit) in table.lines.iter().flat_map(|l| &l.audits) {
        for finding in &audit.findings {
            let mark = if finding.suspicious { "masked" } else { "sound" };
            let _ = writeln!(
                page,
                "<tr><td>{}</td><td class=\"verdict {1}\">{1}</td><td>{2}</td><td class=\"num {mark}\">{3:.4}</td><td>{4}</td></tr>",
                escape(run),
                escape(&audit.verdict),
                escape(&finding.check),
                finding.value,
                escape(&finding.sentence)
            );
        }
    }
    page.push_str("</tbody></table></div></details>\n");
}

fn legend(page: &mut String, table: &Table<'_>) {
    page.push_str("<div class=\"legend\">");
    for (i, line) in table.lines.iter().enumerate() {
        let _ =
            write!(page, "<span><span class=\"dot f{}\"></span>{}</span>", i % COLOURS, escape(&line.title));
    }
    page.push_str("</div>\n");
}

fn strip(page: &mut String, line: &Line<'_>, examples: &Examples) {
    let figures = figures(examples);
    if !figures.is_empty() {
        let _ = writeln!(
            page,
            "<h3>{}: clean, adversarial, and the difference twenty times enlarged (<code>{}</code>)</h3>\n<div class=\"strip\">{figures}</div>",
            escape(&line.title),
            escape(&examples.attack)
        );
    }
}

fn claims(page: &mut String, document: &Document<'_>) {
    page.push_str(
        "<h2>What the papers report</h2>\n<p class=\"soft\">Only what their abstracts and two public summaries say; tables, \
         topologies and attack budgets could not be obtained, and nothing was filled in.</p><div class=\"wide\"><table><thead>\
         <tr><th>the paper reports</th><th>source</th><th>measured here</th><th>not comparable because</th></tr></thead><tbody>\n",
    );
    for claim in CLAIMS {
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(claim.reported),
            escape(claim.source),
            escape(&claim.measured(&document.tables)),
            escape(claim.caveat)
        );
    }
    page.push_str("</tbody></table></div>\n");
}

fn origins(page: &mut String, document: &Document<'_>) {
    page.push_str("<h2>Origin of every number</h2>\n<p class=\"soft\"><code>results.jsonl</code> beside this file holds the same rows.");
    if document.others > 0 {
        let _ = write!(page, " {} rows of other profiles are not shown here.", document.others);
    }
    let _ = write!(
        page,
        "</p><details><summary>{} numbers</summary><div class=\"wide\"><table><thead><tr>",
        document.rows.len()
    );
    for head in [
        "recipe",
        "seed",
        "fold",
        "measured",
        "eps",
        "correct / samples",
        "accuracy",
        "queries, median / mean",
        "data",
        "checksum",
        "stage keys",
        "commit",
    ] {
        let _ = write!(page, "<th>{head}</th>");
    }
    page.push_str("</tr></thead><tbody>\n");
    document.rows.iter().for_each(|row| origin(page, row));
    page.push_str("</tbody></table></div></details>\n");
}

fn origin(page: &mut String, row: &Row) {
    let measured = match row.measure {
        Measure::Clean => "clean".to_owned(),
        Measure::Deployed => "clean, integer program".to_owned(),
        Measure::Attack => escape(&row.attack),
    };
    let interval = match (row.value, row.lo, row.hi) {
        (Some(v), Some(lo), Some(hi)) => format!("{} [{}, {}]", percent(v), percent(lo), percent(hi)),
        _ => "-".to_owned(),
    };
    let queries = match (row.queries_median, row.queries_mean) {
        (Some(median), Some(mean)) => format!("{median:.0} / {mean:.1}"),
        _ => "-".to_owned(),
    };
    let keys: Vec<String> = row.stages.iter().map(|(stage, key)| format!("{stage} {key}")).collect();
    let _ = writeln!(
        page,
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{measured}</td><td>{}</td><td class=\"num\">{} / {}</td>\
         <td class=\"num\">{interval}</td><td class=\"num\">{queries}</td><td>{} ({})</td><td><code title=\"{}\">{}</code></td>\
         <td><details><summary>keys</summary><code>{}</code></details></td><td><code>{}</code></td></tr>",
        escape(&row.recipe),
        row.seed,
        row.fold.map_or("-".to_owned(), |f| f.to_string()),
        escape(&row.eps_text),
        row.correct,
        row.samples,
        escape(&row.data.name),
        escape(&row.data.origin),
        escape(&row.data.checksum),
        escape(&row.data.checksum.chars().take(12).collect::<String>()),
        keys.join("<br>"),
        escape(&super::short_commit(row.commit.as_deref()))
    );
}
