//! The study and training: `reproduce`, `train`, `eval`, `report`.
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use experiments::recipe::Profile;
use experiments::stage::{Shard, Stage};

/// Every stage is cached under OUT/cache, keyed by all it depends on: what is there is not computed again, and an
/// interrupted run continues where it stopped.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion reproduce                                  the study in small (quick on real data, else smoke)
  ternion reproduce --profile full --data ~/data     the study at the paper's size; can be interrupted
  ternion reproduce --recipe stq_image_s --dry-run   what one recipe would run, and for how long
  ternion reproduce --only attack --shard 0/4        a quarter of the attacks; other machines do the rest
  ternion reproduce --recipe mine.toml --json        a recipe of one's own, events as JSON lines

Exit codes: 0 done, 1 a stage failed, 2 wrong usage.")]
pub(crate) struct ReproduceArgs {
    /// How much to run; quick by default, smoke if only embedded data is there
    #[arg(long, value_enum)]
    pub(crate) profile: Option<ProfileArg>,
    /// Recipe file or name of a built-in recipe; may be repeated; all of the profile's by default
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) recipe: Vec<String>,
    /// Folder with the datasets in their official layouts; then $TERNION_DATA and the user's cache are searched
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Folder for cache, results and report
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub(crate) out: PathBuf,
    /// One seed instead of the recipes' own
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Run only these stages; what they need must be cached
    #[arg(long, value_name = "STAGE", num_args = 1.., value_delimiter = ',')]
    pub(crate) only: Vec<Stage>,
    /// Attack only samples i modulo n; parts are merged in any order
    #[arg(long, value_name = "i/n")]
    pub(crate) shard: Option<Shard>,
    /// Print stages, keys, what is cached and an estimate, and stop
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Plan and events as JSON lines on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Threads; results do not depend on it
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

/// Checkpoints after every epoch: an interrupted run continues there with the same bits.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ternion train stq_image_s --data ~/data            a built-in recipe at the study's full length
  ternion train mine.toml --profile quick --seed 3   a recipe of one's own

Beside OUT/cache/train-KEY/model.qnn lie its history (history.jsonl, and events for TensorBoard).")]
pub(crate) struct TrainArgs {
    /// Recipe file or name of a built-in recipe
    pub(crate) recipe: String,
    /// Length of the run
    #[arg(long, value_enum, default_value = "full")]
    pub(crate) profile: ProfileArg,
    /// Folder with the datasets; then $TERNION_DATA and the user's cache are searched
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Folder for cache and results
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub(crate) out: PathBuf,
    /// One seed instead of the recipe's own
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Events as JSON lines on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Threads; results do not depend on it
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Model file: our own, or a safetensors export of ours
    pub(crate) model: PathBuf,
    /// Task by name, such as cifar10 or speech_commands_5fold(fold=0)
    #[arg(long, default_value = "cifar10")]
    pub(crate) task: String,
    /// Which samples
    #[arg(long, value_enum, default_value = "test")]
    pub(crate) part: PartArg,
    /// Folder with the datasets; then $TERNION_DATA and the user's cache are searched
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PartArg {
    /// What the network learned from, not augmented
    Train,
    /// What its best epoch was chosen by
    Validation,
    /// What results are reported on
    Test,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Folder with results.jsonl
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub(crate) out: PathBuf,
    /// Show the rows of this profile; the largest there is by default
    #[arg(long, value_enum)]
    pub(crate) profile: Option<ProfileArg>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProfileArg {
    /// Minutes, on any data: proves that every stage runs
    Smoke,
    /// Half an hour on two cores, on real data
    Quick,
    /// Hours: the study at the paper's size
    Full,
}

impl From<ProfileArg> for Profile {
    fn from(arg: ProfileArg) -> Self {
        match arg {
            ProfileArg::Smoke => Self::Smoke,
            ProfileArg::Quick => Self::Quick,
            ProfileArg::Full => Self::Full,
        }
    }
}
