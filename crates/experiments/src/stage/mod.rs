//! Stages: what they are called, in what order they run, and how their results are kept.
mod estimate;
mod key;
mod lock;
mod parts;
mod plan;
mod run;
mod shard;
mod store;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use key::Key;
pub(crate) use lock::Lock;
pub(crate) use parts::attacked;
pub use plan::{Plan, Step, Unit};
pub use run::{Options, Study, Summary};
pub use shard::{Shard, merge_parts};
pub(crate) use store::write_atomic;
pub use store::{Entry, EntryId, Lookup, Store};

/// One step of an experiment, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Find, verify and describe the data.
    Data,
    /// Train the network.
    Train,
    /// Measure clean accuracy.
    Evaluate,
    /// Run the attacks; this stage is split by `--shard`.
    Attack,
    /// Check whether the measured robustness can be believed.
    Audit,
    /// Lower to an integer program and measure it.
    Deploy,
    /// Write results and report.
    Report,
}

impl Stage {
    /// All stages in running order.
    pub const ALL: [Self; 7] =
        [Self::Data, Self::Train, Self::Evaluate, Self::Attack, Self::Audit, Self::Deploy, Self::Report];

    /// The stage's name on the command line and in folder names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
            Self::Attack => "attack",
            Self::Audit => "audit",
            Self::Deploy => "deploy",
            Self::Report => "report",
        }
    }

    /// Version of the code that makes this stage's result: raised when the same inputs give another result.
    fn version(self) -> u32 {
        1
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|s| s.name() == text)
            .ok_or_else(|| format!("no stage `{text}`; there are {}", Self::ALL.map(Self::name).join(", ")))
    }
}
