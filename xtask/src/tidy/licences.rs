//! Every dependency's licence is one that deny.toml allows; the list has one home, and nothing need be installed to check it.

use super::{Report, Workspace, spdx};

const POLICY: &str = "deny.toml";

pub(super) fn check(workspace: &Workspace, report: &mut Report) {
    let Some(allowed) = workspace.text(POLICY).and_then(allowed) else {
        report.error(
            POLICY,
            0,
            "no `allow = [ … ]` under `[licenses]`: that list says which licences dependencies may have",
        );
        return;
    };
    for package in &workspace.externals {
        let name = format!("{} {}", package.name, package.version);
        let Some(licence) = &package.licence else {
            report.error(
                "Cargo.lock",
                lock_line(workspace, &package.name),
                format!("{name} declares no licence: replace it"),
            );
            continue;
        };
        let message = match spdx::satisfied(licence, &allowed) {
            Ok(true) => continue,
            Ok(false) => format!(
                "{name} is under `{licence}`, which {POLICY} does not allow: replace it (`cargo tree -i {}` says who needs it)",
                package.name
            ),
            Err(error) => format!("{name}: cannot read its licence `{licence}`: {error}"),
        };
        report.error("Cargo.lock", lock_line(workspace, &package.name), message);
    }
}

/// The strings of `allow = [ … ]` in section `[licenses]`. Enough TOML for our own file, without a TOML parser to build.
fn allowed(policy: &str) -> Option<Vec<String>> {
    let (_, section) = policy.split_once("\n[licenses]")?;
    let section = section.split("\n[").next()?;
    let (_, list) = section.split_once("\nallow = [")?;
    let (list, _) = list.split_once(']')?;
    let lines = list.lines().map(|line| line.split('#').next().unwrap_or_default());
    Some(lines.flat_map(|line| line.split('"').skip(1).step_by(2)).map(str::to_owned).collect())
}

fn lock_line(workspace: &Workspace, name: &str) -> usize {
    let wanted = format!("name = \"{name}\"");
    let lock = workspace.text("Cargo.lock").unwrap_or_default();
    lock.lines().position(|line| line == wanted).map_or(0, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{External, File};

    const POLICY_TEXT: &str = "[graph]\n\n[licenses]\nconfidence = 1\nallow = [\n    \"MIT\", # \"GPL-3.0-only\"\n    \"ISC\",\n]\n\n[bans]\nallow = [\"x\"]\n";

    #[test]
    fn reads_the_policy() {
        assert_eq!(allowed(POLICY_TEXT).unwrap(), ["MIT", "ISC"]);
        assert_eq!(allowed("[bans]\nallow = [\"x\"]\n"), None);
    }

    #[test]
    fn finds_what_is_not_allowed() {
        let external = |name: &str, licence: Option<&str>| External {
            name: name.into(),
            version: "1.0.0".into(),
            licence: licence.map(str::to_owned),
        };
        let files = [(POLICY, POLICY_TEXT), ("Cargo.lock", "[[package]]\nname = \"bad\"\n")];
        let workspace = Workspace {
            files: files.map(|(path, text)| File { path: path.into(), text: text.into() }).into(),
            members: vec![],
            externals: vec![
                external("good", Some("MIT OR GPL-3.0-only")),
                external("bad", Some("GPL-3.0-only")),
                external("none", None),
                external("odd", Some("MIT OR")),
            ],
        };
        let mut report = Report::default();
        check(&workspace, &mut report);
        let found = report.lines();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("error: Cargo.lock:2: bad 1.0.0 is under `GPL-3.0-only`"));
        assert!(found[1].contains("none 1.0.0 declares no licence") && found[2].contains("cannot read"));
    }
}
