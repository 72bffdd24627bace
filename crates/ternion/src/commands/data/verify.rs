//! `ternion data verify`: files against manifests, then every task loaded.
use anyhow::Result;
use datasets::manifest::Manifest;
use datasets::{DataError, DataSearch, Finding, verify};

use super::TASKS;
use crate::End;

pub(super) fn run(search: &DataSearch) -> Result<End> {
    let mut end = End::Done;
    for dir in search.dirs()? {
        for manifest in Manifest::all()? {
            let checks = verify(&manifest, &dir);
            // A release of which nothing is there is no fault.
            if checks.iter().all(|check| check.finding == Finding::Missing) {
                continue;
            }
            let (good, bad): (Vec<_>, Vec<_>) =
                checks.iter().partition(|check| check.finding == Finding::Good);
            println!(
                "{} in {}: {} of {} as the manifest says",
                manifest.name,
                dir.display(),
                good.len(),
                checks.len()
            );
            for check in bad {
                println!("  {}: {}", check.path.display(), check.finding);
                if check.finding != Finding::Missing {
                    end = End::Failed;
                }
            }
        }
    }
    println!();
    for task in TASKS {
        match datasets::load(&task, search) {
            Ok(data) => {
                let counts = [data.train.len(), data.validation.len(), data.test.len()];
                println!("{:30} sound, {counts:?} samples, sha-256 {}", task.to_string(), data.checksum);
                data.warnings.iter().for_each(|warning| println!("{:30} warning: {warning}", ""));
            }
            Err(DataError::NotFound { .. }) => println!("{:30} not there", task.to_string()),
            Err(error) => {
                println!("{:30} damaged: {error}", task.to_string());
                end = End::Failed;
            }
        }
    }
    Ok(end)
}
