//! `report.md` and `report.html`, made from `results.jsonl` and the small artefacts beside it, and from nothing else.
pub(crate) mod artefact;
mod chart;
mod claims;
mod html;
mod jacobian;
mod markdown;
mod png;
mod strip;
mod training;
mod view;

use std::path::{Path, PathBuf};

use crate::error::StudyError;
use crate::recipe::Profile;
use crate::results::{Results, Row};
use crate::stage::write_atomic;

/// Makes both reports of an output folder; returns the path of the HTML one. `profile` chooses the rows shown; by
/// default those of the largest profile there is.
///
/// # Errors
/// [`StudyError::NoResults`] if there are no rows, or an i/o error.
pub fn write(out: &Path, profile: Option<Profile>) -> Result<PathBuf, StudyError> {
    let results = Results::read(out)?;
    let shown = profile.or_else(|| results.rows.iter().map(|r| r.profile).max());
    let rows: Vec<&Row> = results.rows.iter().filter(|r| Some(r.profile) == shown).collect();
    let Some(profile) = shown.filter(|_| !rows.is_empty()) else {
        return Err(StudyError::NoResults(Results::path(out)));
    };
    let others = results.rows.len() - rows.len();
    let document = Document { profile, rows: &rows, tables: view::tables(&rows), others };
    write_atomic(&out.join("report.md"), markdown::render(&document).as_bytes())?;
    let path = out.join("report.html");
    write_atomic(&path, html::render(&document, out)?.as_bytes())?;
    Ok(path)
}

/// The first twelve digits of a commit, and whether files had changed.
fn short_commit(commit: Option<&str>) -> String {
    let Some(commit) = commit else { return "unknown commit".to_owned() };
    let digits: String = commit.chars().take(12).collect();
    if commit.ends_with("-dirty") { digits + "-dirty" } else { digits }
}

/// What both forms of the report are set from.
struct Document<'a> {
    profile: Profile,
    rows: &'a [&'a Row],
    tables: Vec<view::Table<'a>>,
    /// Rows of other profiles, which are not shown.
    others: usize,
}

impl Document<'_> {
    /// The banner's text if any number rests on generated data.
    fn banner(&self) -> Option<String> {
        let mut names: Vec<String> = Vec::new();
        for row in self.rows.iter().filter(|r| r.data.embedded) {
            let text = format!("{} instead of {}", row.data.name, row.data.task);
            if !names.contains(&text) {
                names.push(text);
            }
        }
        (!names.is_empty()).then(|| {
            format!(
                "Generated data: {}. These numbers say that the program works; they are NOT results on CIFAR-10 or \
                 Google Speech Commands.",
                names.join(", ")
            )
        })
    }

    /// Rows whose samples are not all there, in words.
    fn missing(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for row in self.rows.iter().filter(|r| r.samples < r.expected) {
            let what = match row.attack.as_str() {
                "none" => "clean accuracy",
                attack => attack,
            };
            let line = format!("{}: {what}: {} of {} samples", row.run_name(), row.samples, row.expected);
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        lines
    }

    /// What every number of the report has in common.
    fn origin(&self) -> String {
        let mut commits: Vec<String> = self.rows.iter().map(|r| short_commit(r.commit.as_deref())).collect();
        commits.sort_unstable();
        commits.dedup();
        let mut versions: Vec<&str> = self.rows.iter().map(|r| r.version.as_str()).collect();
        versions.sort_unstable();
        versions.dedup();
        format!("Ternion {} ({}), profile {}", versions.join(", "), commits.join(", "), self.profile)
    }
}
