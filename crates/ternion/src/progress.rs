//! Events for people and programs: bars on a terminal, plain lines elsewhere, JSON lines on request.
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use experiments::progress::{Event, Progress};
use indicatif::{ProgressBar, ProgressStyle};

/// At most one plain line about progress in this time.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The listener that suits the place the output goes to.
pub(crate) fn listener(json: bool) -> Box<dyn Progress> {
    if json {
        Box::new(Json)
    } else if std::io::stderr().is_terminal() {
        Box::new(Bars::default())
    } else {
        Box::new(Lines::default())
    }
}

/// One JSON object per event on standard output.
struct Json;

impl Progress for Json {
    fn report(&self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            // A reader that went away is no reason to stop the study.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }
}

/// What is said about an event that is not progress within a stage; nothing for cached stages, which would drown the rest.
fn sentence(event: &Event) -> Option<String> {
    match event {
        Event::Start { stage, unit } => Some(format!("{stage:8} {unit}")),
        Event::End { cached: true, .. } | Event::Advance { .. } => None,
        Event::End { stage, unit, seconds, .. } => {
            Some(format!("{stage:8} {unit}: done in {}", clock(*seconds)))
        }
        Event::Failed { stage, unit, error } => Some(format!("{stage:8} {unit}: FAILED: {error}")),
        Event::Notice { loud: false, message } => Some(message.clone()),
        Event::Notice { loud: true, message } => {
            let rule = "!".repeat(78);
            Some(format!("{rule}\n{message}\n{rule}"))
        }
    }
}

/// Seconds as people say them: `4.2 s`, `3 min 05 s`, `2 h 10 min`.
pub(crate) fn clock(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// Plain lines with the time of day (UTC), progress at most every ten seconds.
#[derive(Default)]
struct Lines {
    last: Mutex<Option<Instant>>,
}

impl Progress for Lines {
    fn report(&self, event: &Event) {
        let text = match event {
            Event::Advance { stage, unit, done, total, message } => {
                let Ok(mut last) = self.last.lock() else { return };
                if last.is_some_and(|at| at.elapsed() < LINE_EVERY) {
                    return;
                }
                *last = Some(Instant::now());
                let share = 100.0 * *done as f64 / (*total).max(1) as f64;
                Some(format!("{stage:8} {unit}: {share:3.0} % {message}").trim_end().to_owned())
            }
            other => sentence(other),
        };
        if let Some(text) = text {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let _ = writeln!(
                std::io::stderr(),
                "{:02}:{:02}:{:02} {text}",
                now / 3600 % 24,
                now / 60 % 60,
                now % 60
            );
        }
    }
}

/// A bar with the estimated time to the end of the running stage.
#[derive(Default)]
struct Bars {
    bar: Mutex<Option<ProgressBar>>,
}

impl Progress for Bars {
    fn report(&self, event: &Event) {
        let Ok(mut current) = self.bar.lock() else { return };
        match event {
            Event::Start { stage, unit } => {
                let style = ProgressStyle::with_template(
                    "{prefix:40!} [{bar:28}] {percent:>3} %  {elapsed} (ETA {eta})  {wide_msg}",
                );
                let bar = ProgressBar::new(1).with_prefix(format!("{stage:8} {unit}"));
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
                bar.enable_steady_tick(Duration::from_millis(250));
                *current = Some(bar);
            }
            Event::Advance { done, total, message, .. } => {
                if let Some(bar) = current.as_ref() {
                    bar.set_length(*total);
                    bar.set_position(*done);
                    bar.set_message(message.clone());
                }
            }
            other => {
                if matches!(other, Event::End { cached: false, .. } | Event::Failed { .. })
                    && let Some(bar) = current.take()
                {
                    bar.finish_and_clear();
                }
                if let Some(text) = sentence(other) {
                    match current.as_ref() {
                        Some(bar) => bar.println(text),
                        None => eprintln!("{text}"),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(
            (clock(4.24), clock(185.0), clock(7860.0)),
            ("4.2 s".into(), "3 min 05 s".into(), "2 h 11 min".into())
        );
    }
}
