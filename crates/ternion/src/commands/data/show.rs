//! `ternion data show`: one task in numbers and as a picture.
use anyhow::{Context, Result, anyhow};
use datasets::{DataError, DataSearch, Part, Task, sheet, spectrogram_sheet};

use crate::cli::ShowArgs;
use crate::{End, Usage};

pub(super) fn run(args: &ShowArgs, search: &DataSearch) -> Result<End> {
    let task: Task = args.task.parse().map_err(|e: DataError| anyhow!(Usage(e.to_string())))?;
    let data = datasets::load(&task, search)?;
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

    // Words are looked at as spectrograms, which only training clips can be: the other splits keep no sound.
    let (png, what) = if data.speech.is_some() && !args.features {
        (spectrogram_sheet(&data, args.columns)?, "log-mel spectrograms of training clips")
    } else {
        (sheet(&data, Part::Train, args.columns)?, "training samples")
    };
    let path = args.png.clone().unwrap_or_else(|| format!("{}.png", file_stem(&data.name)).into());
    std::fs::write(&path, png).with_context(|| format!("cannot write {}", path.display()))?;
    println!("\n{}: {} {what} of each class, one class a row", path.display(), args.columns);
    Ok(End::Done)
}

/// A task's text as a file name.
fn file_stem(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
        .collect::<String>()
        .trim_end_matches('-')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tasks_become_names_of_files() {
        assert_eq!(file_stem("speech_commands_5fold(fold=2)"), "speech_commands_5fold-fold-2");
        assert_eq!(file_stem("cifar10"), "cifar10");
    }
}
