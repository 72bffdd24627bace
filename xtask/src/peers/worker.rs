//! A participant's process, and the lines of JSON exchanged with it.
//!
//! It is started with `--threads N`. It prints a line for each peer it hosts,
//! `{"peer": "…", "version": "…", "works": [{"work": "…", "unit": "…", "versus": "…"}]}`, then `{"ready": true}`.
//! For every line `{"peer": "…", "work": "…"}` it then takes one sample and prints `{"value": …}` or `{"error": "…"}`.
//! A unit that ends in `/s` is a rate, more is better; any other is a time. `versus` (by default the work's own name)
//! is the peers' work it is compared with, so that several works of ours can face one of theirs. A peer may list
//! `"ours": ["…"]`: it is then compared only with our works whose names end in one of these.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Something a peer can be timed on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Work {
    pub(super) name: String,
    pub(super) unit: String,
    pub(super) versus: String,
}

/// One implementation: ours or a peer's.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) works: Vec<Work>,
    /// Endings of our works it is to be compared with; empty means all.
    pub(super) ours: Vec<String>,
}

/// A running participant.
pub(super) struct Worker {
    pub(super) peers: Vec<Peer>,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts a participant and reads what it can do.
    pub(super) fn start(mut command: Command, threads: usize) -> Result<Self> {
        command.args(["--threads", &threads.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // However a library is told its number of threads, it is told the same.
        for variable in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(variable, threads.to_string());
        }
        // Peers choose their own instruction sets.
        command.env_remove("OPENBLAS_CORETYPE").env_remove("OPENBLAS_L2_SIZE");
        let mut child = command.spawn().context("cannot start")?;
        let input = child.stdin.take().context("no stdin")?;
        let output = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut worker = Self { peers: Vec::new(), child, input, output };
        loop {
            let line = worker.read()?;
            if line["ready"] == true {
                return Ok(worker);
            }
            worker.peers.push(peer(&line).with_context(|| format!("not a peer: {line}"))?);
        }
    }

    /// Takes one sample.
    pub(super) fn sample(&mut self, peer: &str, work: &str) -> Result<f64> {
        writeln!(self.input, "{}", json!({ "peer": peer, "work": work }))?;
        self.input.flush()?;
        let answer = self.read()?;
        match answer["value"].as_f64() {
            Some(value) if value.is_finite() && value > 0.0 => Ok(value),
            _ => bail!("{}", answer["error"].as_str().unwrap_or("an answer that is no positive number")),
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            bail!("ended ({status})");
        }
        serde_json::from_str(&line).with_context(|| format!("not a line of JSON: {line}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It would end by itself when its input closes; one that is stuck would not.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn peer(line: &Value) -> Option<Peer> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let work = |value: &Value| {
        let name = text(&value["work"])?;
        Some(Work {
            unit: text(&value["unit"])?,
            versus: text(&value["versus"]).unwrap_or(name.clone()),
            name,
        })
    };
    Some(Peer {
        name: text(&line["peer"])?,
        version: text(&line["version"])?,
        works: line["works"].as_array()?.iter().map(work).collect::<Option<_>>()?,
        ours: line["ours"].as_array().map_or(Some(vec![]), |list| list.iter().map(text).collect())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn talks_to_a_process() {
        let script = r#"echo '{"peer":"p","version":"1","works":[{"work":"w","unit":"ms"}]}'; echo '{"ready":true}'
            read line; echo '{"value":2.5}'; read line; echo '{"error":"no"}'; read line; echo '{"value":0}'"#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]);
        let mut worker = Worker::start(command, 1).unwrap();
        assert_eq!(worker.peers[0].works[0].versus, "w");
        assert_eq!(worker.sample("p", "w").unwrap(), 2.5);
        assert_eq!(worker.sample("p", "w").unwrap_err().to_string(), "no");
        assert!(worker.sample("p", "w").is_err());
        assert!(worker.sample("p", "w").is_err(), "the process has ended");
    }

    #[test]
    fn half_a_peer_is_none() {
        assert!(peer(&json!({ "peer": "p", "works": [] })).is_none());
        assert!(peer(&json!({ "peer": "p", "version": "1", "works": [{ "work": "w" }] })).is_none());
        let line = json!({ "peer": "p", "version": "1", "ours": ["f32"],
            "works": [{ "work": "w", "unit": "ms", "versus": "v" }] });
        assert_eq!(peer(&line).unwrap().works[0].versus, "v");
        assert_eq!(peer(&line).unwrap().ours, ["f32"]);
    }
}
