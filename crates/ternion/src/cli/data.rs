//! The datasets: `data` and what it can do.
use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    pub(crate) action: DataAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataAction {
    /// List tasks and releases, where files are looked for and whether they are there
    List(DataPlace),
    /// Download releases: resumed where interrupted, checked against the manifest
    Fetch(FetchArgs),
    /// Check the files that are there against the manifests, and load every task
    Verify(DataPlace),
    /// Describe one task (splits, classes, checksum) and draw a sheet of samples
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DataPlace {
    /// Folder with the datasets
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Task by name, such as cifar10 or speech_commands_5fold(fold=0)
    pub(crate) task: String,
    #[command(flatten)]
    pub(crate) place: DataPlace,
    /// File for the sheet; TASK.png by default
    #[arg(long, value_name = "FILE")]
    pub(crate) png: Option<PathBuf>,
    /// Samples of each class on the sheet
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub(crate) columns: usize,
    /// Draw the features a network sees, not the spectrograms of spoken words
    #[arg(long)]
    pub(crate) features: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion data fetch cifar10                              into $TERNION_DATA, or the user's cache
  ternion data fetch speech_commands speech_commands_test --data ~/data --unpack
  ternion data fetch svhn --mirror http://mirror.example/housenumbers

Exit codes: 0 everything is there and checked, 1 it is not, 2 wrong usage.")]
pub(crate) struct FetchArgs {
    /// Releases by name; `ternion data list` has them
    #[arg(required = true, value_name = "RELEASE")]
    pub(crate) release: Vec<String>,
    #[command(flatten)]
    pub(crate) place: DataPlace,
    /// Address of a folder with the archives, in place of the official addresses; checksums stay the official ones
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Option<String>,
    /// Use no network: check what is there, and say what is not
    #[arg(long)]
    pub(crate) offline: bool,
    /// Unpack archives too; not needed, they are read as they are, but folders load faster
    #[arg(long)]
    pub(crate) unpack: bool,
}
