//! What the workspace consists of: its root, the files git knows, and what `cargo metadata` says of packages and dependencies.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A text file of the repository.
#[derive(Debug)]
pub(crate) struct File {
    /// Path from the workspace root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A crate of this workspace.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Directory from the workspace root, with `/`.
    pub(crate) dir: String,
    pub(crate) dependencies: Vec<Dependency>,
    /// Root files of its libraries and binaries, from the workspace root.
    pub(crate) roots: Vec<String>,
}

/// One line of a member's dependency tables.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// The version requirement, such as `^1.2`.
    pub(crate) req: String,
    /// In `[dev-dependencies]`.
    pub(crate) dev: bool,
}

/// A package from a registry.
#[derive(Debug)]
pub(crate) struct External {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The SPDX expression of its manifest.
    pub(crate) licence: Option<String>,
}

/// The workspace root: this crate's parent directory when it was built.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// The cargo that runs us, told to use this workspace from whatever directory.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    if !std::env::current_dir().is_ok_and(|dir| dir.starts_with(root())) {
        command.current_dir(root());
    }
    command
}

/// Every file that git tracks or would add, sorted by path. Binary files have no text.
pub(crate) fn files() -> Result<Vec<File>> {
    // `safe.directory`: containers often check out as another user than they run as.
    let args = [
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
        "--deduplicate",
    ];
    let output = Command::new("git").current_dir(root()).args(args).stderr(Stdio::inherit()).output();
    let output = output.context("cannot start git, which tells the repository's files from build output")?;
    if !output.status.success() {
        bail!("`git ls-files` failed in {}", root().display());
    }
    let mut files = Vec::new();
    for path in String::from_utf8(output.stdout).context("a file name is not UTF-8")?.split_terminator('\0') {
        let full = root().join(path);
        // A tracked file may be deleted in the working tree.
        if full.is_file() {
            let bytes = std::fs::read(&full).with_context(|| format!("cannot read {path}"))?;
            files.push(File { path: path.to_owned(), text: String::from_utf8(bytes).unwrap_or_default() });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The crates of this workspace, sorted by name.
pub(crate) fn members() -> Result<Vec<Member>> {
    members_of(&metadata(&["--no-deps"])?, root())
}

/// Where cargo puts what it builds.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let metadata = metadata(&["--no-deps"])?;
    let directory =
        metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(directory))
}

/// Every registry package that any feature or platform of ours can pull in.
pub(crate) fn externals() -> Result<Vec<External>> {
    externals_of(&metadata(&["--all-features", "--locked"])?)
}

fn metadata(args: &[&str]) -> Result<Value> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1"]).args(args).stderr(Stdio::inherit());
    let output = command.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("`cargo metadata {}` failed", args.join(" "));
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")
}

fn members_of(metadata: &Value, root: &Path) -> Result<Vec<Member>> {
    let relative = |path: &Value| -> Result<String> {
        let path = PathBuf::from(path.as_str().context("a path in cargo metadata is no string")?);
        let path = path
            .strip_prefix(root)
            .with_context(|| format!("{} is outside the workspace", path.display()))?;
        Ok(path.to_string_lossy().replace('\\', "/"))
    };
    let mut members = Vec::new();
    for package in list(&metadata["packages"]) {
        let dir = relative(&package["manifest_path"])?
            .trim_end_matches("Cargo.toml")
            .trim_end_matches('/')
            .to_owned();
        let dependencies = list(&package["dependencies"]).iter().map(|d| Dependency {
            name: text(&d["name"]),
            req: text(&d["req"]),
            dev: d["kind"] == "dev",
        });
        let is_root = |target: &&Value| {
            list(&target["kind"])
                .iter()
                .any(|kind| matches!(kind.as_str(), Some("lib" | "bin" | "proc-macro")))
        };
        let roots =
            list(&package["targets"]).iter().filter(is_root).map(|target| relative(&target["src_path"]));
        members.push(Member {
            name: text(&package["name"]),
            dir,
            dependencies: dependencies.collect(),
            roots: roots.collect::<Result<_>>()?,
        });
    }
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(members)
}

fn externals_of(metadata: &Value) -> Result<Vec<External>> {
    let external = |package: &&Value| !package["source"].is_null();
    let packages = list(&metadata["packages"]).iter().filter(external).map(|package| External {
        name: text(&package["name"]),
        version: text(&package["version"]),
        licence: package["license"].as_str().map(str::to_owned),
    });
    Ok(packages.collect())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_members_and_externals() {
        let metadata = json!({ "packages": [
            { "name": "qnn", "source": null, "manifest_path": "/w/crates/qnn/Cargo.toml",
              "dependencies": [
                  { "name": "kernels", "req": "*", "kind": null },
                  { "name": "tempfile", "req": "^3", "kind": "dev" } ],
              "targets": [
                  { "kind": ["lib"], "src_path": "/w/crates/qnn/src/lib.rs" },
                  { "kind": ["test"], "src_path": "/w/crates/qnn/tests/t.rs" } ] },
            { "name": "anyhow", "version": "1.0.0", "license": "MIT", "source": "registry+x" } ] });
        let externals = externals_of(&metadata).unwrap();
        assert_eq!(externals.len(), 1);
        assert_eq!((externals[0].name.as_str(), externals[0].licence.as_deref()), ("anyhow", Some("MIT")));

        let only_ours = json!({ "packages": [metadata["packages"][0]] });
        let members = members_of(&only_ours, Path::new("/w")).unwrap();
        assert_eq!(members[0].dir, "crates/qnn");
        assert_eq!(members[0].roots, ["crates/qnn/src/lib.rs"]);
        assert!(!members[0].dependencies[0].dev && members[0].dependencies[1].dev);
        assert!(members_of(&only_ours, Path::new("/elsewhere")).is_err());
    }
}
