//! What a running study tells the outside: events, and who listens to them.
use serde::Serialize;

use crate::stage::Stage;

/// Something that happened in a study; serialised as one JSON object per event by `--json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A stage of one unit of work begins.
    Start {
        /// The stage.
        stage: Stage,
        /// What it works on, such as `stq_image_s/seed0`.
        unit: String,
    },
    /// A stage has got further.
    Advance {
        /// The stage.
        stage: Stage,
        /// What it works on.
        unit: String,
        /// Steps done.
        done: u64,
        /// Steps in all.
        total: u64,
        /// Current figures, such as loss and accuracy.
        message: String,
    },
    /// A stage is complete.
    End {
        /// The stage.
        stage: Stage,
        /// What it worked on.
        unit: String,
        /// The result was already there.
        cached: bool,
        /// Wall-clock seconds spent now.
        seconds: f64,
    },
    /// A stage failed; the study goes on with what does not depend on it.
    Failed {
        /// The stage.
        stage: Stage,
        /// What it worked on.
        unit: String,
        /// Why, in full.
        error: String,
    },
    /// Something a person should know.
    Notice {
        /// Whether it deserves a banner.
        loud: bool,
        /// The text.
        message: String,
    },
}

/// A listener to a study's events.
pub trait Progress: Sync {
    /// Called for every event, from the thread that runs the study.
    fn report(&self, event: &Event);
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _: &Event) {}
}
