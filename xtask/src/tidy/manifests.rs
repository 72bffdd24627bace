//! Rules for Cargo.toml files: one version per dependency, shared lints, pins that must stay exact.

use super::layering::line_of;
use super::{Report, Workspace};

/// A dependency that only some crates may name, and the exact requirement it must carry, if any.
struct Confined {
    name: &'static str,
    req: Option<&'static str>,
    users: &'static [&'static str],
    why: &'static str,
}

#[rustfmt::skip]
const CONFINED: &[Confined] = &[
    Confined { name: "bincode", req: Some("=2.0.1"), users: &["qnn"], why: "3.0.0 does not compile by design, and one codec module keeps the format replaceable" },
    Confined { name: "gemm", req: None, users: &["kernels", "benches"], why: "float results differ between GEMM libraries, so one place chooses and benches compare" },
    Confined { name: "clap", req: None, users: &["ternion"], why: "only the command line parses arguments" },
    Confined { name: "indicatif", req: None, users: &["ternion"], why: "libraries report progress, the command line draws it" },
];

pub(super) fn check(workspace: &Workspace, report: &mut Report) {
    for member in &workspace.members {
        let path = format!("{}/Cargo.toml", member.dir);
        if let Some(text) = workspace.text(&path) {
            check_text(&path, text, report);
        }
        for dependency in &member.dependencies {
            let Some(rule) = CONFINED.iter().find(|rule| rule.name == dependency.name) else { continue };
            let line = workspace.text(&path).map_or(0, |text| line_of(text, rule.name));
            // A dev-dependency may compare against a library without shipping it.
            if !dependency.dev && !rule.users.contains(&member.name.as_str()) {
                let message = format!("`{}` is for {} only: {}", rule.name, rule.users.join(", "), rule.why);
                report.error(&path, line, message);
            }
            if let Some(req) = rule.req
                && dependency.req != req
            {
                let message =
                    format!("`{}` must be pinned as {req:?} in the root Cargo.toml: {}", rule.name, rule.why);
                report.error(&path, line, message);
            }
        }
    }
}

/// Dependencies take their version from the workspace, and lints are the workspace's.
fn check_text(path: &str, text: &str, report: &mut Report) {
    let (mut section, mut shares_lints) = (String::new(), false);
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
            if section.contains("dependencies.") {
                report.error(path, index + 1, "write the dependency on one line, with `workspace = true`");
            }
        } else if section == "lints" && line.replace(' ', "") == "workspace=true" {
            shares_lints = true;
        } else if section.ends_with("dependencies")
            && line.contains('=')
            && !line.replace(' ', "").contains("workspace=true")
        {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            let message = format!(
                "`{name}`: put the version in [workspace.dependencies] and write `{name}.workspace = true` here"
            );
            report.error(path, index + 1, message);
        }
    }
    if !shares_lints {
        report.error(path, 0, "add `[lints]` with `workspace = true`");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Dependency, Member};

    #[test]
    fn versions_and_lints_come_from_the_workspace() {
        let mut report = Report::default();
        let good = "[lints]\nworkspace = true\n\n[dependencies]\n# a = \"1\"\na.workspace = true\nb = { workspace = true, optional = true }\n";
        check_text("Cargo.toml", good, &mut report);
        assert_eq!(report.lines(), [""; 0]);

        check_text(
            "Cargo.toml",
            "[dependencies]\na = \"1\"\n[dev-dependencies]\nb = { version = \"1\" }\n[dependencies.c]\n",
            &mut report,
        );
        let found = report.lines();
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(
            found[0].starts_with("error: Cargo.toml:2: `a`")
                && found[1].starts_with("error: Cargo.toml:4: `b`")
        );
        assert!(found[2].starts_with("error: Cargo.toml:5: ") && found[3].contains("[lints]"));
    }

    #[test]
    fn bincode_is_pinned_and_confined() {
        let errors = |crate_name: &str, req: &str, dev: bool| {
            let dependencies = vec![Dependency { name: "bincode".into(), req: req.into(), dev }];
            let member =
                Member { name: crate_name.into(), dir: "crates/x".into(), dependencies, roots: vec![] };
            let mut report = Report::default();
            check(&Workspace { files: vec![], members: vec![member], externals: vec![] }, &mut report);
            report.0.len()
        };
        assert_eq!(errors("qnn", "=2.0.1", false), 0);
        assert_eq!(errors("qnn", "^2.0.1", false), 1);
        assert_eq!(errors("deploy", "=2.0.1", false), 1);
        assert_eq!(errors("deploy", "=2.0.1", true), 0);
        assert_eq!(errors("deploy", "^3", false), 2);
    }
}
