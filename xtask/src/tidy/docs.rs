//! The documents tell the truth about the tree: the file map is current, and what they name exists.

use super::{Report, Workspace};
use crate::{ci, map};

pub(super) fn check(workspace: &Workspace, report: &mut Report) {
    check_map(workspace, report);
    match workspace.text("README.md") {
        Some(text) if text.contains(ci::TEST_COMMAND) => {}
        Some(_) => report.error(
            "README.md",
            0,
            format!("show the test command, `{}`: CI runs exactly that", ci::TEST_COMMAND),
        ),
        None => report.error("README.md", 0, "missing"),
    }
    let paths: Vec<&str> = workspace.files.iter().map(|file| file.path.as_str()).collect();
    for file in workspace.files.iter().filter(|file| file.path.ends_with(".md")) {
        check_paths(&file.path, &file.text, &paths, report);
    }
}

fn check_map(workspace: &Workspace, report: &mut Report) {
    let Some(text) = workspace.text(map::DOCUMENT) else {
        return report.error(map::DOCUMENT, 0, "missing");
    };
    match map::updated(text, &workspace.members, &workspace.files) {
        Ok(updated) if updated == text => {}
        Ok(_) => report.error(map::DOCUMENT, 0, "its file map is out of date: run `cargo xtask map`"),
        Err(error) => report.error(map::DOCUMENT, 0, error.to_string()),
    }
}

/// Link targets, and code spans that start like a path of ours, must name a file or directory of the repository.
fn check_paths(path: &str, text: &str, paths: &[&str], report: &mut Report) {
    let exists = |target: &str| {
        let target = target.trim_end_matches('/');
        paths.iter().any(|path| {
            path.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        // Rows of the file map are relative to their crate, and checked as a whole.
        if fenced || line.starts_with("| `") && path == map::DOCUMENT {
            continue;
        }
        for target in links(line).filter_map(|target| resolve(directory, target)) {
            if !target.is_empty() && !exists(&target) {
                report.error(path, index + 1, format!("links to {target}, which does not exist"));
            }
        }
        for span in line.split('`').skip(1).step_by(2).filter(|span| looks_like_ours(span, paths)) {
            if !exists(span) {
                report.error(path, index + 1, format!("names `{span}`, which does not exist"));
            }
        }
    }
}

/// The targets of Markdown links in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

/// A relative link from `directory` as a path from the root; `None` for addresses and links within the page.
fn resolve(directory: &str, target: &str) -> Option<String> {
    let target = target.split('#').next().unwrap_or_default();
    if target.is_empty() || target.contains(':') {
        return None;
    }
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Whether a code span is a plain path below one of the repository's top-level directories.
fn looks_like_ours(span: &str, paths: &[&str]) -> bool {
    let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let Some((top, rest)) = span.split_once('/') else { return false };
    plain && !rest.is_empty() && paths.iter().any(|path| path.split_once('/').is_some_and(|(t, _)| t == top))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_paths_exist() {
        let paths = ["crates/qnn/src/lib.rs", "crates/qnn/README.md", "LICENSE-MIT"];
        let rows: &[(&str, &[&str])] = &[
            ("`crates/qnn/src/lib.rs`, `crates/qnn`, `crates/qnn/src/`", &[]),
            ("`crates/*/src`, `std::fmt`, `alpha/beta`, `cargo test crates/none`", &[]),
            ("[a](src/lib.rs) [b](../../LICENSE-MIT) [c](https://x.org/y) [d](#here)", &[]),
            ("`crates/qnn/src/gone.rs`", &["names `crates/qnn/src/gone.rs`"]),
            ("`crates/q`", &["names `crates/q`"]),
            ("[a](gone.md#there)", &["links to crates/qnn/gone.md"]),
            ("```\n`crates/none`\n```\n`crates/gone`", &["names `crates/gone`"]),
        ];
        for (text, expected) in rows {
            let mut report = Report::default();
            check_paths("crates/qnn/README.md", text, &paths, &mut report);
            let found = report.lines();
            assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
            for (found, expected) in found.iter().zip(*expected) {
                assert!(found.contains(expected), "{found}");
            }
        }
    }
}
