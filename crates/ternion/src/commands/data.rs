//! `ternion data`: what is there, whether it is sound, and what it looks like.
use anyhow::{Result, anyhow};
use datasets::{DataError, DataSearch, Part, Task};

use crate::cli::{DataAction, DataArgs, DataPlace};
use crate::{End, Usage};

const TASKS: [Task; 5] = [
    Task::Cifar10,
    Task::SpeechCommands,
    Task::SpeechCommands5Fold { fold: 0 },
    Task::SyntheticShapes,
    Task::SyntheticKeywords,
];

pub(crate) fn run(args: &DataArgs) -> Result<End> {
    match &args.action {
        DataAction::List(place) => list(place),
        DataAction::Verify(place) => verify(place),
        DataAction::Show(args) => {
            let task: Task = args.task.parse().map_err(|e: DataError| anyhow!(Usage(e.to_string())))?;
            show(&task, &search(&args.place))
        }
    }
}

fn search(place: &DataPlace) -> DataSearch {
    DataSearch { explicit: place.data.clone() }
}

fn list(place: &DataPlace) -> Result<End> {
    let search = search(place);
    for dir in search.dirs()? {
        println!("looked for in {}", dir.display());
    }
    for task in TASKS {
        let state = if task.is_embedded() {
            "embedded in the program".to_owned()
        } else {
            match datasets::load(&task, &search) {
                Ok(data) => format!("there: {} test samples", data.test.len()),
                Err(DataError::NotFound { .. }) => format!("not there; {} stands in", task.embedded_twin()),
                Err(error) => format!("damaged: {error}"),
            }
        };
        println!("{:30} {state}", task.to_string());
    }
    Ok(End::Done)
}

fn verify(place: &DataPlace) -> Result<End> {
    let search = search(place);
    let mut end = End::Done;
    for task in TASKS {
        match datasets::load(&task, &search) {
            Ok(data) => {
                println!("{:30} sound, sha-256 {}", task.to_string(), data.checksum);
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

fn show(task: &Task, search: &DataSearch) -> Result<End> {
    let data = datasets::load(task, search)?;
    let [h, w, c] = data.shape;
    println!("{} ({:?})\n{}", data.name, data.origin, data.note);
    data.warnings.iter().for_each(|warning| println!("warning: {warning}"));
    println!("sample {h} x {w} x {c}, real value = (code - {}) * {}", data.grid.zero_point, data.grid.scale);
    println!("sha-256 {}", data.checksum);
    let counts = [Part::Train, Part::Validation, Part::Test]
        .map(|part| data.split(part).class_counts(data.classes.len()));
    println!("\n{:16} {:>8} {:>10} {:>8}", "class", "train", "validation", "test");
    for (i, class) in data.classes.iter().enumerate() {
        println!("{class:16} {:>8} {:>10} {:>8}", counts[0][i], counts[1][i], counts[2][i]);
    }
    println!("{:16} {:>8} {:>10} {:>8}", "all", data.train.len(), data.validation.len(), data.test.len());
    Ok(End::Done)
}
