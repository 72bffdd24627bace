//! Rules for single files: a reason to exist, a length one can hold in the head, nothing left over, no trace of one machine.

use super::source::Source;
use super::{Report, Workspace};

/// Lines of a Rust file from which on it is long, and beyond which it must be split.
const LONG: usize = 400;
const CAP: usize = 600;

/// Code that says a thing is not done, and what to do instead.
#[rustfmt::skip]
const LEFTOVERS: &[(&str, &str)] = &[
    ("todo!", "finish it, or leave it out and say so in the README"),
    ("unimplemented!", "return a typed error, or leave the item out"),
    ("#[ignore", "run the test always, or return early from it printing what is missing"),
    ("dbg!", "remove it"),
];

pub(super) fn check(workspace: &Workspace, report: &mut Report) {
    for file in workspace.rust_files() {
        check_size(&file.path, &file.text, report);
        check_opening(&file.path, &file.text, report);
        check_leftovers(&file.path, &file.text, report);
    }
    for file in &workspace.files {
        check_machine_paths(&file.path, &file.text, report);
    }
}

fn check_size(path: &str, text: &str, report: &mut Report) {
    match text.lines().count() {
        lines if lines > CAP => {
            report.error(
                path,
                0,
                format!("{lines} lines, the cap is {CAP}: split it by what its parts are about"),
            );
        }
        lines if lines > LONG => report.note(path, 0, format!("{lines} lines; over {LONG} is long")),
        _ => {}
    }
}

fn check_opening(path: &str, text: &str, report: &mut Report) {
    let first = text.lines().next().unwrap_or_default();
    // A build script has no documentation page of its own, so a plain comment will do.
    let says = |prefix: &str| first.strip_prefix(prefix).is_some_and(|rest| !rest.trim().is_empty());
    let fine = says("//!") || (path.ends_with("build.rs") && says("//"));
    if !fine {
        report.error(path, 1, "open the file with a `//!` line that says why it exists");
    }
}

fn check_leftovers(path: &str, text: &str, report: &mut Report) {
    for (index, (code, _)) in Source::new(text).lines().enumerate() {
        for (leftover, advice) in LEFTOVERS.iter().filter(|(leftover, _)| code.contains(leftover)) {
            report.error(path, index + 1, format!("`{leftover}` in code: {advice}"));
        }
    }
}

/// Directories that exist on somebody's machine. Assembled, so that this file does not contain them.
fn machine_directories() -> [String; 3] {
    ["work", "root", "home"].map(|name| format!("/{name}/"))
}

fn check_machine_paths(path: &str, text: &str, report: &mut Report) {
    let directories = machine_directories();
    for (index, line) in text.lines().enumerate() {
        for directory in &directories {
            // Inside a longer path or an address it is somebody else's directory.
            let starts_path =
                |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~}>)/".contains(c));
            if line.match_indices(directory.as_str()).any(|(at, _)| starts_path(at)) {
                let message = format!(
                    "a path of one machine ({directory}…): make it relative, an option or an environment variable"
                );
                report.error(path, index + 1, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(check: fn(&str, &str, &mut Report), path: &str, text: &str) -> Vec<String> {
        let mut report = Report::default();
        check(path, text, &mut report);
        report.lines()
    }

    #[test]
    fn sizes() {
        let lines = |n: usize| "x\n".repeat(n);
        assert_eq!(findings(check_size, "a.rs", &lines(400)), [""; 0]);
        assert_eq!(findings(check_size, "a.rs", &lines(401)), ["note: a.rs: 401 lines; over 400 is long"]);
        assert!(findings(check_size, "a.rs", &lines(600))[0].starts_with("note"));
        assert!(
            findings(check_size, "a.rs", &lines(601))[0]
                .starts_with("error: a.rs: 601 lines, the cap is 600")
        );
    }

    #[test]
    fn openings() {
        let bad = |path: &str, text: &str| !findings(check_opening, path, text).is_empty();
        assert!(!bad("a.rs", "//! Why.\n"));
        assert!(!bad("crates/x/build.rs", "// Why.\n"));
        assert!(bad("a.rs", "// Why.\n"));
        assert!(bad("a.rs", "//!\n//! Why.\n"));
        assert!(bad("a.rs", "use std::fmt;\n"));
        assert!(bad("a.rs", ""));
    }

    #[test]
    fn leftovers_count_in_code_only() {
        let text = "fn a() {\n    todo!()\n}\n// todo! in prose\nlet s = \"unimplemented!\";\n#[ignore = \"slow\"]\n";
        let found = findings(check_leftovers, "a.rs", text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("error: a.rs:2: `todo!`")
                && found[1].starts_with("error: a.rs:6: `#[ignore`")
        );
    }

    #[test]
    fn machine_paths() {
        for directory in machine_directories() {
            let bad = |text: &str| {
                !findings(check_machine_paths, "a.md", &text.replace("DIR/", &directory)).is_empty()
            };
            assert!(bad("ls DIR/x"));
            assert!(bad("\"DIR/x\""));
            assert!(bad("DIR/x"));
            assert!(!bad("https://example.orgDIR/x"));
            assert!(!bad("$HOMEDIR/x"));
            assert!(!bad("crates/xDIR/y"));
        }
    }
}
