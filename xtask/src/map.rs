//! `cargo xtask map`: the file map of ARCHITECTURE.md, made from the first sentence of each file.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::flags::{self, Parsed};
use crate::workspace::{self, File, Member};

/// The document that holds the map, between these two lines.
pub(crate) const DOCUMENT: &str = "ARCHITECTURE.md";
const BEGIN: &str = "<!-- file map, written by `cargo xtask map` -->\n";
const END: &str = "<!-- end of file map -->\n";

const HELP: &str = "\
Usage: cargo xtask map

Rewrites the file map of ARCHITECTURE.md from the `//!` line that opens each file. `cargo xtask tidy` checks that it is current.
";

/// `cargo xtask map`.
pub(crate) fn run(args: Vec<OsString>) -> Result<ExitCode> {
    match flags::none(args)? {
        Parsed::Help => print!("{HELP}"),
        Parsed::Run(()) => {
            let path = workspace::root().join(DOCUMENT);
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {DOCUMENT}"))?;
            let new = updated(&text, &workspace::members()?, &workspace::files()?)?;
            if new == text {
                println!("{DOCUMENT} is current");
            } else {
                std::fs::write(&path, new).with_context(|| format!("cannot write {DOCUMENT}"))?;
                println!("{DOCUMENT} updated");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `document` with its file map replaced by a current one.
pub(crate) fn updated(document: &str, members: &[Member], files: &[File]) -> Result<String> {
    let missing = || format!("{DOCUMENT} has no line {:?} followed by {:?}", BEGIN.trim(), END.trim());
    let (before, rest) = document.split_once(BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    Ok([before, BEGIN, &map(members, files), END, after].concat())
}

/// One table per crate, one row per Rust file.
fn map(members: &[Member], files: &[File]) -> String {
    let mut members: Vec<&Member> = members.iter().collect();
    members.sort_by(|a, b| a.dir.cmp(&b.dir));
    let mut text = String::new();
    for member in members {
        let rows: Vec<String> = files
            .iter()
            .filter_map(|file| {
                let inside = file.path.strip_prefix(&member.dir)?.strip_prefix('/')?;
                inside.ends_with(".rs").then(|| format!("| `{inside}` | {} |\n", first_sentence(&file.text)))
            })
            .collect();
        if !rows.is_empty() {
            text +=
                &format!("\n#### `{}`\n\n| file | why it exists |\n|---|---|\n{}", member.dir, rows.concat());
        }
    }
    text + "\n"
}

/// The first sentence of the comment that opens a file, fit for a table cell.
fn first_sentence(text: &str) -> String {
    let comment = |line: &str| {
        line.strip_prefix("//!").or_else(|| line.strip_prefix("//")).map(|line| line.trim().to_owned())
    };
    let paragraph: Vec<String> =
        text.lines().map_while(comment).take_while(|line| !line.is_empty()).collect();
    let paragraph = paragraph.join(" ");
    // A full stop ends the sentence when a capital follows; "e.g. this" goes on.
    let ends = |at: usize| paragraph[at + 2..].starts_with(|c: char| !c.is_lowercase());
    let end = paragraph.match_indices(". ").map(|(at, _)| at).find(|&at| ends(at));
    paragraph[..end.map_or(paragraph.len(), |at| at + 1)].replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_sentences() {
        let rows = [
            ("//! One. Two.\n", "One."),
            (
                "//! One line,\n//! and another: a|b, e.g. this. More.\n//!\n//! Rest.\n",
                "One line, and another: a\\|b, e.g. this.",
            ),
            ("//! No stop\nuse std::fmt;\n", "No stop"),
            ("// A build script.\n", "A build script."),
            ("use std::fmt;\n", ""),
        ];
        for (text, expected) in rows {
            assert_eq!(first_sentence(text), expected);
        }
    }

    #[test]
    fn replaces_only_the_map() {
        let member =
            |dir: &str| Member { name: dir.into(), dir: dir.into(), dependencies: vec![], roots: vec![] };
        let file = |path: &str| File { path: path.into(), text: "//! Why.\n".into() };
        let members = [member("crates/b"), member("crates/a")];
        let files =
            ["crates/a/src/lib.rs", "crates/a/README.md", "crates/ab/x.rs", "crates/b/src/lib.rs"].map(file);
        let old = format!("# Title\n{BEGIN}old\n{END}after\n");
        let new = updated(&old, &members, &files).unwrap();
        let table = |dir: &str| {
            format!("\n#### `{dir}`\n\n| file | why it exists |\n|---|---|\n| `src/lib.rs` | Why. |\n")
        };
        assert_eq!(new, format!("# Title\n{BEGIN}{}{}\n{END}after\n", table("crates/a"), table("crates/b")));
        assert_eq!(updated(&new, &members, &files).unwrap(), new);
        assert!(updated("# Title\n", &members, &files).is_err());
    }
}
