//! `ternion data`: what there is, where to get it, whether it is sound, and what it looks like.
mod fetch;
mod list;
mod show;
mod verify;

use anyhow::Result;
use datasets::{DataSearch, Task};

use crate::End;
use crate::cli::{DataAction, DataArgs, DataPlace};

/// Every task once; the folds of the five-fold task differ only in what they hold out.
const TASKS: [Task; 6] = [
    Task::Cifar10,
    Task::Svhn,
    Task::SpeechCommands,
    Task::SpeechCommands5Fold { fold: 0 },
    Task::SyntheticShapes,
    Task::SyntheticKeywords,
];

pub(crate) fn run(args: &DataArgs) -> Result<End> {
    match &args.action {
        DataAction::List(place) => list::run(&search(place)),
        DataAction::Fetch(args) => fetch::run(args),
        DataAction::Verify(place) => verify::run(&search(place)),
        DataAction::Show(args) => show::run(args, &search(&args.place)),
    }
}

fn search(place: &DataPlace) -> DataSearch {
    DataSearch { explicit: place.data.clone() }
}
