//! `ternion data fetch`: downloads with a bar, and what to do when they fail.
use anyhow::{Result, anyhow, bail};
use datasets::DataSearch;
use datasets::fetch::{FetchOptions, FetchProgress, fetch};
use datasets::manifest::Manifest;
use datasets::unpack::unpack;
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::FetchArgs;
use crate::{End, Usage};

pub(super) fn run(args: &FetchArgs) -> Result<End> {
    let mut manifests = Vec::new();
    for name in &args.release {
        manifests.push(Manifest::named(name).map_err(|error| anyhow!(Usage(error.to_string())))?);
    }
    // A directory named on the command line need not exist yet, unlike one that data is read from.
    let dirs = DataSearch::default().dirs()?;
    let Some(dir) = args.place.data.clone().or_else(|| dirs.into_iter().next()) else {
        bail!("nowhere to put data: name a folder with --data");
    };
    let mut options = FetchOptions::new(&dir);
    options.mirror.clone_from(&args.mirror);
    options.offline = args.offline;
    for manifest in &manifests {
        println!(
            "{}: {}\n  licence: {}\n  cite: {}",
            manifest.name, manifest.title, manifest.licence, manifest.citation
        );
        let mut bar = Bar::default();
        let fetched = fetch(manifest, &options, &mut |progress| bar.show(progress));
        bar.close();
        for archive in fetched? {
            let proof = if archive.known { "the manifest's" } else { "the manifest knows none" };
            println!(
                "  {}: {} bytes, SHA-256 {} ({proof})",
                archive.path.display(),
                archive.bytes,
                archive.sha256
            );
            if args.unpack && archive.path.extension().is_some_and(|extension| extension == "gz") {
                let folder = manifest.unpack_into.as_deref().unwrap_or("");
                let files = unpack(&archive.path, &dir.join(folder))?;
                println!("  {files} files unpacked into {}", dir.join(folder).display());
            }
        }
    }
    Ok(End::Done)
}

/// A bar on a terminal, nothing elsewhere but notices.
#[derive(Default)]
struct Bar {
    bar: Option<ProgressBar>,
    file: String,
}

impl Bar {
    fn show(&mut self, progress: &FetchProgress<'_>) {
        if self.file != progress.file {
            self.close();
            self.file = progress.file.to_owned();
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::no_length();
            let template = "  {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(self.file.clone());
            bar
        });
        if let Some(total) = progress.total {
            bar.set_length(total);
        }
        bar.set_position(progress.done);
        if let Some(notice) = progress.notice {
            bar.suspend(|| eprintln!("  {}: {notice}; trying again", progress.file));
        }
    }

    fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
