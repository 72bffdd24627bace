//! Names of the tasks: what a recipe writes, what [`load`](crate::load) accepts, what a table prints.
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::DataError;

/// A labelled classification task. Its text form (`cifar10`, `speech_commands_5fold(fold=2)`, …) is what recipes and
/// tables hold; serde uses that text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Task {
    /// CIFAR-10: 32×32×3 images, 10 classes.
    Cifar10,
    /// SVHN, cropped digits: 32×32×3 images, 10 classes.
    Svhn,
    /// Google Speech Commands v0.02, 12 classes, official splits; needs the full archive and the test archive.
    SpeechCommands,
    /// The official Speech Commands v0.02 *test* set cut into five speaker-disjoint folds (unofficial): fold `fold` is
    /// the test split, fold `fold + 1 mod 5` validation, the other three training.
    SpeechCommands5Fold {
        /// Held-out fold, 0 to 4.
        fold: u8,
    },
    /// Embedded procedural images in the form of CIFAR-10.
    SyntheticShapes,
    /// Embedded procedural one-second words in the form of Speech Commands.
    SyntheticKeywords,
}

impl Task {
    /// The embedded set of the same input shape and class count; itself when already embedded.
    pub fn embedded_twin(&self) -> Task {
        match self {
            Task::Cifar10 | Task::Svhn | Task::SyntheticShapes => Task::SyntheticShapes,
            Task::SpeechCommands | Task::SpeechCommands5Fold { .. } | Task::SyntheticKeywords => {
                Task::SyntheticKeywords
            }
        }
    }

    /// Whether the set is made by code and needs no files.
    pub fn is_embedded(&self) -> bool {
        matches!(self, Task::SyntheticShapes | Task::SyntheticKeywords)
    }

    /// Whether samples are spoken words (MFCC, 49×10×1) and not images (32×32×3).
    pub fn is_audio(&self) -> bool {
        self.embedded_twin() == Task::SyntheticKeywords
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Task::Cifar10 => f.write_str("cifar10"),
            Task::Svhn => f.write_str("svhn"),
            Task::SpeechCommands => f.write_str("speech_commands"),
            Task::SpeechCommands5Fold { fold } => write!(f, "speech_commands_5fold(fold={fold})"),
            Task::SyntheticShapes => f.write_str("synthetic_shapes"),
            Task::SyntheticKeywords => f.write_str("synthetic_keywords"),
        }
    }
}

impl FromStr for Task {
    type Err = DataError;

    /// Reads the text form; `speech_commands_5fold` alone means fold 0.
    fn from_str(text: &str) -> Result<Self, DataError> {
        let text = text.trim();
        Ok(match text {
            "cifar10" => Task::Cifar10,
            "svhn" => Task::Svhn,
            "speech_commands" => Task::SpeechCommands,
            "speech_commands_5fold" => Task::SpeechCommands5Fold { fold: 0 },
            "synthetic_shapes" => Task::SyntheticShapes,
            "synthetic_keywords" => Task::SyntheticKeywords,
            _ => {
                let fold = text
                    .strip_prefix("speech_commands_5fold")
                    .and_then(|rest| rest.trim().strip_prefix('(')?.strip_suffix(')'))
                    .and_then(|inner| inner.trim().strip_prefix("fold")?.trim().strip_prefix('='))
                    .and_then(|number| number.trim().parse::<u8>().ok())
                    .filter(|fold| *fold < 5);
                match fold {
                    Some(fold) => Task::SpeechCommands5Fold { fold },
                    None => {
                        return Err(DataError::request(
                            "task",
                            format!(
                                "`{text}` is none of cifar10, svhn, speech_commands, speech_commands_5fold(fold=0..4), \
                                 synthetic_shapes, synthetic_keywords"
                            ),
                        ));
                    }
                }
            }
        })
    }
}

impl TryFrom<String> for Task {
    type Error = DataError;

    fn try_from(text: String) -> Result<Self, DataError> {
        text.parse()
    }
}

impl From<Task> for String {
    fn from(task: Task) -> String {
        task.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let tasks = (0..5).map(|fold| Task::SpeechCommands5Fold { fold }).chain([
            Task::Cifar10,
            Task::Svhn,
            Task::SpeechCommands,
            Task::SyntheticShapes,
            Task::SyntheticKeywords,
        ]);
        for task in tasks {
            assert_eq!(task.to_string().parse::<Task>().unwrap(), task);
            let json = serde_json::to_string(&task).unwrap();
            assert_eq!(serde_json::from_str::<Task>(&json).unwrap(), task);
        }
        assert_eq!("speech_commands_5fold".parse::<Task>().unwrap(), Task::SpeechCommands5Fold { fold: 0 });
    }

    #[test]
    fn unknown_text_is_refused() {
        for text in
            ["", "cifar", "speech_commands_5fold(fold=5)", "speech_commands_5fold(fold=-1)", "imagenet"]
        {
            let error = text.parse::<Task>().unwrap_err();
            assert!(error.to_string().contains("cifar10"), "{error}");
        }
    }
}
