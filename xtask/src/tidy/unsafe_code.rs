//! `unsafe` lives in `kernels` and nowhere else, and says there why it is sound.

use super::source::Source;
use super::{Report, Workspace};

/// The one directory with `unsafe` code.
const HOME: &str = "crates/kernels/";
const FORBID: &str = "#![forbid(unsafe_code)]";

pub(super) fn check(workspace: &Workspace, report: &mut Report) {
    for file in workspace.rust_files() {
        let source = Source::new(&file.text);
        if file.path.starts_with(HOME) {
            check_home(&file.path, &source, report);
        } else {
            check_elsewhere(&file.path, &source, report);
        }
    }
    for root in workspace.members.iter().flat_map(|member| &member.roots) {
        if let Some(text) = workspace.text(root) {
            check_root(root, &Source::new(text), report);
        }
    }
}

/// Library and binary roots forbid `unsafe`, so that the compiler enforces what this check only reads.
fn check_root(path: &str, source: &Source, report: &mut Report) {
    let forbids = source.lines().any(|(code, _)| code.replace(' ', "") == FORBID);
    if !path.starts_with(HOME) && !forbids {
        report.error(path, 1, format!("add `{FORBID}` below the `//!` lines"));
    }
}

fn check_elsewhere(path: &str, source: &Source, report: &mut Report) {
    for (index, (code, _)) in source.lines().enumerate() {
        if words(code).any(|(_, word)| word == "unsafe") {
            report.error(
                path,
                index + 1,
                "`unsafe` outside crates/kernels: move it behind a safe function there",
            );
        }
    }
}

fn check_home(path: &str, source: &Source, report: &mut Report) {
    let lines: Vec<_> = source.lines().collect();
    for (index, (code, _)) in lines.iter().enumerate() {
        let needs = words(code)
            .any(|(at, word)| word == "unsafe" && opens_obligation(&lines, index, at + word.len()));
        if needs && !has_safety_line(&lines, index) {
            report.error(path, index + 1, "say above this `unsafe` why it is sound: `// SAFETY: …`");
        }
    }
}

/// Whether the `unsafe` that ends at column `end` is a block or an impl: those discharge an obligation.
/// An `unsafe fn` or trait states one, in its documentation (clippy's `missing_safety_doc`).
fn opens_obligation(lines: &[(&str, &str)], index: usize, end: usize) -> bool {
    let rest_of_line = std::iter::once(&lines[index].0[end..]);
    let following = rest_of_line.chain(lines[index + 1..].iter().map(|(code, _)| *code));
    let next = following.map(str::trim).find(|code| !code.is_empty()).unwrap_or_default();
    next.starts_with('{') || next.starts_with("impl")
}

/// A SAFETY comment on the line itself or above the statement it belongs to.
fn has_safety_line(lines: &[(&str, &str)], index: usize) -> bool {
    if lines[index].1.contains("SAFETY:") {
        return true;
    }
    for (code, comment) in lines[..index].iter().rev() {
        let code = code.trim();
        if comment.contains("SAFETY:") {
            return true;
        }
        let continues = if code.is_empty() {
            !comment.trim().is_empty()
        } else {
            code.starts_with("#[") || !code.ends_with([';', '{', '}', ','])
        };
        if !continues {
            return false;
        }
    }
    false
}

/// The words of a line of code with the byte column at which each starts.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    code.split(move |c| !word(c))
        .filter(|w| !w.is_empty())
        .map(|w| (w.as_ptr() as usize - code.as_ptr() as usize, w))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(check: fn(&str, &Source, &mut Report), path: &str, text: &str) -> Vec<usize> {
        let mut report = Report::default();
        check(path, &Source::new(text), &mut report);
        report.0.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn elsewhere_not_even_once() {
        let text = "// unsafe in prose\nlet a = \"unsafe\";\nlet unsafe_count = 1;\nunsafe { f() }\nunsafe impl Send for A {}\n";
        assert_eq!(errors(check_elsewhere, "crates/qnn/src/a.rs", text), [4, 5]);
    }

    #[test]
    fn at_home_each_block_says_why() {
        let rows: &[(&str, &[usize])] = &[
            ("// SAFETY: i < len.\nunsafe { f() }\n", &[]),
            ("// SAFETY: i < len,\n// as checked above.\nlet x =\n    unsafe { f() };\n", &[]),
            ("let x = unsafe { f() }; // SAFETY: i < len.\n", &[]),
            ("// SAFETY: i < len.\n#[inline]\nunsafe impl Send for A {}\n", &[]),
            ("/// # Safety\n/// i < len.\nunsafe fn f() {}\npub unsafe trait T {}\n", &[]),
            ("unsafe { f() }\n", &[1]),
            ("// SAFETY: only the first.\nunsafe { f() };\nunsafe { g() };\n", &[3]),
            ("// SAFETY: too far.\n\nunsafe { f() }\n", &[3]),
            ("let x = unsafe\n{ f() };\n", &[1]),
            ("unsafe impl Send for A {}\n", &[1]),
        ];
        for (text, lines) in rows {
            assert_eq!(errors(check_home, "crates/kernels/src/a.rs", text), *lines, "{text}");
        }
    }

    #[test]
    fn roots_forbid() {
        assert_eq!(
            errors(check_root, "crates/qnn/src/lib.rs", "//! Networks.\n#![forbid(unsafe_code)]\n"),
            [0; 0]
        );
        assert_eq!(errors(check_root, "crates/qnn/src/lib.rs", "//! #![forbid(unsafe_code)]\n"), [1]);
        assert_eq!(errors(check_root, "crates/kernels/src/lib.rs", "//! Loops.\n"), [0; 0]);
    }
}
