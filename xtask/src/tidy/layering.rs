//! Who may use whom: the arrows of ARCHITECTURE.md as one table, checked against what cargo sees.

use std::collections::BTreeSet;

use super::{Report, Workspace};
use crate::workspace::Member;

/// Each crate of the workspace and the crates of ours it may depend on.
///
/// Changing a row changes the architecture: change the diagram in ARCHITECTURE.md with it.
const LAYERS: &[(&str, &[&str])] = &[
    ("kernels", &[]),
    ("qtensor", &["kernels"]),
    ("qnn", &["qtensor", "kernels"]),
    ("jacreg", &["qnn", "qtensor"]),
    ("attacks", &["qnn", "qtensor", "kernels"]),
    ("deploy", &["qnn", "qtensor", "kernels"]),
    ("datasets", &[]),
    ("experiments", &["attacks", "jacreg", "deploy", "datasets", "qnn", "qtensor"]),
    ("ternion", &["experiments", "attacks", "jacreg", "deploy", "datasets", "qnn", "qtensor", "kernels"]),
    ("benches", &["experiments", "attacks", "jacreg", "deploy", "datasets", "qnn", "qtensor", "kernels"]),
    ("xtask", &[]),
];

pub(super) fn check(workspace: &Workspace, report: &mut Report) {
    check_against(LAYERS, workspace, report);
}

fn check_against(layers: &[(&str, &[&str])], workspace: &Workspace, report: &mut Report) {
    let names: BTreeSet<&str> = workspace.members.iter().map(|member| member.name.as_str()).collect();
    for (name, _) in layers {
        if !names.contains(name) {
            report.error(
                "xtask/src/tidy/layering.rs",
                0,
                format!("LAYERS lists `{name}`, which no longer exists; remove its row"),
            );
        }
    }
    for member in &workspace.members {
        let manifest = format!("{}/Cargo.toml", member.dir);
        let Some((_, allowed)) = layers.iter().find(|(name, _)| *name == member.name) else {
            let message = format!(
                "crate `{}` has no row in LAYERS (xtask/src/tidy/layering.rs); decide its place",
                member.name
            );
            report.error(&manifest, 0, message);
            continue;
        };
        for dependency in &member.dependencies {
            let name = dependency.name.as_str();
            if !names.contains(name) || allowed.contains(&name) || (dependency.dev && name == member.name) {
                continue;
            }
            let line = workspace.text(&manifest).map_or(0, |text| line_of(text, name));
            if dependency.dev {
                let message = format!(
                    "the tests of `{}` use `{name}` from outside its layers; fine for tests only",
                    member.name
                );
                report.note(&manifest, line, message);
            } else {
                report.error(&manifest, line, refusal(member, name, allowed));
            }
        }
    }
}

fn refusal(member: &Member, name: &str, allowed: &[&str]) -> String {
    let may = if allowed.is_empty() { "nothing of ours".to_owned() } else { allowed.join(", ") };
    format!(
        "`{}` may use {may}, but not `{name}`; move the code that needs it, or pass what it needs as an argument",
        member.name
    )
}

/// The line of a manifest that declares dependency `name`, or 0.
pub(super) fn line_of(manifest: &str, name: &str) -> usize {
    let declares = |line: &str| {
        line.trim_start().strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '.', '=']))
    };
    manifest.lines().position(declares).map_or(0, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Dependency, File};

    fn workspace(edges: &[(&str, &str, bool)]) -> Workspace {
        let member = |name: &str| Member {
            name: name.into(),
            dir: format!("crates/{name}"),
            roots: vec![],
            dependencies: edges
                .iter()
                .filter(|(from, ..)| *from == name)
                .map(|(_, to, dev)| Dependency { name: to.to_string(), req: "*".into(), dev: *dev })
                .collect(),
        };
        let manifest = File {
            path: "crates/low/Cargo.toml".into(),
            text: "[dependencies]\nhigher = \"1\"\nhigh.workspace = true\n".into(),
        };
        Workspace { files: vec![manifest], members: vec![member("high"), member("low")], externals: vec![] }
    }

    const TABLE: &[(&str, &[&str])] = &[("low", &[]), ("high", &["low"])];

    fn findings(layers: &[(&str, &[&str])], edges: &[(&str, &str, bool)]) -> Vec<String> {
        let mut report = Report::default();
        check_against(layers, &workspace(edges), &mut report);
        report.lines()
    }

    #[test]
    fn downward_and_foreign_dependencies_pass() {
        assert_eq!(findings(TABLE, &[("high", "low", false), ("low", "serde", false)]), [""; 0]);
    }

    #[test]
    fn an_upward_dependency_fails_at_its_line() {
        let found = findings(TABLE, &[("low", "high", false)]);
        assert_eq!(found.len(), 1);
        assert!(
            found[0]
                .starts_with("error: crates/low/Cargo.toml:3: `low` may use nothing of ours, but not `high`"),
            "{found:?}"
        );
    }

    #[test]
    fn an_upward_dev_dependency_is_a_note() {
        let found = findings(TABLE, &[("low", "high", true)]);
        assert!(found.len() == 1 && found[0].starts_with("note: crates/low/Cargo.toml:3"), "{found:?}");
    }

    #[test]
    fn the_table_lists_exactly_the_crates() {
        assert!(findings(&[("low", &[])], &[])[0].contains("`high` has no row"));
        let found = findings(&[("low", &[]), ("high", &[]), ("gone", &[])], &[]);
        assert!(found.len() == 1 && found[0].contains("`gone`"), "{found:?}");
    }

    #[test]
    fn the_table_has_no_cycle() {
        // A row may name only crates whose own rows do not lead back to it.
        fn reaches(from: &str, to: &str) -> bool {
            let below = LAYERS.iter().find(|(name, _)| *name == from).map_or(&[][..], |(_, below)| below);
            below.iter().any(|name| *name == to || reaches(name, to))
        }
        for (name, _) in LAYERS {
            assert!(!reaches(name, name), "{name} reaches itself");
        }
    }
}
