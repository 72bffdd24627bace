//! `ternion data list`: tasks and releases, and which of them are there.
use anyhow::Result;
use datasets::manifest::Manifest;
use datasets::{DataSearch, located};

use super::TASKS;
use crate::End;

pub(super) fn run(search: &DataSearch) -> Result<End> {
    for dir in search.dirs()? {
        println!("looked for in {}", dir.display());
    }
    println!("\ntasks");
    for task in TASKS {
        let state = if task.is_embedded() {
            "embedded in the program".to_owned()
        } else {
            match located(&task, search)? {
                Some(path) => format!("there: {}", path.display()),
                None => format!("not there; {} stands in", task.embedded_twin()),
            }
        };
        println!("  {:30} {state}", task.to_string());
    }
    println!("\nreleases, for `ternion data fetch`");
    for manifest in Manifest::all()? {
        println!("  {}: {}", manifest.name, manifest.title);
        println!("    licence: {}", manifest.licence);
        println!("    cite: {}", manifest.citation);
        for archive in &manifest.archives {
            let size =
                archive.bytes.map_or("unknown size".to_owned(), |bytes| format!("{} MB", bytes / 1_000_000));
            println!("    {} ({size})", archive.url);
        }
        if manifest.archives.is_empty() {
            println!("    not offered as an archive; see {}", manifest.homepage);
        }
    }
    Ok(End::Done)
}
