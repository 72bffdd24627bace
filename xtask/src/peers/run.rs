//! Runs one group: starts its participants and asks them in turn, round by round.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::groups::Group;
use super::table::Row;
use super::worker::Worker;
use super::{Flags, venv};
use crate::workspace;

/// With several threads: what the threads of a pool are given to stop spinning after a sample, so that they do not take a
/// core from whoever is next.
const SETTLE: Duration = Duration::from_millis(30);

/// Adds the group's rows, and a line for everything that could not be compared.
pub(super) fn group(
    group: &Group,
    flags: &Flags,
    threads: usize,
    rows: &mut Vec<Row>,
    missing: &mut Vec<String>,
) -> Result<()> {
    let ours = crate::forward::build_example("benches", group.ours)?;
    let mut command = Command::new(flags.isa.program(&ours)?);
    command.current_dir(workspace::root());
    flags.isa.hold(&mut command)?;
    let mut workers = vec![Worker::start(command, threads).with_context(|| ours.display().to_string())?];
    for peers in group.peers {
        let python = venv::python(peers.requirements).and_then(|python| flags.isa.python(&python));
        let python = match python {
            Ok(python) => python,
            Err(error) => {
                let scripts = peers.scripts.join(", ");
                missing.push(format!("{}: {scripts}: {error:#}", group.name));
                continue;
            }
        };
        for script in peers.scripts {
            let mut command = Command::new(&python);
            command.arg(workspace::root().join("xtask/peers").join(script));
            flags.isa.hold(&mut command)?;
            match Worker::start(command, threads) {
                Ok(worker) => workers.push(worker),
                Err(error) => missing.push(format!("{}: {script}: {error:#}", group.name)),
            }
        }
    }
    let own = workers[0].peers.first().context("our program hosts no peer")?.clone();
    let wanted =
        |name: &str| flags.works.is_empty() || flags.works.iter().any(|part| name.contains(part.as_str()));
    // Works of ours that face the same work of theirs are measured together.
    let mut subjects: Vec<&str> =
        own.works.iter().filter(|w| wanted(&w.name)).map(|w| w.versus.as_str()).collect();
    let mut seen = std::collections::HashSet::new();
    subjects.retain(|versus| seen.insert(*versus));
    for versus in subjects {
        eprintln!("xtask: {}: {versus}", group.name);
        let mine: Vec<_> = own.works.iter().filter(|w| w.versus == versus && wanted(&w.name)).collect();
        // Who takes part: worker, peer, and its samples.
        let mut theirs = Vec::new();
        for (index, worker) in workers.iter().enumerate() {
            for peer in worker.peers.iter().filter(|peer| peer.name != own.name) {
                if peer.works.iter().any(|w| w.name == versus) {
                    theirs.push((index, peer.clone(), Vec::<f64>::new()));
                }
            }
        }
        let mut samples = vec![Vec::new(); mine.len()];
        // The first round warms caches and makes what is made once; it is not counted.
        for round in 0..=flags.rounds {
            for (work, samples) in mine.iter().zip(&mut samples) {
                let value = workers[0].sample(&own.name, &work.name).with_context(|| work.name.clone())?;
                if round > 0 {
                    samples.push(value);
                }
            }
            theirs.retain_mut(|(index, peer, samples)| {
                settle(threads);
                match workers[*index].sample(&peer.name, versus) {
                    Ok(value) => {
                        if round > 0 {
                            samples.push(value);
                        }
                        true
                    }
                    Err(error) => {
                        missing.push(format!("{}: {versus}: {}: {error:#}", group.name, peer.name));
                        false
                    }
                }
            });
            settle(threads);
        }
        for (work, ours) in mine.iter().zip(&samples) {
            for (_, peer, theirs) in &theirs {
                if peer.ours.is_empty() || peer.ours.iter().any(|end| work.name.ends_with(end.as_str())) {
                    rows.push(Row::new(group.name, work, peer, threads, ours, theirs));
                }
            }
        }
    }
    Ok(())
}

fn settle(threads: usize) {
    if threads > 1 {
        std::thread::sleep(SETTLE);
    }
}
